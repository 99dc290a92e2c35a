"""A place in the operator's configuration file: reads fields, and names the place of a mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from serval_contract.quantity import parse_quantity, parse_whole
from serval_operator.errors import ConfigurationError

PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
DNS_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""The name of an object of Kubernetes."""
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def resources(node: Node) -> Mapping[str, Mapping[str, str]]:
    """Requests and limits of a container, all amounts as texts."""
    node.only("requests", "limits")
    asked = {side: node.child(side) for side in ("requests", "limits")}
    return {side: amounts for side, child in asked.items() if (amounts := child.amounts())}


class Node:
    """A place in the document: reads fields, and names the place when one is wrong."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{path or 'the document'}: must be a mapping")
        self._path = path
        self._value = value

    def error(self, field: str, message: str) -> ConfigurationError:
        """Return the error that names a field."""
        return ConfigurationError(f"{self._place(field)}: {message}")

    def only(self, *fields: str) -> None:
        """Refuse all other fields."""
        unknown = sorted(str(key) for key in self._value if key not in fields)
        if unknown:
            raise self.error(unknown[0], f"unknown field; known are {', '.join(fields)}")

    def has(self, field: str) -> bool:
        """Whether a field is there and not null."""
        return self._value.get(field) is not None

    def whole(self) -> Mapping[str, Any]:
        """Return all fields as they are."""
        return dict(self._value)

    def child(self, field: str) -> Node:
        """Return the place of a mapping; an empty one where it is absent."""
        return Node(self._place(field), self._value.get(field) or {})

    def items(self, field: str) -> list[Node]:
        """Return the places of the entries of a list of mappings."""
        entries = self._value.get(field) or []
        if not isinstance(entries, list):
            raise self.error(field, "must be a list")
        return [Node(f"{self._place(field)}[{index}]", entry) for index, entry in enumerate(entries)]

    def all_texts(self) -> dict[str, str]:
        """All fields, each of them a text."""
        return {str(field): self.text(field, "") for field in self._value}

    def amounts(self) -> dict[str, str]:
        """All fields, each of them a Kubernetes quantity; numbers become texts."""
        for field, value in self._value.items():
            if parse_quantity(str(value)) is None:
                raise self.error(field, "must be a quantity such as 500m or 4Gi")
        return {str(field): str(value) for field, value in self._value.items()}

    def text(self, field: str, default: str | None = None) -> str:
        """Return a text; without a default it must be there, and not be empty."""
        value = self._value.get(field, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.error(field, "must be a text")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._value.get(field) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(field, "must be a list of texts")
        return tuple(value)

    def name(self) -> str:
        """Return the field `name`, a DNS label."""
        value = self.text("name")
        if not _DNS_LABEL.fullmatch(value):
            raise self.error("name", "must be at most 63 characters of a-z, 0-9 and '-'")
        return value

    def choice(self, field: str, choices: Sequence[str], default: str | None = None) -> str:
        """Return a text that is one of the choices."""
        value = self.text(field, default)
        if value not in choices:
            raise self.error(field, f"must be one of {', '.join(choices)}")
        return value

    def boolean(self, field: str) -> bool:
        """Return true or false; false where it is absent."""
        value = self._value.get(field, False)
        if not isinstance(value, bool):
            raise self.error(field, "must be true or false")
        return value

    def number(self, field: str, *, least: int, default: int | None = None) -> int:
        """Return a whole number of at least `least`."""
        value = self._value.get(field, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(field, f"must be a whole number of at least {least}")
        return value

    def size(self, field: str) -> int:
        """Bytes, written as a whole number or a Kubernetes quantity such as 20Gi."""
        size = parse_whole(str(self._value.get(field, "")))
        if size < 1:
            raise self.error(field, "must be a size such as 20Gi")
        return size

    def _place(self, field: str) -> str:
        return f"{self._path}.{field}" if self._path else field
