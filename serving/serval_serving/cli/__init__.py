"""The command ``serval``: score images, look into models, ask how a deployment is."""

from serval_serving.cli.app import main

__all__ = ["main"]
