"""Unfriendly clients of a model server: ``python -m benchmarks.attacks NAME GRPC HTTP SECONDS``.

Each attack runs in a process of its own, which computes only while nothing else wants a core, so that its CPU
time is not taken for the server's. It goes to this machine alone, says on its output when it begins, and ends
by itself.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

import grpc

PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
REST: Final = "/v1/models/m:predict"
MIB: Final = 1 << 20
OPTIONS: Final = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Target:
    """The server that is attacked.

    Parameters
    ----------
    grpc_port, http_port:
        Its ports on this machine.
    seconds:
        Until the attack ends.
    """

    def __init__(self, grpc_port: int, http_port: int, seconds: float) -> None:
        self.address = f"127.0.0.1:{grpc_port}"
        self.http_port = http_port
        self._seconds = seconds
        self._end = 0.0

    def begin(self) -> None:
        """Say that the attack begins."""
        self._end = time.monotonic() + self._seconds
        sys.stdout.write("begins\n")
        sys.stdout.flush()

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def channel(self) -> grpc.Channel:
        """Connect anew."""
        return grpc.insecure_channel(self.address, options=OPTIONS)

    def connect(self) -> socket.socket:
        """Connect to HTTP."""
        return socket.create_connection(("127.0.0.1", self.http_port), timeout=max(0.1, self.left))

    def post(self, body: bytes, length: int | None = None, *headers: str) -> socket.socket:
        """Send a request, or a part of one, and keep the connection."""
        size = len(body) if length is None else length
        head = [f"POST {REST} HTTP/1.1", "Host: m", f"Content-Length: {size}", *headers, "", ""]
        client = self.connect()
        with suppress(OSError):
            client.sendall("\r\n".join(head).encode() + body)
        return client

    def together(self, count: int, once: Callable[[], None]) -> None:
        """Do something again and again, in several threads, until the end."""

        def repeat() -> None:
            while self.left:
                with suppress(OSError, grpc.RpcError):
                    once()

        threads = [threading.Thread(target=repeat, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.left + 1)


def other_work(target: Target) -> None:
    """No request at all, but computing on one core: what any neighbour on the machine costs."""
    target.begin()
    while target.left:
        pass


def small_requests(target: Target) -> None:
    """Ordinary requests, 16 at a time: what any busy client costs."""
    _filled(target, b"\x08\x01", 1, b"\x2d\x00\x00\x80\x3f")


def silent_calls(target: Target) -> None:
    """100 calls that send no message, on one connection."""

    target.begin()

    def nothing() -> Iterator[bytes]:
        time.sleep(target.left)
        yield from ()

    with target.channel() as channel:
        method = channel.stream_unary(PREDICT)
        calls = [method.future(nothing()) for _ in range(100)]
        time.sleep(target.left)
        del calls


def many_fields(target: Target) -> None:
    """One message of 10 million empty fields after the other, of 20 MB each."""
    message = b"\x1a\x00" * 10_000_000
    target.begin()
    with target.channel() as channel:
        call = channel.unary_unary(PREDICT)
        target.together(1, lambda: call(message, timeout=target.left + 0.1))


def large_messages(target: Target) -> None:
    """8 messages of 100 MiB at a time."""
    _large(target, 100 * MIB)


def largest_messages(target: Target) -> None:
    """8 messages at a time of nearly the largest size that a pod with 1 GiB takes."""
    _large(target, 31 * MIB)


def _large(target: Target, size: int) -> None:
    """Send 8 messages of some size at a time."""
    message = b"\x12" + _varint(size) + bytes(size)
    target.begin()

    def once() -> None:
        with target.channel() as channel:
            channel.unary_unary(PREDICT)(message, timeout=target.left + 0.1)

    target.together(8, once)


def gzip_bombs(target: Target) -> None:
    """4 bodies at a time of 1 MB, which are 1 GiB unpacked."""
    body = _bomb()
    target.begin()

    def once() -> None:
        with target.post(body, None, "Content-Encoding: gzip") as client:
            client.recv(1000)

    target.together(4, once)


def lying_bombs(target: Target) -> None:
    """The same, but they say that they are small."""
    body = _bomb()[:-4] + (100 * MIB).to_bytes(4, "little")
    target.begin()

    def once() -> None:
        with target.post(body, None, "Content-Encoding: gzip") as client:
            client.recv(1000)

    target.together(4, once)


def halves_of_bodies(target: Target) -> None:
    """8 bodies of 100 MB of which 80 MB come."""
    target.begin()
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(target.post(b" " * 80_000_000, 100_000_000))
        time.sleep(target.left)


def wrong_json(target: Target) -> None:
    """4 bodies of 4 MB at a time, of which the last value is wrong."""
    body = b'{"instances":[' + b"0," * 2_000_000 + b'"x"]}'
    target.begin()

    def once() -> None:
        with target.post(body) as client:
            client.recv(1000)

    target.together(4, once)


def long_names(target: Target) -> None:
    """Requests for models with names of 100 KB, each another."""
    counter = iter(range(1 << 30))
    lock = threading.Lock()
    target.begin()
    with target.channel() as channel:
        call = channel.unary_unary(PREDICT)

        def once() -> None:
            with lock:
                name = f"{next(counter):08d}".encode() * 12_500
            spec = b"\x0a" + _varint(len(name)) + name
            call(b"\x0a" + _varint(len(spec)) + spec, timeout=target.left + 0.1)

        target.together(4, once)


def filled_strings(target: Target) -> None:
    """Requests of 40 bytes that ask for 5 million strings."""
    _filled(target, b"\x08\x07", 5_000_000, b"\x42\x01a")


def filled_numbers(target: Target) -> None:
    """Requests of 40 bytes that ask for 60 million numbers, 16 at a time."""
    _filled(target, b"\x08\x01", 60_000_000, b"\x2d\x00\x00\x80\x3f")


def idle_connections(target: Target) -> None:
    """300 connections on which half of a request's head comes."""
    target.begin()
    with ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(target.connect())
            client.sendall(b"POST / HTTP/1.1\r\nHost:")
        time.sleep(target.left)


ATTACKS: Final[dict[str, Callable[[Target], None]]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        other_work,
        small_requests,
        silent_calls,
        many_fields,
        large_messages,
        largest_messages,
        gzip_bombs,
        lying_bombs,
        halves_of_bodies,
        wrong_json,
        long_names,
        filled_strings,
        filled_numbers,
        idle_connections,
    )
}
"""The attacks by name. The first two are none, to compare."""


def _filled(target: Target, dtype: bytes, count: int, value: bytes) -> None:
    """Ask for a tensor that repeats a value as often as it has elements, 16 at a time."""
    size = b"\x08" + _varint(count)
    shape = b"\x12" + _varint(len(size)) + size
    tensor = dtype + b"\x12" + _varint(len(shape)) + shape + value
    entry = b"\x0a\x01x\x12" + _varint(len(tensor)) + tensor
    message = b"\x0a\x03\x0a\x01m\x12" + _varint(len(entry)) + entry
    target.begin()
    with target.channel() as channel:
        call = channel.unary_unary(PREDICT)
        target.together(16, lambda: call(message, timeout=target.left + 0.1))


def _bomb() -> bytes:
    """Pack 1 GiB of zeros, a MiB at a time."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    piece = bytes(MIB)
    return b"".join([*(packer.compress(piece) for _ in range(1024)), packer.flush()])


def _varint(value: int) -> bytes:
    """Encode a number as protocol buffers have it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


if __name__ == "__main__":
    # The lowest priority alone still delays other processes on these cores by some milliseconds now and then.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    ATTACKS[sys.argv[1]](Target(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    os._exit(0)
