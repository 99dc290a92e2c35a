"""From the tree to three images in a registry, doing only what has not been done before."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serval_lab.images.base import base_archive, base_key
from serval_lab.images.cache import Cache, Progress, contents, key_of, snapshot
from serval_lab.images.errors import ImageError
from serval_lab.images.layout import Image, Layout
from serval_lab.images.programs import require_tools, run_with_storage
from serval_lab.images.push import Registry
from serval_lab.images.wheels import wheel_folder

PROJECT_ROOT = Path(__file__).resolve().parents[4]
LOCAL_PREFIX = "localhost"  # of references to images that no registry holds
BUILD_LIMIT_S = 1800.0
EXPORT_LIMIT_S = 600.0
STORED_IMAGES_LIMIT = 300  # with every layer of every build counted; then the storage is made anew
OFFLINE = "[global]\nno-index = true\n"  # pip's configuration in the build: nothing but the folder of wheels
# Against gzip: a sixth smaller, a third less CPU time to make, and much less for a node to unpack.
COMPRESSION = "zstd"


@dataclass(frozen=True, slots=True)
class Target:
    """One target of the Dockerfile.

    Parameters
    ----------
    name:
        As the Dockerfile calls it; ``serval-`` before it is the image's name.
    sources:
        Files and folders, relative to the project, that end up in the image.
    """

    name: str
    sources: tuple[str, ...]

    @property
    def repository(self) -> str:
        """Name of the image in a registry."""
        return f"serval-{self.name}"


SHARED_SOURCES = ("Dockerfile", ".dockerignore", "requirements/install.sh", "requirements/trim.py")
CONTRACT = "contract/serval_contract"
SERVING = "serving/serval_serving"
OPERATOR_PINS = "requirements/operator.txt"
SERVER_PINS = "requirements/server.txt"
ENGINE_PINS = ("requirements/tensorflow-cpu.txt", "requirements/onnx-cpu.txt")
ENGINE_CHECKS = ("requirements/check_tensorflow.py", "requirements/check_onnx.py")
CONVERTER_PINS = "requirements/converter.txt"
CONVERTER_CHECK = "requirements/check_converter.py"
REQUIREMENTS = (OPERATOR_PINS, SERVER_PINS, CONVERTER_PINS, *ENGINE_PINS)
OPERATOR = Target("operator", (OPERATOR_PINS, "operator/serval_operator", CONTRACT, SERVING))
SERVER = Target("server", (*ENGINE_PINS, *ENGINE_CHECKS, SERVER_PINS, CONTRACT, SERVING))
CONVERTER = Target("converter", (*SERVER.sources, CONVERTER_PINS, CONVERTER_CHECK))
TARGETS = (OPERATOR, SERVER, CONVERTER)

IMPORT_BASE = """
set -eu
buildah rm --all > /dev/null
if ! buildah inspect --type image "$2" > /dev/null 2>&1; then
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$1" /
  buildah commit --quiet "$container" "$2"
  buildah rm "$container"
fi
"""


@dataclass(frozen=True, slots=True)
class Images:
    """References of the images.

    Parameters
    ----------
    operator, server, converter:
        ``REGISTRY/serval-operator:TAG`` and so on. The tag is made of the image's sources, so another content
        has another tag.
    archives:
        By reference: the OCI archive of each image, where no registry was given.
    """

    operator: str
    server: str
    converter: str
    archives: Mapping[str, Path] = field(default_factory=dict)


def sources() -> set[str]:
    """Return all files and folders that some image is made of."""
    return {*SHARED_SOURCES, *(source for target in TARGETS for source in target.sources)}


class Builder:
    """One build, of the tree as it was when the build began.

    Parameters
    ----------
    root:
        A checkout of the project.
    cache:
        Where everything is kept; held by the caller's lock.
    progress:
        Takes lines for the user.
    """

    def __init__(self, root: Path, cache: Cache, progress: Progress) -> None:
        self.cache = cache
        self.progress = progress
        self._context = cache.root / "context"
        snapshot(root, sources(), self._context)

    def tag(self, target: Target) -> str:
        """Tag made of all that goes into an image."""
        return key_of([base_key(), *contents(self._context, (*SHARED_SOURCES, *target.sources))])

    def ensure(self, target: Target) -> Image:
        """The image of the tree, from the layout or built."""
        layout = Layout(self.cache.layout)
        name = f"{target.repository}-{self.tag(target)}"
        image = layout.find(name)
        if image is not None:
            return image
        require_tools()
        base = base_archive(self.cache, self.progress)
        wheels = wheel_folder(self.cache, [self._context / path for path in REQUIREMENTS], self.progress)
        started = time.monotonic()
        self.progress(f"images: building {target.repository}")
        self._build(target, name, base, wheels)
        image = layout.find(name)
        if image is None:
            raise ImageError(f"buildah left no whole image {name} in {layout.root}")
        seconds = time.monotonic() - started
        self.progress(f"images: {target.repository} built, {image.size / 1e6:.0f} MB ({seconds:.1f} s)")
        return image

    def _build(self, target: Target, name: str, base: Path, wheels: Path) -> None:
        storage = self._storage(base)
        base_name = f"{LOCAL_PREFIX}/serval-{base.stem}"
        pip = self.cache.root / "pip.conf"
        pip.write_text(OFFLINE)
        build = ["buildah", "build", "--layers", "--timestamp", "0", "--target", target.name, "--tag", name]
        build += ["--build-arg", f"BASE={base_name}", "--build-context", f"wheels={wheels}"]
        build += ["--secret", f"id=pip,src={pip}", str(self._context)]
        export = ["buildah", "push", "--compression-format", COMPRESSION, name]
        export += [f"oci:{self.cache.layout}:{name}"]
        for step, command, limit_s in (
            ("base-import", ["sh", "-c", IMPORT_BASE, "sh", str(base), base_name], BUILD_LIMIT_S),
            (f"build-{target.name}", build, BUILD_LIMIT_S),
            (f"export-{target.name}", export, EXPORT_LIMIT_S),
        ):
            run_with_storage(storage, command, log=self.cache.logs / f"{step}.log", limit_s=limit_s)
        self.cache.forget_others(storage)

    def _storage(self, base: Path) -> Path:
        """Folder of buildah's storage for this base and engines; its layers shorten the next build."""
        pins = [(self._context / path).read_bytes() for path in ENGINE_PINS]
        storage = self.cache.keyed("storage", key_of([base.name, *pins]))
        stored = storage / "storage" / "overlay-images"
        if stored.is_dir() and sum(1 for _ in stored.iterdir()) > STORED_IMAGES_LIMIT:
            shutil.rmtree(storage)
        return storage


def build_images(
    registry: str | None,
    *,
    progress: Progress,
    root: Path = PROJECT_ROOT,
    cache: Cache | None = None,
) -> Images:
    """Make all images of the tree, and put them where a cluster pulls them from.

    Parameters
    ----------
    registry:
        ``HOST:PORT`` of a registry without TLS, such as the lab's; None writes OCI archives into the cache.
    progress:
        Takes lines for the user: what was done and how long it took. Nothing is said where nothing was done.

    Raises
    ------
    ImageError
        A tool is missing or a step failed.
    """
    cache = cache or Cache.default()
    with cache.locked(progress):
        builder = Builder(root, cache, progress)
        made = {target: builder.ensure(target) for target in TARGETS}
        layout = Layout(cache.layout)
        layout.prune(image.name for image in made.values())
        if registry is None:
            return _archive(builder, layout, made)
        references = {target: _push(builder, registry, target, image) for target, image in made.items()}
    return Images(references[OPERATOR], references[SERVER], references[CONVERTER])


def _push(builder: Builder, registry: str, target: Target, image: Image) -> str:
    started = time.monotonic()
    tag = builder.tag(target)
    sent = Registry(registry).push(image, target.repository, tag)
    reference = f"{registry}/{target.repository}:{tag}"
    if sent:
        seconds = time.monotonic() - started
        builder.progress(f"images: pushed {reference}, {sent / 1e6:.0f} MB ({seconds:.1f} s)")
    return reference


def _archive(builder: Builder, layout: Layout, made: Mapping[Target, Image]) -> Images:
    archives = {}
    for target, image in made.items():
        reference = f"{LOCAL_PREFIX}/{target.repository}:{builder.tag(target)}"
        path = builder.cache.keyed(f"archive-{target.name}", image.manifest.digest[7:19]).with_suffix(".tar")
        if not path.exists():
            layout.archive(image, reference, path)
            builder.cache.forget_others(path)
        archives[reference] = path
    operator, server, converter = archives
    return Images(operator, server, converter, archives)
