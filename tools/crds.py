"""Text of CustomResourceDefinitions, and the tables of their fields for the documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from serval_operator.api.crd import Crd
from serval_operator.api.schema import (
    MAX_EXACT,
    Block,
    Description,
    Entries,
    Field,
    Flag,
    Items,
    Nested,
    Number,
    Text,
    Whole,
    WholeOrText,
    Words,
    fields_of,
)

_WIDTH = 110


class _Dumper(yaml.SafeDumper):
    """Writes long texts folded, lists of words on one line, and no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = ">" if len(text) > _WIDTH // 2 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: _Dumper, items: list[Any]) -> yaml.Node:
    flow = all(isinstance(one, str) for one in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def crd_text(crd: Crd) -> str:
    """Return the file of a CustomResourceDefinition."""
    head = f"# {crd.kind}. Generated: edit {crd.spec.__module__} or its blocks and run `make generate`.\n"
    return head + yaml.dump(crd.document(), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


def field_rows(crd: Crd, *paths: str) -> list[list[str]]:
    """Return rows for the fields at and below some paths, such as ``spec.model``: path, bounds, meaning."""
    starts = tuple(f"`{path}{end}" for path in paths for end in ("`", ".", "["))
    rows = [*_rows(crd.spec, "spec"), *_rows(crd.status, "status")]
    return [row for row in rows if row[0].startswith(starts)]


def not_shaping(block: type[Block], path: str) -> Iterator[str]:
    """Yield the fields of a block whose change is no new revision, and blocks of which none is."""
    for one in fields_of(block):
        if not one.about.shapes_pods:
            yield f"{path}.{one.name}"
        elif isinstance(one.about, Nested):
            yield from not_shaping(one.about.block, f"{path}.{one.name}")


def _rows(block: type[Block], path: str) -> Iterator[list[str]]:
    for one in fields_of(block):
        below = f"{path}.{one.name}"
        meaning = one.about.description.replace("|", r"\|")
        yield [f"`{below}`", _bounds(one), meaning]
        inner = one.about.item if isinstance(one.about, Items) else one.about
        if isinstance(inner, Nested):
            yield from _rows(inner.block, below if inner is one.about else f"{below}[]")


def _bounds(one: Field) -> str:
    required = ", required" if one.required else ""
    default = f", default `{one.default}`" if one.about.stored else ""
    return f"{_type(one.about)}{required}{default}"


def _type(about: Description) -> str:
    """Type and bounds of a field, in words."""
    match about:
        case Text(format=form) if form:
            return form
        case Text(min_length=least, max_length=most):
            length = f"{least} to {most}" if least else f"to {most}"
            return f"text, {most if least == most else length} characters"
        case Words(words=words):
            return ", ".join(f"`{word}`" for word in words)
        case Whole(minimum=least, maximum=most):
            return f"whole number from {least}" if most >= MAX_EXACT else f"{least} to {most}"
        case WholeOrText(max_length=most):
            return f"number or text, to {most} characters"
        case Items(max_items=most, item=Nested()):
            return f"list, to {most} items"
        case Items(max_items=most, item=item):
            return f"list, to {most} items: {_type(item)}"
        case Entries(max_properties=most, value=value):
            return f"map, to {most} entries: {_type(value)}"
        case Number(minimum=least, maximum=most):
            return f"number from {least:g} to {most:g}"
        case _:
            return "true or false" if isinstance(about, Flag) else "object"
