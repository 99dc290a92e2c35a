"""The way to what only the extra `cli` brings."""

from __future__ import annotations

import argparse
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
