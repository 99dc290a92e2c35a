from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from serval_lab import LabError
from serval_lab.context import Context
from serval_lab.control_plane import CONTROLLER_MANAGER, SCHEDULER, controllers_command, etcd_data
from serval_lab.faults import EtcdServer, Server, _frozen
from serval_lab.procs import kill_all, marked
from serval_lab.state import Options
from serval_lab.wait import wait_for
from unit.lab.contexts import context


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Context]:
    made = context(tmp_path, Options(kwok=True))
    yield made
    assert kill_all(marked(made.folder.path)) == []


def test_a_program_is_killed_and_started_and_killing_twice_is_nothing(lab: Context) -> None:
    server = Server(lab, SCHEDULER)
    assert not server.alive
    server.start()
    process = lab.process(SCHEDULER)
    server.start()
    assert lab.process(SCHEDULER) == process
    server.kill()
    assert not server.alive
    server.kill()


def test_a_program_that_the_lab_does_not_run_is_named_with_those_it_does(lab: Context) -> None:
    with pytest.raises(LabError, match=r"runs no coredns; it runs etcd, kube-apiserver, .*kwok"):
        Server(lab, "coredns")


def test_a_snapshot_is_a_copy_and_etcd_goes_on(lab: Context) -> None:
    data = etcd_data(lab)
    (data / "member").mkdir(parents=True)
    (data / "member" / "log").write_text("one")
    with pytest.raises(LabError, match="does not run"):
        EtcdServer(lab).snapshot()
    Server(lab, "etcd").start()
    first = EtcdServer(lab).snapshot()
    (data / "member" / "log").write_text("two")
    second = EtcdServer(lab).snapshot()
    assert [(one / "member" / "log").read_text() for one in (first, second)] == ["one", "two"]
    process = lab.process("etcd")
    assert process is not None
    wait_for("etcd going on", lambda: not process.stopped, 10)


def test_a_process_stands_still_and_goes_on_whatever_happens_meanwhile(lab: Context) -> None:
    Server(lab, SCHEDULER).start()
    process = lab.process(SCHEDULER)
    assert process is not None
    frozen = _frozen(process)
    frozen.__enter__()
    assert process.stopped
    frozen.__exit__(RuntimeError, RuntimeError("meanwhile"), None)
    wait_for("the process going on", lambda: not process.stopped, 10)
    os.kill(process.pid, signal.SIGKILL)
    wait_for("its end", lambda: not process.alive, 10)
    assert not process.stopped


@pytest.mark.parametrize(
    ("period", "flags"),
    [
        (15.0, {"sync-period": "15s", "downscale-stabilization": "300s", "initial-readiness-delay": "30s"}),
        (3.0, {"sync-period": "3s", "downscale-stabilization": "60s", "cpu-initialization-period": "60s"}),
    ],
)
def test_the_waits_of_autoscalers_keep_their_proportion(
    tmp_path: Path, period: float, flags: dict[str, str]
) -> None:
    command = [str(one) for one in controllers_command(context(tmp_path, Options(hpa_period=period)))]
    for name, value in flags.items():
        assert f"--horizontal-pod-autoscaler-{name}={value}" in command


def test_a_lab_that_is_up_can_get_more_and_keeps_what_it_has() -> None:
    has, wanted = Options(kwok=True, node_grace=8), Options(metrics=True, node_grace=16)
    assert has.plus(wanted) == Options(kwok=True, node_grace=8, metrics=True)


def test_only_what_was_asked_for_is_started(tmp_path: Path) -> None:
    bare = context(tmp_path, Options(controllers=False))
    with pytest.raises(LabError, match=f"runs no {CONTROLLER_MANAGER}"):
        Server(bare, CONTROLLER_MANAGER)
