"""What holds for the manifests of every spec."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.ports import PORT_BEHIND_GRPC, PORT_BEHIND_HTTP
from serval_operator.api.blocks.rollout import Rollout
from serval_operator.api.naming import digest, headless_name, pin_name
from serval_operator.api.snapshots import parse_owner
from serval_operator.constants import MAX_NAME
from serval_operator.kinds.model_deployment.desired import resolve
from serval_operator.kinds.model_deployment.spec import parse_spec
from serval_operator.workload.manifests.containers import literal, message_limit
from serval_operator.workload.manifests.deployment import (
    NO_DEADLINE_SECONDS,
    deployment,
    pod_template,
)
from serval_operator.workload.manifests.metadata import child
from serval_operator.workload.manifests.service import headless_service, service
from support import gen
from unit.operator.configuration import CONFIGURATION, come_to
from unit.operator.kinds.model_deployment.manifests.cases import CASES, FRONT_CASES, HTTPS, SPECS
from unit.operator.rendering import rendered

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]
MODEL = parse_owner(gen.model())
SELECTOR = gen.labels(gen.MODEL)


def built(spec: Manifest, *, image_volumes: bool = False, front: bool = False) -> Manifest:
    """The Deployment of a spec."""
    return rendered(MODEL, come_to(parse_spec(gen.MODEL, spec), image_volumes=image_volumes, front=front))


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
    @given(SPECS, st.booleans())
    def test_meets_pod_security_restricted(self, spec: Manifest, image_volumes: bool) -> None:
        assert restricted(built(spec, image_volumes=image_volumes)["spec"]["template"]["spec"]) == []

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
        asked = spec["model"].get("credentials", {}).get("serviceAccountName")
        assert pod.get("serviceAccountName") == asked
        for one in containers(built(spec)):
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert all(
            int(one["emptyDir"]["sizeLimit"].removesuffix("Gi")) > 0
            for one in pod["volumes"]
            if "emptyDir" in one
        )

    @given(SPECS, st.booleans())
    def test_every_mount_has_its_volume_and_every_volume_a_mount(
        self, spec: Manifest, image_volumes: bool
    ) -> None:
        made = built(spec, image_volumes=image_volumes)
        pod = made["spec"]["template"]["spec"]
        mounted = {mount["name"] for one in containers(made) for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        fetch, server = containers(made)
        # Neither credentials nor anything else that was read for the model reaches the model's code.
        mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
        image = image_volumes and spec["model"]["uri"].startswith("oci://")
        assert set(mounts) == ({"models", "tmp", "image"} if image else {"models", "tmp"})
        assert all(mount.get("readOnly") for name, mount in mounts.items() if name != "tmp")
        written = {mount["name"] for mount in fetch["volumeMounts"] if not mount.get("readOnly")}
        assert written == {"models", "tmp"}

    @given(SPECS)
    def test_spreads_the_pods_of_one_revision(self, spec: Manifest) -> None:
        wish = spec.get("scheduling", {}).get("topologySpread", "Preferred")
        made = built(spec)["spec"]["template"]
        constraints = made["spec"].get("topologySpreadConstraints", [])
        assert [one["topologyKey"] for one in constraints] == (
            [] if wish == "Disabled" else ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        )
        for one in constraints:
            assert one["labelSelector"]["matchLabels"].items() <= made["metadata"]["labels"].items()
            assert set(one["matchLabelKeys"]) <= set(made["metadata"]["labels"])
        assert [one["whenUnsatisfiable"] for one in constraints] == {
            "Preferred": ["ScheduleAnyway", "ScheduleAnyway"],
            "Required": ["DoNotSchedule", "ScheduleAnyway"],
            "Disabled": [],
        }[wish]

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


class TestScheduling:
    @given(SPECS)
    def test_names_of_the_spec_reach_the_pod(self, spec: Manifest) -> None:
        pod, asked = built(spec)["spec"]["template"]["spec"], spec.get("scheduling", {})
        for field in ("priorityClassName", "runtimeClassName", "schedulerName"):
            assert pod.get(field) == asked.get(field)

    def test_a_profile_may_name_the_runtime_class_and_the_spec_wins(self) -> None:
        plain: Manifest = {"model": {"uri": HTTPS}, "accelerator": {"profile": "gpu-pool"}}
        own = {**plain, "scheduling": {"runtimeClassName": "own"}}
        classes = [built(one)["spec"]["template"]["spec"]["runtimeClassName"] for one in (plain, own)]
        assert classes == ["nvidia", "own"]

    @pytest.mark.parametrize(
        ("runtime", "architectures"), [("tensorflow-serving", ["amd64", "arm64"]), ("serval", None)]
    )
    def test_pods_stay_on_nodes_that_the_images_are_for(
        self, runtime: str, architectures: list[str] | None
    ) -> None:
        pod = built({"model": {"uri": HTTPS}, "runtime": {"name": runtime}})["spec"]["template"]["spec"]
        if architectures is None:
            assert "affinity" not in pod
            return
        required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = required["nodeSelectorTerms"]
        expression = {"key": "kubernetes.io/arch", "operator": "In", "values": architectures}
        assert term == {"matchExpressions": [expression]}


class TestBatching:
    @pytest.mark.parametrize(
        ("batching", "expected"),
        [
            ({"maxBatchSize": 8}, ["--batch-size=8"]),
            ({"maxBatchSize": 8, "timeoutMicros": 0}, ["--batch-size=8", "--batch-timeout-micros=0"]),
            (
                {"maxBatchSize": 8, "timeoutMicros": 9, "maxEnqueued": 7},
                ["--batch-size=8", "--batch-timeout-micros=9", "--batch-enqueued=7"],
            ),
        ],
    )
    def test_the_fetch_container_writes_the_file_that_the_server_reads(
        self, batching: Manifest, expected: list[str]
    ) -> None:
        fetch, server = containers(built({"model": {"uri": HTTPS}, "runtime": {"batching": batching}}))
        assert [arg for arg in fetch["args"] if arg.startswith("--batch")] == expected
        assert [arg for arg in server["args"] if "batching" in arg] == [
            "--enable_batching=true",
            "--batching_parameters_file=/models/batching.config",
        ]

    def test_a_front_takes_no_part(self) -> None:
        pod = built(FRONT_CASES["front-limit"], front=True)["spec"]["template"]["spec"]
        (front,) = pod["containers"]
        assert not any("batch" in arg for arg in front["args"])
        assert any("batching" in arg for arg in pod["initContainers"][1]["args"])

    def test_without_it_nothing_is_passed(self) -> None:
        for one in containers(built({"model": {"uri": HTTPS}})):
            assert not any("batch" in arg for arg in one["args"])


class TestFront:
    @staticmethod
    def pod(name: str) -> Manifest:
        pod: Manifest = built(FRONT_CASES[name], front=True)["spec"]["template"]["spec"]
        return pod

    @pytest.mark.parametrize("name", FRONT_CASES)
    def test_meets_pod_security_restricted(self, name: str) -> None:
        assert restricted(self.pod(name)) == []

    @pytest.mark.parametrize("name", FRONT_CASES)
    def test_ends_before_the_server_behind_it(self, name: str) -> None:
        """The kubelet stops init containers that never end after the main ones: the server must be such."""
        pod = self.pod(name)
        assert [one["name"] for one in pod["containers"]] == ["front"]
        assert [(one["name"], one.get("restartPolicy")) for one in pod["initContainers"]] == [
            ("fetch", None),
            ("server", "Always"),
        ]
        _, server = pod["initContainers"]
        (front,) = pod["containers"]
        sleep = front["lifecycle"]["preStop"]["sleep"]["seconds"]
        (drain,) = [int(arg.partition("=")[2]) for arg in front["args"] if arg.startswith("--drain_seconds=")]
        assert pod["terminationGracePeriodSeconds"] > sleep + drain
        assert "lifecycle" not in server

    @pytest.mark.parametrize("name", FRONT_CASES)
    def test_leads_to_the_server_and_services_lead_to_it(self, name: str) -> None:
        _, server = self.pod(name)["initContainers"]
        (front,) = self.pod(name)["containers"]
        behind = {port["containerPort"] for port in server["ports"]}
        assert {f"--port={PORT_BEHIND_GRPC}", f"--rest_api_port={PORT_BEHIND_HTTP}"} <= set(server["args"])
        upstream = [arg.partition("=")[2] for arg in front["args"] if arg.startswith("--upstream")]
        assert {int(one.removeprefix("127.0.0.1:")) for one in upstream} == behind
        # A Service takes the first container that has a port of the name.
        names = {port["name"] for port in server["ports"]}
        for one in (service(MODEL), headless_service(MODEL)):
            assert not names & {port["targetPort"] for port in one["spec"]["ports"]}
        assert {port["name"]: port["containerPort"] for port in front["ports"]} == {
            "grpc": 8500,
            "http": 8501,
        }

    @pytest.mark.parametrize("name", FRONT_CASES)
    def test_asks_the_model_and_lets_the_server_load(self, name: str) -> None:
        _, server = self.pod(name)["initContainers"]
        (front,) = self.pod(name)["containers"]
        assert front["startupProbe"]["httpGet"] == front["readinessProbe"]["httpGet"]
        assert front["startupProbe"]["httpGet"]["path"] == server["startupProbe"]["httpGet"]["path"]
        assert "readinessProbe" not in server
        for one, ports in ((front, {"grpc", "http"}), (server, {"behind-grpc", "behind-http"})):
            assert one["livenessProbe"]["tcpSocket"]["port"] in ports
            assert one["startupProbe"]["httpGet"]["port"] in ports

    def test_does_what_the_server_cannot(self) -> None:
        pod = self.pod("front-limit")
        _, server = pod["initContainers"]
        (front,) = pod["containers"]
        assert {"--max_concurrent_requests=8", "--enable_scoring=false"} <= set(front["args"])
        assert not any("concurrent" in arg or "scoring" in arg for arg in server["args"])
        assert "--rest_api_timeout_in_ms=60000" in front["args"]
        assert "--rest_api_timeout_in_ms=60000" in server["args"]

    def test_is_told_which_output_to_score(self) -> None:
        pod = self.pod("front-scoring")
        _, server = pod["initContainers"]
        (front,) = pod["containers"]
        assert "--scoring_output=$$(A)" in front["args"]
        assert server["args"][-1] == "--enable_model_warmup=true"

    def test_has_no_device_and_no_identity(self) -> None:
        template = built(FRONT_CASES["front-scoring"], front=True)["spec"]["template"]
        (front,) = template["spec"]["containers"]
        assert front["resources"] == {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}
        assert "volumeMounts" not in front
        assert template["metadata"]["annotations"] == {
            "azure.workload.identity/skip-containers": "server;front",
            "eks.amazonaws.com/skip-containers": "server,front",
        }


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
OCI: Manifest = {"model": {"uri": "oci://registry.example/vision/digits:3"}}


def fetch_args(spec: Manifest, *, image_volumes: bool = False) -> list[str]:
    args: list[str] = containers(built(spec, image_volumes=image_volumes))[0]["args"]
    return args


def with_model(**fields: Any) -> Manifest:
    return {"model": {**LEAST["model"], **fields}}


class TestFetch:
    @pytest.mark.parametrize(
        ("spec", "cached"),
        [
            (LEAST, False),
            (with_model(sha256="0" * 64), True),
            ({"model": {"uri": "pvc://models/a", "sha256": "0" * 64}}, False),
            ({"model": {**OCI["model"], "sha256": "0" * 64}}, True),
        ],
        ids=["no digest", "digest", "a volume", "an image that is fetched"],
    )
    def test_the_cache_is_for_what_has_a_digest_and_comes_over_the_network(
        self, spec: Manifest, cached: bool
    ) -> None:
        given = [arg for arg in fetch_args(spec) if arg.startswith("--cache=")]
        assert given == (["--cache=http://serval-cache.serval-system:8600"] if cached else [])

    def test_a_mounted_image_needs_no_cache(self) -> None:
        spec = {"model": {**OCI["model"], "sha256": "0" * 64}}
        assert not any("--cache" in arg for arg in fetch_args(spec, image_volumes=True))

    @pytest.mark.parametrize("version", [None, 0, 3])
    def test_replicas_are_bound_to_one_model_where_no_version_is_named(self, version: int | None) -> None:
        spec = LEAST if version is None else with_model(version=version)
        template = built(spec)["spec"]["template"]
        pins = [one for one in template["spec"]["volumes"] if one["name"] == "pin"]
        key = template["metadata"]["labels"]["serval.dev/revision"]
        name = {"name": pin_name(gen.MODEL, gen.MODEL_UID, key), "optional": True}
        assert pins == ([{"name": "pin", "configMap": name}] if version is None else [])
        assert ("--pin-file=/serval/pin/pin.json" in fetch_args(spec)) == (version is None)

    def test_only_other_frameworks_are_named(self) -> None:
        assert "--framework=ONNX" in fetch_args(with_model(framework="ONNX"))
        assert not any("--framework" in arg for arg in fetch_args(with_model(framework="TensorFlow")))

    def test_an_image_is_fetched_where_some_node_cannot_mount_it(self) -> None:
        assert not any("--image-mount" in arg for arg in fetch_args(OCI))
        assert "--image-mount=/serval/image" in fetch_args(OCI, image_volumes=True)
        assert fetch_args(LEAST, image_volumes=True) == fetch_args(LEAST)

    def test_a_secret_becomes_a_pull_secret_of_a_mounted_image(self) -> None:
        spec = {"model": {**OCI["model"], "credentials": {"secretRef": {"name": "login"}}}}
        fetched, mounted = (
            built(spec, image_volumes=one)["spec"]["template"]["spec"] for one in (False, True)
        )
        assert "imagePullSecrets" not in fetched
        assert "credentials" in {one["name"] for one in fetched["volumes"]}
        assert mounted["imagePullSecrets"] == [{"name": "login"}]
        assert "credentials" not in {one["name"] for one in mounted["volumes"]}

    def test_a_pull_secret_is_named_once(self) -> None:
        spec = {
            "model": {**OCI["model"], "credentials": {"secretRef": {"name": "login"}}},
            "imagePullSecrets": [{"name": "login"}],
        }
        pod = built(spec, image_volumes=True)["spec"]["template"]["spec"]
        assert pod["imagePullSecrets"] == [{"name": "login"}]

    def test_an_identity_is_kept_from_the_models_code(self) -> None:
        spec = {
            **with_model(credentials={"serviceAccountName": "reader"}),
            "podMetadata": {"annotations": {"eks.amazonaws.com/skip-containers": "fetch"}},
        }
        meta = built(spec)["spec"]["template"]["metadata"]
        assert meta["labels"]["azure.workload.identity/use"] == "true"
        assert meta["annotations"] == {
            "azure.workload.identity/skip-containers": "server",
            "eks.amazonaws.com/skip-containers": "server",
        }


class TestRollout:
    TEMPLATE = pod_template(MODEL, resolve(parse_spec(gen.MODEL, LEAST), CONFIGURATION), "0123456789")

    def made(self, **rollout: Any) -> Manifest:
        return deployment(
            MODEL,
            template=self.TEMPLATE,
            revision="0123456789",
            replicas=5,
            strategy="InPlace",
            rollout=Rollout(**rollout),
        )

    def test_takes_what_it_is_given(self) -> None:
        spec = self.made(min_ready_seconds=7)["spec"]
        assert (spec["replicas"], spec["minReadySeconds"]) == (5, 7)
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        labels = spec["template"]["metadata"].pop("labels")
        identity = {"serval.dev/revision": "0123456789", "serval.dev/owner-uid": gen.MODEL_UID}
        assert labels == {**self.TEMPLATE["metadata"]["labels"], **identity}
        assert spec["template"]["spec"] == self.TEMPLATE["spec"]

    def test_leaves_the_template_as_it_was(self) -> None:
        before = deepcopy(self.TEMPLATE)
        self.made()
        assert before == self.TEMPLATE
        assert "serval.dev/revision" not in self.TEMPLATE["metadata"]["labels"]

    def test_kubernetes_own_deadline_is_out_of_the_way(self) -> None:
        """Kubernetes takes this number for none. It must exceed minReadySeconds."""
        made = self.made(start_deadline_seconds=1, min_ready_seconds=3600)["spec"]
        assert made["progressDeadlineSeconds"] == NO_DEADLINE_SECONDS == 2**31 - 1


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values that hold no others."""
    steps = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [deep for step in steps for deep in leaves(value[step], (*path, step))] if steps else [path]


class TestHash:
    EVERYTHING = built(CASES["everything"])

    # Outside the hash are the hash itself, and the owner, whose API version may change.
    @pytest.mark.parametrize(
        "path",
        [
            path
            for path in leaves(EVERYTHING)
            if not {"annotations", "ownerReferences"}.intersection(path[:2])
        ],
    )
    def test_covers_every_field(self, path: tuple[Any, ...]) -> None:
        changed = deepcopy(self.EVERYTHING)
        noted = changed["metadata"].pop("annotations")["serval.dev/applied-hash"]
        del changed["metadata"]["ownerReferences"]
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
            "model": {"uri": f"https://host/a{text}"},
            "runtime": {"args": [f"--a={text}"], "env": [{"name": "A", "value": text}]},
        }
        fetch, server = containers(built(spec))
        assert f"--uri=https://host/a{text}" in [expand(arg) for arg in fetch["args"]]
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


class TestRawBytes:
    def test_is_turned_off_where_the_runtime_has_it(self) -> None:
        server = containers(built({"model": {"uri": HTTPS}, "endpoint": {"rawBytes": "Disabled"}}))[1]
        assert "--enable_scoring=false" in server["args"]

    def test_is_left_alone_otherwise(self) -> None:
        for spec in (
            {"model": {"uri": HTTPS}},
            {"model": {"uri": HTTPS}, "endpoint": {"rawBytes": "Enabled"}},
            {
                "model": {"uri": HTTPS},
                "runtime": {"name": "tensorflow-serving"},
                "endpoint": {"rawBytes": "Disabled"},
            },
        ):
            server = containers(built(spec))[1]
            assert not any("scoring" in arg for arg in server["args"])


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("1Gi", 32 * 2**20), ("8Mi", 4 * 2**20), ("64Gi", 2**31 - 1), (None, None)],
)
def test_the_largest_message_follows_from_the_memory(memory: str | None, expected: int | None) -> None:
    limits = {} if memory is None else {"memory": memory}
    assert message_limit(limits) == ([f"--grpc_max_message_bytes={expected}"] if expected else [])


SIZE = "--grpc_max_message_bytes="


def sizes(args: Sequence[str]) -> list[str]:
    """The largest messages that arguments set; the last one holds."""
    return [arg.removeprefix(SIZE) for arg in args if arg.startswith(SIZE)]


class TestLargestMessage:
    SPEC: ClassVar[Manifest] = {"model": {"uri": HTTPS}, "resources": {"limits": {"memory": "1Gi"}}}

    def test_of_an_administrator_holds(self) -> None:
        resolved = come_to(parse_spec(gen.MODEL, self.SPEC))
        runtime = replace(resolved.runtime, args=(f"{SIZE}5",))
        server = containers(rendered(MODEL, replace(resolved, runtime=runtime)))[1]
        assert sizes(server["args"]) == ["5"]

    def test_of_a_user_holds(self) -> None:
        server = containers(built({**self.SPEC, "runtime": {"args": [f"{SIZE}7"]}}))[1]
        assert sizes(server["args"]) == [str(32 * 2**20), "7"]

    @pytest.mark.parametrize(("knows", "behind"), [(False, []), (True, [str(32 * 2**20), "7"])])
    def test_of_a_user_holds_for_a_front(self, knows: bool, behind: list[str]) -> None:
        """The server behind it gets the flag only where it knows it."""
        named = {"runtime": {"name": "tensorflow-serving", "args": [f"{SIZE}7"]}}
        spec = {**self.SPEC, **named, "endpoint": {"rawBytes": "Enabled"}}
        resolved = come_to(parse_spec(gen.MODEL, spec), front=True)
        if knows:
            known = resolved.runtime.capabilities | {"concurrency-limit"}
            resolved = replace(resolved, runtime=replace(resolved.runtime, capabilities=known))
        _, server, front = containers(rendered(MODEL, resolved))
        assert sizes(front["args"])[-1] == "7"
        assert sizes(server["args"]) == behind
