"""Reasons of AcceleratedModels: conversion, artifacts and devices. All others are in `reasons`."""

from __future__ import annotations

from functools import partial
from typing import Final

from serval_contract import artifact_reasons as artifact
from serval_contract import build_reasons as build
from serval_contract import conversion_reasons as conversion
from serval_contract import devices
from serval_operator.constants import (
    ACCELERATOR_IN_USE,
    CONVERTED,
    DEVICE_PROGRAMMED,
    MODEL_LOADED,
    READY,
)
from serval_operator.reason_rows import Health, Reason, adds

CONVERSION_ROWS: Final[dict[str, Reason]] = {}
"""The rows of this module, by name."""

_PLAYED: Final = "unit tests play what the Job and the server report"

_converted = adds(CONVERSION_ROWS, partial(Reason, conditions=(CONVERTED,)))
_hopeless = adds(CONVERSION_ROWS, partial(Reason, conditions=(CONVERTED,), retry=False))
_device = adds(CONVERSION_ROWS, partial(Reason, conditions=(DEVICE_PROGRAMMED,)))
_faulty = adds(CONVERSION_ROWS, partial(Reason, conditions=(DEVICE_PROGRAMMED, MODEL_LOADED)))
_no_failure = adds(CONVERSION_ROWS, partial(Reason, failure=False, health=Health.HEALTHY))

# --- the configuration --------------------------------------------------------------------------------
CONVERSION_NOT_CONFIGURED: Final = _converted(
    "ConversionNotConfigured",
    when="the spec needs a conversion, and the operator's configuration has no converter or no place for "
    "artifacts",
    cure="an administrator sets `conversion` of the chart, or `spec.artifact.uri` names an artifact that was "
    "converted elsewhere",
    not_provoked="it is part of the operator's configuration; a unit test has one without it",
)
ACCELERATOR_NOT_CHOSEN: Final = adds(CONVERSION_ROWS, partial(Reason, conditions=(READY,), retry=False))(
    "AcceleratorNotChosen",
    when="`spec.accelerator` is absent, and the configuration has none or several profiles with an `engine`; "
    "or the profile or resource that it names has none",
    cure="name a profile that the message lists, or ask an administrator to add one",
    not_provoked="it is part of the operator's configuration; a unit test has such configurations",
)

# --- featurizer and weights ---------------------------------------------------------------------------
FEATURIZER_UNKNOWN: Final = _hopeless(
    build.FEATURIZER_UNKNOWN,
    when="the converter's image has no network of the name in `spec.featurizer`",
    cure="the converter's image of the operator's version, or another network",
    not_provoked=_PLAYED,
)
WEIGHTS_NOT_FOUND: Final = _hopeless(
    build.WEIGHTS_NOT_FOUND,
    when="there are no weights at `spec.model.uri`, or several that could be meant",
    cure="name the file itself in `spec.model.uri`, or a folder that holds nothing else",
    not_provoked=_PLAYED,
)
WEIGHTS_INVALID: Final = _hopeless(
    build.WEIGHTS_INVALID,
    when="the weights are damaged, are constants of a graph, or have a form that is not read",
    cure="a `.keras` or `.h5` file, a SavedModel with variables, or a checkpoint of TensorFlow",
    not_provoked=_PLAYED,
)
WEIGHTS_MISMATCH: Final = _hopeless(
    build.WEIGHTS_MISMATCH,
    when="a layer of the featurizer is missing from the weights, or has another shape; the message names it",
    cure="weights of this network, or the featurizer that they belong to",
    not_provoked=_PLAYED,
)
SLIM_CHECKPOINT: Final = _hopeless(
    build.SLIM_CHECKPOINT,
    when="the weights are a checkpoint of TF-Slim, whose graph is another one than the featurizer's",
    cure="weights that Keras trained; or a SavedModel of that graph, with `spec.inputs` and `spec.outputs`",
    not_provoked=_PLAYED,
)
WEIGHTS_DOWNLOAD_FAILED: Final = _converted(
    build.WEIGHTS_DOWNLOAD_FAILED,
    when="the converter cannot download published weights, or they have another digest",
    cure="network access for the pod, or the weights as a file in `spec.model`",
    not_provoked=_PLAYED,
)
CLASSIFIER_INVALID: Final = _hopeless(
    build.CLASSIFIER_INVALID,
    when="a classifier cannot be read, or does not fit the features",
    cure="train it on the features of this featurizer",
    not_provoked=_PLAYED,
)
PREPROCESSING_INVALID: Final = _hopeless(
    build.PREPROCESSING_INVALID,
    when="a field of `spec.preprocessing` cannot be used",
    cure="the field that the message names",
    not_provoked=_PLAYED,
)

# --- conversion ---------------------------------------------------------------------------------------
MODEL_NOT_CONVERTIBLE: Final = _hopeless(
    conversion.MODEL_NOT_CONVERTIBLE,
    when="the model has something that the device part cannot have, or its device part was not found",
    cure="name the input tensor in `spec.inputs`, or export the model without the operations that the "
    "message names",
    not_provoked=_PLAYED,
)
ACCURACY_TOO_LOW: Final = _hopeless(
    conversion.ACCURACY_TOO_LOW,
    when="the quantised network differs from the float one by more than `spec.conversion.accuracy` allows",
    cure="photos like those of the application (`spec.conversion.calibration`), lower thresholds, or "
    "`quantization: Float`",
    not_provoked="a test on an API server plays what the Job reports",
)
CALIBRATION_INVALID: Final = _hopeless(
    conversion.CALIBRATION_INVALID,
    when="there are no inputs to calibrate with, or they do not fit the network",
    cure="a folder with photos in `spec.conversion.calibration`, or with arrays for a model that takes "
    "numbers",
    not_provoked=_PLAYED,
)
CONVERSION_OUT_OF_MEMORY: Final = _converted(
    conversion.CONVERSION_OUT_OF_MEMORY,
    when="a step of the conversion was killed for lack of memory",
    cure="`spec.conversion.resources.limits.memory` as the message says",
    not_provoked=_PLAYED,
)
CONVERSION_TIMED_OUT: Final = _converted(
    conversion.CONVERSION_TIMED_OUT,
    when="a step of the conversion took longer than allowed",
    cure="more CPUs in `spec.conversion.resources`",
    not_provoked=_PLAYED,
)
CONVERSION_FAILED: Final = _converted(
    conversion.CONVERSION_FAILED,
    when="a step of the conversion ended with an error; the message has the end of its log",
    cure="as the message says",
    not_provoked=_PLAYED,
)

# --- artifacts ----------------------------------------------------------------------------------------
REGISTRY_UNREACHABLE: Final = _converted(
    artifact.REGISTRY_UNREACHABLE,
    when="the registry for artifacts, or what gives its tokens, does not answer or is not trusted",
    cure="repair it, or name its authorities in the configuration; it is retried with back-off",
    not_provoked=_PLAYED,
)
PUSH_DENIED: Final = _converted(
    artifact.PUSH_DENIED,
    when="the registry does not let the credentials of the configuration push, or there are none",
    cure="correct the Secret that the configuration names, in the namespace of the object",
    not_provoked=_PLAYED,
)
REGISTRY_REJECTED: Final = _converted(
    artifact.REGISTRY_REJECTED,
    when="the registry refuses the artifact, or answers what does not fit it",
    cure="as the message says",
    not_provoked=_PLAYED,
)
ARTIFACT_INVALID: Final = adds(
    CONVERSION_ROWS, partial(Reason, conditions=(CONVERTED, DEVICE_PROGRAMMED), retry=False)
)(
    artifact.ARTIFACT_INVALID,
    when="a file of the artifact is missing or damaged, or another version made it",
    cure="convert the model again, or name another artifact",
    not_provoked=_PLAYED,
)
ARTIFACT_TOO_LARGE: Final = _hopeless(
    artifact.ARTIFACT_TOO_LARGE,
    when="the artifact has more bytes or files than `fetch.maxBytes` and `fetch.maxEntries` of the chart "
    "allow",
    cure="raise them, or convert a smaller model",
    not_provoked=_PLAYED,
)
ARTIFACT_NOT_FOUND: Final = _converted(
    artifact.ARTIFACT_NOT_FOUND,
    when="the registry has no such repository, tag or digest",
    cure="make the repository where the registry does not do so by itself",
    not_provoked=_PLAYED,
)
STORE_UNAVAILABLE: Final = _converted(
    artifact.STORE_UNAVAILABLE,
    when="the claim for artifacts cannot be written, or is full",
    cure="a larger claim, or one that can be written from the node",
    not_provoked=_PLAYED,
)

# --- devices ------------------------------------------------------------------------------------------
EMULATED: Final = _no_failure(
    "Emulated",
    (DEVICE_PROGRAMMED, ACCELERATOR_IN_USE),
    "no device computes: the profile's engine is an emulator on the CPU",
)
ARTIFACT_EMPTY: Final = _device(
    devices.ARTIFACT_EMPTY,
    when="the folder of the artifact is empty in the pod; nodes mount a pure OCI artifact without its files",
    cure="push an ordinary image, as the operator does",
    not_provoked=_PLAYED,
)
ARTIFACT_CORRUPTED: Final = _device(
    devices.ARTIFACT_CORRUPTED,
    when="a file of the artifact has not the digest that `conversion.json` records",
    cure="convert the model again, or name another artifact",
    not_provoked=_PLAYED,
)
DEVICE_HELD: Final = _faulty(
    devices.DEVICE_HELD,
    when="another process holds the device that the pod was given; the message names it. The pod is replaced "
    "if another device is free",
    cure="a device plugin that gives each device to one pod",
    not_provoked="a test on an API server plays what the server reports",
)
DEVICE_UNHEALTHY: Final = _faulty(
    "DeviceUnhealthy",
    when="the server of a pod reports that its device is unhealthy; the message has the server's words, and "
    "names pod and node. A pod whose device stays unhealthy is replaced if another device is free",
    cure="repair or reset the device, or let its plugin report it as unhealthy; it heals without a change "
    "of the spec",
    not_provoked="a test on an API server plays what the server reports",
)
DEVICE_UNUSABLE: Final = _device(
    devices.DEVICE_UNUSABLE,
    when="the engine cannot open or program the device; the message is the engine's",
    cure="as the message says",
    not_provoked=_PLAYED,
)
EMULATION_REFUSED: Final = _device(
    devices.EMULATION_REFUSED,
    when="the emulator would hold a resource that stands for real cards",
    cure="an administrator sets `allowEmulation` of the profile, or another engine",
    not_provoked=_PLAYED,
)

DEVICE_FAULTS: Final = frozenset({DEVICE_UNHEALTHY, DEVICE_HELD})
"""Reasons of a pod whose device is of no use to it, though another one would be."""
