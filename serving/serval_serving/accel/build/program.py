"""Builds a SavedModel from a network of the catalogue and weights."""

from __future__ import annotations

import gc
import resource
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from serval_contract.build_reasons import FEATURIZER_UNKNOWN, WEIGHTS_INVALID
from serval_contract.conversion_reasons import CALIBRATION_INVALID
from serval_contract.progress import Progress
from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.build.assign import (
    CLASSIFIER_LAYER,
    assign_weights,
    refuse_slim,
    stored_classes,
)
from serval_serving.accel.build.compose import Plan, capture, write_saved_model
from serval_serving.accel.build.failures import failure
from serval_serving.accel.build.keras_networks import IMAGENET, KerasNetwork, Make, make_network
from serval_serving.accel.build.locate import Located, locate_weights
from serval_serving.accel.build.own_classifier import own_classifier
from serval_serving.accel.build.request import (
    KERAS_IMAGENET,
    RANDOM,
    BuildRequest,
    BuildResult,
    choose_preprocessing,
)
from serval_serving.accel.build.statistics import MAX_PHOTOS, set_statistics
from serval_serving.accel.build.stored import StoredWeights, open_weights
from serval_serving.accel.build_record import BuildRecord, read_build_record, write_build_record
from serval_serving.accel.catalogue import (
    IMAGES,
    OUTPUT_ALIAS,
    OWN_CLASSIFIER_TENSOR,
    Network,
    Origin,
    network,
)
from serval_serving.accel.preprocess import preprocess
from serval_serving.models.folder_digest import file_sha256, folder_content

STEPS: Final = 5
PHOTO_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
MAX_PHOTO_BYTES: Final = 32 << 20

Say = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the weights come from.

    Attributes
    ----------
    weights:
        `Random`, `User` or `ImageNet`.
    located:
        Files of the user.
    digest:
        Of these files.
    preprocessing:
        The origin of the weights, or what their SavedModel does.
    """

    weights: str
    located: Located | None
    digest: str
    preprocessing: Origin | Preprocessing


def build(
    request: BuildRequest,
    say: Say,
    *,
    find: Callable[[str], Network] = network,
    make: Make = make_network,
) -> BuildResult:
    """Build a SavedModel.

    Parameters
    ----------
    request:
        What to build.
    say:
        Takes the progress.
    find, make:
        The catalogue.

    Raises
    ------
    StageFailure
        The request cannot be met; its reason is one of `serval_contract.build_reasons`.
    OSError
        The SavedModel cannot be written.
    """
    steps = _steps(say)
    try:
        entry = find(request.featurizer)
    except ValueError as error:
        raise failure(FEATURIZER_UNKNOWN, str(error)) from None
    source = _source(request, entry)
    preprocessing = choose_preprocessing(entry, source.preprocessing, request.preprocessing)
    tf.keras.utils.set_random_seed(request.seed)
    with _opened(source.located) as stored:
        steps(f"making {entry.name}")
        made = _make(entry, make, source, stored)
        steps("setting the weights")
        if stored is not None:
            optional = {CLASSIFIER_LAYER} if request.classifier is not None else set()
            assign_weights(made.layers, stored, entry, optional)
    steps("setting the statistics of batch norms")
    norms, photos = (0, 0)
    if source.weights == "Random" and request.photos is not None:
        norms, photos = _set_statistics(made, preprocessing, request.photos)
    steps("making the graph")
    plan, classes = _plan(request, entry, made, preprocessing)
    del made
    gc.collect()  # the plan has a copy of the weights
    steps("writing the SavedModel")
    record = BuildRecord(
        images=IMAGES.name,
        input=entry.input.name,
        features=tuple(one.name for one in entry.features) if plan.classifier is not None else (),
        preprocessing=preprocessing,
        network=entry.name,
        weights=source.weights,
    )
    size = _write(plan, record, request.out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10  # Linux counts KiB
    return BuildResult(entry.name, source.weights, source.digest, size, classes, norms, photos, peak)


def _steps(say: Say) -> Callable[[str], None]:
    """Return what says that the next step begins."""
    count = 0

    def step(message: str) -> None:
        nonlocal count
        count += 1
        say(Progress(step=count, steps=STEPS, unit="steps", message=message, stage="build"))

    return step


def _source(request: BuildRequest, entry: Network) -> _Source:
    if request.weights == RANDOM:
        return _Source("Random", None, "", "azure")
    if request.weights == KERAS_IMAGENET:
        return _Source("ImageNet", None, "", "keras")
    located = locate_weights(Path(request.weights))
    record = read_build_record(located.path) if located.format == "savedmodel" else None
    if record is not None and record.network not in {"", entry.name}:
        raise failure(WEIGHTS_INVALID, f"the SavedModel is a {record.network}, not a {entry.name}")
    done: Origin | Preprocessing = "keras"
    if record is not None and record.preprocessing is not None:
        done = record.preprocessing
    weights = "User" if record is None else record.weights
    return _Source(weights, located, request.source_digest or _digest(located), done)


def _digest(located: Located) -> str:
    if located.format == "savedmodel":
        return f"sha256:{folder_content(located.path).sha256}"
    if located.format == "checkpoint":
        # The index has the digests of all values.
        return f"sha256:{file_sha256(located.path.with_name(located.path.name + '.index'))}"
    return f"sha256:{file_sha256(located.path)}"


def _opened(located: Located | None) -> AbstractContextManager[StoredWeights | None]:
    return nullcontext(None) if located is None else open_weights(located)


def _make(entry: Network, make: Make, source: _Source, stored: StoredWeights | None) -> KerasNetwork:
    if stored is None:
        return make(entry, None, IMAGENET if source.weights == "ImageNet" else None)
    refuse_slim(stored, entry)
    classes = None if entry.classifier is None else stored_classes(stored, entry.channels)
    return make(entry, classes, None)


def _set_statistics(made: KerasNetwork, preprocessing: Preprocessing, folder: Path) -> tuple[int, int]:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in PHOTO_SUFFIXES
    )[:MAX_PHOTOS]
    if not files:
        raise failure(CALIBRATION_INVALID, f"{folder} has no photos (.jpg or .png)")
    for path in files:
        if path.stat().st_size > MAX_PHOTO_BYTES:
            raise failure(CALIBRATION_INVALID, f"{path.name} has more than {MAX_PHOTO_BYTES} bytes")
    try:
        inputs = preprocess([path.read_bytes() for path in files], preprocessing)
    except ValueError as error:
        raise failure(CALIBRATION_INVALID, f"{folder}: {error}") from None
    norms = set_statistics(made.featurizer, inputs)
    return norms, len(files) if norms else 0


def _plan(
    request: BuildRequest, entry: Network, made: KerasNetwork, preprocessing: Preprocessing
) -> tuple[Plan, int]:
    """Return what to write, and the number of classes."""
    classifier: Any = made.classifier
    output, outputs = "", entry.outputs
    also: tuple[str, ...] = ()
    if request.classifier is not None:
        classifier = own_classifier(request.classifier, entry)
        output, outputs = OWN_CLASSIFIER_TENSOR, {OUTPUT_ALIAS: OWN_CLASSIFIER_TENSOR}
    elif entry.classifier is not None:
        output, also = entry.classifier.output, entry.classifier.also
    plan = Plan(
        preprocessing=preprocessing,
        input=entry.input,
        featurizer=capture(made.featurizer),
        features=entry.features,
        classifier=None if classifier is None else capture(classifier),
        output=output,
        also=also,
        outputs=outputs,
    )
    return plan, 0 if classifier is None else int(classifier.outputs[0].shape[-1])


def _write(plan: Plan, record: BuildRecord, out: Path) -> int:
    """Write the SavedModel beside its place, then move it there: half a model is never seen."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_saved_model(plan, partial)
        write_build_record(partial, record)
        if out.is_dir():
            out.rmdir()  # an empty folder; anything else is the user's
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
