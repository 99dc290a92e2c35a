from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3
from backports import zstd

from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.https import Downloader
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.retry import BACKOFF_SECONDS
from serval_serving.fetch.safety.address_policy import AddressPolicy
from serval_serving.fetch.safety.transport import Transport, tls_context
from serval_serving.fetch.settings import FetchSettings
from serval_serving.fetch.sources import parse_https
from support.ports import free_port
from unit.serving.fetch.builders import MEGABYTE, below, model_files, tar, zipped
from unit.serving.fetch.clocks import Clock
from unit.serving.fetch.conftest import Network
from unit.serving.fetch.tls import HOST, Pki, Site, chunked, content, cut_short, status

Settings = Callable[..., FetchSettings]
ARCHIVE = tar(below("resnet", below("3", model_files())))


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.tar.gz", ARCHIVE),
        ("m.tgz", tar(below("3", model_files()))),
        ("m.tar", tar(below("3", model_files()), mode="w:")),
        ("m.tar.zst", zstd.compress(tar(below("3", model_files()), mode="w:"))),
        ("m.zip", zipped(below("./3", model_files()))),
        ("named-wrongly.zip", ARCHIVE),
    ],
)
def test_archive_becomes_the_one_version(
    site: Site, settings: Settings, environment: Environment, name: str, data: bytes
) -> None:
    made = settings(site.serve(f"/{name}", content(data)))
    (made.dest / "digits" / "2").mkdir(parents=True)
    fetched = Fetcher(made, environment).run()

    files = {p.relative_to(made.dest).as_posix(): p for p in made.dest.rglob("*") if p.is_file()}
    assert files["digits/3.sha256"].read_text() == f"{fetched.digest}\n"
    assert set(files) == {
        "digits/3.sha256",
        "digits/3/saved_model.pb",
        "digits/3/variables/variables.data-00000-of-00001",
        "monitoring.config",
    }
    assert "/monitoring/prometheus/metrics" in files["monitoring.config"].read_text()
    assert {oct(p.stat().st_mode & 0o777) for p in files.values()} == {"0o644"}
    assert oct((made.dest / "digits" / "3").stat().st_mode & 0o777) == "0o755"
    assert fetched.version == 3
    expected = hashlib.sha256()
    for path, data_ in sorted(model_files().items()):
        expected.update(f"{path}\0{len(data_)}\0".encode() + data_)
    assert fetched.digest == f"sha256:{expected.hexdigest()}"
    assert fetched.size == sum(map(len, model_files().values()))
    assert [one.name for one in fetched.outputs or ()] == ["classes", "probabilities"]


def test_bare_model_takes_the_wanted_number(site: Site, settings: Settings, environment: Environment) -> None:
    uri = site.serve("/m.tgz", content(tar(model_files())))
    assert Fetcher(settings(uri), environment).run().version == 1
    made = settings(uri, version=7)
    assert Fetcher(made, environment).run().version == 7
    assert sorted(p.name for p in (made.dest / "digits").iterdir()) == ["7", "7.sha256"]


@pytest.mark.parametrize(
    ("code", "reason", "permanent", "tries"),
    [
        (404, "ModelNotFound", True, 1),
        (410, "ModelNotFound", True, 1),
        (401, "ModelAccessDenied", True, 1),
        (403, "ModelAccessDenied", True, 1),
        (400, "ModelSourceUnavailable", False, 1),
        (204, "ModelSourceUnavailable", False, 1),
        (429, "ModelSourceUnavailable", False, 4),
        (500, "ModelSourceUnavailable", False, 4),
        (503, "ModelSourceUnavailable", False, 4),
    ],
)
def test_status_is_classified(
    site: Site,
    settings: Settings,
    environment: Environment,
    code: int,
    reason: str,
    permanent: bool,
    tries: int,
) -> None:
    error = fails(settings(site.serve("/m", status(code)) + "?sig=SECRET"), environment)
    assert (error.reason, error.permanent) == (reason, permanent)
    assert str(code) in error.message
    assert f"{HOST}:{site.port}/m" in error.message
    assert len(site.requests) == tries


def test_passing_errors_are_tried_again(
    site: Site, settings: Settings, environment: Environment, clock: Clock
) -> None:
    uri = site.serve("/m", status(503), cut_short(ARCHIVE[:50], len(ARCHIVE)), content(ARCHIVE))
    assert Fetcher(settings(uri), environment).run().version == 3
    assert clock.slept == list(BACKOFF_SECONDS[:2])


def test_no_pause_beyond_the_time_limit(
    site: Site, settings: Settings, environment: Environment, clock: Clock
) -> None:
    fails(settings(site.serve("/m", status(503)), max_seconds=2.5), environment)
    assert clock.slept == [1.0]


def test_time_is_limited_while_bytes_flow(
    site: Site, settings: Settings, environment: Environment, clock: Clock
) -> None:
    def slow() -> float:
        clock.now += 1.0
        return clock.now

    uri = site.serve("/m", chunked(b"x" * 1000, 200))
    hurried = Environment(slow, environment.sleep, environment.resolve, environment.policy)
    error = fails(settings(uri, max_seconds=20.0), hurried)
    assert error.reason == "ModelSourceUnavailable"
    assert "20 s" in error.message
    assert len(site.requests) == 1


@pytest.mark.parametrize("answer", [content(b"x" * 1001), chunked(b"x" * 500, 3)])
def test_over_the_cap(site: Site, settings: Settings, environment: Environment, answer: object) -> None:
    error = fails(settings(site.serve("/m", answer), max_bytes=1000), environment)  # type: ignore[arg-type]
    assert (error.reason, error.permanent) == ("ModelTooLarge", True)
    assert len(site.requests) == 1


def test_length_over_the_cap_is_not_even_begun(
    site: Site, settings: Settings, environment: Environment
) -> None:
    error = fails(settings(site.serve("/m", cut_short(b"x", 10**12))), environment)
    assert error.reason == "ModelTooLarge"


def test_digest_is_compared(site: Site, settings: Settings, environment: Environment) -> None:
    uri = site.serve("/m", content(ARCHIVE))
    right = hashlib.sha256(ARCHIVE).hexdigest()
    assert Fetcher(settings(uri, sha256=right), environment).run().version == 3
    error = fails(settings(uri, sha256="0" * 64, dest=settings(uri).dest.parent / "other"), environment)
    assert (error.reason, error.permanent) == ("ModelDigestMismatch", True)
    assert right in error.message


def test_redirects_are_followed_to_a_limit(site: Site, settings: Settings, environment: Environment) -> None:
    for index in range(5):
        site.serve(f"/r{index}", status(302, f"/r{index + 1}?sig=SECRET"))
    site.serve("/r5", content(ARCHIVE))
    assert Fetcher(settings(site.uri("/r0")), environment).run().version == 3
    site.serve("/loop", status(307, "/loop"))
    made = settings(site.uri("/loop"), dest=settings(site.uri("/")).dest.parent / "other")
    error = fails(made, environment)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "redirects" in error.message


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://models.test/m", "ModelAccessDenied"),
        ("file:///etc/passwd", "ModelAccessDenied"),
        ("https://metadata.test/latest", "ModelAccessDenied"),
        ("https://169.254.169.254/latest", "ModelAccessDenied"),
        ("https://user:SECRET@models.test/m", "ModelAccessDenied"),
        ("https://models.test:99999/m", "ModelNotFound"),
        (None, "ModelSourceUnavailable"),
    ],
)
def test_each_redirect_is_judged(
    site: Site,
    settings: Settings,
    environment: Environment,
    network: Network,
    location: str | None,
    reason: str,
) -> None:
    network.hosts = {"metadata.test": [["169.254.169.254"]], "169.254.169.254": [["169.254.169.254"]]}
    error = fails(settings(site.serve("/m", status(302, location))), environment)
    assert error.reason == reason
    assert "SECRET" not in error.message
    assert len(site.requests) == 1


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254"])
def test_metadata_addresses_are_never_connected_to(
    settings: Settings, environment: Environment, network: Network, address: str
) -> None:
    network.hosts = {HOST: [[address]]}
    error = fails(settings(f"https://{HOST}/m"), environment)
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert address in error.message


def test_loopback_is_refused_outside_tests(settings: Settings, environment: Environment, site: Site) -> None:
    strict = Environment(environment.clock, environment.sleep, environment.resolve, AddressPolicy())
    error = fails(settings(site.serve("/m", content(ARCHIVE))), strict)
    assert error.reason == "ModelAccessDenied"
    assert not site.requests


def test_second_answer_of_the_name_server_changes_nothing(
    site: Site, settings: Settings, environment: Environment, network: Network
) -> None:
    """DNS rebinding: harmless when it is judged, hostile when it is used."""
    network.hosts = {HOST: [["127.0.0.1"], ["169.254.169.254"]]}
    assert Fetcher(settings(site.serve("/m", content(ARCHIVE))), environment).run().version == 3
    assert network.asked == [HOST]
    assert site.requests == [("/m", f"{HOST}:{site.port}")]


def test_only_allowed_addresses_of_a_name_are_tried(
    site: Site, settings: Settings, environment: Environment, network: Network
) -> None:
    network.hosts = {HOST: [["169.254.169.254", "::1", "127.0.0.2", "127.0.0.1"]]}
    assert Fetcher(settings(site.serve("/m", content(ARCHIVE))), environment).run().version == 3


@pytest.mark.parametrize(
    ("code", "words"), [(socket.EAI_NONAME, "there is no host"), (socket.EAI_AGAIN, "no answer")]
)
def test_dns_failure_is_named(settings: Settings, clock: Clock, code: int, words: str) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(code, "Temporary failure")

    error = fails(settings(f"https://{HOST}/m"), Environment(clock, clock.sleep, resolve, AddressPolicy()))
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert error.message.startswith("DNS:")
    assert words in error.message
    assert len(clock.slept) == 3


def test_refused_connection_is_named(settings: Settings, environment: Environment, clock: Clock) -> None:
    port = free_port()
    error = fails(settings(f"https://{HOST}:{port}/m"), environment)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "connection refused" in error.message
    assert len(clock.slept) == 3


def test_unknown_authority_is_named(
    site: Site, settings: Settings, environment: Environment, clock: Clock
) -> None:
    error = fails(settings(site.serve("/m", content(ARCHIVE)), ca_file=None), environment)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "certificate" in error.message
    assert not clock.slept, "the same certificate would be refused again"


def test_certificate_must_be_for_the_host(site: Site, settings: Settings, environment: Environment) -> None:
    site.serve("/m", content(ARCHIVE))
    error = fails(settings(site.uri("/m", host="other.test")), environment)
    assert "certificate" in error.message
    assert "other.test" in error.message
    assert not site.requests


def test_address_instead_of_a_name(site: Site, settings: Settings, environment: Environment) -> None:
    site.serve("/m", content(ARCHIVE))
    assert Fetcher(settings(site.uri("/m", host="127.0.0.1")), environment).run().version == 3


def test_plain_http_server_is_named(settings: Settings, environment: Environment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(4):
                peer, _ = server.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = fails(settings(f"https://{HOST}:{server.getsockname()[1]}/m"), environment)
        thread.join(timeout=10)
    assert error.reason == "ModelSourceUnavailable"
    assert error.message.startswith("TLS")


def test_silent_server_times_out(
    site: Site, pki: Pki, network: Network, tmp_path: Path, clock: Clock
) -> None:
    done = threading.Event()
    uri = site.serve("/m", lambda _handler: done.wait(10) and None)
    timeout = urllib3.Timeout(connect=5, read=0.1)
    transport = Transport(tls_context(pki.ca), network.resolve, AddressPolicy(()), timeout=timeout)
    downloader = Downloader(
        transport, max_bytes=10, deadline=Deadline(clock, 0.5), progress=Progress(clock), sleep=clock.sleep
    )
    with pytest.raises(FetchError, match=r"time-out: .* sent nothing") as caught:
        downloader.download(parse_https(uri), tmp_path / "m")
    done.set()
    assert not caught.value.permanent


def test_full_disk_is_named(site: Site, pki: Pki, network: Network, clock: Clock) -> None:
    uri = site.serve("/m", content(b"x" * 100))
    transport = Transport(tls_context(pki.ca), network.resolve, AddressPolicy(()))
    downloader = Downloader(
        transport, max_bytes=1000, deadline=Deadline(clock, 60), progress=Progress(clock), sleep=clock.sleep
    )
    with pytest.raises(FetchError, match=r"disk .* is full") as caught:
        downloader.download(parse_https(uri), Path("/dev/full"))
    assert (caught.value.reason, caught.value.permanent) == ("ModelTooLarge", False)


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_unusable_ca_file_is_named(
    settings: Settings, environment: Environment, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "own-ca.pem"
    if text is not None:
        path.write_text(text)
    error = fails(settings(f"https://{HOST}/m", ca_file=path), environment)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "own-ca.pem" in error.message


def test_secrets_stay_out_of_the_log(
    site: Site, settings: Settings, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    site.serve("/m", status(503), status(302, "/n?sig=SECRET"))
    site.serve("/n", content(ARCHIVE))
    Fetcher(settings(site.uri("/m?sig=SECRET")), environment).run()
    assert "503" in caplog.text
    assert "SECRET" not in "".join(record.getMessage() for record in caplog.records if "fetch" in record.name)
    assert site.requests[0][0] == "/m?sig=SECRET"


def test_progress_is_said(
    site: Site, settings: Settings, environment: Environment, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def quick() -> float:
        clock.now += 3.0
        return clock.now

    uri = site.serve("/m", content(tar(model_files(b"\x00\x01" * MEGABYTE), mode="w:")))
    made = Environment(quick, environment.sleep, environment.resolve, environment.policy)
    Fetcher(settings(uri, max_seconds=1e6), made).run()
    assert "downloaded: " in caplog.text
    assert " MiB of 2.0 MiB (" in caplog.text
    assert json.dumps(caplog.text).count("unpacked: ")
