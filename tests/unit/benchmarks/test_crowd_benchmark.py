"""The benchmark of a large cluster: its copies, its table and its time of a verdict."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.crowd import command, plane, verdict

pytestmark = pytest.mark.unit

UID = "0c248a1a-e126-4d7a-801b-aff4f8ea6a0e"


class FakeStore:
    """Keeps what is put, and holds one object of each kind."""

    def __init__(self) -> None:
        self.stored = {
            "/registry/pods/others/pods-000000": f"pods-000000 on node-00000 {UID}".encode(),
            "/registry/minions/node-00000": f"node-00000 {UID}".encode(),
            "/registry/services/specs/crowd/model-000-headless": f"model-000 {UID}".encode(),
        }

    def values(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in self.stored.items() if key.startswith(prefix)}

    def put(self, objects: dict[str, bytes]) -> None:
        self.stored |= objects


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (["pods-000000", "node-00000"], ["pods-000001", "node-00007"], "/registry/pods/others/pods-000001"),
        (["node-00000"], ["node-00001"], "/registry/minions/node-00001"),
        (["model-000"], ["model-001"], "/registry/services/specs/crowd/model-001-headless"),
    ],
)
def test_a_copy_has_names_and_a_uid_of_its_own(old: list[str], new: list[str], key: str) -> None:
    store: Any = FakeStore()
    before = dict(store.stored)
    plane._copy(store, list(store.stored), old, iter([new]))
    assert store.stored.keys() - before.keys() == {key}
    text = store.stored[key].decode()
    assert all(name in text for name in new)
    assert not any(name in text for name in (*old, UID))
    assert len(text) == len(before[key.replace(new[0], old[0])])


def figures(**changed: Any) -> command.Figures:
    given: dict[str, Any] = {
        "size": {"nodes": 5000, "device_nodes": 8, "pods": 100_000, "waiting": 600},
        "seconds": 60.0,
        "requests": {"list pods": 2.5, "list events": 10.0},
        "cores": {"operator": 0.25, "etcd": 0.01},
        "others_cores": 0.4,
        "verdict_ms": 1.234,
        "reasons": {"AcceleratorBusy": 600},
    }
    return command.Figures(**{**given, **changed})


def test_the_table_has_a_column_for_each_tree() -> None:
    text = command.markdown(
        {"before": figures(verdict_ms=None, requests={"list pods": 80.0}), "now": figures()}
    )
    lines = text.splitlines()
    assert lines[0] == "| while objects wait | before | now |"
    assert {line.count("|") for line in lines} == {4}
    assert "| pods of others, waiting objects | 100,000, 600 | 100,000, 600 |" in lines
    assert "| requests per second | 80.00 | 12.50 |" in lines
    assert "| of these list events | 0.00 | 10.00 |" in lines
    assert "| cores of operator | 0.25 | 0.25 |" in lines
    assert "| CPU time of one verdict | not measured | 1.2 ms |" in lines


def test_a_verdict_takes_time() -> None:
    assert verdict.main(50, 2) > 0
