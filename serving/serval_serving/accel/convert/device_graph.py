"""The graph behind the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from serval_serving.accel.convert.cut import Cut
from serval_serving.accel.convert.failures import listed, not_convertible
from serval_serving.accel.convert.graph import ancestors, node_name
from serval_serving.accel.convert.saved_model import FlatModel, add_placeholder, v1
from serval_serving.accel.convert.training import PLACEHOLDERS

CONTROL_FLOW: Final = frozenset(
    {
        "Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "While", "StatelessWhile", "If",
        "StatelessIf", "Case", "StatelessCase", "For",
    }
)  # fmt: skip
BATCH_NORMS: Final = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_HANDLES: Final = frozenset({"resource", "variant"})


def device_graph(model: FlatModel, cut: Cut, kept: Iterable[str]) -> Any:
    """Return the nodes from the cut to the tensors `kept`, the cut and the weights as placeholders.

    Raises
    ------
    StageFailure
        They contain something that a device cannot do, or depend on more than the cut.
    """
    nodes = model.nodes()
    start = node_name(cut.tensor.name)
    needed = ancestors(nodes, kept, stop=lambda node: node.name == start)
    _check(model, nodes, needed - {start}, cut)
    graph_def = v1.GraphDef()
    graph_def.versions.CopyFrom(model.graph_def.versions)
    for name in sorted(needed):
        if name == start:
            add_placeholder(graph_def, name, cut.tensor.dtype, cut.tensor.shape)
        else:
            graph_def.node.add().CopyFrom(nodes[name])
    return graph_def


def _check(model: FlatModel, nodes: Mapping[str, Any], inner: set[str], cut: Cut) -> None:
    def refuse(what: str, suspect: Callable[[Any], bool]) -> None:
        found = [nodes[name] for name in sorted(inner) if suspect(nodes[name])]
        if found:
            operations = listed(f"{node.name} ({node.op})" for node in found)
            raise not_convertible(
                f"between the network's input {cut.tensor.name} and the outputs there {what}: {operations};"
                " leave out what needs it with --outputs, or export the model without it"
            )

    def types(node: Any) -> set[str]:
        operation = model.graph.get_operation_by_name(node.name)
        return {str(one.dtype.base_dtype.name) for one in (*operation.inputs, *operation.outputs)}

    refuse("is a choice or a loop", lambda node: node.op in CONTROL_FLOW)
    refuse("are strings", lambda node: "string" in types(node))
    refuse("are tables or other resources", lambda node: bool(types(node) & _HANDLES))
    refuse(
        "are other inputs",
        lambda node: node.op in PLACEHOLDERS and node.name not in model.weights,
    )
    refuse(
        "is batch normalisation in training mode",
        lambda node: node.op in BATCH_NORMS and node.attr["is_training"].b,
    )
