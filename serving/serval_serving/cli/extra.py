"""The way to what only extras of the package bring."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from serval_serving.cli.errors import USAGE, CliError

if TYPE_CHECKING:
    from serval_serving.cli.cluster import Cluster


def cluster_of(options: argparse.Namespace) -> Cluster:
    """Return the cluster that the options name.

    Raises
    ------
    CliError
        If the packages for it are not installed, or there is no usable kubeconfig.
    """
    try:
        from serval_serving.cli.cluster import Cluster  # noqa: PLC0415 - the bare package comes without
    except ImportError as error:
        text = f"{error.name} is missing; to use names of ModelDeployments: pip install 'serval[cli]'"
        raise CliError(text, USAGE) from error
    return Cluster.connect(options.kubeconfig, options.context, options.namespace)


def check_accel(modules: Iterable[str], what: str) -> None:
    """Refuse to go on without modules that the extra `accel` brings; none of them is imported.

    Parameters
    ----------
    what:
        What needs them: "build" or "convert".

    Raises
    ------
    CliError
        One of them is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise CliError(f"{', '.join(missing)} is missing; to {what}: pip install 'serval[accel]'", USAGE)
