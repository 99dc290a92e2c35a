"""The demo's steady load on a ModelDeployment of a test: plain clients that never send a request twice."""

from __future__ import annotations

from examples.demo.load import SteadyLoad, callers
from examples.demo.model import TrainedModel

from e2e.stand import Stand

PAUSE_S = 0.02
ANSWERS_LIMIT_S = 60.0


class Traffic(SteadyLoad):
    """Asks by gRPC over one channel that is held, and by HTTP."""

    def __init__(self, stand: Stand, name: str, model: TrainedModel) -> None:
        service = stand.cluster.get("Service", stand.namespace, name)
        assert service is not None
        host = service["spec"]["clusterIP"]
        super().__init__(callers(f"{host}:8500", f"http://{host}", name, model.images[0].data), PAUSE_S)

    @property
    def failed(self) -> list[str]:
        """What went wrong, in words, by either protocol."""
        return [words for tally in self.tallies.values() for words in tally.failures]

    @property
    def answered(self) -> dict[str, int]:
        """Requests answered, by protocol."""
        return {kind: tally.answered for kind, tally in self.tallies.items()}

    def until_answers(self, more: int, limit_s: float = ANSWERS_LIMIT_S) -> None:
        """Wait until each protocol got so many answers more."""
        super().until_answers(more, limit_s)
