"""The judgement of one pod in each state that it can be in."""

from __future__ import annotations

import pytest

from serval_operator.api.snapshots import PodView, parse_pod, parse_pod_warning
from serval_operator.pods.pod_state import (
    Verdict,
    is_accepted,
    is_silent,
    judge,
)
from support import gen
from unit.operator.pods.pod_rows import ROWS, VOLUME, VOLUMES, Row, back_off, pull

pytestmark = pytest.mark.unit


def view(*options: gen.Option) -> PodView:
    return parse_pod(gen.pod("digits-1", *options))


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_judge(row: Row) -> None:
    verdict = judge(view(*row.options), [parse_pod_warning(one) for one in row.warnings])
    assert verdict == Verdict(
        pod="digits-1",
        stage=row.stage,
        reason=row.reason,
        message=row.message,
        failed=row.failed,
        exit_code=row.exit_code,
        when=None if row.when is None else gen.moment(row.when),
    )


def test_both_forms_of_an_image_failure_are_one_verdict() -> None:
    """The kubelet changes between them at each attempt; the status must not."""
    forms = [pull("ErrImagePull", gen.NOT_FOUND), back_off("ErrImagePull", gen.NOT_FOUND)]
    assert len({judge(view(gen.server(form))) for form in forms}) == 1


def test_the_order_of_events_does_not_matter() -> None:
    events = [
        parse_pod_warning(gen.warning(reason, message, seen=5))
        for reason, message in (("FailedMount", VOLUME), ("FailedMount", VOLUMES), ("NetworkNotReady", "net"))
    ]
    pod = view(gen.starting())
    assert judge(pod, events) == judge(pod, events[::-1])


class TestSilent:
    """Whether events are read. Each row above that has any must be silent, or it could not come about."""

    @pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
    def test_rows(self, row: Row) -> None:
        silent = {"placed", "taken by the kubelet", "events that tell nothing of it"}
        told = row.warnings and "is there now" not in row.name
        assert is_silent(view(*row.options)) is bool(row.name in silent or told)

    @pytest.mark.parametrize(
        ("option", "silent"),
        [
            (gen.sandbox_ready, True),
            (gen.fetch(gen.waiting("")), True),
            (gen.fetch(pull("ErrImagePull", gen.NOT_FOUND)), False),
            (gen.fetch_running(), False),
            (gen.fetch(gen.waiting(""), last=gen.ended(1)), False),
            (gen.fetch(gen.ended(1)), False),
            (gen.fetched(), False),
            (gen.server(pull("ErrImagePull", gen.NOT_FOUND)), False),
            (gen.loading(), False),
        ],
        ids=["images", "created", "image", "running", "again", "ended", "fetched", "server image", "server"],
    )
    def test_kubelets_that_do_not_tell_of_the_sandbox(self, option: gen.Option, silent: bool) -> None:
        """Before 1.36 they did so only after the images were pulled, before 1.29 not at all."""

        def untold(obj: gen.Object) -> None:
            conditions = obj["status"]["conditions"]
            conditions[:] = [one for one in conditions if one["type"] != "PodReadyToStartContainers"]

        assert is_silent(view(option, untold)) is silent


class TestAccepted:
    @pytest.mark.parametrize(
        ("option", "accepted"),
        [
            (gen.unschedulable("x"), False),
            (gen.placed(), False),
            (gen.starting(), True),
            (gen.ready(), True),
            (gen.refused(), False),
        ],
        ids=["unschedulable", "placed", "starting", "ready", "refused"],
    )
    def test_once_the_kubelet_speaks_of_containers(self, option: gen.Option, accepted: bool) -> None:
        assert is_accepted(view(option)) is accepted

    def test_not_once_it_has_given_the_pod_up(self) -> None:
        assert not is_accepted(view(gen.ready(), gen.evicted("x")))
        assert not is_accepted(view(gen.ready(), gen.stopped()))
