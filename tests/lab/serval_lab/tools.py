"""kubectl, Helm and clients of the caller's own, pointed at one lab."""

from __future__ import annotations

import os

from serval_lab.context import Context


def environment(context: Context) -> dict[str, str]:
    """Return an environment in which kubectl, Helm and clients use the lab."""
    scratch = context.folder.path / "tools"
    return {
        **os.environ,
        "PATH": context.env["PATH"],
        "KUBECONFIG": str(context.folder.kubeconfig),
        # Discovery that was cached for another lab at the same address would be wrong.
        "KUBECACHEDIR": str(scratch / "kube"),
        "HELM_CACHE_HOME": str(scratch / "helm-cache"),
        "HELM_CONFIG_HOME": str(scratch / "helm-config"),
        "HELM_DATA_HOME": str(scratch / "helm-data"),
        # A proxy of the caller's does not reach the lab.
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), context.host, "127.0.0.1"])),
    }
