"""``serval accel``: makes models for devices, on the user's machine."""

from __future__ import annotations

import argparse

from serval_serving.cli.accel_build import add_build
from serval_serving.cli.accel_convert import add_convert


def add_accel(parser: argparse.ArgumentParser) -> None:
    """Add the commands of ``serval accel``."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_build(commands.add_parser("build", help="make a SavedModel from a network of the catalogue"))
    add_convert(commands.add_parser("convert", help="convert a SavedModel for a device"))
