"""The CRD of ModelDeployments."""

from __future__ import annotations

from typing import Final

from serval_operator.api.blocks.served import NAME_RULE
from serval_operator.api.blocks.serving_status import ServingStatus
from serval_operator.api.crd import Column, Crd
from serval_operator.constants import MODEL_DEPLOYMENT
from serval_operator.kinds.model_deployment.spec import ModelSpec

MODEL_DEPLOYMENT_CRD: Final = Crd(
    kind=MODEL_DEPLOYMENT,
    plural="modeldeployments",
    short_names=("mdep",),
    description="A ModelDeployment serves one TensorFlow or ONNX model with a number of replicas behind "
    "TensorFlow Serving's predict API, over gRPC and HTTP, on accelerators or on CPU.",
    spec=ModelSpec,
    spec_description="What should be served, and where.",
    status=ServingStatus,
    status_description="What the operator sees. Written by the operator alone.",
    # kstatus takes an object without observedGeneration for done; -1 equals no generation.
    status_default={"observedGeneration": -1},
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
    rules=(NAME_RULE,),
    columns=(
        Column(
            "Available",
            '.status.conditions[?(@.type=="Available")].status',
            "Whether at least one replica answers now, of whatever revision.",
        ),
        Column(
            "Ready",
            '.status.conditions[?(@.type=="Ready")].status',
            "Whether the newest spec is fully rolled out and every replica answers.",
        ),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is, or is not, ready."),
        Column("Replicas", ".status.replicasSummary", "Ready replicas of those wanted."),
        Column("Model", ".status.modelSummary", "Name and version of the model that is served."),
        Column(
            "Accelerator",
            ".status.effective.accelerator",
            "Accelerator profile or resource that each replica takes.",
        ),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("Endpoint", ".status.endpoints.grpc", "Address for gRPC clients in the cluster.", wide=True),
        Column(
            "Updated", ".status.updatedReplicas", "Pods of the newest revision.", type="integer", wide=True
        ),
        Column(
            "Revision", ".status.revision", "Revision of the pods that the newest spec asks for.", wide=True
        ),
        Column(
            "Position",
            ".status.accelerator.position",
            "Place among the objects that wait for the same devices.",
            type="integer",
            wide=True,
        ),
        Column("Holder", ".status.accelerator.holders[0].name", "What holds such devices.", wide=True),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            "What the Ready condition says.",
            wide=True,
        ),
    ),
)
