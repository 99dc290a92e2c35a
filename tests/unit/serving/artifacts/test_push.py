"""Pushes to a registry that is strict, slow to forgive, or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from serval_serving.artifacts import push as push_module
from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import bytes_file
from serval_serving.artifacts.image import Image, append_layers, make_image
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.safety.address_policy import AddressPolicy
from serval_serving.fetch.safety.transport import Transport, tls_context
from serval_serving.fetch.sources import parse_https
from support.ports import free_port
from support.push_registry import DROP, Fault, PushRegistry, User
from unit.serving.fetch.tls import Pki, make_pki

Run = Callable[..., PushRegistry]
Client = Callable[..., RegistryClient]
REPOSITORY = "team-a/digits"
ALL = frozenset({"pull", "push", "delete"})
ROBOT = ("robot", "pass:word of the robot")
SECRETS = ("pass:word", "secret words", "token-", "cGFzczp3b3Jk")


def robot(may: frozenset[str] = ALL, repository: str = "*") -> dict[str, User]:
    return {"robot": User(ROBOT[1], {repository: may})}


def image(size: int = 3000) -> Image:
    layers = [make_layer([bytes_file("device.onnx", b"w" * size)]), make_layer([bytes_file("x", b"{}")])]
    return make_image(layers, {"dev.serval.network": "VGG16"})


def is_whole(registry: PushRegistry, pushed: Image, tag: str = "v1", repository: str = REPOSITORY) -> None:
    assert registry.tag(repository, tag) == registry.tag(repository, pushed.digest) == pushed.manifest
    for blob in (*(layer.blob for layer in pushed.layers), pushed.config):
        assert registry.blobs[repository, blob.digest] == b"".join(blob.chunks())


def fails(action: Callable[[], object]) -> ArtifactFailure:
    with pytest.raises(ArtifactFailure) as caught:
        action()
    assert not any(word in str(caught.value) for word in SECRETS)
    return caught.value


@pytest.mark.parametrize("plain", [False, True], ids=["TLS", "plain"])
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("query", ["", "state=a%2Fb&part=1"], ids=["", "query"])
@pytest.mark.parametrize("access", ["open", "basic", "bearer"])
def test_push(run: Run, client: Client, plain: bool, relative: bool, query: str, access: str) -> None:
    users = {} if access == "open" else robot()
    registry = run(plain=plain, relative=relative, query=query, users=users, basic=access == "basic")
    made, sent = image(), list[int]()
    pushed = Pusher(client(registry, ROBOT), REPOSITORY, sent.append).push(made, "v1")
    is_whole(registry, made)
    assert pushed.digest == made.digest
    assert pushed.sent == made.size
    assert sum(sent) == made.size + len(made.manifest)  # the manifest goes by digest and by tag
    assert registry.asked("PATCH") == []
    if access == "bearer":
        assert set(registry.scopes) == {f"repository:{REPOSITORY}:pull,push", f"repository:{REPOSITORY}:pull"}


def test_what_is_there_is_not_sent_again(run: Run, client: Client) -> None:
    registry = run(users=robot())
    Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1")
    registry.requests.clear()
    again = Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v2")
    assert again.sent == len(image().manifest)
    assert registry.asked("POST") == []
    is_whole(registry, image(), "v2")


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_token_that_expires_in_the_middle(run: Run, client: Client, slept: list[float], uses: int) -> None:
    registry = run(users=robot(), token_uses=uses)
    Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1")
    is_whole(registry, image())
    assert len(registry.tokens) > 3
    assert slept == [], "a new token is no reason to wait"


def test_token_that_expires_between_pieces(
    run: Run, client: Client, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    monkeypatch.setattr(push_module, "CHUNK_BYTES", 1000)
    registry = run(users=robot(), token_uses=4, most=1500)
    Pusher(client(registry, ROBOT), REPOSITORY).push(image(20_000), "v1")
    is_whole(registry, image(20_000))
    assert len(registry.asked("PATCH")) > 20
    assert slept == []


@pytest.mark.parametrize("least", [0, 1400], ids=["", "least piece"])
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_pieces_only_where_the_registry_insists(
    run: Run, client: Client, monkeypatch: pytest.MonkeyPatch, least: int, relative: bool
) -> None:
    monkeypatch.setattr(push_module, "CHUNK_BYTES", 1000)
    registry = run(most=1500, least_piece=least, relative=relative, query="state=1")
    Pusher(client(registry), REPOSITORY).push(image(5000), "v1")
    is_whole(registry, image(5000))
    whole = [path for path in registry.asked("PUT", "blobs") if "digest=" in path]
    # Two layers of 10,240 bytes, and the configuration, in pieces of 1,000 or 1,400 bytes.
    assert len(registry.asked("PATCH")) == (8 + 8 + 1 if least else 11 + 11 + 1)
    # One long request was refused; from then on all blobs go in pieces, each ended by a request of its own.
    assert len(whole) == 1 + 3


def test_pieces_of_absurd_size_are_refused(run: Run, client: Client) -> None:
    registry = run(most=100, least_piece=1 << 40)
    error = fails(lambda: Pusher(client(registry), REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == ("RegistryRejected", True)


def test_pieces_that_are_refused_too(run: Run, client: Client) -> None:
    error = fails(lambda: Pusher(client(run(most=100)), REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == ("RegistryRejected", True)
    assert "413 SIZE_INVALID" in error.message


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/", 500),
        ("GET", "/v2/", DROP),
        ("GET", "/token", 502),
        ("HEAD", "/blobs/", 429),
        ("POST", "/uploads/", 504),
        ("POST", "/uploads/", DROP),
        ("PUT", "/uploads/", 503),
        ("PUT", "/uploads/", DROP),
        ("PUT", "/manifests/sha256", 408),
        ("PUT", "/manifests/v1", 503),
    ],
)
def test_failures_that_pass(
    run: Run, client: Client, slept: list[float], method: str, path: str, status: int
) -> None:
    registry = run(users=robot(), faults=[Fault(method, path, status) for _ in range(3)])
    Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1")
    is_whole(registry, image())
    assert registry.faults == []
    assert len(slept) == 3


def test_failures_that_do_not_pass(run: Run, client: Client, slept: list[float]) -> None:
    registry = run(users=robot())
    made = client(registry, ROBOT)
    registry.faults = [Fault("PUT", "/uploads/", 503, "UNAVAILABLE") for _ in range(9)]
    error = fails(lambda: Pusher(made, REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == ("RegistryUnreachable", False)
    assert "503 UNAVAILABLE" in error.message
    assert slept == [1.0, 2.0, 4.0]


def test_upload_that_the_registry_forgot(run: Run, client: Client, slept: list[float]) -> None:
    registry = run(faults=[Fault("PUT", "/uploads/", 404, "BLOB_UPLOAD_UNKNOWN")])
    Pusher(client(registry), REPOSITORY).push(image(), "v1")
    is_whole(registry, image())
    assert slept == [1.0]


def test_answer_that_is_lost_in_the_middle_of_an_upload(run: Run, client: Client, slept: list[float]) -> None:
    # The connection is closed on a body that nobody read, so that the answer 401 may be lost.
    registry = run(plain=False, users=robot(), abrupt=True, token_uses=3)
    Pusher(client(registry, ROBOT), REPOSITORY).push(image(8_000_000), "v1")
    is_whole(registry, image(8_000_000))
    assert len(slept) <= 3


@pytest.mark.parametrize(
    ("login", "may", "basic"),
    [
        (None, ALL, False),
        (None, ALL, True),
        (("robot", "wrong"), ALL, False),
        (("robot", "wrong"), ALL, True),
        (ROBOT, frozenset({"pull"}), False),
        (ROBOT, frozenset({"pull"}), True),
    ],
    ids=["nobody", "nobody, basic", "wrong", "wrong, basic", "reader", "reader, basic"],
)
def test_who_may_not_push(
    run: Run,
    client: Client,
    slept: list[float],
    login: tuple[str, str] | None,
    may: frozenset[str],
    basic: bool,
) -> None:
    registry = run(users=robot(may), basic=basic)
    error = fails(lambda: Pusher(client(registry, login), REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == ("PushDenied", True)
    assert slept == []
    assert registry.manifests == {}


@pytest.mark.parametrize(
    ("fault", "reason", "permanent"),
    [
        (Fault("POST", "/uploads/", 404, "NAME_UNKNOWN"), "ArtifactNotFound", True),
        (Fault("POST", "/uploads/", 405, "UNSUPPORTED"), "RegistryRejected", True),
        (Fault("POST", "/uploads/", 403, "DENIED"), "PushDenied", True),
        (Fault("PUT", "/uploads/", 507), "RegistryRejected", False),
        (Fault("PUT", "/uploads/", 307), "RegistryRejected", True),
        (Fault("PUT", "/manifests/v1", 400, "MANIFEST_INVALID"), "RegistryRejected", True),
        (Fault("PUT", "/manifests/v1", 400, "not a code!"), "RegistryRejected", True),
    ],
    ids=lambda value: getattr(value, "status", None) and f"{value.method} {value.status}",
)
def test_refusals(run: Run, client: Client, fault: Fault, reason: str, permanent: bool) -> None:
    registry = run(users=robot(), faults=[fault])
    error = fails(lambda: Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == (reason, permanent)
    assert str(fault.status) in error.message
    assert (fault.code in error.message) == (fault.code != "not a code!")


@pytest.mark.parametrize("wrong", ["lies", "swaps"])
def test_digest_that_is_not_ours(run: Run, client: Client, wrong: str) -> None:
    registry = run(**{wrong: True})
    error = fails(lambda: Pusher(client(registry), REPOSITORY).push(image(), "v1"))
    assert (error.reason, error.permanent) == ("RegistryRejected", True)
    assert "did not store what was sent" in error.message


def test_location_elsewhere_gets_no_credential(run: Run, client: Client) -> None:
    storage = run(plain=False)
    registry = run(plain=False, users=robot(), uploads_at=storage.host)
    storage.uploads["upload-0"] = bytearray()
    fails(lambda: Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1"))
    assert storage.asked("PUT", "upload-0") != []
    assert set(storage.authorizations) == {""}


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "", "https://u:p@h/x"])
def test_location_that_leads_nowhere(
    run: Run, client: Client, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    registry = run(plain=False)
    monkeypatch.setattr("support.push_registry._Handler._location", lambda *_: location)
    error = fails(lambda: Pusher(client(registry), REPOSITORY).push(image(), "v1"))
    assert error.permanent
    assert registry.asked("PUT") == []


def test_blobs_in_another_store(run: Run, client: Client) -> None:
    registry = run()
    Pusher(client(registry), REPOSITORY).push(image(), "v1")
    registry.faults = [Fault("HEAD", "/blobs/", 307) for _ in range(3)]
    assert Pusher(client(registry), REPOSITORY).push(image(), "v2").sent == len(image().manifest)


def test_base_image_has_to_be_there(run: Run, client: Client) -> None:
    registry = run()
    base = image()
    top = append_layers(base.manifest, b"".join(base.config.chunks()), [make_layer([bytes_file("m", b"1")])])
    error = fails(lambda: Pusher(client(registry), "edge/server").push(top, "v1"))
    assert "copy the base image there" in error.message
    Pusher(client(registry), "edge/server").push(base, "base")
    Pusher(client(registry), "edge/server").push(top, "v1")
    assert registry.tag("edge/server", "v1") == top.manifest


def test_own_authority_is_needed(
    run: Run, environment: Environment, tmp_path: Path, slept: list[float]
) -> None:
    registry = run(plain=False)
    for ca in (None, make_pki(tmp_path, "another authority").ca):
        settings = Settings(None, ca, False, 60.0, environment)
        error = fails(partial(RegistryClient, registry.host, settings))
        assert (error.reason, error.permanent) == ("RegistryUnreachable", False)
        assert "certificate" in error.message
    assert slept == []


def test_nobody_is_there(environment: Environment, slept: list[float]) -> None:
    error = fails(
        lambda: RegistryClient(f"127.0.0.1:{free_port()}", Settings(None, None, True, 60.0, environment))
    )
    assert (error.reason, error.permanent) == ("RegistryUnreachable", False)
    assert len(slept) == 3


def test_addresses_are_judged(run: Run, pki: Pki, environment: Environment) -> None:
    registry = run(plain=False)
    strict = Environment(environment.clock, environment.sleep, environment.resolve, AddressPolicy())
    error = fails(lambda: RegistryClient(registry.host, Settings(None, pki.ca, False, 60.0, strict)))
    assert "loopback" in error.message
    assert registry.requests == []


def test_time_is_limited(run: Run, pki: Pki, environment: Environment) -> None:
    clock = [0.0]
    timed = Environment(lambda: clock[0], environment.sleep, environment.resolve, environment.policy)
    registry = run(plain=False)
    client = RegistryClient(registry.host, Settings(None, pki.ca, False, 60.0, timed))

    def slow(count: int) -> None:
        clock[0] += count / 1000  # 1 kB in a second

    many = make_image([make_layer([bytes_file(f"{i}", bytes(10_000)) for i in range(30)])])
    error = fails(lambda: Pusher(client, REPOSITORY, slow).push(many, "v1"))
    assert (error.reason, error.permanent) == ("RegistryUnreachable", False)
    assert "after 60 s" in error.message
    assert clock[0] < 90, "the upload of 300 s was ended in the middle"


def test_realm_without_tls_is_refused(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = run(plain=False, users=robot())
    monkeypatch.setattr(PushRegistry, "url", property(lambda one: f"http://{one.host}"))
    error = fails(lambda: Pusher(client(registry, ROBOT), REPOSITORY).push(image(), "v1"))
    assert error.reason == "RegistryUnreachable"
    assert "https://" in error.message
    assert registry.asked("GET", "/token") == []


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_lists(run: Run, client: Client, page: int) -> None:
    registry = run(users=robot(frozenset({"pull", "push", "*"})), page=page)
    made = client(registry, ROBOT)
    for repository in ("a/x", "a/y", "b"):
        for tag in ("v1", "v2", "v3", "sha256:" + "0" * 64):
            registry.manifests[repository, tag] = ("x", b"{}")
    assert made.tags("a/x") == ["v1", "v2", "v3"]
    assert made.tags("nothing") is None
    assert made.repositories() == ["a/x", "a/y", "b"]


def test_catalogue_may_be_closed(run: Run, client: Client) -> None:
    registry = run(users=robot())
    assert client(registry, ROBOT).repositories() is None


def test_list_that_never_ends(run: Run, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(handler: Any, *_: object) -> None:
        handler._answer(200, json.dumps({"tags": ["a"]}).encode(), Link='</v2/a/tags/list>; rel="next"')

    monkeypatch.setattr("support.push_registry._Handler._tags", endless)
    monkeypatch.setattr("serval_serving.artifacts.client.MAX_PAGES", 3)
    error = fails(lambda: client(run()).tags("a"))
    assert error.reason == "RegistryRejected"


def test_delete(run: Run, client: Client) -> None:
    registry = run(users=robot())
    made = client(registry, ROBOT)
    pushed = Pusher(made, REPOSITORY).push(image(), "v1")
    made.delete(REPOSITORY, pushed.digest)
    assert registry.manifests == {}
    assert fails(lambda: made.delete(REPOSITORY, pushed.digest)).reason == "ArtifactNotFound"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"deletes": False}, "RegistryRejected"), ({"users": robot(frozenset({"pull", "push"}))}, "PushDenied")],
)
def test_what_may_not_be_deleted(run: Run, client: Client, settings: dict[str, Any], reason: str) -> None:
    registry = run(**settings)
    made = client(registry, ROBOT)
    pushed = Pusher(made, REPOSITORY).push(image(), "v1")
    assert fails(lambda: made.delete(REPOSITORY, pushed.digest)).reason == reason
    assert registry.tag(REPOSITORY, "v1")


def test_other_bytes_than_the_digest(run: Run, client: Client) -> None:
    registry = run()
    made = client(registry)
    pushed = Pusher(made, REPOSITORY).push(image(), "v1")
    registry.manifests[REPOSITORY, pushed.digest] = ("x", b"{}")
    assert fails(lambda: made.manifest(REPOSITORY, pushed.digest)).reason == "RegistryRejected"
    digest = image().config.digest
    registry.blobs[REPOSITORY, digest] = b"{}"
    assert fails(lambda: made.blob(REPOSITORY, digest, 1000)).reason == "RegistryRejected"
    assert made.manifest(REPOSITORY, "v2") is None
    assert fails(lambda: made.blob(REPOSITORY, "sha256:" + "0" * 64, 1000)).reason == "ArtifactNotFound"


def test_body_that_was_begun_goes_to_no_second_address(run: Run) -> None:
    registry = run(faults=[Fault("PUT", "/x", DROP)])
    addresses = ["127.0.0.1", "127.0.0.2"]
    transport = Transport(tls_context(None), lambda *_: list(addresses), AddressPolicy(()))
    where = parse_https(f"http://{registry.host}/x", plain=True)
    begun = list[int]()

    def body() -> Iterator[bytes]:
        begun.append(1)
        yield b"1"

    def put() -> int:
        with transport.send("PUT", where, {"Content-Length": "1"}, body) as reply:
            return reply.status

    with pytest.raises(FetchError, match="broke off"):
        put()
    assert len(begun) == 1
    # Nobody listens at the first address, so nothing was begun there.
    addresses.reverse()
    assert put() == 404
    assert registry.asked("PUT") == ["/x", "/x"]
