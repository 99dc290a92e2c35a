"""The stage that stores an artifact: its report, the cache, and who may change what another pod mounts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serval_contract import accel_flags, fetch_flags
from serval_contract.progress import Progress
from serval_contract.stage_report import StageReport
from serval_serving.artifacts import image as names
from serval_serving.artifacts import push_stage
from serval_serving.artifacts.artifact import read_artifact
from serval_serving.artifacts.client import RegistryClient
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import Limits, bytes_file, read_folder
from serval_serving.artifacts.image import append_layers, make_image, parse_manifest
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.artifacts.push_stage import PushSettings, read_arguments
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.oci.login import PULL_SECRET
from support.push_registry import PushRegistry, User
from unit.serving.artifacts.conftest import KEY, TAG, write_artifact

Run = Callable[..., PushRegistry]


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


def lying_device(_: Any, tmp_path: Path) -> Any:
    """Made as Serval makes it; the device part computes something else."""
    return read_artifact(write_artifact(tmp_path / "evil", b"evil" * 1750), Limits(), cache_key=KEY).image


def lying_report(_: Any, tmp_path: Path) -> Any:
    """Made as Serval makes it; the description is that of another network."""
    return read_artifact(write_artifact(tmp_path / "evil", network="VGG16"), Limits(), cache_key=KEY).image


def other_layer(made: Any, _: Path) -> Any:
    """The report is the real one, the layer below it is not."""
    evil = make_layer([bytes_file("device.onnx", b"evil")])
    return make_image([evil, made.layers[1]], {names.CACHE_KEY: KEY})


def third_layer(made: Any, _: Path) -> Any:
    """A layer in between replaces the device part."""
    evil = make_layer([bytes_file("device.onnx", b"evil")])
    return make_image([made.layers[0], evil, made.layers[1]], {names.CACHE_KEY: KEY})


def evil_in_report(made: Any, tmp_path: Path) -> Any:
    """The layer with the report replaces the device part too."""
    files = [file for file in read_folder(tmp_path / "a", Limits()) if file.name == "conversion.json"]
    evil = make_layer([*files, bytes_file("device.onnx", b"evil")])
    return make_image([made.layers[0], evil], {names.CACHE_KEY: KEY})


def other_process(made: Any, _: Path) -> Any:
    """The layers are the real ones, the configuration is not."""
    config = b"".join(made.config.chunks())
    return append_layers(made.manifest, config, [], entrypoint=["/bin/evil"])


def other_type(made: Any, _: Path) -> Any:
    """Everything is the real one but the type of a layer, so that a node mounts nothing of it."""
    blob = replace(made.layers[0].blob, media_type="application/x")
    return make_image([replace(made.layers[0], blob=blob), made.layers[1]], {names.CACHE_KEY: KEY})


def damaged_report(made: Any, _: Path) -> Any:
    return make_image([made.layers[0], make_layer([])], {names.CACHE_KEY: KEY})


@pytest.mark.parametrize(
    "poison",
    [
        lying_device,
        lying_report,
        other_layer,
        third_layer,
        evil_in_report,
        other_process,
        other_type,
        damaged_report,
    ],
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
    made = read_artifact(artifact, Limits(), cache_key=KEY).image
    registry = run()
    evil = poison(made, tmp_path)
    if evil.inherited:
        Pusher(client(registry), "serval/team-a").push(made, "base")
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


def test_progress(run: Run, artifact: Path, environment: Environment) -> None:
    ticks = iter(range(10**9))
    reports = list[Progress]()
    settings = PushSettings(artifact, f"{run().host}/a", KEY, TAG, plain=True, max_seconds=1e9)
    push_stage.push(settings, replace(environment, clock=lambda: float(next(ticks))), reports.append)
    steps = [report.step or 0 for report in reports]
    assert steps == sorted(steps)
    assert 0 < steps[0] <= steps[-1] <= (reports[0].steps or 0)
    assert reports[0].words().endswith("bytes: sending the artifact")


def test_out_of_time(run: Run, artifact: Path, environment: Environment) -> None:
    ticks = iter(range(0, 10**9, 40))
    settings = PushSettings(artifact, f"{run().host}/a", KEY, TAG, plain=True, max_seconds=60.0)
    late = replace(environment, clock=lambda: float(next(ticks)))
    with pytest.raises(ArtifactFailure, match="after 60 s"):
        push_stage.push(settings, late, lambda _: None)
