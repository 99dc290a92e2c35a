from __future__ import annotations

from pathlib import Path

from serval_lab import cgroups
from serval_lab.cleanup import leftovers
from serval_lab.etcd import stale
from serval_lab.state import LabState, StateFolder


def hierarchy(root: Path, *controllers: str) -> Path:
    for controller in controllers:
        (root / controller).mkdir(parents=True)
        (root / controller / "cgroup.procs").touch()
    if "cpuset" in controllers:
        (root / "cpuset" / "cpuset.cpus").write_text("0-1")
        (root / "cpuset" / "cpuset.mems").write_text("0")
    return root


def test_groups_are_made_under_every_controller_of_v1(tmp_path: Path) -> None:
    root = hierarchy(tmp_path, "cpu", "cpuset", "memory", "systemd")
    (root / "unified").mkdir()
    (root / "cpu,cpuacct").symlink_to("cpu")
    cgroups.make("serval0", "a", root)
    for controller in ("cpu", "cpuset", "memory", "systemd"):
        assert (root / controller / "serval-lab/serval0/a").is_dir()
    assert (root / "cpuset/serval-lab/serval0/a/cpuset.cpus").read_text() == "0-1"
    assert not (root / "unified/serval-lab").exists()


def test_groups_of_v2_get_all_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").touch()
    cgroups.make("serval0", "a", tmp_path)
    assert (tmp_path / "serval-lab/serval0/a").is_dir()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


def test_only_the_groups_of_one_lab_or_node_go(tmp_path: Path) -> None:
    root = hierarchy(tmp_path, "cpu", "memory")
    for bridge, node in (("serval0", "a"), ("serval0", "ab"), ("serval1", "a")):
        cgroups.make(bridge, node, root)
    (root / "cpu/serval-lab/serval0/a/kubepods/pod1").mkdir(parents=True)
    assert cgroups.remove("serval0", "a", root) == []
    assert [path.name for path in (root / "cpu/serval-lab/serval0").iterdir()] == ["ab"]
    assert cgroups.remove("serval0", root=root) == []
    assert set(cgroups.folders(root)) == {"serval1"}
    cgroups.remove("serval1", root=root)
    assert not (root / "cpu/serval-lab").exists()


def test_a_group_that_stays_is_named(tmp_path: Path) -> None:
    root = hierarchy(tmp_path, "cpu")
    cgroups.make("serval0", "a", root)
    busy = root / "cpu/serval-lab/serval0/a/file"
    busy.touch()
    assert busy.parent in cgroups.remove("serval0", root=root, limit=0.0)


def test_folders_of_labs_are_leftovers_of_their_owner(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = StateFolder(tmp_path, name)
        folder.make()
        folder.save(LabState(None))
    found = leftovers(tmp_path, tmp_path / "one")
    assert [(one.kind, one.owner) for one in found] == [("folder", tmp_path / "one")]


def test_reset_spares_the_baseline_and_the_systems_namespaces() -> None:
    baseline = ["/registry/namespaces/default", "/registry/serviceaccounts/default/default"]
    late = ["/registry/serviceaccounts/kube-system/job-controller", "/registry/leases/kube-node-lease/a"]
    made = ["/registry/pods/default/a", "/registry/serval.dev/modeldeployments/x/y", "/registry/namespaces/x"]
    assert stale([*baseline, *late, *made], baseline) == made
