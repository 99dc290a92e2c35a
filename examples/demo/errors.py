"""What ends the demo."""

from __future__ import annotations


class DemoError(Exception):
    """A step cannot be done; the text says which, why, and what would help."""
