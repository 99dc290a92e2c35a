"""``python -m serval_serving.fetch.cache``: keeps archives on a node, for all its pods."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from serval_contract.quantity import parse_whole
from serval_serving.fetch.cache.server import listening
from serval_serving.fetch.cache.store import ArchiveStore

_LOG = logging.getLogger("serval.cache")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM."""
    parsed = command_line().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(_serve(ArchiveStore(parsed.dir, parsed.max_bytes), parsed.host, parsed.port))
    return 0


async def _serve(store: ArchiveStore, host: str, port: int) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with listening(store, host, port) as actual:
        _LOG.info("listening on port %d", actual)
        await stopped.wait()


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the program's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serval_serving.fetch.cache", description="Keep archives of models on a node."
    )
    parser.add_argument("--dir", required=True, type=Path, help="folder for the archives")
    parser.add_argument("--max-bytes", required=True, type=_quantity, help="most bytes of all archives")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    return parser


def _quantity(text: str) -> int:
    """Read a number of bytes as Kubernetes writes them: 1500, 2.5Gi or 10G."""
    size = parse_whole(text)
    if size < 1:
        raise argparse.ArgumentTypeError("a number of bytes is expected, such as 50Gi")
    return size


if __name__ == "__main__":
    sys.exit(main())
