"""Runs Helm on the chart and finds objects in what comes out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from serval_operator.config import Configuration, parse_configuration

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "serval"
NAMESPACE = "serval-system"
Manifest = dict[str, Any]


class Chart:
    """Runs Helm on the chart, without any cluster."""

    def __init__(self, helm: Path, path: Path = CHART) -> None:
        self._helm = str(helm)
        self._path = str(path)

    def run(self, *args: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
        stdin = json.dumps(values or {})
        command = [self._helm, *args, "--values=-"]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def render(self, values: Manifest | None = None, *flags: str) -> list[Manifest]:
        done = self.run("template", "serval", self._path, f"--namespace={NAMESPACE}", *flags, values=values)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def refusal(self, values: Manifest) -> str:
        done = self.run("template", "serval", self._path, values=values)
        assert done.returncode != 0, "these values should be refused"
        return done.stderr


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def only(manifests: Iterable[Manifest], kind: str, name: str = "serval-operator") -> Manifest:
    (found,) = [one for one in of_kind(manifests, kind) if one["metadata"]["name"] == name]
    return found


def pod_of(manifests: Iterable[Manifest]) -> Manifest:
    template: Manifest = only(manifests, "Deployment")["spec"]["template"]
    return template


def environment(manifests: Iterable[Manifest]) -> dict[str, str]:
    (container,) = pod_of(manifests)["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


def configuration(manifests: Iterable[Manifest]) -> Configuration:
    """The rendered configuration, read by the operator's own reader."""
    return parse_configuration(yaml.safe_load(only(manifests, "ConfigMap")["data"]["config.yaml"]))
