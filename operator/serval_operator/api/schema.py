"""Fields of custom resources: one description of a field gives its schema and its check in the parser.

The spec and the status of a kind are plain dataclasses, subclasses of `Block`. Each field is annotated with
one of the descriptions in this module:

    max_batch_size: Annotated[int, Whole("Largest batch, in rows.", 1, 65536)]

A field without a default is required. `serval_operator.api.crd` makes the CRD from these classes,
`serval_operator.api.parse` reads objects into them, a kind takes the key of a revision from them, and
``make generate`` writes the CRD's file and the tables of docs/api.md. Kinds share blocks by using the same
class.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, get_type_hints

MAX_INT64 = 9223372036854775000
"""The largest number below 2^63 that the schemas of CRDs can hold: their bounds are floats."""
MAX_EXACT = 2**53 - 1
"""The largest number up to which every whole number is an exact float."""
_INT32 = 2**31
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of the CRD, which the API server evaluates.

    Parameters
    ----------
    rule:
        The expression; `self` is the value of the field or block.
    message:
        What must hold, for the user.
    field_path:
        Field below a block that the error names, such as ``.args``.
    """

    rule: str
    message: str
    field_path: str = ""

    def schema(self) -> Schema:
        """Return the rule as an item of ``x-kubernetes-validations``."""
        path = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.rule, "message": self.message, **path}


class Block:
    """Base of the dataclasses that describe an object of a spec or a status.

    They are frozen and have slots. The parser fills the slots without a call of ``__init__``, so a block that
    needs a check of its own overrides `check`.
    """

    __slots__ = ()
    RULES: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules of the object."""

    def check(self, path: str) -> None:
        """Check what no bound of a single field expresses; called by the parser.

        Parameters
        ----------
        path:
            Path of the block in the object, such as ``spec.model``.

        Raises
        ------
        InvalidSpec
            The message names the field and says what must hold.
        """


@dataclass(frozen=True, slots=True)
class Description:
    """Base of the descriptions of fields.

    Parameters
    ----------
    description:
        Meaning of the field, for ``kubectl explain`` and docs/api.md.
    rules:
        CEL rules of the field.
    stored:
        Whether the API server writes the default into objects that lack the field. Such defaults are static
        and few: one that is added later raises the generation of every object that is written afterwards.
    shapes_pods:
        Whether another value is another revision. A False of a block is valid for its fields too.
    no_trace:
        Values that leave the key of a revision as it is, in addition to the default and to empty ones.
    """

    description: str
    rules: tuple[Rule, ...] = field(default=(), kw_only=True)
    stored: bool = field(default=False, kw_only=True)
    shapes_pods: bool = field(default=True, kw_only=True)
    no_trace: tuple[Any, ...] = field(default=(), kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type and the bounds, as the CRD has them."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """Return the whole schema of the field."""
        rules = {"x-kubernetes-validations": [one.schema() for one in self.rules]} if self.rules else {}
        return {"description": self.description, **self.type_schema(), **rules}


@dataclass(frozen=True, slots=True)
class Text(Description):
    """A text.

    Parameters
    ----------
    min_length, max_length:
        Bounds of the number of characters, both included.
    pattern:
        Regular expression, with anchors, in the syntax that Python and RE2 share.
    format:
        Format of OpenAPI, such as ``date-time``.
    """

    max_length: int = field(kw_only=True)
    min_length: int = field(default=0, kw_only=True)
    pattern: str = field(default="", kw_only=True)
    format: str = field(default="", kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type and the bounds, as the CRD has them."""
        optional = {"format": self.format, "minLength": self.min_length, "pattern": self.pattern}
        given = {name: value for name, value in optional.items() if value}
        return {"type": "string", "maxLength": self.max_length, **given}


@dataclass(frozen=True, slots=True)
class Words(Description):
    """One of a few words."""

    words: tuple[str, ...]

    def type_schema(self) -> Schema:
        """Return the type and the words, as the CRD has them."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Whole(Description):
    """A whole number, with bounds that are both included."""

    minimum: int
    maximum: int
    format: str = field(default="", kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type and the bounds, as the CRD has them."""
        small = self.minimum >= -_INT32 and self.maximum < _INT32
        size = self.format or ("int32" if small else "int64")
        return {"type": "integer", "format": size, "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Number(Description):
    """A number that need not be whole, with bounds that are both included."""

    minimum: float
    maximum: float

    def type_schema(self) -> Schema:
        """Return the type and the bounds, as the CRD has them."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Flag(Description):
    """True or false."""

    def type_schema(self) -> Schema:
        """Return the type, as the CRD has it."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class WholeOrText(Description):
    """A whole number or a text, such as a quantity or a percentage; CEL rules say which."""

    max_length: int = field(kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type and the bounds, as the CRD has them."""
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": self.max_length,
        }


@dataclass(frozen=True, slots=True)
class Nested(Description):
    """An object of its own."""

    block: type[Block]

    def type_schema(self) -> Schema:
        """Return the schema of the block, without its description."""
        return block_schema(self.block)


@dataclass(frozen=True, slots=True)
class Items(Description):
    """A list.

    Parameters
    ----------
    key:
        Field that identifies an item. Without one, server-side apply takes the list as a whole.
    verbatim:
        Whether the parser checks the items and returns them as they are written, instead of typed.
    """

    item: Description
    max_items: int = field(kw_only=True)
    min_items: int = field(default=0, kw_only=True)
    key: str = field(default="", kw_only=True)
    verbatim: bool = field(default=False, kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type, the bounds and the items, as the CRD has them."""
        least = {"minItems": self.min_items} if self.min_items else {}
        keys = {"x-kubernetes-list-map-keys": [self.key]} if self.key else {}
        list_type = {"x-kubernetes-list-type": "map" if self.key else "atomic", **keys}
        bounds = {**least, "maxItems": self.max_items, **list_type}
        return {"type": "array", **bounds, "items": self.item.schema()}


@dataclass(frozen=True, slots=True)
class Entries(Description):
    """A map with names that the user chooses; CEL rules restrict them."""

    value: Description
    max_properties: int = field(kw_only=True)

    def type_schema(self) -> Schema:
        """Return the type, the bounds and the values, as the CRD has them."""
        return {
            "type": "object",
            "maxProperties": self.max_properties,
            "additionalProperties": self.value.schema(),
        }


@dataclass(frozen=True, slots=True)
class AnyObject(Description):
    """An object of a status of which the schema knows no fields. Its writer bounds it."""

    def type_schema(self) -> Schema:
        """Return the type, as the CRD has it."""
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a block.

    Parameters
    ----------
    attribute:
        Its name in the dataclass.
    name:
        Its name in the API.
    default:
        Its value where an object lacks it; meaningless if it is `required`.
    """

    attribute: str
    name: str
    about: Description
    required: bool
    default: Any


def fields_of(block: type[Block]) -> tuple[Field, ...]:
    """Return the fields of a block in their order; those that it inherits come last.

    Raises
    ------
    TypeError
        A field has no description.
    """
    return _fields_of(block)  # type: ignore[arg-type]  # mypy takes the hash of instances for that of the class


@cache
def _fields_of(block: Any) -> tuple[Field, ...]:
    hints = get_type_hints(block, include_extras=True)
    found = []
    for one in sorted(dataclasses.fields(block), key=lambda one: one.name not in block.__annotations__):
        about = next(
            (it for it in getattr(hints[one.name], "__metadata__", ()) if isinstance(it, Description)), None
        )
        if about is None:
            raise TypeError(f"{block.__name__}.{one.name} must be annotated with a description")
        name = re.sub(r"_([a-z])", lambda match: match[1].upper(), one.name)
        found.append(Field(one.name, name, about, *_default(one)))
    return tuple(found)


def _default(one: dataclasses.Field[Any]) -> tuple[bool, Any]:
    """Whether a field is required, and its default."""
    if one.default_factory is not dataclasses.MISSING:
        return False, one.default_factory()
    required = one.default is dataclasses.MISSING
    return required, None if required else one.default


def block_schema(block: type[Block]) -> Schema:
    """Return the schema of a block, without a description."""
    properties = {}
    for one in fields_of(block):
        default = {"default": one.default} if one.about.stored else {}
        properties[one.name] = {**one.about.schema(), **default}
    required = [one.name for one in fields_of(block) if one.required]
    rules = [one.schema() for one in block.RULES]
    return {
        "type": "object",
        **({"required": required} if required else {}),
        **({"x-kubernetes-validations": rules} if rules else {}),
        "properties": properties,
    }
