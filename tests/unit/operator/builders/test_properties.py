"""What holds for the manifests of every spec."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.model import parse_spec
from serval_operator.api.naming import digest, headless_name
from serval_operator.api.views import parse_model
from serval_operator.builders.deployment import deployment, pod_template, revision
from serval_operator.builders.metadata import child
from serval_operator.builders.pod import literal
from serval_operator.builders.service import headless_service, service
from serval_operator.constants import MAX_NAME
from serval_operator.planning.resolve import resolve
from support import gen
from unit.operator.builders.cases import CASES, HTTPS, SPECS
from unit.operator.configuration import CONFIGURATION

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]
MODEL = parse_model(gen.model())
SELECTOR = {"app.kubernetes.io/managed-by": "serval-operator", "serval.dev/name": gen.MODEL}


def built(spec: Manifest, **meta: Any) -> Manifest:
    """The Deployment of a spec."""
    come_to = resolve(parse_spec(gen.MODEL, spec), CONFIGURATION)
    return deployment(parse_model(gen.model(**meta)), come_to)


def revision_of(spec: Manifest, **meta: Any) -> str:
    name: str = built(spec, **meta)["spec"]["template"]["metadata"]["labels"]["serval.dev/revision"]
    return name


def containers(manifest: Manifest) -> list[Manifest]:
    pod = manifest["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def restricted(pod: Manifest) -> list[str]:
    """Where a pod breaks Pod Security's level "restricted" (as of Kubernetes 1.36)."""
    shared = pod.get("securityContext", {})
    faults = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    allowed = {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
        "projected", "secret",
    }  # fmt: skip
    faults += [
        f"volume {one['name']}" for one in pod.get("volumes", []) if not (set(one) - {"name"}) <= allowed
    ]
    for one in (*pod["initContainers"], *pod["containers"]):
        own = one.get("securityContext", {})
        profile = own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
        capabilities = own.get("capabilities", {})
        wrong = {
            "privileged": own.get("privileged", False),
            "privilege escalation": own.get("allowPrivilegeEscalation") is not False,
            "capabilities": "ALL" not in capabilities.get("drop", []),
            "added": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
            "root": own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True,
            "user": own.get("runAsUser", shared.get("runAsUser")) == 0,
            "seccomp": profile not in {"RuntimeDefault", "Localhost"},
            "host port": any("hostPort" in port for port in one.get("ports", [])),
            "procMount": own.get("procMount", "Default") != "Default",
            "sysctls": shared.get("sysctls"),
            "host probe": any("host" in action for action in _probe_actions(one)),
        }
        faults += [f"{one['name']}: {fault}" for fault, holds in wrong.items() if holds]
    return faults


def _probe_actions(container: Manifest) -> list[Manifest]:
    probes = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
    handlers = [*probes, *container.get("lifecycle", {}).values()]
    return [one[kind] for one in handlers for kind in ("httpGet", "tcpSocket") if kind in one]


class TestPod:
    @given(SPECS)
    def test_meets_pod_security_restricted(self, spec: Manifest) -> None:
        assert restricted(built(spec)["spec"]["template"]["spec"]) == []

    def test_the_check_can_fail(self) -> None:
        pod = deepcopy(built(CASES["pvc"])["spec"]["template"]["spec"])
        pod["hostNetwork"] = True
        pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}})
        del pod["securityContext"]["seccompProfile"]
        pod["containers"][0]["securityContext"] = {"capabilities": {"add": ["SYS_ADMIN"]}}
        assert len(restricted(pod)) == 7

    @given(SPECS)
    def test_has_no_token_no_writable_root_and_bounded_disks(self, spec: Manifest) -> None:
        pod = built(spec)["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in pod
        for one in containers(built(spec)):
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert all(
            int(one["emptyDir"]["sizeLimit"].removesuffix("Gi")) > 0
            for one in pod["volumes"]
            if "emptyDir" in one
        )

    @given(SPECS)
    def test_every_mount_has_its_volume_and_every_volume_a_mount(self, spec: Manifest) -> None:
        pod = built(spec)["spec"]["template"]["spec"]
        mounted = {mount["name"] for one in containers(built(spec)) for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        (server,) = pod["containers"]
        assert {mount["name"] for mount in server["volumeMounts"]} == {"models", "tmp"}
        (models,) = [mount for mount in server["volumeMounts"] if mount["name"] == "models"]
        assert models["readOnly"] is True

    @given(SPECS)
    def test_has_time_to_stop(self, spec: Manifest) -> None:
        pod = built(spec)["spec"]["template"]["spec"]
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > sleep > 0

    @given(SPECS)
    def test_probes_run_nothing_and_liveness_asks_for_no_model(self, spec: Manifest) -> None:
        (server,) = built(spec)["spec"]["template"]["spec"]["containers"]
        kinds = {kind: set(server[f"{kind}Probe"]) for kind in ("startup", "readiness", "liveness")}
        assert all("exec" not in fields for fields in kinds.values())
        assert "httpGet" in kinds["startup"]
        assert server["startupProbe"]["httpGet"] == server["readinessProbe"]["httpGet"]
        assert "httpGet" not in kinds["liveness"]

    @given(SPECS)
    def test_an_extended_resource_is_asked_for_and_limited_alike(self, spec: Manifest) -> None:
        (server,) = built(spec)["spec"]["template"]["spec"]["containers"]
        sides = [server["resources"].get(side, {}) for side in ("requests", "limits")]
        extended = [{name: one[name] for name in one if "/" in name} for one in sides]
        assert extended[0] == extended[1]
        count = spec.get("accelerator", {}).get("count", 0)
        needs = spec.get("accelerator", {}).get("profile") != "cpu" and count
        assert list(extended[0].values()) == ([str(count)] if needs else [])


class TestSelector:
    @given(SPECS)
    def test_is_the_same_for_every_spec(self, spec: Manifest) -> None:
        """Kubernetes refuses to change it."""
        assert built(spec)["spec"]["selector"] == {"matchLabels": SELECTOR}

    @given(SPECS)
    def test_chooses_the_pods_and_the_services_choose_them_too(self, spec: Manifest) -> None:
        labels = built(spec)["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= SELECTOR.items()
        for one in (service(MODEL), headless_service(MODEL)):
            assert one["spec"]["selector"] == SELECTOR

    def test_services_lead_to_ports_of_the_server(self) -> None:
        (server,) = built(CASES["pvc"])["spec"]["template"]["spec"]["containers"]
        names = {port["name"]: port["containerPort"] for port in server["ports"]}
        for one in (service(MODEL), headless_service(MODEL)):
            for port in one["spec"]["ports"]:
                assert port["port"] in (names[port["targetPort"]], 80)

    def test_the_longest_name_fits(self) -> None:
        assert len(headless_name("d" * MAX_NAME)) <= 63


LEAST: Manifest = {"model": {"uri": HTTPS}}
PVC: Manifest = {"model": {"uri": "pvc://models/a"}}
GPU: Manifest = {**LEAST, "accelerator": {"profile": "nvidia-gpu"}}


class TestRevision:
    @pytest.mark.parametrize(
        ("spec", "other"),
        [
            (LEAST, {**LEAST, "replicas": 5}),
            (LEAST, {**LEAST, "suspend": True}),
            (LEAST, {**LEAST, "replicas": 1, "suspend": False}),
            (LEAST, {"model": {**LEAST["model"], "name": gen.MODEL}}),
            (LEAST, {"model": {**LEAST["model"], "framework": "TensorFlow"}}),
            (LEAST, {**LEAST, "runtime": {"name": "serval", "args": [], "env": []}}),
            (LEAST, {**LEAST, "resources": {"requests": {}, "limits": {}}}),
            (LEAST, {**LEAST, "endpoint": {"expose": "ClusterIP"}}),
            (LEAST, {**LEAST, "podMetadata": {"labels": {}, "annotations": {}}}),
            (LEAST, {**LEAST, "probes": {"startup": {"periodSeconds": 1}, "readiness": {}}}),
            (LEAST, {**LEAST, "accelerator": {"profile": "cpu"}}),
            (LEAST, {**LEAST, "imagePullSecrets": []}),
            (GPU, {**LEAST, "accelerator": {"profile": "nvidia-gpu", "count": 1, "tolerations": []}}),
            (
                {"model": {**LEAST["model"], "caConfigMap": {"name": "ca"}}},
                {"model": {**LEAST["model"], "caConfigMap": {"name": "ca", "key": "ca.crt"}}},
            ),
            (
                {**LEAST, "resources": {"requests": {"cpu": 2}}},
                {**LEAST, "resources": {"requests": {"cpu": "2"}}},
            ),
        ],
    )
    def test_what_changes_no_pod_is_no_new_revision(self, spec: Manifest, other: Manifest) -> None:
        assert revision_of(spec) == revision_of(other)

    @given(SPECS, st.integers(1, 99))
    def test_is_of_the_template_alone(self, spec: Manifest, generation: int) -> None:
        again = revision_of({**spec, "replicas": 7}, generation=generation, uid="another")
        assert revision_of(spec) == again

    @pytest.mark.parametrize(
        "other",
        [
            {"model": {**LEAST["model"], "uri": HTTPS + "?v=2"}},
            {"model": {**LEAST["model"], "name": "other"}},
            {"model": {**LEAST["model"], "version": 1}},
            {"model": {**LEAST["model"], "version": 0}},
            {"model": {**LEAST["model"], "sha256": "0" * 64}},
            {"model": {**LEAST["model"], "caConfigMap": {"name": "ca"}}},
            PVC,
            {**LEAST, "runtime": {"name": "tensorflow-serving"}},
            {**LEAST, "runtime": {"args": ["--a"]}},
            {**LEAST, "runtime": {"env": [{"name": "A", "value": ""}]}},
            {**LEAST, "resources": {"limits": {"cpu": 1}}},
            GPU,
            {**LEAST, "accelerator": {"profile": "cpu", "nodeSelector": {"a": "b"}}},
            {**LEAST, "accelerator": {"profile": "cpu", "tolerations": [{"operator": "Exists"}]}},
            {**LEAST, "endpoint": {"timeoutSeconds": 5}},
            {**LEAST, "endpoint": {"maxConcurrentRequests": 5}},
            {**LEAST, "probes": {"startup": {"failureThreshold": 5}}},
            {**LEAST, "probes": {"readiness": {"periodSeconds": 9}}},
            {**LEAST, "probes": {"liveness": {"timeoutSeconds": 9}}},
            {**LEAST, "imagePullSecrets": [{"name": "a"}]},
            {**LEAST, "priorityClassName": "high"},
            {**LEAST, "podMetadata": {"labels": {"a": "b"}}},
            {**LEAST, "podMetadata": {"annotations": {"a": "b"}}},
        ],
    )
    def test_what_changes_a_pod_is_a_new_revision(self, other: Manifest) -> None:
        assert revision_of(other) != revision_of(LEAST)

    @given(SPECS)
    def test_is_a_label_value_and_names_the_template_without_itself(self, spec: Manifest) -> None:
        come_to = resolve(parse_spec(gen.MODEL, spec), CONFIGURATION)
        name = revision_of(spec)
        assert name == revision(pod_template(MODEL, come_to))
        assert len(name) == 10
        assert name.isalnum()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values that hold no others."""
    steps = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [deep for step in steps for deep in leaves(value[step], (*path, step))] if steps else [path]


class TestHash:
    EVERYTHING = built(CASES["everything"])

    @pytest.mark.parametrize("path", [path for path in leaves(EVERYTHING) if "annotations" not in path[:2]])
    def test_covers_every_field(self, path: tuple[Any, ...]) -> None:
        changed = deepcopy(self.EVERYTHING)
        noted = changed["metadata"].pop("annotations")["serval.dev/applied-hash"]
        assert digest(changed) == noted
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = "something else"
        assert digest(changed) != noted

    def test_does_not_follow_the_order_of_keys(self) -> None:
        assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})

    @given(SPECS)
    def test_of_one_spec_is_always_the_same(self, spec: Manifest) -> None:
        assert built(spec) == built(deepcopy(spec))


class TestOwner:
    def test_every_child_names_its_controller(self) -> None:
        for one in (built(LEAST), service(MODEL), headless_service(MODEL)):
            assert one["metadata"]["namespace"] == gen.NAMESPACE
            assert one["metadata"]["ownerReferences"] == [
                {
                    "apiVersion": "serval.dev/v1alpha1",
                    "kind": "ModelDeployment",
                    "name": gen.MODEL,
                    "uid": gen.MODEL_UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]

    def test_a_child_does_not_share_its_spec(self) -> None:
        spec = {"a": 1}
        made = child(MODEL, "x", "v1", "Service", spec)
        spec["a"] = 2
        assert made["spec"] == {"a": 1}


def expand(text: str) -> str:
    """What Kubernetes makes of an argument or a variable's value, if every name in it is set to EXPANDED."""
    out, place = [], 0
    while place < len(text):
        rest = text[place + 1 :]
        close = rest.find(")")
        if text[place] != "$" or not rest:
            out.append(text[place])
            place += 1
        elif rest.startswith("$"):
            out.append("$")
            place += 2
        elif rest.startswith("(") and close > 0:
            out.append("EXPANDED")
            place += close + 2
        else:
            out.append(text[place : place + 2])
            place += 2
    return "".join(out)


class TestLiteral:
    """Kubernetes replaces $(NAME) in arguments and variables; what users wrote is to stay as it is."""

    @pytest.mark.parametrize(
        ("text", "expanded"),
        [("$(A)", "EXPANDED"), ("$$(A)", "$(A)"), ("$(A", "$(A"), ("$", "$"), ("a$$b", "a$b"), ("$a", "$a")],
    )
    def test_the_expansion_of_kubernetes(self, text: str, expanded: str) -> None:
        assert expand(text) == expanded

    @given(st.text() | st.text(alphabet="$()A"))
    def test_survives_it(self, text: str) -> None:
        assert expand(literal(text)) == text

    @given(st.text(alphabet="$()A", max_size=8))
    def test_every_text_of_the_user(self, text: str) -> None:
        spec = {
            "model": {"uri": f"https://host/{text}"},
            "runtime": {"args": [f"--a={text}"], "env": [{"name": "A", "value": text}]},
        }
        fetch, server = containers(built(spec))
        assert f"--uri=https://host/{text}" in [expand(arg) for arg in fetch["args"]]
        assert expand(server["args"][-1]) == f"--a={text}"
        assert {one["name"]: expand(one["value"]) for one in server["env"]}["A"] == text

    @given(SPECS)
    def test_nothing_else_is_expanded(self, spec: Manifest) -> None:
        for one in containers(built(spec)):
            values = [entry["value"] for entry in one.get("env", [])]
            assert all("EXPANDED" not in expand(text) for text in [*one["args"], *values])

    def test_a_users_variable_wins_over_the_runtimes(self) -> None:
        spec = {**LEAST, "runtime": {"env": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "3"}]}}
        _, server = containers(built(spec))
        assert server["env"] == [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "3"}]


class TestScoring:
    def test_is_turned_off_where_the_runtime_has_it(self) -> None:
        server = containers(built({"model": {"uri": HTTPS}, "endpoint": {"scoring": "Disabled"}}))[1]
        assert "--enable_scoring=false" in server["args"]

    def test_is_left_alone_otherwise(self) -> None:
        for spec in (
            {"model": {"uri": HTTPS}},
            {"model": {"uri": HTTPS}, "endpoint": {"scoring": "Enabled"}},
            {
                "model": {"uri": HTTPS},
                "runtime": {"name": "tensorflow-serving"},
                "endpoint": {"scoring": "Disabled"},
            },
        ):
            server = containers(built(spec))[1]
            assert not any("scoring" in arg for arg in server["args"])
