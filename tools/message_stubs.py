"""Renders `serval_serving/wire/messages.pyi`, the types of the messages, from their descriptors."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

_WELL_KNOWN: Final = "google.protobuf"
_HEAD: Final = """\
# Written by make generate from the descriptors of the predict API.
# ruff: noqa: A002, E501
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar, overload

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)

POOL: DescriptorPool

class _Repeated(Sequence[_T]):
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    def append(self, value: _T) -> None: ...
    def extend(self, values: Iterable[_T]) -> None: ...

class _Messages(_Repeated[_M]):
    def add(self, **fields: Any) -> _M: ...
"""
_UNUSED: Final = frozenset({"SessionRunLog", "TypeSpecProto"})
"""Messages whose fields are not declared: with what they refer to, they would double the file."""
_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
}
"""Types of Python; all other numbers and enums are `int`."""


def render(files: FileDescriptorSet, messages: Path) -> str:
    """Return the text of the stub file.

    Parameters
    ----------
    files:
        The descriptors.
    messages:
        The module; the names of messages in it are the ones that are declared, with those that their fields
        have.
    """
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    found: dict[str, Descriptor] = {}
    for name in _names(messages):
        _collect(pool.FindMessageTypeByName(name), found)
    blocks = ("\n".join(_class(found[name], "")) for name in sorted(found))
    return "\n".join((_HEAD, *(f"{block}\n" for block in blocks)))


def _names(module: Path) -> Iterator[str]:
    """Yield the full names of the messages that a module makes classes of."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="message_class"), args=[_, ast.Constant(value=str(name))]):
                yield name


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    """Add the message, or the one that it is nested in, and those of its fields."""
    while message.containing_type is not None:
        message = message.containing_type
    if message.file.package == _WELL_KNOWN or message.name in found:
        return
    found[message.name] = message
    for part in _nested(message):
        for field in _fields(part):
            if field.message_type is not None:
                _collect(field.message_type, found)


def _nested(message: Descriptor) -> Iterator[Descriptor]:
    """Yield a message and those nested in it."""
    yield message
    for inner in message.nested_types:
        yield from _nested(inner)


def _fields(message: Descriptor) -> list[FieldDescriptor]:
    """Return the fields that are declared."""
    return [
        field
        for field in message.fields
        if field.message_type is None or field.message_type.name not in _UNUSED
    ]


def _class(message: Descriptor, indent: str) -> Iterator[str]:
    """Yield the lines of a class."""
    yield f"{indent}class {message.name}(Message):"
    inner = indent + "    "
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _class(nested, inner)
            yield ""
    for enum in message.enum_types:
        yield from (f"{inner}{value.name}: int" for value in enum.values)
    fields = _fields(message)
    yield from (f"{inner}{field.name}: {_value(field)}" for field in fields if _is_plain(field))
    for field in fields:
        if not _is_plain(field):
            yield f"{inner}@property"
            yield f"{inner}def {field.name}(self) -> {_container(field)}: ..."
    arguments = "".join(f", {field.name}: {_argument(field)} = ..." for field in fields)
    yield f"{inner}def __init__(self{', *' if arguments else ''}{arguments}) -> None: ..."


def _is_plain(field: FieldDescriptor) -> bool:
    """Whether a field holds one value that can be assigned."""
    return field.message_type is None and not field.is_repeated


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value(field: FieldDescriptor) -> str:
    """Return the type of one value of a field."""
    if field.message_type is not None:
        return _type_name(field.message_type)
    if field.type == FieldDescriptor.TYPE_STRING:
        return "str"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "bytes"
    return _SCALARS.get(field.cpp_type, "int")


def _type_name(message: Descriptor) -> str:
    """Return the name of a message's class."""
    if message.file.package == _WELL_KNOWN:
        return f"{Path(message.file.name).stem}_pb2.{message.name}"
    return message.full_name.removeprefix(f"{message.file.package}.")


def _container(field: FieldDescriptor) -> str:
    """Return the type of the property of a field."""
    if _is_map(field):
        return f"MutableMapping[{', '.join(_entry(field))}]"
    if field.is_repeated:
        return f"{'_Repeated' if field.message_type is None else '_Messages'}[{_value(field)}]"
    return _value(field)


def _argument(field: FieldDescriptor) -> str:
    """Return the type of a field's argument of the constructor."""
    if _is_map(field):
        return f"Mapping[{', '.join(_entry(field))}]"
    return f"Iterable[{_value(field)}]" if field.is_repeated else _value(field)


def _entry(field: FieldDescriptor) -> Iterable[str]:
    """Return the types of key and value of a map."""
    return (_value(part) for part in field.message_type.fields)
