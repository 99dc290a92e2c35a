"""What the containers of a model's pod have in common."""

from __future__ import annotations

from typing import Any, Final

from serval_operator.constants import MODELS_DIR

CONTAINER_SECURITY: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def literal(text: str) -> str:
    """A text as arguments and environment variables must spell it to be taken as it is.

    Kubernetes replaces ``$(NAME)`` in both, and reads ``$$`` as one dollar sign.
    """
    return text.replace("$", "$$")


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    """A volume's place in a container."""
    place: dict[str, Any] = {"name": name, "mountPath": path}
    return {**place, "readOnly": True} if read_only else place


MODELS_MOUNT: Final = mount("models", MODELS_DIR)
TMP_MOUNT: Final = mount("tmp", "/tmp")  # noqa: S108 the pod's own emptyDir
