"""The cache of models on every node, which is off by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serval_serving.fetch import cache
from serval_serving.fetch.cache.__main__ import command_line
from unit.chart.rendering import NAMESPACE, Chart, Manifest, configuration, of_kind, only

NAME = "serval-fetch-cache"
ENABLED: Manifest = {"fetch": {"cache": {"enabled": True}}}


def test_off_by_default(rendered: list[Manifest]) -> None:
    assert of_kind(rendered, "DaemonSet", "Service") == []
    assert configuration(rendered).fetch.cache_url == ""


def test_service_leads_to_the_cache_of_the_node(chart: Chart) -> None:
    rendered = chart.render(ENABLED)
    service, daemons = only(rendered, "Service", NAME), only(rendered, "DaemonSet", NAME)
    assert service["spec"]["internalTrafficPolicy"] == "Local"
    labels = daemons["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == daemons["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"].items() <= labels.items()
    operator = only(rendered, "Deployment")["spec"]["selector"]["matchLabels"]
    assert not operator.items() <= labels.items(), "it is no pod of the operator"
    (port,) = service["spec"]["ports"]
    assert configuration(rendered).fetch.cache_url == f"http://{NAME}.{NAMESPACE}:{port['port']}"


def test_pod_meets_the_restricted_level(chart: Chart) -> None:
    spec = only(chart.render(ENABLED), "DaemonSet", NAME)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [set(volume) for volume in spec["volumes"]] == [{"name", "emptyDir"}]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["command"] == ["python3", "-m", cache.__name__]
    parsed = command_line().parse_args(container["args"])
    assert (parsed.dir, parsed.max_bytes, parsed.port) == (Path("/cache"), 50 * 2**30, 8600)
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_address_of_a_cache_of_ones_own(chart: Chart) -> None:
    values: dict[str, Any] = {"fetch": {"cache": {"url": "http://cache.example:80"}}}
    assert configuration(chart.render(values)).fetch.cache_url == "http://cache.example:80"


def test_network_policy(chart: Chart) -> None:
    rendered = chart.render(ENABLED | {"networkPolicy": {"enabled": True}})
    policy = only(rendered, "NetworkPolicy", NAME)
    selector = only(rendered, "DaemonSet", NAME)["spec"]["selector"]
    assert policy["spec"]["podSelector"] == selector
    assert policy["spec"]["egress"] == []


@pytest.mark.parametrize("cache", [{"maxBytes": "50 GB"}, {"enabled": "yes"}, {"size": 1}])
def test_strange_values_are_refused(chart: Chart, cache: Manifest) -> None:
    assert "cache" in chart.refusal({"fetch": {"cache": cache}})
