"""Descriptors of the predict API's messages and services, loaded into a pool of their own.

They are the official ones, which ``make generate`` takes from tensorflow-serving-api
(``tools/descriptors.py``), so that this package is not needed at run time. In the default pool they would
clash with the official stubs; in a private one both can live in a process. Generated code would pin the
version of protobuf; descriptors do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE = Path(__file__).with_name("descriptors.binpb")


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptors of all files, dependencies first."""
    return descriptor_pb2.FileDescriptorSet.FromString(_FILE.read_bytes())


def build_pool() -> descriptor_pool.DescriptorPool:
    """Build a fresh pool that holds all files."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_set().file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def message_class(pool: descriptor_pool.DescriptorPool, full_name: str) -> Any:
    """Make the class of one message of a pool.

    Raises
    ------
    KeyError
        The pool holds no such message.
    """
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))
