"""The load that the demo puts on a model, put on a ModelDeployment of a test by Serval's own clients."""

from __future__ import annotations

from examples.demo.load import Question, SteadyLoad, retrying
from examples.demo.model import TrainedModel

from e2e.stand import Stand

PAUSE = 0.02


def steady_load(stand: Stand, name: str, model: TrainedModel) -> SteadyLoad:
    """Ask a ModelDeployment by both protocols, through its Service."""
    service = stand.cluster.get("Service", stand.namespace, name)
    assert service is not None
    host = service["spec"]["clusterIP"]
    question = Question(f"{host}:8500", f"http://{host}", name, model.images[0].data)
    return SteadyLoad(retrying(question), PAUSE)
