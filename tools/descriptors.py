"""``make generate``: writes the descriptors of the predict API, and the types of its messages.

`serval_serving.wire.descriptors` reads the descriptors. They are the official ones, taken from the installed
packages tensorflow-serving-api and tensorflow, with those that they import. Messages of TensorFlow Serving's
configuration files that are not in the package are compiled from ``tools/protos``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tools import message_stubs  # noqa: E402

_WIRE = ROOT / "serving" / "serval_serving" / "wire"
FILE = _WIRE / "descriptors.binpb"
STUBS = _WIRE / "messages.pyi"
MODULES = (
    "tensorflow_serving.apis.prediction_service_pb2",
    "tensorflow_serving.apis.model_service_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
)
"""Generated modules of the package; their imports follow."""
_PROTOS = ROOT / "tools" / "protos"
_WELL_KNOWN = "google.protobuf"


def rendered() -> dict[Path, bytes]:
    """Return the contents of the generated files."""
    files = descriptor_set()
    stubs = message_stubs.render(files, STUBS.with_suffix(".py"))
    return {FILE: files.SerializeToString(deterministic=True), STUBS: stubs.encode()}


def descriptor_set() -> FileDescriptorSet:
    """Return the descriptors, every file behind those that it imports."""
    found: dict[str, FileDescriptorProto] = {}
    for module in MODULES:
        _collect(module, found)
    for file in _compiled():
        found[file.name] = file
    return FileDescriptorSet(file=found.values())


def _collect(module: str, found: dict[str, FileDescriptorProto]) -> None:
    """Add the descriptor of a generated module behind those of its imports."""
    if module.startswith(f"{_WELL_KNOWN}."):
        file = FileDescriptorProto.FromString(importlib.import_module(module).DESCRIPTOR.serialized_pb)
        found.setdefault(file.name, file)
        return
    tree = ast.parse(_source(module))
    file = FileDescriptorProto.FromString(_serialized(tree))
    if file.name in found:
        return
    for imported in _imports(tree):
        _collect(imported, found)
    found[file.name] = file


def _source(module: str) -> bytes:
    """Read a module without importing it, which would import TensorFlow and take seconds."""
    package, *path = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed; its descriptors are needed")
    return Path(spec.submodule_search_locations[0], *path).with_suffix(".py").read_bytes()


def _serialized(tree: ast.Module) -> bytes:
    """Return the serialized descriptor, the only literal that a generated module adds to the default pool."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="AddSerializedFile"), args=[ast.Constant(value=bytes(data))]
            ):
                return data
    raise ValueError("the module has no descriptor")


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the generated modules that a generated module imports."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                if name.name.endswith("_pb2"):
                    yield f"{node.module}.{name.name}"


def _compiled() -> Iterable[FileDescriptorProto]:
    """Compile the files of ``tools/protos``.

    The compiler runs in its own process: it crashes beside other copies of its library, which onnx and
    TensorFlow have.
    """
    sources = sorted(str(path.relative_to(_PROTOS)) for path in _PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        known = Path(grpc_tools.__file__).with_name("_proto")
        arguments = [f"-I{_PROTOS}", f"-I{known}", f"--descriptor_set_out={out}", *sources]
        compiler = [sys.executable, "-m", "grpc_tools.protoc"]
        if subprocess.run([*compiler, *arguments], check=False, timeout=60).returncode != 0:
            raise ValueError(f"protoc refuses the files of {_PROTOS}")
        return FileDescriptorSet.FromString(out.read_bytes()).file


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    options = parser.parse_args()
    stale = {
        path: wanted
        for path, wanted in rendered().items()
        if not path.exists() or path.read_bytes() != wanted
    }
    for path, wanted in stale.items():
        name = path.relative_to(ROOT)
        if options.check:
            print(f"{name} is out of date: run make generate")
        else:
            path.write_bytes(wanted)
            print(f"wrote {name}, {len(wanted)} bytes")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
