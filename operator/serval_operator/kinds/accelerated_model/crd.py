"""The CRD of AcceleratedModels."""

from __future__ import annotations

from typing import Final

from serval_operator.api.blocks.served import NAME_RULE
from serval_operator.api.crd import Column, Crd
from serval_operator.constants import ACCELERATED_MODEL
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec
from serval_operator.kinds.accelerated_model.status_schema import Status

ACCELERATED_MODEL_CRD: Final = Crd(
    kind=ACCELERATED_MODEL,
    plural="acceleratedmodels",
    short_names=("amodel",),
    description="An AcceleratedModel converts a TensorFlow network for an exclusive device, such as an FPGA, "
    "and serves it there behind TensorFlow Serving's predict API.",
    spec=AcceleratedSpec,
    spec_description="What should be converted and served, and on which device.",
    status=Status,
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
            "Whether the newest spec is converted, fully rolled out, and every replica answers.",
        ),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is, or is not, ready."),
        Column("Featurizer", ".spec.featurizer", "Network of the catalogue."),
        Column("Device", ".status.device", "Accelerator profile or resource of the device."),
        Column("Engine", ".status.engine", "What runs the device; emulator where no device computes."),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column(
            "Position",
            ".status.accelerator.position",
            "Place in the queue for devices.",
            type="integer",
            wide=True,
        ),
        Column("Holder", ".status.accelerator.holders[0].name", "Who holds most of the devices.", wide=True),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            "What the Ready condition says.",
            wide=True,
        ),
    ),
)
