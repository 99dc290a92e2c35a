"""``python -m serval_lab.images build [--push HOST:PORT]``."""

from __future__ import annotations

import argparse
import sys
import time

from serval_lab.images import ImageError, build_images


def main(arguments: list[str] | None = None) -> int:
    """Build the images and print their references, one a line, on standard output.

    Returns
    -------
    int
        0, or 1 after a message on standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m serval_lab.images", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what changed, and push it or write OCI archives")
    build.add_argument("--push", metavar="HOST:PORT", help="a registry without TLS, such as the lab's")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        images = build_images(options.push, progress=_tell)
    except ImageError as error:
        _tell(f"images: {error}")
        return 1
    _tell(f"images: ready ({time.monotonic() - started:.1f} s)")
    for reference in (images.operator, images.server, images.converter):
        print(reference, *filter(None, [images.archives.get(reference)]))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
