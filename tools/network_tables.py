"""Tables of the catalogue of networks, for docs/networks.md."""

from __future__ import annotations

from benchmarks.failures import table

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.catalogue import NETWORKS, Network


def networks() -> str:
    """Return the table of networks: sizes and tensors."""
    rows = [
        [
            f"`{one.name}`",
            _shape(one.input.shape),
            _features(one),
            _classifier(one),
            f"{one.parameters / 1e6:.1f} M",
        ]
        for one in NETWORKS.values()
    ]
    return table(["featurizer", "input `InputImage:0`", "features", "default classifier", "weights"], rows)


def preprocessing() -> str:
    """Return the table of preprocessing, by network and origin of the weights."""
    rows = [
        [
            f"`{one.name}`",
            origin.capitalize(),
            _resize(how),
            how.order,
            *map(_numbers, (how.means, how.scales)),
        ]
        for one in NETWORKS.values()
        for origin, how in one.preprocessing.items()
    ]
    return table(["featurizer", "origin", "resize", "order", "means", "scales"], rows)


def detector_outputs() -> str:
    """Return the table of the outputs of networks without a classifier."""
    rows = [
        [f"`{alias}`", f"`{tensor.name}`", _shape(tensor.shape)]
        for one in NETWORKS.values()
        if one.classifier is None
        for alias, tensor in zip(one.outputs, one.features, strict=True)
    ]
    return table(["alias", "tensor", "shape"], rows)


def _shape(sizes: tuple[int | None, ...]) -> str:
    return f"[{', '.join('N' if size is None else str(size) for size in sizes)}]"


def _features(one: Network) -> str:
    if one.classifier is None:
        return f"{len(one.features)} tensors, below"
    (features,) = one.features
    return f"`{features.name}` {_shape(features.shape)}"


def _classifier(one: Network) -> str:
    if one.classifier is None:
        return "none"
    names = " or ".join(f"`{name}`" for name in (one.classifier.output, *one.classifier.also))
    kind = "probabilities" if one.classifier.activation else "logits"
    return f"{names}, {one.classifier.classes} {kind}"


def _preprocessing(how: Preprocessing) -> list[str]:
    return [_resize(how), how.order, _numbers(how.means), _numbers(how.scales)]


def _resize(how: Preprocessing) -> str:
    if how.resize == "Stretch":
        return f"to {how.height}x{how.width}, aspect not kept"
    return f"shorter side {how.shorter_side}, centre {how.height}x{how.width}"


def _numbers(values: tuple[float, float, float]) -> str:
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
