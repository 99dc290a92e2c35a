"""Serval's three images, from the project's own Dockerfile, on a machine without a container engine.

`build_images` makes a Debian base with python3, fetches the pinned wheels, lets buildah build all targets
and pushes them to a registry. Every step is kept in the cache under a name made of what went in, so that an
unchanged tree builds nothing and an unchanged image pushes nothing.
"""

from __future__ import annotations

from serval_lab.images.build import Images, build_images
from serval_lab.images.errors import ImageError

__all__ = ["ImageError", "Images", "build_images"]
