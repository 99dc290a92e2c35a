"""The operator's process on the real control plane: its Lease, its signals, an API server behind a path."""

from __future__ import annotations

import json
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serval_lab import Lab
from support.chart import NAMESPACE, render
from support.cluster import Cluster
from support.models import model_deployment
from support.operator import OperatorProcess
from support.reverse_proxy import reverse_proxy
from support.wait import until

Factory = Callable[..., OperatorProcess]
LEASE = "serval-operator"
SECONDS = 8
"""Of the Lease: short, but longer than a renewal may take on a busy machine."""
PREFIX = "/k8s/clusters/c-1"
ENDS = 10.0
"""Seconds in which a process that is told to stop and has nothing to finish must end, on a busy machine."""


@pytest.fixture
def elections(control_plane: Lab, cluster: Cluster) -> Callable[[int], dict[str, str]]:
    """Variables of the Lease as the chart sets them for a number of replicas; no Lease exists yet."""
    cluster.delete("Lease", NAMESPACE, LEASE)

    def variables(replicas: int) -> dict[str, str]:
        objects = render(control_plane, f"operator.replicas={replicas}", f"operator.leaseSeconds={SECONDS}")
        (deployment,) = (one for one in objects if one["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return {one["name"]: one["value"] for one in container["env"] if "_LEASE_" in one["name"]}

    return variables


@pytest.fixture
def start(operator_identity: Path, tmp_path: Path) -> Any:
    """Starts operators; what still runs at the end of the test is killed."""
    made: list[OperatorProcess] = []

    def make(
        *, wait: bool = True, kubeconfig: Path | None = None, first: bool = False, **environment: str
    ) -> OperatorProcess:
        folder = tmp_path / f"operator-{len(made)}"
        process = OperatorProcess(kubeconfig or operator_identity, folder, first=first, **environment)
        made.append(process)
        return process.start(wait=wait)

    yield make
    for process in made:
        process.kill()


def leads(process: OperatorProcess) -> bool:
    return bool(re.search(r"^serval_operator_leader 1\.0$", process.metrics(), re.MULTILINE))


def holder(cluster: Cluster) -> str:
    lease = cluster.get("Lease", NAMESPACE, LEASE)
    return (lease or {}).get("spec", {}).get("holderIdentity") or ""


def has_status(cluster: Cluster, namespace: str, name: str) -> None:
    """Wait until a ModelDeployment was reconciled: its status is written last."""
    cluster.until(
        f"status of {name}", "ModelDeployment", namespace, name, lambda obj: obj["status"].get("selector")
    )


# --- the Lease ------------------------------------------------------------------------------------------


def test_one_works_in_an_upgrade_from_one_operator_to_two(
    cluster: Cluster, namespace: str, start: Factory, elections: Callable[[int], dict[str, str]]
) -> None:
    old = start(**elections(1))
    assert leads(old)
    new = [start(**elections(2)) for _ in range(2)]
    assert [leads(process) for process in (old, *new)] == [True, False, False]
    cluster.create(model_deployment("one", namespace))
    has_status(cluster, namespace, "one")
    assert [leads(process) for process in (old, *new)] == [True, False, False]
    assert old.stop() == 0
    until("a new operator to work", lambda: any(map(leads, new)), limit=SECONDS - 1)
    assert sum(map(leads, new)) == 1
    cluster.create(model_deployment("two", namespace))
    has_status(cluster, namespace, "two")
    assert [process.stop() for process in new] == [0, 0]


@pytest.mark.parametrize("told_to_stop", [False, True])
def test_a_write_that_is_held_back_ends_before_another_operator_works(
    cluster: Cluster,
    namespace: str,
    operator_identity: Path,
    tmp_path: Path,
    start: Factory,
    elections: Callable[[int], dict[str, str]],
    *,
    told_to_stop: bool,
) -> None:
    """Also while it finishes what is in flight, which may take longer than the Lease."""
    with reverse_proxy(operator_identity) as proxy:
        old = start(kubeconfig=proxy.kubeconfig(tmp_path / "proxied"), **elections(2))
        write = proxy.rule("PATCH", "/deployments/")
        cluster.create(model_deployment("held", namespace))
        assert write.came.wait(30)
        assert leads(old)
        first = holder(cluster)
        if told_to_stop:
            old.tell_to_stop()
        proxy.rule("PUT", f"/leases/{LEASE}", 503)
        new = start(wait=False, **elections(2))
        until("another holder of the Lease", lambda: holder(cluster) not in ("", first))
        assert write.closed.is_set(), "the old operator's write was still under way"
        assert cluster.get("ModelDeployment", namespace, "held")
        has_status(cluster, namespace, "held")
        proxy.rules.clear()
        assert old.wait() == (0 if told_to_stop else 1)
        assert new.stop() == 0


# --- signals --------------------------------------------------------------------------------------------


def test_sigterm_is_obeyed_from_the_first_line_on(start: Factory) -> None:
    """As process 1, which gets no signal that it does not handle."""
    process = start(wait=False, first=True)
    until("a handler", lambda: process.handles(signal.SIGTERM), every=0.002)
    assert "charset_normalizer" not in Path(f"/proc/{process.pid}/maps").read_text(), "it has imported all"
    process.tell_to_stop()
    assert process.wait(ENDS) == 0
    assert process.log.read_text() == ""


def test_sigterm_is_obeyed_while_it_waits_for_the_lease(
    cluster: Cluster, start: Factory, elections: Callable[[int], dict[str, str]]
) -> None:
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 600}
    metadata = {"namespace": NAMESPACE, "name": LEASE}
    cluster.create(
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    )
    process = start(first=True, **elections(1))
    assert not leads(process)
    process.tell_to_stop()
    assert process.wait(ENDS) == 0
    assert holder(cluster) == "another"


def test_sigterm_is_obeyed_while_it_lists(
    cluster: Cluster,
    operator_identity: Path,
    tmp_path: Path,
    start: Factory,
    elections: Callable[[int], dict[str, str]],
) -> None:
    with reverse_proxy(operator_identity) as proxy:
        listing = proxy.rule("GET", "/modeldeployments")
        kubeconfig = proxy.kubeconfig(tmp_path / "proxied")
        process = start(wait=False, first=True, kubeconfig=kubeconfig, **elections(1))
        assert listing.came.wait(30)
        assert holder(cluster)
        process.tell_to_stop()
        assert process.wait(ENDS) == 0
    assert holder(cluster) == "", "the Lease was not given back"


def test_sigterm_is_obeyed_while_the_acquisition_of_the_lease_is_under_way(
    cluster: Cluster,
    operator_identity: Path,
    tmp_path: Path,
    start: Factory,
    elections: Callable[[int], dict[str, str]],
) -> None:
    """The API server has written the Lease, and the answer does not arrive."""
    with reverse_proxy(operator_identity) as proxy:
        answer = proxy.rule("POST", f"/namespaces/{NAMESPACE}/leases")
        answer.passes = True
        kubeconfig = proxy.kubeconfig(tmp_path / "proxied")
        process = start(wait=False, first=True, kubeconfig=kubeconfig, **elections(1))
        assert answer.came.wait(30)
        assert holder(cluster)
        process.tell_to_stop()
        assert process.wait(ENDS) == 0
    assert holder(cluster) == "", "the Lease was not given back"


def test_sigterm_is_obeyed_while_a_plugin_for_the_credentials_hangs(
    operator_identity: Path, tmp_path: Path, start: Factory
) -> None:
    with reverse_proxy(operator_identity) as proxy:
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": proxy.token, "expirationTimestamp": "2020-01-01T00:00:00Z"},
        }
        plugin, hangs = tmp_path / "plugin", tmp_path / "hangs"
        plugin.write_text(
            f"#!/bin/sh\nif [ -e {hangs} ]; then echo >> {hangs}; exec sleep 60; fi\n"
            f"cat <<'END'\n{json.dumps(credential)}\nEND\n"
        )
        plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
        user = {"exec": {"apiVersion": credential["apiVersion"], "command": str(plugin)}}
        process = start(first=True, kubeconfig=proxy.kubeconfig(tmp_path / "proxied", user))
        hangs.touch()
        proxy.rule("GET", "/modeldeployments", 401)
        proxy.hang_up()
        until("the plugin to hang", lambda: hangs.stat().st_size)
        process.tell_to_stop()
        assert process.wait(ENDS) == 0


# --- behind a path --------------------------------------------------------------------------------------


def test_an_api_server_behind_a_path(
    cluster: Cluster, namespace: str, operator_identity: Path, tmp_path: Path, start: Factory
) -> None:
    with reverse_proxy(operator_identity, PREFIX) as proxy:
        process = start(kubeconfig=proxy.kubeconfig(tmp_path / "proxied"))
        cluster.create(model_deployment("behind", namespace))
        has_status(cluster, namespace, "behind")
        cluster.patch("ModelDeployment", namespace, "behind", {"spec": {"replicas": 2}})
        cluster.until("the edit", "Deployment", namespace, "behind", lambda one: one["spec"]["replicas"] == 2)
        old = cluster.get("Service", namespace, "behind")
        assert old is not None
        cluster.delete("Service", namespace, "behind")
        cluster.until(
            "the Service to be made again",
            "Service",
            namespace,
            "behind",
            lambda one: one["metadata"]["uid"] != old["metadata"]["uid"],
        )
        assert process.stop() == 0
        assert proxy.outside == []
        watched = {path.rpartition("/")[2] for _, path, watch in proxy.passed if watch}
    assert {"modeldeployments", "deployments", "services", "pods", "nodes"} <= watched
