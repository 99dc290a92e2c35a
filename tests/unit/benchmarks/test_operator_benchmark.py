from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from benchmarks.operator import audit, command, copies, processes, report
from benchmarks.operator.figures import Burst, Calm, Latency, Restart, Results
from benchmarks.operator.observer import Times, percentile, spans
from benchmarks.pages import placed

from serval_lab.wait import wait_for

FAST, SLOW = Latency(0.0123, 0.456, 10), Latency(12.34, 123.4, 10)


def burst(count: int) -> Burst:
    return Burst(
        count=count,
        created_seconds=2.0,
        ready_seconds=31.5,
        cpu_ms={"operator": 7.25, "etcd": 30.0},
        requests={"patch deployments": 1.0, "get services": 0.001},
        kept=7.5,
        deployment=FAST,
        available_ready=SLOW,
        pod_ready=FAST,
        memory_mb=(60.0, 90.4, 95.0),
        idle_requests={},
        restart=Restart(1.5, 2.5, {"list pods": 1}, 0, 0, 0, (70.0, 75.0)),
    )


def results() -> Results:
    bursts = {str(count): burst(count) for count in (1000, 300, 10000)}
    return Results(
        Calm(FAST, FAST, SLOW), bursts, {"10000": Restart(30.5, 41.2, {}, 0, 0, 0, (250.4, 260.0))}
    )


def test_percentiles_of_few_and_of_none() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([1.0], 0.5) == 1.0
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (51.0, 100.0)


def test_spans_leave_out_what_was_never_seen_and_count_the_wrong_order_as_nothing() -> None:
    times = {
        "whole": Times(created=10.0, deployment=10.5),
        "half": Times(created=10.0),
        "crossed": Times(created=10.0, deployment=9.9),
    }
    assert spans(times, "created", "deployment") == [0.0, 0.5]


def test_what_was_seen_first_counts() -> None:
    times = Times()
    times.note("ready")
    first = times.ready
    times.note("ready")
    assert first is not None
    assert times.ready == first


def event(verb: str, code: int, moment: float, **more: Any) -> str:
    return json.dumps(
        {
            "user": {"username": "someone"},
            "verb": verb,
            "stage": "ResponseComplete",
            "requestURI": "/version?x=1",
            "responseStatus": {"code": code},
            "stageTimestamp": datetime.fromtimestamp(moment, UTC).isoformat(),
            **more,
        }
    )


def test_the_audit_log_is_read_with_its_older_part_and_within_the_time_asked_for(tmp_path: Path) -> None:
    status = {"objectRef": {"resource": "pods", "subresource": "status"}}
    (tmp_path / "audit-2026.log").write_text(event("patch", 200, 100.0, **status) + "\n")
    lines = [
        event("get", 200, 101.0),
        event("create", 409, 102.0, **status),
        event("watch", 200, 103.0, **status, stage="ResponseStarted"),
        event("watch", 200, 104.0, **status),
        event("get", 200, 110.0),
    ]
    (tmp_path / "audit.log").write_text("\n".join(lines) + "\n" + '{"half')
    found = list(audit.requests(tmp_path / "audit.log", 100.0, 110.0))
    assert audit.tally(found) == {
        "patch pods/status": 1,
        "get /version": 1,
        "create pods/status": 1,
        "watch pods/status": 1,
    }
    assert [one.verb for one in found if one.is_write] == ["patch"], "a refused write changes nothing"


def test_the_cpu_of_a_process_is_seen_and_its_rest_too() -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE) as child:
        last = processes.until_quiet(child.pid, 60.0, calm=1.0)
        assert processes.cpu_seconds(child.pid) >= 0.25
        assert last <= datetime.now(UTC).timestamp() - 1.0 + processes.WINDOW
        now, most = processes.memory_mb(child.pid)
        assert 1 < now <= most < 500
        child.kill()
    assert processes.cpu_seconds(child.pid) == 0.0


def test_what_processes_use_is_told_apart_from_what_others_use() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        ours, strange = processes.Spending({"child": child.pid}), processes.Spending({})
        wait_for("a second of its CPU", lambda: ours.so_far()[0]["child"] >= 1, 30)
        used, _ = ours.so_far()
        assert 1 <= used["child"] < 5
        assert strange.so_far()[1] > 0.1
        child.kill()


def test_a_process_that_never_rests_is_given_up() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        with pytest.raises(TimeoutError, match="still busy"):
            processes.until_quiet(child.pid, 0.5)
        child.kill()


def test_figures_are_kept_as_they_are(tmp_path: Path) -> None:
    command.save(tmp_path / "a" / "b.json", results())
    assert command.load(tmp_path / "a" / "b.json") == results()
    assert command.load(tmp_path / "none.json") == Results()


def test_the_table_has_kserve_beside_ours_where_it_was_measured() -> None:
    text = report.markdown(results())
    head = next(line for line in text.splitlines() if "full speed" in line)
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "CRs created at full speed",
        "goal",
        *("KServe, 300", "Serval, 300", "KServe, 1,000", "Serval, 1,000", "Serval, 10,000"),
    ]
    cpu = next(line for line in text.splitlines() if line.startswith("| operator's CPU"))
    assert cpu == "| operator's CPU per CR | 10 ms | 30 ms | 7.2 ms | 38 ms | 7.2 ms | 7.2 ms |"
    assert "| patch deployments | 1.00 | 1.00 | 1.00 |" in text
    assert "get services" not in text
    assert report.markdown(Results()) == report.NOTE


def test_what_a_new_operator_finds_has_a_table_of_its_own() -> None:
    text = report.markdown(results())
    assert "| a new operator finds | goal for 10,000 | 10,000 |" in text
    assert "| quiet after | 60 s | 41.2 s |" in text
    assert "| resident memory, at the end / peak | 400 MB | 250 / 260 MB |" in text


class Kept:
    """What etcd holds, in memory."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def keys(self) -> list[str]:
        return list(self.objects)

    def values(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in self.objects.items() if key.startswith(prefix)}

    def put(self, objects: dict[str, bytes]) -> None:
        self.objects |= objects


def test_a_copied_namespace_is_whole_and_shares_no_uid_with_the_first() -> None:
    model, pod = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    own = {
        "/registry/serval.dev/models/bench-0/a": f"namespace bench-0 uid {model}".encode(),
        "/registry/pods/bench-0/a-1": f"bench-0 {pod} owned by {model}".encode(),
        f"/registry/configmaps/bench-0/pin-{model}": b"pin",
    }
    others = {
        "/registry/configmaps/bench-0/kube-root-ca.crt": b"there already",
        "/registry/events/bench-0/e": b"of no use",
        "/registry/pods/elsewhere/b": b"bench-0",
    }
    store: Any = Kept(own | others)
    assert copies.copy_namespace(store, "bench-0", "bench-1") == 3
    made = {key: value.decode() for key, value in store.objects.items() if key not in own | others}
    assert sorted(map(len, made.values())) == sorted(map(len, own.values()))
    assert not [value for value in made.values() if model in value or pod in value or "bench-0" in value]
    other = made["/registry/serval.dev/models/bench-1/a"].split()[-1]
    assert made["/registry/pods/bench-1/a-1"].endswith(f"owned by {other}")
    assert made[f"/registry/configmaps/bench-1/pin-{other}"] == "pin"


def test_figures_without_the_share_of_others_say_so() -> None:
    (line,) = [line for line in report.markdown(results()).splitlines() if "other work" in line]
    assert line.count("not known") == 3


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "12 ms"), (0.9996, "1000 ms"), (1.26, "1.3 s"), (123.4, "123 s")]
)
def test_times_are_short(value: float, text: str) -> None:
    assert report.seconds(value) == text


def test_the_tables_replace_themselves_in_the_page() -> None:
    page = "# Page\n"
    marks = (command.BEGIN, command.END)
    once = placed(page, "one", marks)
    assert once == f"# Page\n\n{command.BEGIN}\n\none\n\n{command.END}\n"
    assert placed(once + "\nmore\n", "two", marks) == once.replace("one", "two") + "\nmore\n"


def test_the_marks_stand_in_the_docs() -> None:
    assert command.BEGIN in command.DOCS.read_text()
