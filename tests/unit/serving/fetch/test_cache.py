from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from serval_serving.fetch.cache.__main__ import main
from serval_serving.fetch.cache.client import HOLD_UP_SECONDS, _Patience
from serval_serving.fetch.cache.server import listening
from serval_serving.fetch.cache.store import LEAD_SECONDS, ArchiveStore
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.settings import FetchContext, FetchSettings
from support.wait import until
from unit.serving.fetch.builders import MEGABYTE, below, model_files, tar, write
from unit.serving.fetch.clocks import Clock
from unit.serving.fetch.test_main import ENVIRONMENT
from unit.serving.fetch.tls import Answer, Site, content, status

Settings = Callable[..., FetchSettings]
ARCHIVE = tar(below("3", model_files()))
MAX_BYTES = 10_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Cache:
    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def connection(self) -> closing[http.client.HTTPConnection]:
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))

    @contextmanager
    def begun(self, size: int, begun: bytes = b"") -> Iterator[socket.socket]:
        """Begin to give `size` bytes, and yield the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as peer:
            head = f"PUT /sha256/{'0' * 64} HTTP/1.1\r\nHost: cache\r\nContent-Length: {size}\r\n\r\n"
            peer.sendall(head.encode() + begun)
            yield peer

    @contextmanager
    def upload(self, size: int, begun: bytes = b"") -> Iterator[str]:
        """Begin to give `size` bytes, and yield the name of the file that they go to."""
        kept = self.names()
        with self.begun(size, begun):
            yield until("the upload", lambda: self.names() - kept).pop()

    def ask(
        self, method: str, path: str, body: bytes | None = None, client: str = "127.0.0.1"
    ) -> tuple[int, bytes]:
        made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(client, 0))
        with closing(made) as connection:
            connection.request(method, path, body=body)
            reply = connection.getresponse()
            return reply.status, reply.read()


@contextmanager
def serving(folder: Path, wait_seconds: float = 20.0, lead_seconds: float = 300.0) -> Iterator[Cache]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    store = ArchiveStore(folder, MAX_BYTES, wait_seconds, lead_seconds)
    context = listening(store, "127.0.0.1", 0)
    try:
        port = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
        yield Cache(folder, port)
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with serving(tmp_path / "cache") as cache:
        yield cache


class TestServer:
    def test_what_was_given_is_there(self, cache: Cache) -> None:
        data = os.urandom(5000)
        assert cache.ask("GET", f"/sha256/{sha256(data)}") == (404, b"")
        assert cache.ask("PUT", f"/sha256/{sha256(data)}", data)[0] == 201
        assert cache.ask("GET", f"/sha256/{sha256(data)}") == (200, data)
        with serving(cache.folder) as other:
            assert other.ask("GET", f"/sha256/{sha256(data)}") == (200, data), "it outlives the process"

    def test_other_bytes_are_not_kept(self, cache: Cache) -> None:
        assert cache.ask("PUT", f"/sha256/{'0' * 64}", b"planted")[0] == 422
        assert cache.names() == set()

    def test_longest_unused_goes_first(self, cache: Cache) -> None:
        first, second, third = (bytes([i]) * 4000 for i in range(3))
        for age, data in ((200, first), (100, second)):
            cache.ask("PUT", f"/sha256/{sha256(data)}", data)
            path = cache.folder / sha256(data)
            os.utime(path, (path.stat().st_mtime - age,) * 2)
        assert cache.ask("GET", f"/sha256/{sha256(first)}")[0] == 200
        assert cache.ask("PUT", f"/sha256/{sha256(third)}", third)[0] == 201
        assert cache.names() == {sha256(first), sha256(third)}
        assert cache.ask("PUT", f"/sha256/{sha256(b'x')}", b"x" * (MAX_BYTES + 1))[0] == 413

    def test_start_clears_what_does_not_fit_or_was_not_finished(self, tmp_path: Path) -> None:
        write(tmp_path, {".part-1": b"half", "0" * 64: b"x" * 6000, "1" * 64: b"x" * 6000, "README": b""})
        os.utime(tmp_path / ("0" * 64), (1, 1))
        ArchiveStore(tmp_path, MAX_BYTES)
        assert {path.name for path in tmp_path.iterdir()} == {"1" * 64, "README"}

    @pytest.mark.parametrize(
        "path", ["/", "/sha256/x", f"/sha256/{'0' * 64}/../x", f"/sha256/{'A' * 64}", "/../etc/passwd"]
    )
    def test_strange_paths(self, cache: Cache, path: str) -> None:
        assert cache.ask("GET", path)[0] == 400
        assert cache.ask("PUT", path, b"x")[0] == 400

    def test_health(self, cache: Cache) -> None:
        assert cache.ask("GET", "/healthz")[0] == 200

    def test_others_wait_for_the_first(self, cache: Cache) -> None:
        data = b"model" * 100
        path = f"/sha256/{sha256(data)}"
        with cache.connection() as first, ThreadPoolExecutor(5) as pool:
            first.request("GET", path)
            assert first.getresponse().read() == b""
            others = [pool.submit(cache.ask, "GET", path) for _ in range(5)]
            first.request("PUT", path, body=data)
            assert first.getresponse().status == 201
            assert {other.result(timeout=20) for other in others} == {(200, data)}

    def test_next_one_is_first_when_the_first_hangs_up(self, cache: Cache) -> None:
        path = f"/sha256/{'0' * 64}"
        with ThreadPoolExecutor(1) as pool:
            with cache.connection() as first:
                first.request("GET", path)
                first.getresponse().read()
                other = pool.submit(cache.ask, "GET", path)
            assert other.result(timeout=20)[0] == 404

    def test_waiting_has_an_end(self, tmp_path: Path) -> None:
        path = f"/sha256/{'0' * 64}"
        with serving(tmp_path / "cache", wait_seconds=0.05) as cache, cache.connection() as first:
            first.request("GET", path)
            first.getresponse().read()
            assert cache.ask("GET", path)[0] == 503

    def test_a_leader_may_ask_again(self, cache: Cache) -> None:
        with cache.connection() as leader:
            for _ in range(2):
                leader.request("GET", f"/sha256/{'0' * 64}")
                reply = leader.getresponse()
                assert (reply.status, reply.read()) == (404, b"")

    def test_an_idle_leader_is_replaced(self, tmp_path: Path) -> None:
        path = f"/sha256/{'0' * 64}"
        with serving(tmp_path / "cache", lead_seconds=0.05) as cache, cache.connection() as idle:
            idle.request("GET", path)
            idle.getresponse().read()
            assert cache.ask("GET", path)[0] == 404

    def test_a_client_that_hung_up_while_it_waited_leads_nothing(self, tmp_path: Path) -> None:
        path = f"/sha256/{'0' * 64}"
        with serving(tmp_path / "cache", wait_seconds=5) as cache:
            with cache.connection() as first:
                first.request("GET", path)
                first.getresponse().read()
                with cache.connection() as second:
                    second.request("GET", path)
            assert cache.ask("GET", path)[0] == 404

    def test_an_announced_size_removes_nothing(self, cache: Cache) -> None:
        data = b"x" * 6000
        cache.ask("PUT", f"/sha256/{sha256(data)}", data)
        with cache.upload(MAX_BYTES) as upload:
            assert cache.names() - {upload} == {sha256(data)}
            assert cache.ask("GET", f"/sha256/{sha256(data)}") == (200, data)

    def test_uploads_together_have_the_size_of_the_cache(self, cache: Cache) -> None:
        data = b"x" * 6000
        with cache.upload(MAX_BYTES, b"y" * 6000) as upload:
            until("the bytes", lambda: not cache.names() - {upload})
            assert cache.ask("PUT", f"/sha256/{sha256(data)}", data)[0] == 507
        until("the end of the upload", lambda: not cache.names())
        assert cache.ask("PUT", f"/sha256/{sha256(data)}", data)[0] == 201

    def test_no_client_displaces_more_than_its_share(self, cache: Cache) -> None:
        other = [bytes([number]) * 1000 for number in range(10)]
        for number, data in enumerate(other):
            assert cache.ask("PUT", f"/sha256/{sha256(data)}", data, f"127.0.1.{number}")[0] == 201
        for number in range(20):
            data = bytes([100 + number]) * 1000
            assert cache.ask("PUT", f"/sha256/{sha256(data)}", data, "127.0.2.1")[0] == 201
        assert len(cache.names() & {sha256(data) for data in other}) == 5
        large = b"z" * 5001
        assert cache.ask("PUT", f"/sha256/{sha256(large)}", large, "127.0.2.2")[0] == 507
        assert cache.ask("PUT", f"/sha256/{'0' * 64}", large, "127.0.2.3")[0] == 507
        assert len(cache.names()) >= 4

    def test_who_gives_known_bytes_again_does_not_own_them(self, cache: Cache) -> None:
        data = b"x" * 4000
        for client in ("127.0.1.1", "127.0.2.1"):
            assert cache.ask("PUT", f"/sha256/{sha256(data)}", data, client)[0] == 201
        more = b"y" * 6500
        assert cache.ask("PUT", f"/sha256/{sha256(more)}", more, "127.0.2.1")[0] == 507
        assert cache.ask("GET", f"/sha256/{sha256(data)}") == (200, data)

    def test_files_of_an_earlier_process_make_room(self, tmp_path: Path) -> None:
        write(tmp_path, {sha256(b"x" * 9000): b"x" * 9000})
        with serving(tmp_path) as cache:
            data = b"y" * 4000
            assert cache.ask("PUT", f"/sha256/{sha256(data)}", data)[0] == 201
            assert cache.names() == {sha256(data)}

    def test_a_silent_upload_ends(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serval_serving.fetch.cache.server.PIECE_SECONDS", 0.05)
        # The file may come and go between two looks at the folder; the reply cannot be missed.
        with cache.begun(MAX_BYTES, b"y") as peer:
            assert b" 507 " in peer.makefile("rb").readline()
        assert not cache.names()

    def test_bytes_are_kept_as_they_are(self, cache: Cache) -> None:
        data = gzip.compress(b"model")
        with cache.connection() as connection:
            headers = {"Content-Encoding": "gzip"}
            connection.request("PUT", f"/sha256/{sha256(data)}", body=data, headers=headers)
            assert connection.getresponse().status == 201
        assert (cache.folder / sha256(data)).read_bytes() == data

    def test_upload_without_a_length(self, cache: Cache) -> None:
        with cache.connection() as connection:
            connection.request("PUT", f"/sha256/{sha256(b'x')}", body=iter([b"x"]))
            assert connection.getresponse().status == 411

    def test_other_methods(self, cache: Cache) -> None:
        assert cache.ask("DELETE", f"/sha256/{'0' * 64}")[0] == 405

    def test_number_of_connections_is_limited(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serval_serving.fetch.cache.server.MAX_CONNECTIONS", 1)
        with cache.connection() as first:
            first.request("GET", "/healthz")
            assert first.getresponse().status == 200
            with pytest.raises(ConnectionError):
                cache.ask("GET", "/healthz")

    def test_connections_of_one_client_are_limited(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("serval_serving.fetch.cache.server.MAX_CLIENT_CONNECTIONS", 1)
        with cache.connection() as first:
            first.request("GET", "/healthz")
            assert first.getresponse().status == 200
            with pytest.raises(ConnectionError):
                cache.ask("GET", "/healthz")
            assert cache.ask("GET", "/healthz", client="127.0.2.1")[0] == 200

    def test_program(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "serval_serving.fetch.cache", f"--dir={tmp_path}/cache"]
        command += ["--max-bytes=1.5Ki", "--port=0", "--host=127.0.0.1"]
        log = tmp_path / "log"
        with log.open("wb") as file, subprocess.Popen(command, env=ENVIRONMENT, stderr=file) as process:
            found = until("the cache", lambda: re.search(r"listening on port (\d+)", log.read_text()))
            assert Cache(tmp_path, int(found[1])).ask("GET", "/healthz")[0] == 200
            large, small = os.urandom(1537), os.urandom(1536)
            assert Cache(tmp_path, int(found[1])).ask("PUT", f"/sha256/{sha256(large)}", large)[0] == 413
            assert Cache(tmp_path, int(found[1])).ask("PUT", f"/sha256/{sha256(small)}", small)[0] == 201
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0

    @pytest.mark.parametrize("text", ["", "0", "-1", "1KiB", "x", "0.5"])
    def test_strange_size(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--dir=/x", f"--max-bytes={text}"])
        assert "--max-bytes" in capsys.readouterr().err


class TestFetch:
    @pytest.fixture
    def make(
        self, site: Site, settings: Settings, cache: Cache, tmp_path: Path
    ) -> Callable[..., FetchSettings]:
        def made(name: str, *answers: Answer, **changes: object) -> FetchSettings:
            uri = site.serve("/m", *answers or (content(ARCHIVE),))
            values: dict[str, object] = {
                "sha256": sha256(ARCHIVE),
                "cache": cache.uri,
                "dest": tmp_path / name,
            }
            return settings(uri, **values | changes)

        return made

    def test_second_pod_downloads_nothing(
        self, make: Settings, site: Site, environment: Environment, cache: Cache
    ) -> None:
        assert Fetcher(make("one"), environment).run().version == 3
        assert cache.names() == {sha256(ARCHIVE)}
        assert Fetcher(make("two"), environment).run().version == 3
        assert len(site.requests) == 1

    def test_parallel_pods_download_once(self, make: Settings, site: Site, environment: Environment) -> None:
        made = [make(f"pod-{index}") for index in range(6)]
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda one: Fetcher(one, environment).run().version, made))
        assert found == [3] * 6
        assert len(site.requests) == 1

    def test_failure_of_the_first_is_not_shared(self, make: Settings, environment: Environment) -> None:
        with pytest.raises(FetchError, match="ModelNotFound"):
            Fetcher(make("one", status(404)), environment).run()
        assert Fetcher(make("two"), environment).run().version == 3

    def test_damaged_file_in_the_cache_is_replaced(
        self, make: Settings, environment: Environment, cache: Cache
    ) -> None:
        write(cache.folder, {sha256(ARCHIVE): b"damaged"})
        assert Fetcher(make("one"), environment).run().version == 3
        assert (cache.folder / sha256(ARCHIVE)).read_bytes() == ARCHIVE

    def test_other_archive_at_the_source_is_not_kept(
        self, make: Settings, environment: Environment, cache: Cache
    ) -> None:
        with pytest.raises(FetchError, match="ModelDigestMismatch"):
            Fetcher(make("one", content(tar(below("4", model_files())))), environment).run()
        assert cache.names() == set()

    def test_without_a_digest_the_cache_is_not_asked(
        self, make: Settings, environment: Environment, cache: Cache
    ) -> None:
        assert Fetcher(make("one", sha256=None), environment).run().version == 3
        assert cache.names() == set()

    def test_archive_over_the_limit_is_not_taken(self, make: Settings, environment: Environment) -> None:
        Fetcher(make("one"), environment).run()
        with pytest.raises(FetchError, match="ModelTooLarge"):
            Fetcher(make("two", max_bytes=len(ARCHIVE) - 1), environment).run()

    def test_patience_has_an_end(
        self,
        make: Settings,
        site: Site,
        environment: Environment,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("serval_serving.fetch.cache.client.HOLD_UP_SECONDS", 0.2)
        hurried = Environment(resolve=environment.resolve, policy=environment.policy)
        with serving(tmp_path / "slow", wait_seconds=0.05) as cache, cache.connection() as first:
            first.request("GET", f"/sha256/{sha256(ARCHIVE)}")
            first.getresponse().read()
            assert Fetcher(make("one", cache=cache.uri), hurried).run().version == 3
        assert len(site.requests) == 1

    def test_hold_up_is_a_minute_in_all(self) -> None:
        """Waiting for another pod, slow bytes and giving share it, and so do both sides of the cache."""
        assert HOLD_UP_SECONDS == LEAD_SECONDS == 60

    def test_waiting_leaves_less_time_for_slow_bytes(self, make: Settings, clock: Clock) -> None:
        environment = Environment(clock=clock, sleep=clock.sleep)
        patience = _Patience(FetchContext.begin(make("one", max_seconds=1800.0), environment, None))
        clock.now += 40
        assert patience.left() == 20
        assert patience.left(10 * MEGABYTE) == 30
        patience.pause()
        clock.now += 1000
        patience.go_on()
        assert patience.left() == 20
        clock.now += 21
        with pytest.raises(TimeoutError):
            patience.limit(http.client.HTTPConnection("127.0.0.1"))
        hurried = _Patience(FetchContext.begin(make("one", max_seconds=30.0), environment, None))
        assert hurried.left() == 15

    @pytest.mark.parametrize(("seconds", "limit"), [(100_000.0, HOLD_UP_SECONDS), (40.0, 20.0)])
    def test_bytes_that_came_buy_no_silence(
        self, make: Settings, clock: Clock, seconds: float, limit: float
    ) -> None:
        environment = Environment(clock=clock, sleep=clock.sleep)
        context = FetchContext.begin(make("one", max_seconds=seconds), environment, None)
        connection = http.client.HTTPConnection("127.0.0.1")
        with socket.socket() as connection.sock:
            _Patience(context).limit(connection, received=10_000 * MEGABYTE)
            assert connection.sock.gettimeout() == limit

    @pytest.mark.parametrize(
        "kind", ["absent", "silent", "nonsense", "full", "chunked", "slow", "verbose", "takes nothing"]
    )
    def test_broken_cache_costs_a_download(
        self,
        make: Settings,
        environment: Environment,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        kind: str,
    ) -> None:
        monkeypatch.setattr("serval_serving.fetch.cache.client.HOLD_UP_SECONDS", 0.2)
        real_time = Environment(resolve=environment.resolve, policy=environment.policy)
        with broken(kind) as uri:
            assert Fetcher(make("one", cache=uri), real_time).run().version == 3
        assert "the cache" in caplog.text


@contextmanager
def broken(kind: str) -> Iterator[str]:
    answers = {
        "nonsense": b"220 smtp ready\r\n\r\n",
        "full": b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nmodel\r\n",
        "slow": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "verbose": b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n" + bytes(1 << 16),
        "takes nothing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if kind == "absent":
            server.close()
            yield f"http://127.0.0.1:{port}"
            return

        def answer() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peers.append(peer)
                # A client that gives up in the middle of an upload resets the connection.
                with suppress(OSError):
                    while kind in answers and peer.recv(1 << 16):
                        peer.sendall(answers[kind])
                        while kind == "slow":
                            peer.sendall(b"x")
                            stopped.wait(0.02)
                        if kind == "takes nothing":
                            stopped.wait(20)

        stopped = threading.Event()
        peers: list[socket.socket] = []
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        stopped.set()
        server.shutdown(socket.SHUT_RDWR)
        for peer in peers:
            peer.close()
        thread.join(timeout=10)
