"""What a real API server takes and refuses of ModelDeployments, and with which words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from integration.crd_block_rows import BAD_BLOCKS
from integration.crd_rules_rows import BAD, GOOD, env
from integration.crd_samples import NAMESPACE, Document, document, install_crd

TIMEOUT = 20
Refusals = dict[str, str]
"""Messages by field."""
Creator = Callable[[Document], Refusals]


@pytest.fixture(scope="module")
def create(control_plane: Any) -> Iterator[Creator]:
    """Ask the API server to create a document, without storing it; what it refuses, by field."""
    install_crd(control_plane)
    api_client = config.new_client_from_config(str(control_plane.kubeconfig))
    api = client.CustomObjectsApi(api_client)

    def ask(body: Document) -> Refusals:
        try:
            api.create_namespaced_custom_object(
                "serval.dev",
                "v1alpha1",
                NAMESPACE,
                "modeldeployments",
                body,
                dry_run="All",
                field_validation="Strict",
                _request_timeout=TIMEOUT,
            )
        except client.ApiException as error:
            status = json.loads(error.body)
            causes = status.get("details", {}).get("causes") or [{"message": status["message"]}]
            refused: Refusals = {}
            for cause in causes:
                field = cause.get("field", "")
                refused[field] = "; ".join(filter(None, (refused.get(field), cause["message"])))
            return refused
        return {}

    yield ask
    api_client.close()


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_takes(create: Creator, body: Document) -> None:
    assert create(body) == {}


REFUSED = {**BAD, **BAD_BLOCKS}


@pytest.mark.parametrize(("body", "field", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(create: Creator, body: Document, field: str, message: str) -> None:
    refused = create(body)
    assert field in refused, refused
    assert message in refused[field]


RESERVED_FLAGS = (
    "port",
    "rest_api_port",
    "grpc_socket_path",
    "model_name",
    "model_base_path",
    "model_config_file",
    "monitoring_config_file",
)


@pytest.mark.parametrize("flag", RESERVED_FLAGS)
@pytest.mark.parametrize("ending", ["", "=1"])
def test_refuses_flags_that_the_operator_sets(create: Creator, flag: str, ending: str) -> None:
    refused = create(document(runtime={"args": [f"--{flag}{ending}"]}))
    assert "must not be one that the operator sets" in refused.get("spec.runtime.args[0]", ""), refused


RESERVED_VARIABLES = (
    "PATH",
    "HOME",
    "ENV",
    "BASH_ENV",
    "MODEL_NAME",
    "MODEL_BASE_PATH",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "KUBERNETES_SERVICE_HOST",
    "SERVAL_HTTP_PORT",
    "AZURE_CLIENT_ID",
    "AWS_ROLE_ARN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
)


@pytest.mark.parametrize("name", RESERVED_VARIABLES)
def test_refuses_variables_that_are_reserved(create: Creator, name: str) -> None:
    refused = create(env(name))
    assert "must not be reserved" in refused.get("spec.runtime.env[0].name", ""), refused


RESERVED_KEYS = (
    "app.kubernetes.io/name",
    "kubernetes.io/arch",
    "batch.kubernetes.io/job-name",
    "x.k8s.io/a",
    "argocd.argoproj.io/instance",
    "helm.sh/chart",
    "meta.helm.sh/release-name",
    "kustomize.toolkit.fluxcd.io/name",
    "serval.dev/name",
    "sub.serval.dev/name",
    "kopf.dev/x",
    "kopf.zalando.org/x",
    "azure.workload.identity/use",
)


@pytest.mark.parametrize("key", RESERVED_KEYS)
@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_refuses_metadata_that_is_reserved(create: Creator, kind: str, key: str) -> None:
    refused = create(document(podMetadata={kind: {key: "x"}}))
    assert "must not have keys in the domains" in refused.get(f"spec.podMetadata.{kind}", ""), refused


def test_reports_all_errors_at_once(create: Creator) -> None:
    body = document("a.b", model={"uri": "ftp://x"}, replicas=-1, accelerator={})
    assert set(create(body)) == {
        "<nil>",
        "spec.model.uri",
        "spec.replicas",
        ".spec.replicas",
        "spec.accelerator",
    }
