"""Every preprocessing of the catalogue, and one with bicubic interpolation, by name."""

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.catalogue import NETWORKS

PREPROCESSINGS = {
    **{
        f"{network.name} {origin}": how
        for network in NETWORKS.values()
        if network.name not in {"ResNet152", "VGG16"}  # the same constants as ResNet50
        for origin, how in network.preprocessing.items()
    },
    "bicubic": Preprocessing(
        224, 224, "ShorterSide", 256, "RGB", (127.0, 127.0, 127.0), (1 / 128, 1 / 128, 1 / 128), "Bicubic"
    ),
}
