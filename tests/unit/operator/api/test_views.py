"""Views: what is kept of an object, and that no object whatever makes parsing fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.cache_entry import cache_owner
from serval_operator.api.facts import parse_facts
from serval_operator.api.job_snapshots import FAILED, JobCondition, parse_job
from serval_operator.api.naming import Key, digest
from serval_operator.api.snapshots import (
    ChildView,
    ContainerView,
    PodView,
    parse_autoscaler,
    parse_deployment,
    parse_disruption,
    parse_owner,
    parse_pod,
    parse_pod_warning,
    parse_revision,
    parse_service,
    parse_time,
)
from support import gen

pytestmark = pytest.mark.unit

PARSERS: tuple[Callable[[Mapping[str, Any]], Any], ...] = (
    parse_owner,
    partial(cache_owner, "ModelDeployment"),
    parse_deployment,
    parse_service,
    parse_autoscaler,
    parse_disruption,
    parse_revision,
    parse_pod,
    parse_pod_warning,
    parse_job,
)
KNOWN_FIELDS = [
    "metadata", "spec", "status", "labels", "annotations", "ownerReferences", "managedFields", "conditions",
    "initContainerStatuses", "containerStatuses", "state", "lastState", "waiting", "running", "terminated",
    "name", "namespace", "uid", "controller", "kind", "type", "reason", "message", "manager", "subresource",
    "fieldsV1", "generation", "observedGeneration", "lastTransitionTime", "creationTimestamp", "exitCode",
    "restartCount", "startedAt", "finishedAt", "started", "ready", "involvedObject", "series", "eventTime",
    "lastTimestamp", "serval.dev/kind", "serval.dev/owner-uid", "serval.dev/name", "serval.dev/revision",
    "phase", "nodeName", "facts", "data", "template", "revision", "strategy", "rollingUpdate", "maxSurge",
    "replicas", "serval.dev/owner-name", "serval.dev/job", "serval.dev/attempt", "suspend", "active",
    "startTime", "batch.kubernetes.io/job-name",
]  # fmt: skip
KNOWN_TEXTS = [
    "True", "False", "fetch", "server", "ReplicaFailure", "PodScheduled", "Ready", "Unschedulable", "status",
    "Complete", "7", "\u00b2",
    "2026-01-02T03:04:05Z", "2026-01-02", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00+23:59",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(KNOWN_TEXTS)
    | st.text(max_size=8)
)
KEYS = st.sampled_from(KNOWN_FIELDS) | st.text(max_size=4)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=6)


@st.composite
def damaged_pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod that makes sense, with one place of it replaced by anything."""
    obj = gen.pod("digits-1", gen.ready(last=gen.ended(1, "x")))
    place: Any = obj
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(list(keys)))
        deeper = isinstance(place[key], dict | list) and bool(place[key])
        if not deeper or draw(st.booleans()):
            place[key] = draw(JSON)
            return obj
        place = place[key]


KEY = Key("ModelDeployment", gen.NAMESPACE, gen.MODEL)


class TestTotal:
    @given(OBJECTS)
    def test_no_object_makes_parsing_fail(self, obj: dict[str, Any]) -> None:
        for parse in PARSERS:
            parse(obj)

    @given(damaged_pods())
    def test_no_damage_to_a_pod_makes_parsing_fail(self, obj: dict[str, Any]) -> None:
        parse_pod(obj)

    @pytest.mark.parametrize("parse", PARSERS)
    def test_an_empty_object_gives_neutral_values(self, parse: Callable[[Mapping[str, Any]], Any]) -> None:
        view = parse({})
        values = {field.name: getattr(view, field.name) for field in fields(view)}
        for kept in (
            "ownership",
            "owner",
            "kind",
            "packed_template",
            "facts_text",
            "template_digest",
            "content",
        ):  # hashes of nothing, and nothing packed
            values.pop(kept, None)
        assert not any(values.values()), values


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "time"),
        [
            ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T03:04:05.123456Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
            ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2026-01-02T03:04:05", None),  # without a zone it could not be compared with others
            ("2026-01-02", None),
            ("2026-02-30T00:00:00Z", None),
            ("0001-01-01T00:00:00+23:59", None),
            ("now", None),
            ("", None),
            (None, None),
            (5, None),
        ],
    )
    def test_parse_time(self, text: object, time: datetime | None) -> None:
        assert parse_time(text) == time

    @given(st.text(max_size=40) | st.sampled_from(KNOWN_TEXTS))
    def test_a_time_is_aware_or_none(self, text: str) -> None:
        time = parse_time(text)
        assert time is None or time.tzinfo is UTC


class TestModel:
    def test_keeps_spec_and_status(self) -> None:
        view = parse_owner(gen.model(generation=4, status={"revision": "x"}, replicas=3))
        assert (view.namespace, view.name, view.uid) == (gen.NAMESPACE, gen.MODEL, gen.MODEL_UID)
        assert (view.generation, view.resource_version) == (4, "100")
        assert view.owner == KEY
        assert view.spec["replicas"] == 3
        assert view.status == {"revision": "x"}
        assert view.created == gen.START
        assert not view.deleting

    def test_knows_when_it_is_being_deleted(self) -> None:
        assert parse_owner(gen.model(gen.MODEL, gen.deleting)).deleting


class TestChild:
    def test_belongs_to_the_controlling_model_deployment(self) -> None:
        view = parse_deployment(gen.deployment())
        assert view.owner == KEY
        assert view.owner_uid == gen.MODEL_UID
        assert view.applied_hash == "0123456789"
        assert not view.foreign

    @pytest.mark.parametrize(
        ("references", "owner", "uid"),
        [
            (None, None, ""),
            ([], None, ""),
            ([{"kind": "ModelDeployment", "name": "digits", "uid": "u"}], None, ""),
            ([{"kind": "Other", "name": "x", "uid": "o", "controller": True}], None, "o"),
            (
                [
                    {"kind": "Other", "name": "x", "uid": "o"},
                    gen.owner_reference("digits", "u"),
                ],
                KEY,
                "u",
            ),
            ([{**gen.owner_reference("digits", "u"), "apiVersion": "example.com/v1"}], None, "u"),
        ],
        ids=["none", "empty", "not its controller", "of another kind", "second of two", "of another group"],
    )
    def test_owner(self, references: object, owner: object, uid: str) -> None:
        obj = gen.service()
        obj["metadata"]["ownerReferences"] = references
        view = parse_service(obj)
        assert (view.owner, view.owner_uid) == (owner, uid)

    def test_create_failure_is_what_the_cluster_said(self) -> None:
        view = parse_deployment(gen.deployment(gen.create_failure("exceeded quota")))
        assert view.create_failure == "exceeded quota"

    def test_a_status_of_an_older_generation_says_nothing(self) -> None:
        failure = gen.create_failure("exceeded quota", observed=0)
        assert not parse_deployment(gen.deployment(failure)).create_failure

    def test_a_cured_create_failure_says_nothing(self) -> None:
        obj = gen.deployment(gen.create_failure("exceeded quota"))
        obj["status"]["conditions"][0]["status"] = "False"
        assert not parse_deployment(obj).create_failure


class TestDeployment:
    @pytest.mark.parametrize(
        ("rolling", "surge"),
        [
            ({"maxSurge": 1, "maxUnavailable": 0}, True),
            ({"maxSurge": "25%"}, True),
            ({"maxSurge": 0, "maxUnavailable": 1}, False),
            ({"maxSurge": "0%"}, False),
            ({"maxSurge": "0"}, False),
            ({}, False),
        ],
    )
    def test_how_it_rolls(self, rolling: dict[str, Any], *, surge: bool) -> None:
        obj = gen.deployment()
        obj["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        assert parse_deployment(obj).surge is surge

    def test_what_it_carries(self) -> None:
        obj = gen.deployment()
        obj["spec"] |= {"replicas": 3, "template": {"metadata": {"labels": {"serval.dev/revision": "abc"}}}}
        view = parse_deployment(obj)
        assert (view.revision, view.replicas) == ("abc", 3)
        assert parse_deployment(gen.deployment()).revision == ""


TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}


class TestDisruption:
    @pytest.mark.parametrize(("said", "number"), [(2, 2), ("25%", 0), (None, 0)])
    def test_how_many_may_be_unavailable(self, said: object, number: int) -> None:
        obj = {"metadata": {"name": "digits"}, "spec": {"maxUnavailable": said}}
        assert parse_disruption(obj).max_unavailable == number


class TestRevision:
    @staticmethod
    def record(**annotations: str) -> gen.Object:
        named = {f"serval.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
        obj = gen.service(name="digits-abc")
        obj["metadata"] |= {"labels": {"serval.dev/revision": "abc"}, "annotations": named}
        return {**obj, "kind": "ControllerRevision", "revision": 7, "data": {"template": TEMPLATE}}

    def test_keeps_the_template_and_its_digest(self) -> None:
        view = parse_revision(self.record())
        assert view.template() == TEMPLATE
        assert view.template_digest == digest(TEMPLATE)
        assert (view.number, view.key, view.owner_uid) == (7, "abc", gen.MODEL_UID)
        assert (view.failed_reason, view.failed_message, view.served) == ("", "", False)

    def test_what_became_of_it(self) -> None:
        failed = parse_revision(self.record(failed_reason="CrashLoop", failed_message="boom", served="true"))
        assert (failed.failed_reason, failed.failed_message, failed.served) == ("CrashLoop", "boom", True)
        assert not parse_revision(self.record(served="yes")).served

    @pytest.mark.parametrize(
        "facts",
        [
            {
                "runtime": "serval",
                "image": "own",
                "capabilities": ["metrics", "batching"],
                "placement": {
                    "accelerator": "gpu",
                    "resourceName": "nvidia.com/gpu",
                    "count": 2,
                    "nodeSelector": {"pool": "gpu"},
                    "tolerations": [{"key": "sku", "tolerationSeconds": 0}],
                    "architectures": ["amd64"],
                },
            },
            {"placement": {}, "capabilities": []},
            {"placement": [], "unknown": 1},
            {},
        ],
    )
    def test_keeps_the_facts_and_what_the_template_shows(self, facts: gen.Object) -> None:
        limits = {"limits": {"nvidia.com/gpu": "1"}}
        server = {"name": "server", "image": "registry.example/server:1", "resources": limits}
        template = {"spec": {"containers": [server], "nodeSelector": {"pool": "a"}}}
        record = {**self.record(), "data": {"template": template, "facts": facts}}
        first, second = parse_revision(record), parse_revision(deepcopy(record))
        assert first.facts() == parse_facts(facts, template)
        assert first.template() == template
        assert first.facts_text is second.facts_text

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            {"template": [1]},
            {"template": {"x": 2**70}},
            {"template": TEMPLATE, "facts": {"placement": {"count": 2**70}}},
        ],
    )
    def test_one_that_we_did_not_write_has_an_empty_template(self, data: object) -> None:
        """Numbers of any size pass the JSON parser of the watch."""
        view = parse_revision({**self.record(), "data": data})
        assert view.template() == {}
        assert view.template_digest == digest({})
        assert view.facts() == parse_facts({}, {})


HAND = gen.managed("kubectl-edit", {"f:spec": {"f:replicas": {}}})
NOTE = gen.managed("someone", {"f:metadata": {"f:annotations": {"f:note": {}}}})
SCALER = gen.managed("hpa", {"f:spec": {"f:replicas": {}}}, subresource="scale")
CONTROLLER = gen.managed("kube-controller-manager", {"f:status": {}}, subresource="status")


def renewed(obj: gen.Object) -> None:
    """All entries got a new time, and the API server sorted them by it."""
    entries = obj["metadata"]["managedFields"]
    for number, entry in enumerate(entries):
        entry["time"] = gen.stamp(500 - number)
    entries.sort(key=lambda entry: entry["time"])


def robbed(obj: gen.Object) -> None:
    """Somebody removed a field of ours, so that nobody owns it."""
    del obj["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]


class TestOwnership:
    def view(self, *options: gen.Option) -> ChildView:
        return parse_deployment(gen.deployment(*options))

    @pytest.mark.parametrize(
        ("options", "changed", "foreign"),
        [
            ((HAND,), True, True),
            ((NOTE,), True, True),
            ((SCALER,), True, True),
            ((robbed,), True, False),
            ((CONTROLLER,), False, False),
            ((renewed,), False, False),
            ((gen.create_failure("x"),), False, False),
            ((gen.deleting,), False, False),
        ],
        ids=["edit", "own annotation", "scale", "removal", "status", "time", "status field", "deletion"],
    )
    def test_fingerprint(self, options: tuple[gen.Option, ...], changed: bool, foreign: bool) -> None:
        before, after = self.view(), self.view(*options)
        assert (after.ownership != before.ownership) is changed
        assert after.foreign is foreign

    def test_fingerprint_does_not_follow_the_order_of_entries(self) -> None:
        assert self.view(HAND, NOTE, renewed).ownership == self.view(HAND, NOTE).ownership

    def test_fingerprint_tells_managers_apart(self) -> None:
        other = gen.managed("other", {"f:spec": {"f:replicas": {}}})
        assert self.view(HAND).ownership != self.view(other).ownership


class TestPod:
    def test_a_new_pod(self) -> None:
        view = parse_pod(gen.pod())
        assert view.owner == KEY
        assert (view.revision, view.phase, view.node) == (gen.REVISION, "Pending", "")
        assert view.fetch is None
        assert view.server is None
        assert view.changed is None

    def test_a_pod_without_our_label_belongs_to_nobody(self) -> None:
        obj = gen.pod()
        del obj["metadata"]["labels"]["serval.dev/name"]
        assert parse_pod(obj).owner is None

    def test_the_schedulers_words(self) -> None:
        view = parse_pod(gen.pod("p", gen.unschedulable("0/3 nodes are available")))
        assert view.unschedulable == "0/3 nodes are available"
        assert view.scheduled is None

    def test_a_gated_pod_is_not_unschedulable(self) -> None:
        obj = gen.pod("p", gen.unschedulable("Scheduling is blocked due to non-empty scheduling gates"))
        obj["status"]["conditions"][0]["reason"] = "SchedulingGated"
        assert not parse_pod(obj).unschedulable

    def test_times_of_a_ready_pod(self) -> None:
        view = parse_pod(gen.pod("p", gen.ready(after=20)))
        assert view.ready
        assert (view.created, view.scheduled) == (gen.moment(), gen.moment(1))
        assert (view.initialized, view.became_ready) == (gen.moment(10), gen.moment(20))
        assert view.changed == gen.moment(20)
        assert (view.sandbox_ready, view.unready_reason) == (True, "")

    def test_a_pod_that_lost_its_readiness(self) -> None:
        view = parse_pod(gen.pod("p", gen.ready(), gen.unready))
        assert not view.ready
        assert view.became_ready is None
        assert view.unready_reason == "ContainersNotReady"

    def test_the_node_controller_gives_no_reason(self) -> None:
        view = parse_pod(gen.pod("p", gen.ready(), gen.node_lost))
        assert not view.ready
        assert view.unready_reason == ""

    def test_a_failed_pod(self) -> None:
        view = parse_pod(gen.pod("p", gen.ready(), gen.evicted("The node was low on memory.", after=300)))
        assert (view.phase, view.reason, view.message) == ("Failed", "Evicted", "The node was low on memory.")
        assert view.changed == gen.moment(300)

    def test_containers(self) -> None:
        last = gen.ended(137, "words", "OOMKilled", finished=40)
        view = parse_pod(gen.pod("p", gen.server(gen.waiting("CrashLoopBackOff", "later"), last=last)))
        assert view.fetch is not None
        assert view.fetch.terminated is not None
        assert view.fetch.terminated.exit_code == 0
        assert view.server == ContainerView(
            name="server",
            ready=False,
            running=False,
            started=None,
            restarts=1,
            waiting_reason="CrashLoopBackOff",
            waiting_message="later",
            terminated=None,
            last=view.server.last if view.server else None,
        )
        assert view.server.last is not None
        assert (view.server.last.exit_code, view.server.last.reason) == (137, "OOMKilled")
        assert (view.server.last.message, view.server.last.finished) == ("words", gen.moment(40))

    def test_behind_a_front_the_server_is_an_init_container(self) -> None:
        waits = gen.front(gen.waiting("PodInitializing"))
        plain, fronted = (parse_pod(gen.pod("p", gen.loading(), *more)) for more in ((), (waits,)))
        assert fronted.server == plain.server
        assert (plain.front, plain.facing) == (None, plain.server)
        assert fronted.front is not None
        assert (fronted.front.name, fronted.front.waiting_reason) == ("front", "PodInitializing")
        assert fronted.facing == fronted.front

    def test_when_its_grace_period_ends(self) -> None:
        assert parse_pod(gen.pod()).grace_ends is None
        assert parse_pod(gen.pod("a", gen.stopping(until=90))).grace_ends == gen.moment(90)

    def test_address(self) -> None:
        assert parse_pod(gen.pod()).ip == ""
        assert parse_pod(gen.pod("p", gen.ready(), gen.at("10.0.0.1"))).ip == "10.0.0.1"

    def test_a_running_container(self) -> None:
        view = parse_pod(gen.pod("p", gen.ready(started=12)))
        assert view.server is not None
        assert (view.server.running, view.server.ready, view.server.answered) == (True, True, True)
        assert view.server.started == gen.moment(12)

    def test_containers_of_others_are_passed_over(self) -> None:
        """A mesh puts its own before and beside ours; the kubelet sorts the others by name."""
        plain = gen.pod("p", gen.loading())
        meshed = gen.pod("p", gen.loading())
        crashed = {"name": "istio-init", "state": gen.ended(1), "restartCount": 9}
        meshed["status"]["initContainerStatuses"].insert(0, crashed)
        meshed["status"]["containerStatuses"].insert(0, {**crashed, "name": "istio-proxy"})
        assert _containers(parse_pod(meshed)) == _containers(parse_pod(plain))


def _containers(view: PodView) -> tuple[ContainerView | None, ContainerView | None]:
    return view.fetch, view.server


class TestPodWarning:
    def test_of_the_kubelet(self) -> None:
        view = parse_pod_warning(gen.warning("FailedMount", "no", seen=9))
        assert (view.pod_uid, view.reason, view.message) == ("uid-digits-1", "FailedMount", "no")
        assert view.last_seen == gen.moment(9)

    @pytest.mark.parametrize(
        "fields_",
        [
            {"eventTime": "2026-01-02T03:04:14.000000Z"},
            {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:14.000000Z"}},
        ],
    )
    def test_of_newer_recorders(self, fields_: dict[str, Any]) -> None:
        obj = {**gen.warning("FailedMount", "no", seen=None), **fields_}
        assert parse_pod_warning(obj).last_seen == gen.moment(9)


def job(**status: Any) -> gen.Object:
    """A Job of ours."""
    labels = {"serval.dev/job": "convert", "serval.dev/inputs": "0123456789", "serval.dev/attempt": "2"}
    return {
        "metadata": {
            "name": "digits-convert",
            "namespace": gen.NAMESPACE,
            "labels": labels,
            "ownerReferences": [gen.owner_reference(gen.MODEL, gen.MODEL_UID)],
        },
        "spec": {"suspend": True},
        "status": status,
    }


class TestJob:
    def test_is_known_by_its_labels(self) -> None:
        view = parse_job(job(active=1, startTime=gen.stamp(5)))
        assert (view.owner, view.owner_uid) == (KEY, gen.MODEL_UID)
        assert (view.job, view.inputs, view.attempt) == ("convert", "0123456789", 2)
        assert (view.suspended, view.active, view.started) == (True, 1, gen.moment(5))
        assert not view.finished

    @pytest.mark.parametrize(
        ("kind", "status", "finished"),
        [
            ("Complete", "True", True),
            ("Failed", "True", True),
            ("Failed", "False", False),
            ("FailureTarget", "True", False),
            ("Suspended", "True", False),
        ],
    )
    def test_is_finished_by_two_conditions(self, kind: str, status: str, finished: bool) -> None:
        assert parse_job(job(conditions=[{"type": kind, "status": status}])).finished is finished

    def test_keeps_the_conditions_that_matter(self) -> None:
        failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}
        view = parse_job(
            job(
                conditions=[
                    {"type": "SuccessCriteriaMet", "status": "True"},
                    {**failed, "lastTransitionTime": gen.stamp(9)},
                ]
            )
        )
        assert view.conditions == (JobCondition("Failed", "DeadlineExceeded", "too long", gen.moment(9)),)
        assert view.condition(FAILED) == view.conditions[0]
        assert view.condition("Complete") is None

    @pytest.mark.parametrize("text", ["", "x", "-1", "1234", "\u00b2", "\u0663"])
    def test_an_attempt_that_is_no_small_number(self, text: str) -> None:
        obj = job()
        obj["metadata"]["labels"]["serval.dev/attempt"] = text
        assert parse_job(obj).attempt == 0


class TestPodOfAJob:
    @staticmethod
    def pod(**changes: str) -> gen.Object:
        obj = gen.pod("digits-1", gen.ready())
        labels = obj["metadata"]["labels"]
        labels["serval.dev/owner-name"] = labels.pop("serval.dev/name")
        labels |= {"serval.dev/job": "convert", "batch.kubernetes.io/job-name": "digits-convert", **changes}
        return obj

    def test_keeps_all_containers_in_their_order(self) -> None:
        obj = self.pod()
        obj["status"]["initContainerStatuses"].append({"name": "more"})
        view = parse_pod(obj)
        assert (view.owner, view.job) == (KEY, "digits-convert")
        assert [one.name for one in view.stages] == ["fetch", "more", "server"]

    @pytest.mark.parametrize("missing", ["serval.dev/job", "serval.dev/kind", "batch.kubernetes.io/job-name"])
    def test_needs_our_labels_and_those_of_the_job(self, missing: str) -> None:
        obj = self.pod()
        del obj["metadata"]["labels"][missing]
        view = parse_pod(obj)
        assert (view.job, view.stages) == ("", ())

    def test_other_pods_keep_nothing_more(self) -> None:
        view = parse_pod(gen.pod("digits-1", gen.ready()))
        assert (view.owner, view.job) == (KEY, "")
        assert view.stages == ()
