from __future__ import annotations

import base64
from pathlib import Path

import pytest

from serval_lab import lifecycle, metrics
from serval_lab.control_plane import ADAPTER, METRICS_SERVER, added_api_host, apiserver_command, make_pki
from serval_lab.pins import HELM, KWOK, PROMETHEUS
from serval_lab.pins import METRICS_SERVER as METRICS_SERVER_BINARY
from serval_lab.state import Options
from unit.lab.contexts import PORTS, context


def test_prometheus_looks_for_the_pods_of_model_servers_alone() -> None:
    (job,) = metrics.prometheus_config(Path("/k"))["scrape_configs"]
    (source,) = job["kubernetes_sd_configs"]
    assert (source["role"], source["kubeconfig_file"]) == ("pod", "/k")
    assert source["selectors"] == [{"role": "pod", "label": metrics.POD_SELECTOR}]
    assert job["metrics_path"] == metrics.METRICS_PATH
    assert job["scrape_timeout"] == job["scrape_interval"]


def test_what_the_adapter_selects_by_is_what_prometheus_labels_with() -> None:
    (job,) = metrics.prometheus_config(Path("/k"))["scrape_configs"]
    labels = {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}
    (rule,) = metrics.adapter_config()["rules"]
    assert set(rule["resources"]["overrides"]) <= labels


@pytest.mark.parametrize(
    ("server", "group"), [(METRICS_SERVER, "metrics.k8s.io"), (ADAPTER, "custom.metrics.k8s.io")]
)
def test_an_added_api_leads_to_its_server_on_loopback(server: str, group: str) -> None:
    service, api = metrics.added_api(server, 4443, b"PEM")
    assert (service["spec"]["type"], service["spec"]["externalName"]) == ("ExternalName", "127.0.0.1")
    assert service["spec"]["ports"][0]["port"] == api["spec"]["service"]["port"] == 4443
    assert api["metadata"]["name"] == f"{api['spec']['version']}.{group}"
    assert base64.b64decode(api["spec"]["caBundle"]) == b"PEM"
    # The API server checks the certificate against this name.
    where = api["spec"]["service"]
    assert added_api_host(server) == f"{where['name']}.{where['namespace']}.svc"


def test_only_a_lab_that_wants_them_has_them(tmp_path: Path) -> None:
    assert not lifecycle.sources(context(tmp_path))
    plain = lifecycle.required(True, Options())
    assert not {METRICS_SERVER_BINARY, *PROMETHEUS, KWOK} & set(plain)
    assert HELM in plain
    wanted = lifecycle.required(False, Options(metrics=True, prometheus=True, kwok=True))
    assert {METRICS_SERVER_BINARY, *PROMETHEUS, KWOK} <= set(wanted)


def test_sources_start_in_the_order_of_their_needs(tmp_path: Path) -> None:
    lab = context(tmp_path, Options(metrics=True, prometheus=True))
    assert list(lifecycle.sources(lab)) == [METRICS_SERVER, metrics.PROMETHEUS, ADAPTER]


def test_the_api_server_passes_requests_on_as_its_front_proxy(tmp_path: Path) -> None:
    lab = context(tmp_path)
    make_pki(lab)
    flags = dict(str(one).split("=", 1) for one in apiserver_command(lab) if "=" in str(one))
    for flag in ("requestheader-client-ca-file", "proxy-client-cert-file", "proxy-client-key-file"):
        assert Path(flags[f"--{flag}"]).is_file()
    # Who holds another certificate of the cluster could else pass as anybody.
    assert flags["--requestheader-client-ca-file"] != flags["--client-ca-file"]


def test_every_server_has_a_port_of_its_own(tmp_path: Path) -> None:
    lab = context(tmp_path, Options(metrics=True, prometheus=True))
    assert metrics.prometheus_url(lab) == f"http://127.0.0.1:{PORTS['prometheus']}"
    assert set(lifecycle._PORTS) == set(PORTS)
