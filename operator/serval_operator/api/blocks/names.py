"""Kinds of names that Kubernetes defines, as descriptions of fields, and words that several fields share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serval_operator.api.schema import Rule, Text

AUTO: Final = "Auto"
"""The word of several fields that leaves the choice to the operator."""
DISABLED: Final = "Disabled"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
OBJECT_NAME = rf"{_LABEL}(\\.{_LABEL})*"
"""A DNS subdomain (RFC 1123), as a text of CEL, which needs each backslash twice."""
LABEL_PART = r"[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?"
LABEL_KEY = rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{LABEL_PART}"
"""The key of a label, an annotation or a taint."""


def object_name(description: str, *rules: Rule) -> Text:
    """Return a field with the name of an object: a DNS subdomain (RFC 1123)."""
    pattern = rf"^{_LABEL}(\.{_LABEL})*$"
    return Text(description, min_length=1, max_length=253, pattern=pattern, rules=rules)


def label_name(description: str) -> Text:
    """Return a field with a short name: a DNS label (RFC 1123)."""
    return Text(description, min_length=1, max_length=63, pattern=f"^{_LABEL}$")


def label_value(description: str) -> Text:
    """Return a field with the value of a label or of a taint, which may be empty."""
    pattern = r"^([a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?)?$"
    return Text(description, max_length=63, pattern=pattern)


def listed(words: Sequence[str], last: str) -> str:
    """Return words as a message lists them: ``a, b and c``, where `last` is the ``and``."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def label_names(what: str) -> Rule:
    """Return the rule that all keys of a map are keys of labels or annotations.

    Parameters
    ----------
    what:
        How the message calls such keys.
    """
    return Rule(f"self.all(k, k.matches('^{LABEL_KEY}$'))", f"must have {what} as keys")
