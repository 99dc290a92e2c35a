"""The server on the ports of Azure's clients, in a network namespace that has nothing but this. A program.

    unshare --net python azure_namespace.py BASE_PATH LOG_FOLDER PHOTO

The answer is a line of JSON: what Azure's client got, by the way that it took.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from support.azure import azure
from unit.serving.engines.artifacts import PHOTOS, SOFTMAX
from unit.serving.server.processes import REAL, Server, running, wait_until

HTTP_PORT, EDGE_PORT = 80, 50051
"""Ports of the cluster front end's gRPC and of an edge device's, which no client can change."""
KEY = "a-key"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def bring_up_loopback() -> None:
    """In a new namespace it is down."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


def scored(photo: str, **told: Any) -> list[Any]:
    """Let a client score a photo by the alias, and by names of tensors."""
    tensors = {"path": photo, "input_name": PHOTOS.name, "outputs": SOFTMAX.name}
    return azure({"score_file": {"path": photo, "outputs": "output_alias"}}, {"score_file": tensors}, **told)


def main(base: str, logs: str, photo: str) -> None:
    if any(name != "lo" for _, name in socket.if_nameindex()):
        raise SystemExit("this is no empty network namespace")
    bring_up_loopback()
    keys = Path(logs) / "keys"
    keys.write_text(f"{KEY}\n")
    flags = (
        "--model_name=net",
        f"--model_base_path={base}",
        "--device_engine=emulator",
        '--device_options={"programming_seconds": 0}',
    )
    with ExitStack() as stack:
        for port, more in ((HTTP_PORT, (f"--auth_keys={keys}",)), (EDGE_PORT, ())):
            server = Server(REAL, Path(logs) / f"{port}.log", *flags, *more, grpc_port=port)
            stack.enter_context(running(server)).wait_ready()
            path = "/v1/models/net/metadata"
            wait_until("the device is programmed", lambda: server.get(path).status == 200)  # noqa: B023
        found = {
            "service": scored(photo, scoring_uri="http://127.0.0.1/", name="net", key=KEY),
            "edge": scored(photo, address="127.0.0.1", port=EDGE_PORT),
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(*sys.argv[1:])
