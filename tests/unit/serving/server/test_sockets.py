from __future__ import annotations

import socket

import pytest

from serval_serving.server.sockets import close_port, open_connections


def test_a_closed_port_refuses_and_its_connections_live_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            accepted, _ = listener.accept()
            assert open_connections(port) == 1
            assert close_port(port) == 1
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            socket.create_connection(other.getsockname(), timeout=5).close()
            client.sendall(b"still here")
            assert accepted.recv(20) == b"still here"
            accepted.close()
    assert open_connections(port) == 0


def test_a_port_that_nobody_listens_on() -> None:
    assert close_port(1) == 0
    assert open_connections(1) == 0
