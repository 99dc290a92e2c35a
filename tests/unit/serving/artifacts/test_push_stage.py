"""The stage that stores an artifact: its report, the cache, and who may change what another pod mounts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serval_contract import accel_flags, fetch_flags
from serval_contract.progress import parse_progress
from serval_contract.stage_report import StageReport, parse_stage_report
from serval_serving.accel.artifact import read_conversion
from serval_serving.artifacts import image as names
from serval_serving.artifacts import push_stage
from serval_serving.artifacts.client import RegistryClient
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import Limits, bytes_file, read_folder
from serval_serving.artifacts.image import make_image, parse_manifest
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.layout import ClaimStore, folder_name
from serval_serving.artifacts.progress_page import SentBytes, served
from serval_serving.artifacts.push import Pusher
from serval_serving.artifacts.push_stage import PushSettings, read_arguments, run, tag_of
from serval_serving.fetch.oci.login import PULL_SECRET
from serval_serving.fetch.progress import Deadline
from serval_serving.fetch.settings import Environment
from support.push_registry import PushRegistry, User
from unit.serving.artifacts.conftest import write_artifact
from unit.serving.fetch.tls import Pki

Run = Callable[..., PushRegistry]
KEY = "sha256:" + "a" * 64
TAG = tag_of(KEY)


@pytest.fixture
def stage(tmp_path: Path, pki: Pki, environment: Environment) -> Callable[..., StageReport]:
    def push(registry: PushRegistry | None, artifact: Path, **changes: Any) -> StageReport:
        values: dict[str, Any] = {
            "artifact": artifact,
            "repository": "" if registry is None else f"{registry.host}/serval/team-a",
            "cache_key": KEY,
            "tag": TAG,
            "ca_file": pki.ca,
            "plain": registry is not None and not registry.tls,
        }
        message = tmp_path / "termination"
        message.touch()
        status = run(PushSettings(**values | changes), environment, message)
        report = parse_stage_report(message.read_text())
        assert report is not None
        assert report.stage == "push"
        assert (status == 0) == (report.reason == "")
        return report

    return push


def secret(folder: Path, registry: PushRegistry, user: str, password: str) -> Path:
    folder.mkdir(parents=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / PULL_SECRET).write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    return folder


def test_report(run: Run, stage: Callable[..., StageReport], artifact: Path) -> None:
    registry = run()
    report = stage(registry, artifact)
    manifest = registry.tag("serval/team-a", TAG)
    stored = parse_manifest(manifest)
    assert report.result["artifact"] == f"{registry.host}/serval/team-a@{stored.digest}"
    assert report.result["bytes"] == report.result["sent"] == stored.size
    assert report.result["cached"] is False
    assert dict(stored.annotations) == {
        names.CACHE_KEY: KEY,
        names.NETWORK: "ResNet50",
        names.WEIGHTS: "User",
        names.QUANTIZATION: "Int8",
        names.SOURCE_DIGEST: "sha256:" + "5" * 64,
        names.CONVERTER: "serval 0.2.0",
        names.CREATED: stored.annotations[names.CREATED],
    }
    assert [layer.annotations[names.LAYER] for layer in stored.layers] == [names.FILES, names.REPORT]
    assert stored.layers[1].size < 20_000


def test_same_folder_gives_the_same_digest(
    run: Run, stage: Callable[..., StageReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    digests = [
        stage(run(), write_artifact(tmp_path / name)).result["artifact"].partition("@")[2] for name in "ab"
    ]
    assert digests[0] == digests[1]


def test_cache_hit(run: Run, stage: Callable[..., StageReport], tmp_path: Path) -> None:
    registry = run()
    first = stage(registry, write_artifact(tmp_path / "a"))
    registry.requests.clear()
    again = write_artifact(tmp_path / "b", report={"cosine": 0.99, "seconds": 99.0})
    (again / "conversion.log").write_text("another log")
    second = stage(registry, again)
    assert second.result["artifact"] == first.result["artifact"]
    assert second.result["cached"] is True
    assert registry.asked("PUT") == registry.asked("POST") == []


def lying_key(_made: Any, tmp_path: Path) -> Any:
    other = write_artifact(tmp_path / "other", b"evil" * 500)
    files = read_folder(other, Limits())
    return make_image([make_layer(files[1:]), make_layer(files[:1])], {names.CACHE_KEY: KEY})


def lying_device(made: Any, _tmp_path: Path) -> Any:
    """The report is the real one, the device part is not."""
    return make_image(
        [make_layer([bytes_file("device.onnx", b"weights" * 999 + b"evil!!!")]), made.layers[1]],
        {names.CACHE_KEY: KEY},
    )


def lying_report(made: Any, tmp_path: Path) -> Any:
    """The device part is the real one; the report says that its input is another tensor."""
    other = write_artifact(tmp_path / "other", network="VGG16")
    files = [file for file in read_folder(other, Limits()) if file.name.startswith("conversion")]
    return make_image([made.layers[0], make_layer(files)], {names.CACHE_KEY: KEY})


def third_layer(made: Any, _tmp_path: Path) -> Any:
    """A layer in between replaces the device part."""
    evil = make_layer([bytes_file("device.onnx", b"evil")])
    return make_image([made.layers[0], evil, made.layers[1]], {names.CACHE_KEY: KEY})


def evil_in_report(made: Any, tmp_path: Path) -> Any:
    """The layer with the report replaces the device part too."""
    files = [file for file in read_folder(tmp_path / "a", Limits()) if file.name == "conversion.json"]
    evil = make_layer([*files, bytes_file("device.onnx", b"evil")])
    return make_image([made.layers[0], evil], {names.CACHE_KEY: KEY})


def damaged_report(made: Any, _tmp_path: Path) -> Any:
    return make_image([made.layers[0], make_layer([])], {names.CACHE_KEY: KEY})


@pytest.mark.parametrize(
    "poison", [lying_key, lying_device, lying_report, third_layer, evil_in_report, damaged_report]
)
def test_poisoned_tag_is_noticed(
    run: Run,
    stage: Callable[..., StageReport],
    client: Callable[..., RegistryClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    poison: Callable[[Any, Path], Any],
) -> None:
    artifact = write_artifact(tmp_path / "a")
    made = push_stage.read_artifact(artifact, Limits(), cache_key=KEY).image
    registry = run()
    evil = poison(made, tmp_path)
    Pusher(client(registry), "serval/team-a").push(evil, TAG)
    report = stage(registry, artifact)
    assert report.result["artifact"].endswith(made.digest)
    assert report.result["cached"] is False
    assert registry.tag("serval/team-a", TAG) == made.manifest
    assert f"another content, {evil.digest}" in caplog.text


def test_tag_of_another_key_is_no_hit(run: Run, stage: Callable[..., StageReport], artifact: Path) -> None:
    registry = run()
    stage(registry, artifact, cache_key="another key")
    assert stage(registry, artifact).result["cached"] is False


TEAMS = {
    team: User(f"password of {team}", {f"serval/{team}": frozenset({"pull", "push", "delete"})})
    for team in ("team-a", "team-b")
}


@pytest.mark.parametrize("basic", [False, True], ids=["bearer", "basic"])
def test_a_tenant_cannot_change_what_another_one_mounts(
    run: Run,
    stage: Callable[..., StageReport],
    tmp_path: Path,
    basic: bool,
    client: Callable[..., RegistryClient],
) -> None:
    registry = run(users=TEAMS, basic=basic)
    credentials = {
        team: secret(tmp_path / team, registry, team, user.password) for team, user in TEAMS.items()
    }
    of_b = stage(
        registry,
        write_artifact(tmp_path / "b"),
        repository=f"{registry.host}/serval/team-b",
        credentials_dir=credentials["team-b"],
    )
    assert of_b.reason == ""
    before = dict(registry.manifests), dict(registry.blobs)

    # A has all rights in its own namespace: its Secret, its Job's arguments, its artifact, the same key.
    evil = write_artifact(tmp_path / "evil", b"evil" * 100)
    report = stage(
        registry,
        evil,
        repository=f"{registry.host}/serval/team-b",
        credentials_dir=credentials["team-a"],
    )
    assert (report.reason, report.permanent) == ("PushDenied", True)
    as_a = client(registry, ("team-a", TEAMS["team-a"].password))
    digest = of_b.result["artifact"].partition("@")[2]
    with pytest.raises(ArtifactFailure, match="PushDenied"):
        as_a.delete("serval/team-b", digest)
    with pytest.raises(ArtifactFailure, match="PushDenied"):
        Pusher(as_a, "serval/team-b").push(make_image([make_layer([])]), TAG)
    # The same key in A's own repository is another tag, and leads nobody else anywhere.
    assert stage(registry, evil, credentials_dir=credentials["team-a"]).reason == ""
    of_team_b = {key: value for key, value in registry.manifests.items() if key[0] == "serval/team-b"}
    assert of_team_b == before[0]
    assert {key: value for key, value in registry.blobs.items() if key[0] == "serval/team-b"} == before[1]


def test_digest_in_a_pod_is_not_moved_by_a_tag(
    run: Run, stage: Callable[..., StageReport], client: Callable[..., RegistryClient], artifact: Path
) -> None:
    registry = run()
    digest = stage(registry, artifact).result["artifact"].partition("@")[2]
    mounted = registry.tag("serval/team-a", digest)
    Pusher(client(registry), "serval/team-a").push(make_image([make_layer([])]), TAG)
    assert registry.tag("serval/team-a", TAG) != mounted
    assert registry.tag("serval/team-a", digest) == mounted


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "conversion.json").unlink(), "ArtifactInvalid"),
        (lambda folder: (folder / "conversion.json").write_text("{"), "ArtifactInvalid"),
        (lambda folder: (folder / "conversion.json").write_text("x" * (2 << 20)), "ArtifactInvalid"),
        (lambda folder: (folder / "device.onnx").unlink(), "ArtifactInvalid"),
        (lambda folder: (folder / "conversion.log").write_bytes(bytes(9 << 20)), "ArtifactInvalid"),
        (lambda folder: (folder / "secret").symlink_to("/etc/hostname"), "ArtifactInvalid"),
        (lambda folder: (folder / "large").write_bytes(bytes(20 << 20)), "ArtifactTooLarge"),
    ],
)
def test_folder_that_is_refused(
    run: Run,
    stage: Callable[..., StageReport],
    artifact: Path,
    spoil: Callable[[Path], object],
    reason: str,
) -> None:
    spoil(artifact)
    registry = run()
    report = stage(registry, artifact, limits=Limits(max_bytes=16 << 20))
    assert (report.reason, report.permanent) == (reason, True)
    assert registry.requests == []


@pytest.mark.parametrize(
    "repository", ["", "r.test", "r.test/A", "r.test/a:v1", "r.test/a@sha256:" + "0" * 64]
)
def test_what_is_no_repository(stage: Callable[..., StageReport], artifact: Path, repository: str) -> None:
    report = stage(None, artifact, repository=repository)
    assert report.permanent
    assert "REGISTRY/PATH" in report.message


def test_secret_that_is_none(
    run: Run, stage: Callable[..., StageReport], artifact: Path, tmp_path: Path
) -> None:
    report = stage(run(), artifact, credentials_dir=tmp_path / "none")
    assert (report.reason, report.permanent) == ("PushDenied", True)


# --- a claim in the place of a registry -------------------------------------------------------------------


def test_claim(stage: Callable[..., StageReport], artifact: Path, tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    report = stage(None, artifact, store=claim, repository="serval/team-a")
    digest = report.result["artifact"].removeprefix("serval/team-a@")
    assert report.result["folder"] == f"serval/team-a/{folder_name(digest)}"
    mounted = claim / report.result["folder"]
    assert read_conversion(mounted) == read_conversion(artifact)
    assert {p.name: p.read_bytes() for p in mounted.iterdir()} == {
        p.name: p.read_bytes() for p in artifact.iterdir()
    }
    assert {oct(p.stat().st_mode & 0o777) for p in mounted.iterdir()} == {"0o644"}
    repository = claim / "serval/team-a"
    assert json.loads((repository / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((repository / "index.json").read_text())["manifests"]
    assert (entry["digest"], entry["annotations"]) == (digest, {"org.opencontainers.image.ref.name": TAG})
    for blob in (repository / "blobs/sha256").iterdir():
        assert names.sha256_of((blob.read_bytes(),))[0] == f"sha256:{blob.name}"
    assert not list(repository.glob(".staging-*"))


def test_claim_has_a_cache_and_several_tags(stage: Callable[..., StageReport], tmp_path: Path) -> None:
    claim = {"store": tmp_path / "claim", "repository": "a"}
    first = stage(None, write_artifact(tmp_path / "1"), **claim)
    again = stage(None, write_artifact(tmp_path / "2", report={"seconds": 1.0}), **claim)
    assert again.result == {**first.result, "cached": True}
    other = stage(None, write_artifact(tmp_path / "3", b"other"), **claim, cache_key="x", tag="x")
    entries = json.loads((tmp_path / "claim/a/index.json").read_text())["manifests"]
    assert {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries} == {TAG, "x"}
    poisoned = stage(None, write_artifact(tmp_path / "4", b"more"), **claim, tag="x")
    assert poisoned.result["artifact"] != other.result["artifact"]
    assert (tmp_path / "claim" / other.result["folder"]).is_dir(), "what a pod mounts stays"


@pytest.mark.parametrize("repository", ["../a", "/a", "A", "a/../b", "", "h:5000/a"])
def test_claim_is_not_left(
    stage: Callable[..., StageReport], artifact: Path, tmp_path: Path, repository: str
) -> None:
    report = stage(None, artifact, store=tmp_path / "claim", repository=repository)
    assert (report.reason, report.permanent) == ("ArtifactInvalid", True)
    assert not (tmp_path / "claim").exists()


def test_claim_that_is_not_written(
    stage: Callable[..., StageReport], artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = tmp_path / "claim"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        report = stage(None, artifact, store=claim, repository="a")
    assert (report.reason, report.permanent) == ("StoreUnavailable", False)
    assert "full" in report.message
    assert not list((claim / "a").glob("sha256-*"))
    assert list((claim / "a").glob(".staging-*"))
    assert stage(None, artifact, store=claim, repository="a").reason == ""
    assert not list((claim / "a").glob(".staging-*")), "the next run removes what the last one left"


def test_claim_is_written_by_one_at_a_time(artifact: Path, tmp_path: Path) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    made = push_stage.read_artifact(artifact, Limits())
    deadline = Deadline(lambda: clock[0], 10.0, "the artifact was not stored")
    store = ClaimStore(tmp_path, "a", deadline, sleep)
    with store._locked(), pytest.raises(Exception, match="after 10 s"):
        ClaimStore(tmp_path, "a", deadline, sleep).store(made.image, made.files, "v1")
    assert clock[0] >= 10.0
    assert store.tags() == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"manifests": 7}', '{"manifests": [7]}'])
def test_claim_with_a_damaged_index(
    stage: Callable[..., StageReport], artifact: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "claim/a").mkdir(parents=True)
    (tmp_path / "claim/a/index.json").write_text(text)
    assert stage(None, artifact, store=tmp_path / "claim", repository="a").reason == ""
    assert json.loads((tmp_path / "claim/a/index.json").read_text())["manifests"][0]["digest"]


# --- the program -------------------------------------------------------------------------------------------


def test_arguments() -> None:
    settings, message = read_arguments(
        [
            accel_flags.ARTIFACT("/work/artifact"),
            accel_flags.REPOSITORY("r.test/a"),
            accel_flags.CACHE_KEY(KEY),
            accel_flags.PLAIN_HTTP.option,
            accel_flags.PROGRESS_PORT(8080),
            fetch_flags.CREDENTIALS_DIR("/serval/credentials"),
            fetch_flags.MAX_BYTES(7),
        ]
    )
    assert settings == PushSettings(
        artifact=Path("/work/artifact"),
        repository="r.test/a",
        cache_key=KEY,
        tag=TAG,
        plain=True,
        credentials_dir=Path("/serval/credentials"),
        limits=Limits(max_bytes=7),
        progress_port=8080,
    )
    assert str(message) == "/dev/termination-log"
    given = [accel_flags.ARTIFACT("a"), accel_flags.REPOSITORY("r/a"), accel_flags.TAG("v1")]
    assert read_arguments(given)[0].tag == "v1"


@pytest.mark.parametrize("more", [[], ["--tag=a:b"], ["--tag="], ["--unknown", "--tag=a"]])
def test_arguments_that_make_no_sense(more: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments(["--artifact=a", "--repository=r/a", *more])


def test_progress_page() -> None:
    import urllib3  # noqa: PLC0415 - only this test asks a page

    sent = SentBytes("push")
    sent.total = 10
    with served(0, sent) as port:
        sent.add(7)
        page = urllib3.request("GET", f"http://127.0.0.1:{port}/progress", timeout=10.0, retries=False)
        assert urllib3.request("GET", f"http://127.0.0.1:{port}/x", timeout=10.0, retries=False).status == 404
    read = parse_progress(page.data.decode())
    assert read is not None
    assert read.words() == "7 of 10 bytes"
    assert read.stage == "push"


def test_out_of_time(run: Run, artifact: Path, environment: Environment) -> None:
    ticks = iter(range(0, 10**9, 40))
    settings = PushSettings(artifact, f"{run().host}/a", KEY, TAG, plain=True, max_seconds=60.0)
    late = replace(environment, clock=lambda: float(next(ticks)))
    with pytest.raises(ArtifactFailure, match="after 60 s"):
        push_stage.push(settings, late, SentBytes("push"))
