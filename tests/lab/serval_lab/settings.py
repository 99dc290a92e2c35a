"""Where the lab keeps its things: binaries, state, registry data."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENV_ASSETS = "KUBE_ASSETS"
ENV_CACHE = "SERVAL_CACHE"
ENV_STATE = "SERVAL_STATE"
ROOT_STATE = Path("/var/lib/serval-lab")
"""State of root's labs. Not under /run, which is memory on most machines: nodes unpack images here."""


@dataclass(frozen=True)
class Settings:
    """Folders that labs use.

    Attributes
    ----------
    cache
        What survives a lab: binaries and registry data. Safe to delete while no lab is up.
    state
        What belongs to running labs, one folder for each name.
    assets
        Folder of ready-made binaries that is looked in first, or None.
    python
        Interpreter for the lab's own programs inside the nodes.
    """

    cache: Path
    state: Path
    assets: Path | None = None
    python: str = sys.executable

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None, uid: int | None = None) -> Settings:
        """Read the settings from environment variables.

        Parameters
        ----------
        env
            Environment; the process's own by default. ``KUBE_ASSETS``, ``SERVAL_CACHE`` (default
            ``$XDG_CACHE_HOME/serval`` or ``~/.cache/serval``) and ``SERVAL_STATE`` (default
            ``/var/lib/serval-lab`` for root, else ``~/.local/state/serval-lab``) are read.
        uid
            User id that decides the default state folder; the process's own by default.
        """
        env = os.environ if env is None else env
        uid = os.geteuid() if uid is None else uid
        home = Path(env.get("HOME") or Path.home())
        cache = Path(env.get(ENV_CACHE) or Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "serval")
        state = Path(env.get(ENV_STATE) or (home / ".local/state/serval-lab" if uid else ROOT_STATE))
        assets = env.get(ENV_ASSETS)
        return cls(cache.absolute(), state.absolute(), Path(assets).absolute() if assets else None)
