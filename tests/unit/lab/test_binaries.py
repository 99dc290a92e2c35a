from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serval_lab import LabError, Settings
from serval_lab.binaries import Binaries, build_command, cache_dir, ensure, locate
from serval_lab.pins import ALL, KUBERNETES, MODULE_DIR, Binary, pins_hash


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", state=tmp_path / "state", assets=tmp_path / "assets")


def by_name(name: str) -> Binary:
    return next(binary for binary in ALL if binary.name == name)


def test_every_binary_is_pinned() -> None:
    modules = (MODULE_DIR / "go.mod").read_text()
    for binary in ALL:
        if binary.version:
            assert binary.version.startswith("v")
            assert "latest" not in binary.target
        elif binary.name != "pause":
            assert binary.package in modules
    assert f"k8s.io/kubernetes v{KUBERNETES}" in modules
    assert len({binary.name for binary in ALL}) == len(ALL)


def test_assets_come_before_the_cache_and_the_rest_is_missing(settings: Settings) -> None:
    assert settings.assets is not None
    etcd, kubectl, crane = by_name("etcd"), by_name("kubectl"), by_name("crane")
    program(settings.assets / "etcd")
    for binary in (etcd, kubectl):
        program(cache_dir(settings) / binary.name)
    found, missing = locate([etcd, kubectl, crane], settings)
    assert found == {"etcd": settings.assets / "etcd", "kubectl": cache_dir(settings) / "kubectl"}
    assert missing == [crane]


def test_nothing_missing_needs_no_go(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    program(cache_dir(settings) / "etcd")
    assert ensure([by_name("etcd")], settings, print).path("etcd") == cache_dir(settings) / "etcd"
    with pytest.raises(LabError, match=r"missing binaries \(runc\) and no Go"):
        ensure([by_name("runc")], settings, print)


def test_a_missing_library_is_named_with_the_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/go" if name == "go" else None)
    with pytest.raises(LabError, match=r"apt-get install -y .*libseccomp-dev pkg-config"):
        ensure([by_name("runc")], settings, print)


def test_versions_are_linked_into_kubernetes() -> None:
    command = build_command(by_name("kubelet"), Path("/out/kubelet"))
    assert command[-3:] == ["-o", "/out/kubelet", "k8s.io/kubernetes/cmd/kubelet"]
    assert (
        f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}" in command[command.index("-ldflags") + 1]
    )


def test_others_are_installed_by_version() -> None:
    command = build_command(by_name("runc"), Path("/out/runc"))
    assert command[:2] == ["go", "install"]
    assert command[-1] == "github.com/opencontainers/runc@v1.5.2"
    assert command[command.index("-tags") + 1] == "seccomp"


def test_what_cannot_be_installed_is_built_in_a_module_of_its_own() -> None:
    command = build_command(by_name("prometheus"), Path("/out/prometheus"))
    assert command[:3] == ["go", "build", "-mod=mod"]
    assert command[-3:] == ["-o", "/out/prometheus", "github.com/prometheus/prometheus/cmd/prometheus"]


def test_hash_changes_with_the_pins(tmp_path: Path) -> None:
    copy = shutil.copytree(MODULE_DIR, tmp_path / "binaries")
    assert pins_hash(copy) == pins_hash()
    with (copy / "go.sum").open("a") as stream:
        stream.write("\n")
    assert pins_hash(copy) != pins_hash()


def test_asking_for_what_was_not_given_is_an_error() -> None:
    with pytest.raises(LabError, match="crane is not among"):
        Binaries(()).path("crane")
