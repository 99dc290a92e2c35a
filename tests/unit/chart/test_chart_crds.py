"""The CustomResourceDefinitions in the chart are those of crds/."""

from __future__ import annotations

import yaml

from unit.chart.rendering import CHART, ROOT, Chart, Manifest, of_kind


def test_chart_carries_the_crds_to_the_byte() -> None:
    copies = {path.name: path.read_bytes() for path in (CHART / "files" / "crds").iterdir()}
    assert copies == {path.name: path.read_bytes() for path in (ROOT / "crds").glob("*.yaml")}, (
        "run `make generate`"
    )


def test_crds_come_out_as_they_are_written(rendered: list[Manifest]) -> None:
    crds = {one["metadata"]["name"]: one for one in of_kind(rendered, "CustomResourceDefinition")}
    paths = list((ROOT / "crds").glob("*.yaml"))
    assert len(crds) == len(paths)
    for path in paths:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        crd = crds[written["metadata"]["name"]]
        assert crd["spec"] == written["spec"]
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_crds_may_go_with_the_release(chart: Chart) -> None:
    crds = of_kind(chart.render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert crds
    assert not any("annotations" in crd["metadata"] for crd in crds)


def test_crds_may_have_annotations(chart: Chart) -> None:
    values = {"crds": {"annotations": {"argocd.argoproj.io/sync-options": "Prune=confirm"}}}
    crds = of_kind(chart.render(values), "CustomResourceDefinition")
    assert crds
    for crd in crds:
        assert crd["metadata"]["annotations"] == {
            "argocd.argoproj.io/sync-options": "Prune=confirm",
            "helm.sh/resource-policy": "keep",
        }


def test_crds_may_be_left_out(chart: Chart) -> None:
    assert not of_kind(chart.render({"crds": {"enabled": False}}), "CustomResourceDefinition")
