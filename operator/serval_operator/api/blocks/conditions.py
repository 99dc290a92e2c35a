"""Conditions of a status, for every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from serval_operator.api.schema import MAX_EXACT, Block, Items, Nested, Text, Whole, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(Block):
    """A condition, as Kubernetes defines it."""

    type: Annotated[
        str,
        Text("What the condition speaks of.", max_length=316, min_length=1, pattern="^[A-Z][A-Za-z0-9]*$"),
    ]
    status: Annotated[str, Words("Whether it holds.", ("True", "False", "Unknown"))]
    observed_generation: Annotated[
        int | None, Whole("Generation of the spec that the condition speaks of.", 0, MAX_EXACT)
    ] = None
    last_transition_time: Annotated[
        str, Text("When the status last changed.", max_length=64, format="date-time")
    ]
    reason: Annotated[
        str,
        Text(
            "Why, in one word for programs.",
            max_length=1024,
            min_length=1,
            pattern="^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$",
        ),
    ]
    message: Annotated[str, Text("Why, for people, and what would cure it.", max_length=32_768)]


def conditions(description: str) -> Items:
    """Description of the field `conditions` of a status, a tuple of `Condition`.

    Parameters
    ----------
    description:
        Which conditions there are.
    """
    return Items(description, Nested("One condition.", Condition), max_items=32, key="type")
