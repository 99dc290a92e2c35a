"""A claim in the place of a registry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serval_contract.stage_report import StageReport
from serval_serving.accel.artifact import read_conversion
from serval_serving.artifacts.artifact import read_artifact
from serval_serving.artifacts.folder import Limits
from serval_serving.artifacts.layer import sha256_of
from serval_serving.artifacts.layout import ClaimStore, folder_name
from serval_serving.fetch.progress import Deadline
from unit.serving.artifacts.conftest import TAG, write_artifact


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
        assert sha256_of((blob.read_bytes(),))[0] == f"sha256:{blob.name}"
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

    made = read_artifact(artifact, Limits())
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
