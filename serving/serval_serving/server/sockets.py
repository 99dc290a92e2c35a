"""The TCP sockets of a port, seen through the operating system.

gRPC's Python API can only end a server as a whole, and calls that arrive in the moment between are lost. To
close the port first, and to learn when the last client has left, one has to look at the sockets themselves.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_FILES = Path("/proc/self/fd")
_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_ESTABLISHED = "01"


def close_port(port: int) -> int:
    """Make the listening sockets of this process on a port refuse connections; the answer is how many."""
    count = 0
    for entry in list(_FILES.iterdir()):
        try:
            copy = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            # No socket, or closed in the meantime.
            continue
        with copy:
            if _listens_on(copy, port):
                copy.shutdown(socket.SHUT_RDWR)
                count += 1
    return count


def open_connections(port: int) -> int:
    """Count the connections to a port that are open, whichever process of this network holds them."""
    wanted = f":{port:04X}"
    count = 0
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            count += fields[1].endswith(wanted) and fields[3] == _ESTABLISHED
    return count


def _listens_on(candidate: socket.socket, port: int) -> bool:
    """Whether a socket listens on a TCP port."""
    try:
        listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        name = candidate.getsockname()
    except OSError:
        return False
    return bool(listening) and candidate.family in {socket.AF_INET, socket.AF_INET6} and name[1] == port
