"""How the demo calls kubectl: with a program in its place that writes down what it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples.demo.cluster import Cluster
from examples.demo.errors import DemoError

LIMIT = 10.0


def cluster(folder: Path, script: str, *, reaches_services: bool = False) -> Cluster:
    for tool in ("kubectl", "helm"):
        path = folder / tool
        path.write_text(f'#!/bin/sh\necho "$0" "$@" >> {folder}/calls\n{script}')
        path.chmod(0o755)
    return Cluster({"PATH": f"{folder}:/usr/bin:/bin"}, reaches_services=reaches_services)


def calls(folder: Path) -> list[str]:
    return [line.removeprefix(f"{folder}/") for line in (folder / "calls").read_text().splitlines()]


def test_missing_tools_are_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="kubectl and helm"):
        Cluster({"PATH": str(tmp_path)}, reaches_services=False)


def test_objects_are_applied_as_one_list_on_the_servers_side(tmp_path: Path) -> None:
    target = cluster(tmp_path, f"cat > {tmp_path}/stdin")
    target.apply([{"kind": "Namespace"}, {"kind": "Secret"}])
    (call,) = calls(tmp_path)
    assert "--server-side" in call
    assert [item["kind"] for item in json.loads((tmp_path / "stdin").read_text())["items"]] == [
        "Namespace",
        "Secret",
    ]


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert cluster(tmp_path, "").get("secret", "tls", "demo") is None
    assert cluster(tmp_path, 'echo \'{"kind": "Secret"}\'').get("secret", "tls", "demo") == {"kind": "Secret"}


def test_a_failure_carries_the_last_words(tmp_path: Path) -> None:
    target = cluster(tmp_path, "echo the last words >&2; exit 1")
    with pytest.raises(DemoError, match="kubectl get pods: the last words"):
        target.kubectl("get", "pods")


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="not done within 0 s"):
        cluster(tmp_path, "exec sleep 60").kubectl("get", "pods", limit_s=0.05)


def test_a_watch_gives_each_state_and_passes_over_warnings(tmp_path: Path) -> None:
    script = 'echo \'{"n": 1}\'; echo "Warning: old" >&2; echo \'{"n": 2}\'; exec sleep 60'
    states = cluster(tmp_path, script).watch("mdep", "digits", "demo", LIMIT)
    assert [next(states), next(states)] == [{"n": 1}, {"n": 2}]
    states.close()


def test_a_watch_ends_with_its_limit_or_with_kubectl(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="not done after 0 s"):
        list(cluster(tmp_path, "exec sleep 60").watch("mdep", "digits", "demo", 0.05))
    with pytest.raises(DemoError, match="stopped watching"):
        list(cluster(tmp_path, "exit 1").watch("mdep", "digits", "demo", LIMIT))


def test_with_a_route_the_service_address_is_used(tmp_path: Path) -> None:
    target = cluster(tmp_path, 'echo \'{"spec": {"clusterIP": "10.96.0.7"}}\'', reaches_services=True)
    with target.reach("digits", "demo", (8500, 80)) as addresses:
        assert addresses == {8500: "10.96.0.7:8500", 80: "10.96.0.7:80"}
    with (
        pytest.raises(DemoError, match="no service demo/digits"),
        cluster(tmp_path, "", reaches_services=True).reach("digits", "demo", (80,)),
    ):
        pass


def test_without_a_route_ports_are_forwarded_as_long_as_they_are_needed(tmp_path: Path) -> None:
    script = (
        "echo 'Forwarding from 127.0.0.1:41000 -> 8500'; echo 'Forwarding from [::1]:41000 -> 8500'; "
        "echo 'Forwarding from 127.0.0.1:42000 -> 8501'; exec sleep 60"
    )
    with cluster(tmp_path, script).reach("digits", "demo", (8500, 80)) as addresses:
        assert addresses == {8500: "127.0.0.1:41000", 80: "127.0.0.1:42000"}
    assert calls(tmp_path) == ["kubectl port-forward --namespace=demo service/digits :8500 :80"]


def test_ports_that_cannot_be_forwarded_are_an_error_with_kubectls_words(tmp_path: Path) -> None:
    target = cluster(tmp_path, "echo 'error: no pods' >&2; exit 1")
    with pytest.raises(DemoError, match="error: no pods"), target.reach("digits", "demo", (80,)):
        pass
