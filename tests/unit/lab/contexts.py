"""A lab on paper: a context whose programs are scripts that say nothing and sleep."""

from __future__ import annotations

import sys
from pathlib import Path

from serval_lab import Settings
from serval_lab.binaries import ensure
from serval_lab.context import Context
from serval_lab.lifecycle import required
from serval_lab.pins import ALL
from serval_lab.spec import NodeSpec
from serval_lab.state import LabState, Options, StateFolder

PORTS = {
    "etcd": 20001,
    "etcd-peer": 20002,
    "apiserver": 20003,
    "kube-controller-manager": 20004,
    "kube-scheduler": 20005,
    "metrics-server": 20006,
    "prometheus": 20007,
    "prometheus-adapter": 20008,
}


def context(tmp_path: Path, options: Options | None = None, nodes: tuple[NodeSpec, ...] = ()) -> Context:
    """A lab of this name and these options, of which nothing runs."""
    assets = tmp_path / "assets"
    assets.mkdir()
    for binary in ALL:
        (assets / binary.name).write_text("#!/bin/sh\nexec sleep 60\n")
        (assets / binary.name).chmod(0o755)
    settings = Settings(cache=tmp_path / "cache", state=tmp_path / "state", assets=assets)
    options = options or Options()
    state = LabState(0 if nodes else None, "up", dict(PORTS), list(nodes), options)
    folder = StateFolder(settings.state, "paper")
    folder.make()
    folder.save(state)
    return Context(
        folder, state, ensure(required(bool(nodes), options), settings, print), sys.executable, print
    )
