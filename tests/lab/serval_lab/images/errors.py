"""What can go wrong with images."""

from __future__ import annotations


class ImageError(Exception):
    """An image could not be made or pushed; the text says which step, why, and what would help."""
