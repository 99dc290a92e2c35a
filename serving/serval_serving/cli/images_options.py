"""Arguments of ``serval images``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serval_contract.devices import EMULATOR, ENGINES
from serval_contract.ports import PORT_EDGE
from serval_serving.cli import images
from serval_serving.cli.edge import edge, engine_options, model_name

_PLACE = "REGISTRY, or REGISTRY/PATH of a repository or of what is above several"


def add_images(parser: argparse.ArgumentParser, cluster: argparse.ArgumentParser) -> None:
    """Add the commands.

    Parameters
    ----------
    parser:
        Of ``serval images``.
    cluster:
        Options that name a cluster.
    """
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    registry = _registry_options()
    none = argparse.ArgumentParser(add_help=False)
    none.add_argument("--no-cluster", action="store_true", help="do not look for what uses an image")
    both = [registry, cluster, none]
    one = commands.add_parser("list", parents=[registry], help="list repositories, tags and digests")
    one.add_argument("place", help=_PLACE)
    one.add_argument("--digests", action="store_true", help="print digests whole")
    one.set_defaults(run=images.list_images)
    one = commands.add_parser("log", parents=[registry], help="print the log or report of a conversion")
    one.add_argument("image", help="REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:DIGEST")
    one.set_defaults(run=images.log)
    one = commands.add_parser("delete", parents=both, help="delete images that are not in use")
    one.add_argument("images", nargs="+", metavar="IMAGE", help="as for log; all tags of it go as well")
    one.set_defaults(run=images.delete)
    one = commands.add_parser("prune", parents=both, help="delete all but the newest and those in use")
    one.add_argument("place", help=_PLACE)
    one.add_argument("--keep", type=int, default=3, help="artifacts to keep per repository (default: 3)")
    one.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    one.add_argument("--allow-unseen", action="store_true", help="delete although not all users can be seen")
    one.set_defaults(run=images.prune)
    one = commands.add_parser("mirror-list", parents=both, help="print images for a mirror")
    one.add_argument("place", nargs="?", help=f"{_PLACE} (default: the images that Serval's pods use)")
    one.set_defaults(run=images.mirror_list)
    _add_edge(commands, registry)


def _add_edge(commands: Any, registry: argparse.ArgumentParser) -> None:
    one = commands.add_parser("edge", parents=[registry], help="put a converted model onto a server's image")
    one.add_argument(
        "image", help="the server's image, REGISTRY/PATH:TAG; the result goes to the same repository"
    )
    one.add_argument("folder", type=Path, help="artifact, as `serval accel convert` makes it")
    one.add_argument("--tag", required=True, help="tag of the result")
    one.add_argument("--model-name", type=model_name, default="default", help="(default: %(default)s)")
    one.add_argument("--device-engine", choices=ENGINES, default=EMULATOR, help="(default: %(default)s)")
    one.add_argument("--device-options", type=engine_options, default="{}", help="for the engine, as JSON")
    one.add_argument("--port", type=int, default=PORT_EDGE, help="for gRPC (default: %(default)s)")
    one.set_defaults(run=edge)


def _registry_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", help="print JSON")
    group = options.add_argument_group("registry")
    group.add_argument(
        "--docker-config",
        type=Path,
        help="file with user names and passwords (default: config.json of $DOCKER_CONFIG or ~/.docker)",
    )
    group.add_argument("--ca-file", type=Path, help="certificates of authorities to trust as well")
    group.add_argument("--plain-http", action="store_true", help="reach the registry without TLS")
    return options
