"""Proves, in the build, that ONNX Runtime imports, and that one for GPUs has all it needs beside the driver.

ONNX Runtime without its provider for CUDA, or without a library of CUDA, serves every model on the CPU. That
must not become an image for GPUs.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io

import onnxruntime

CUDA = "CUDAExecutionProvider"


def is_for_gpus() -> bool:
    """Whether the installed build of ONNX Runtime is the one for NVIDIA GPUs."""
    return any(one.name == "onnxruntime-gpu" for one in importlib.metadata.distributions())


def missing_libraries() -> str:
    """What ONNX Runtime says of CUDA's libraries that do not load; none of them needs the driver."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return said.getvalue().strip()


def main() -> None:
    """Fail unless the build can run models on what it is for."""
    wanted = CUDA if is_for_gpus() else "CPUExecutionProvider"
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        raise SystemExit(f"ONNX Runtime has no {wanted}, only {', '.join(available)}")
    if wanted == CUDA and (missing := missing_libraries()):
        raise SystemExit(missing)


if __name__ == "__main__":
    main()
