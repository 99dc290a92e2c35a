"""The progress deadline: when it begins, whom it judges, when to look again."""

from __future__ import annotations

import pytest

from serval_operator.api.snapshots import parse_pod
from serval_operator.pods.start_deadline import overdue, time_left
from support import gen
from unit.operator.workload.observing import observed

pytestmark = pytest.mark.unit

SECONDS = 600


class TestOnePod:
    @pytest.mark.parametrize(
        ("options", "left"),
        [
            ((), None),
            ((gen.unschedulable("no node"),), None),
            ((gen.placed(after=10),), 590.0),
            ((gen.placed(after=10), gen.starting()), 590.0),
            ((gen.placed(after=10), gen.fetch_running()), 590.0),
            ((gen.placed(after=10), gen.fetch_failed(1, "x")), 590.0),
            ((gen.placed(after=10), gen.loading()), 590.0),
            ((gen.placed(after=10), gen.server_crashed(1, "x")), 590.0),
            ((gen.placed(after=10), gen.ready()), None),
            ((gen.placed(after=10), gen.ready(), gen.unready), None),
            ((gen.placed(after=10), gen.ready(), gen.unready, gen.front(gen.running(13))), 590.0),
            (
                (gen.placed(after=10), gen.ready(), gen.unready, gen.front(gen.running(13), answered=True)),
                None,
            ),
        ],
        ids=[
            "new",
            "unschedulable",
            "placed",
            "starting",
            "fetching",
            "fetch failed",
            "loading",
            "crashed",
            "ready",
            "ready once",
            "behind a front",
            "front answered",
        ],
    )
    def test_has_time_from_its_scheduling_to_its_first_answer(
        self, options: tuple[gen.Option, ...], left: float | None
    ) -> None:
        assert time_left(parse_pod(gen.pod("a", *options)), SECONDS, gen.moment(20)) == left

    @pytest.mark.parametrize(
        ("now", "left"), [(10, 600), (609, 1), (610, 0), (611, -1), (0, 600), (-9999, 600)]
    )
    def test_counts_down(self, now: float, left: float) -> None:
        """A clock that was moved back gives no more time than the whole deadline."""
        assert time_left(parse_pod(gen.pod("a", gen.placed(after=10))), SECONDS, gen.moment(now)) == left

    def test_a_server_that_began_anew_has_the_same_deadline(self) -> None:
        pod = parse_pod(gen.pod("a", gen.placed(after=10), gen.loading(last=gen.ended(1, "x"), started=500)))
        assert time_left(pod, SECONDS, gen.moment(610)) == 0


class TestAll:
    def test_none_is_late_where_there_is_none(self) -> None:
        assert overdue(observed(), gen.REVISION, SECONDS) == (False, None)

    def test_the_earliest_deadline_to_come_is_the_next_look(self) -> None:
        seen = observed(
            gen.pod("a", gen.placed(after=10)),
            gen.pod("b", gen.placed(after=30)),
            gen.pod("c", gen.ready()),
            gen.pod("d"),
            now=40,
        )
        assert overdue(seen, gen.REVISION, SECONDS) == (False, 570.0)

    @pytest.mark.parametrize(
        ("now", "answer"), [(609, (False, 1.0)), (610, (True, 20.0)), (630, (True, None))]
    )
    def test_one_late_pod_is_enough(self, now: float, answer: tuple[bool, float | None]) -> None:
        seen = observed(gen.pod("a", gen.placed(after=10)), gen.pod("b", gen.placed(after=30)), now=now)
        assert overdue(seen, gen.REVISION, SECONDS) == answer

    @pytest.mark.parametrize(
        "pod",
        [
            gen.pod("a", gen.placed(after=0), revision="ffffffffff"),
            gen.pod("a", gen.placed(after=0), gen.deleting),
            gen.pod("a", gen.refused()),
        ],
        ids=["another revision", "being deleted", "failed"],
    )
    def test_others_do_not_matter(self, pod: gen.Object) -> None:
        assert overdue(observed(pod, now=10_000), gen.REVISION, SECONDS) == (False, None)
