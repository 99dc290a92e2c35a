"""What runs in a pod: the model server, its resources, and the labels of the pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from serval_contract.devices import (
    DEVICE_ALLOW_EMULATION,
    DEVICE_ENGINE,
    DEVICE_LOCK_DIR,
    DEVICE_OPTIONS,
    DEVICE_RESOURCE,
)
from serval_operator.api.blocks.names import label_name, label_names, label_value, listed
from serval_operator.api.parse import invalid
from serval_operator.api.schema import Block, Entries, Items, Nested, Rule, Text, Whole, WholeOrText
from serval_operator.constants import RESERVED_METADATA_DOMAINS

_RESERVED_FLAGS = (
    "port",
    "rest_api_port",
    "grpc_socket_path",
    "model_name",
    "model_base_path",
    "model_config_file",
    "monitoring_config_file",
    DEVICE_ENGINE.name,
    DEVICE_OPTIONS.name,
    DEVICE_LOCK_DIR.name,
    DEVICE_RESOURCE.name,
    DEVICE_ALLOW_EMULATION.name,
)
_RESERVED_VARIABLES = ("PATH", "HOME", "ENV", "BASH_ENV", "MODEL_NAME", "MODEL_BASE_PATH")
_RESERVED_PREFIXES = (
    "LD",
    "PYTHON",
    "KUBERNETES",
    "SERVAL",
    "AZURE",
    "AWS",
    "GOOGLE",
    "NVIDIA",
    "CUDA",
    "ROCR",
    "HIP",
)
# An open map with a rule instead of fields: unknown fields are dropped silently for clients without strict
# validation, and a dropped GPU request must not go unnoticed.
_RESOURCE_NAMES = (
    Rule(
        "self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])",
        "must have no keys but cpu, memory and ephemeral-storage; accelerators are asked for under "
        "spec.accelerator",
    ),
)
_QUANTITY = WholeOrText(
    'A quantity such as "2", 500m or 4Gi.',
    max_length=32,
    rules=(
        Rule(
            "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) >= 0",
            "must be a quantity of at least 0, such as 2, 500m or 4Gi",
        ),
    ),
)
_DOMAINS = "|".join(RESERVED_METADATA_DOMAINS).replace(".", r"\\.")
_RESERVED_ENDS = tuple(f".{domain}" for domain in RESERVED_METADATA_DOMAINS)
_NOT_RESERVED = Rule(
    rf"!self.exists(k, k.matches('^(([^/]*\\.)?({_DOMAINS})/|pod-template-hash$)'))",
    f"must not have keys in the domains {listed(RESERVED_METADATA_DOMAINS, 'and')}, nor pod-template-hash",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar(Block):
    """An environment variable of the model server."""

    name: Annotated[
        str,
        Text(
            "Name of the variable.",
            max_length=128,
            min_length=1,
            pattern="^[A-Za-z_][A-Za-z0-9_]*$",
            rules=(
                Rule(
                    f"!self.matches('^({'|'.join(_RESERVED_PREFIXES)})') && "
                    f"!(self in {list(_RESERVED_VARIABLES)})",
                    f"must not be reserved: {', '.join(_RESERVED_VARIABLES)}, or a name that starts with "
                    f"{listed(_RESERVED_PREFIXES, 'or')}",
                ),
            ),
        ),
    ]
    value: Annotated[
        str,
        Text(
            "Value of the variable, taken literally.",
            max_length=1024,
            rules=(
                Rule(
                    "!self.contains('$(')",
                    "must not contain `$(`; references to other variables are not expanded",
                ),
            ),
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching(Block):
    """How the model server batches requests: `spec.runtime.batching`. None leaves the runtime's default."""

    max_batch_size: Annotated[
        int,
        Whole(
            "Largest batch, in rows of the model's inputs. A request with more rows is refused.", 1, 65_536
        ),
    ]
    timeout_micros: Annotated[
        int | None,
        Whole(
            "How long an incomplete batch waits for more requests, in microseconds. When absent, the "
            "runtime's default; 0 does not wait.",
            0,
            60_000_000,
        ),
    ] = None
    max_enqueued: Annotated[
        int | None,
        Whole(
            "How many batches may wait for a free thread. Requests beyond it are refused as "
            "UNAVAILABLE. When absent, the runtime's default.",
            1,
            65_536,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime(Block):
    """The model server: `spec.runtime`."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.batching) || !has(self.args) || !self.args.exists(a, "
            "a.matches('^--(enable_batching|batching_parameters_file)(=|$)'))",
            "must not contain --enable_batching or --batching_parameters_file when `batching` is set, "
            "which sets them",
            field_path=".args",
        ),
    )

    name: Annotated[
        str,
        label_name(
            "Name of a runtime in the operator's configuration, such as tensorflow-serving or serval."
        ),
    ] = ""
    args: Annotated[
        tuple[str, ...],
        Items(
            "More arguments for the model server, after those that the operator sets. Each is one "
            "flag, with its value after `=`.",
            Text(
                "One flag, such as --rest_api_num_threads=8.",
                max_length=512,
                min_length=3,
                rules=(
                    Rule(
                        "self.matches('^--[a-zA-Z]')",
                        "must start with `--` and a letter; a value follows in the same entry after `=`",
                    ),
                    Rule(
                        f"!self.matches('^--({'|'.join(_RESERVED_FLAGS)})(=|$)')",
                        "must not be one that the operator sets: "
                        + ", ".join(f"--{flag}" for flag in _RESERVED_FLAGS),
                    ),
                    Rule(
                        r"!self.contains('$(') && !self.matches('\\pC')",
                        "must not contain `$(` or control characters",
                    ),
                ),
            ),
            max_items=32,
        ),
    ] = ()
    env: Annotated[
        tuple[EnvVar, ...],
        Items(
            "Environment variables of the model server. Names that decide what code runs, which "
            "devices are seen, or who the pod is towards a cloud are refused. No secrets here: "
            "everyone who may read this object sees them.",
            Nested("One environment variable.", EnvVar),
            max_items=32,
            key="name",
        ),
    ] = ()
    batching: Annotated[
        Batching | None,
        Nested(
            "Makes the model server run several requests as one batch. When absent, it runs each "
            "request alone. Needs a runtime with the capability `batching`.",
            Batching,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources(Block):
    """CPU, memory and scratch space of one replica: `spec.resources`."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits) || "
            "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
            "quantity(string(self.limits[k])).compareTo(quantity(string(self.requests[k]))) >= 0)",
            "`limits` must not be lower than `requests`",
        ),
    )

    requests: Annotated[
        Mapping[str, int | str],
        Entries(
            "What a node must have free for one replica: cpu, memory, ephemeral-storage.",
            _QUANTITY,
            max_properties=8,
            rules=_RESOURCE_NAMES,
        ),
    ] = field(default_factory=dict)
    limits: Annotated[
        Mapping[str, int | str],
        Entries(
            "What one replica may use at most: cpu, memory, ephemeral-storage.",
            _QUANTITY,
            max_properties=8,
            rules=_RESOURCE_NAMES,
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMetadata(Block):
    """Labels and annotations for the pods: `spec.podMetadata`."""

    labels: Annotated[
        Mapping[str, str],
        Entries(
            "Labels of the pods.",
            label_value("Value of the label."),
            max_properties=16,
            rules=(label_names("valid label names"), _NOT_RESERVED),
        ),
    ] = field(default_factory=dict)
    annotations: Annotated[
        Mapping[str, str],
        Entries(
            "Annotations of the pods.",
            Text("Value of the annotation.", max_length=4096),
            max_properties=16,
            rules=(label_names("valid annotation names"), _NOT_RESERVED),
        ),
    ] = field(default_factory=dict)

    def check(self, path: str) -> None:
        """Refuse keys of Kubernetes, of Serval and of GitOps tools."""
        for name, values in (("labels", self.labels), ("annotations", self.annotations)):
            for key in values:
                if f".{key.rpartition('/')[0]}".endswith(_RESERVED_ENDS):
                    raise invalid(f"`{path}.{name}` must not have the reserved key `{key}`")
