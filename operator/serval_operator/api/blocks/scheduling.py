"""What a pod runs on, and how it gets there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from serval_operator.api.blocks.names import (
    AUTO,
    LABEL_KEY,
    LABEL_PART,
    OBJECT_NAME,
    label_name,
    label_names,
    label_value,
    object_name,
)
from serval_operator.api.parse import invalid
from serval_operator.api.schema import Block, Entries, Items, Nested, Rule, Text, Whole, Words
from serval_operator.constants import SYSTEM_PRIORITY

REFUSE: Final = "Refuse"
WAIT: Final = "Wait"
PREFERRED: Final = "Preferred"
REQUIRED: Final = "Required"

REPLACE: Final = "Replace"

WhenBusy = Literal["Wait", "Replace"]
WhenUnavailable = Literal["Auto", "Wait", "Refuse"]
TopologySpread = Literal["Preferred", "Required", "Disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator(Block):
    """What each replica runs on: `spec.accelerator`. Either a profile or a resource name is set."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.profile), has(self.resourceName)].filter(set, set).size() == 1",
            "exactly one of `profile` and `resourceName` must be set",
        ),
    )

    profile: Annotated[
        str, label_name("Name of an accelerator profile in the operator's configuration, such as nvidia-gpu.")
    ] = ""
    resource_name: Annotated[
        str,
        Text(
            "Resource that a device plugin offers on the nodes, such as nvidia.com/gpu.",
            max_length=253,
            min_length=3,
            rules=(
                Rule(
                    f"self.matches('^{OBJECT_NAME}/{LABEL_PART}$')",
                    "must be the name of an extended resource, DOMAIN/NAME, such as nvidia.com/gpu",
                ),
                Rule(
                    r"!self.matches('^(requests\\.|([^/]*\\.)?kubernetes\\.io/)')",
                    "must not be in the domain kubernetes.io, nor start with requests.",
                ),
            ),
        ),
    ] = ""
    count: Annotated[int, Whole("How many units of the resource each replica takes.", 1, 64, stored=True)] = 1
    when_unavailable: Annotated[
        WhenUnavailable,
        Words(
            "Whether pods are created while no node of the cluster could ever take one, even if it "
            "were empty. Wait creates them. Refuse does not, even if an autoscaler could add such a "
            "node. Auto, the default, does not unless a node that fits may be added. Running pods are "
            "never stopped for this reason. If the devices exist and are in use, `whenBusy` says what "
            "happens.",
            get_args(WhenUnavailable),
            shapes_pods=False,
        ),
    ] = AUTO
    when_busy: Annotated[
        WhenBusy,
        Words(
            "What happens while all devices that fit are in use. Wait, the default, waits for its turn: the "
            "higher PriorityClass first, then the older object. Replace stops another object of the same "
            "namespace that holds such devices, and gets them: the one of the lowest priority, then the "
            "newest; none of a higher priority. It does so only while no pod of this object has a device, "
            "and once for each change of the spec.",
            get_args(WhenBusy),
            shapes_pods=False,
        ),
    ] = WAIT

    def check(self, path: str) -> None:
        """Check that exactly one of both names is set."""
        if bool(self.profile) == bool(self.resource_name):
            raise invalid(f"`{path}` must have either `profile` or `resourceName`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration(Block):
    """A taint that the pods tolerate, with the fields of a pod's toleration."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "`operator` must be Exists when `key` is absent",
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            "`value` must be absent when `operator` is Exists",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "`effect` must be NoExecute when `tolerationSeconds` is set",
        ),
    )

    key: Annotated[
        str,
        Text(
            "Name of the taint. When absent, every taint.",
            max_length=317,
            min_length=1,
            pattern=f"^{LABEL_KEY}$",
        ),
    ] = ""
    operator: Annotated[
        str | None,
        Words(
            "Equal (as when absent) compares the value, Exists takes any value.",
            ("Equal", "Exists"),
            no_trace=("Equal",),
        ),
    ] = None
    value: Annotated[str, label_value("Value of the taint.")] = ""
    effect: Annotated[
        str | None,
        Words(
            "Effect of the taint. When absent, every effect.", ("NoSchedule", "PreferNoSchedule", "NoExecute")
        ),
    ] = None
    toleration_seconds: Annotated[
        int | None,
        Whole(
            "How long a NoExecute taint is tolerated, in seconds. When absent, without limit.",
            0,
            31_536_000,
            format="int64",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling(Block):
    """Which nodes may take the pods, and how they are scheduled: `spec.scheduling`."""

    node_selector: Annotated[
        Mapping[str, str],
        Entries(
            "Labels that a node must have, in addition to those of the accelerator profile. If both "
            "name a label, this value is used.",
            label_value("Value that the label must have."),
            max_properties=16,
            rules=(label_names("valid label names"),),
        ),
    ] = field(default_factory=dict)
    tolerations: Annotated[
        Sequence[Mapping[str, Any]],
        Items(
            "Taints that the pods tolerate, in addition to those of the accelerator profile.",
            Nested("One toleration, with the fields of a pod's.", Toleration),
            max_items=16,
            verbatim=True,
        ),
    ] = ()
    topology_spread: Annotated[
        TopologySpread,
        Words(
            "How strictly the replicas are spread over nodes. Preferred, the default, spreads them "
            "over nodes and zones if possible. Required keeps a replica waiting if it "
            "would put two more on one node than on another that could take it. Disabled leaves it to "
            "the scheduler.",
            get_args(TopologySpread),
        ),
    ] = PREFERRED
    priority_class_name: Annotated[
        str,
        object_name(
            "PriorityClass of the pods. An administrator may allow only some in the operator's "
            "configuration.",
            Rule(
                "!self.startsWith('system-')",
                "must not be one of the cluster's own, which start with system-",
            ),
        ),
    ] = ""
    runtime_class_name: Annotated[
        str,
        object_name(
            "RuntimeClass of the pods: how the node's container runtime starts them. When absent, "
            "that of the accelerator profile, if it names one."
        ),
    ] = ""
    scheduler_name: Annotated[
        str, object_name("Scheduler of the pods. When absent, the cluster's default scheduler.")
    ] = ""

    def check(self, path: str) -> None:
        """Refuse the PriorityClasses of Kubernetes itself."""
        if self.priority_class_name.startswith(SYSTEM_PRIORITY):
            raise invalid(f"`{path}.priorityClassName` must not start with {SYSTEM_PRIORITY}")
