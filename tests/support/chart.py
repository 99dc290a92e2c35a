"""The chart as tests use it: rendered by the real Helm, and its permissions as a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from serval_lab import Lab

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "serval"
NAMESPACE = "serval-system"
RELEASE = "serval"
IDENTITY_KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def render(plane: Lab, *values: str, chart: Path = CHART) -> list[dict[str, Any]]:
    """Objects of the chart; ``values`` as after ``--set``."""
    sets = [arg for value in values for arg in ("--set", value)]
    done = plane.helm("template", RELEASE, str(chart), "--namespace", NAMESPACE, *sets)
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def operator_kubeconfig(plane: Lab, folder: Path, *values: str, chart: Path = CHART) -> Path:
    """Apply the chart's service account and roles, and write a kubeconfig with a token of that account.

    ``values`` are as after ``--set``.
    """
    objects = [obj for obj in render(plane, *values, chart=chart) if obj["kind"] in IDENTITY_KINDS]
    account = next(obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    text = yaml.safe_dump_all([namespace, *objects])
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    token = plane.kubectl("-n", NAMESPACE, "create", "token", account, "--duration=12h")
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token.stdout.strip()}
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path
