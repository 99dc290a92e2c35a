"""``make generate``: writes the descriptors of the predict API that `serval_serving.wire.descriptors` reads.

They are the official ones, taken from the installed packages tensorflow-serving-api and tensorflow, with
those that they import. Messages of TensorFlow Serving's configuration files that are not in the package are
compiled from ``tools/protos``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "serving" / "serval_serving" / "wire" / "descriptors.binpb"
MODULES = (
    "tensorflow_serving.apis.prediction_service_pb2",
    "tensorflow_serving.apis.model_service_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
)
"""Generated modules of the package; their imports follow."""
_PROTOS = ROOT / "tools" / "protos"
_WELL_KNOWN = "google.protobuf"


def render() -> bytes:
    """Return the serialized FileDescriptorSet, every file behind those that it imports."""
    found: dict[str, FileDescriptorProto] = {}
    for module in MODULES:
        _collect(module, found)
    for file in _compiled():
        found[file.name] = file
    return FileDescriptorSet(file=found.values()).SerializeToString(deterministic=True)


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
    """Compile the files of ``tools/protos``."""
    sources = sorted(str(path.relative_to(_PROTOS)) for path in _PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        known = Path(grpc_tools.__file__).with_name("_proto")
        arguments = ["protoc", f"-I{_PROTOS}", f"-I{known}", f"--descriptor_set_out={out}", *sources]
        if protoc.main(arguments) != 0:
            raise ValueError(f"protoc refuses the files of {_PROTOS}")
        return FileDescriptorSet.FromString(out.read_bytes()).file


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    options = parser.parse_args()
    wanted = render()
    if FILE.exists() and FILE.read_bytes() == wanted:
        return 0
    if options.check:
        print(f"{FILE.relative_to(ROOT)} is out of date: run make generate")
        return 1
    FILE.write_bytes(wanted)
    print(f"wrote {FILE.relative_to(ROOT)}, {len(wanted)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
