"""What is known of an artifact: where it is, and how it was made. A revision keeps it with its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from serval_contract.models import ACCELERATED
from serval_contract.schemes import OCI, PVC
from serval_operator.api.blocks.source import ConfigMapKey, Credentials, ModelSource, SecretRef
from serval_operator.api.facts import Facts
from serval_operator.api.schema import MAX_EXACT
from serval_operator.api.unstructured import mapping
from serval_operator.config_conversion import ArtifactStore
from serval_operator.jobs.stage import SOURCE_DIGEST
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec

VERSION: Final = 1
"""Version under which clients see the model: an artifact has none."""
_TEXTS: Final = {SOURCE_DIGEST: 71, "converter": 256, "quantization": 63, "weights": 63, "images": 256}
"""Fields of a report that are texts, each with the characters that the CRD takes."""
_COMPARED: Final = {"cosine": "cosine", "largestError": "maxError", "agreement": "agreement"}
"""What a conversion measures of its accuracy, and the fields of `status.conversion` for it."""
_LEAST: Final = {"cosine": -1}
"""The least that the CRD takes of a number; of others 0."""
_MOST: Final = {"cosine": 1, "agreement": 1}
"""The most that the CRD takes of a number; of others `MAX_EXACT`."""


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact.

    Parameters
    ----------
    uri:
        Its address, by digest; or a folder of a claim.
    report:
        What the conversion reported, by field of `status.conversion`.
    """

    uri: str
    report: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As a revision keeps it."""
        return {"artifact": self.uri, "conversion": dict(self.report)}

    def source(self, name: str, *, secret: str = "", authorities: ConfigMapKey | None = None) -> ModelSource:
        """The artifact as what pods fetch and serve.

        Parameters
        ----------
        name:
            Name under which clients ask for the model.
        secret:
            Name of a pull secret; empty for none.
        """
        return ModelSource(
            uri=self.uri,
            name=name,
            version=VERSION,
            framework=ACCELERATED,
            ca_config_map_ref=authorities,
            credentials=Credentials(secret_ref=SecretRef(name=secret)) if secret else None,
        )


def kept_artifact(facts: Facts) -> Made | None:
    """The artifact that a revision keeps; None where it keeps none."""
    uri = facts.own.get("artifact")
    return Made(uri, mapping(facts.own, "conversion")) if isinstance(uri, str) and uri else None


def made_artifact(result: Mapping[str, Any], store: ArtifactStore) -> Made | None:
    """The artifact that a conversion's result names; None where it names none.

    Parameters
    ----------
    result:
        Results of all stages, as `serval_operator.jobs` records them.
    """
    image, folder = result.get("artifact"), result.get("folder")
    if store.claim and isinstance(folder, str) and folder.strip("/"):
        return Made(f"{PVC.prefix}{store.claim}/{folder.strip('/')}", report_of(result))
    if isinstance(image, str) and OCI.accepts(f"{OCI.prefix}{image}") and "@" in image:
        return Made(f"{OCI.prefix}{image}", report_of(result))
    return None


def report_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result that `status.conversion` shows; what its schema would refuse is left out.

    The stage ``convert`` tells most of it, by step and by file. The fetcher tells the digest of the model,
    and the stage ``push`` the size of the artifact.
    """
    told = {SOURCE_DIGEST: result.get(SOURCE_DIGEST), **mapping(result, "conversion")}
    found: dict[str, Any] = {}
    for name, most in _TEXTS.items():
        text = told.get(name)
        if isinstance(text, str) and 0 < len(text) <= most:
            found[name] = text
    compared = mapping(told, "heldOut") or mapping(told, "calibration")
    numbers = {field: compared.get(name) for name, field in _COMPARED.items()}
    numbers["seconds"] = sum(_numbers(told.get("seconds")))
    found |= {
        name: float(value)
        for name, value in numbers.items()
        if _is_number(value) and value and _LEAST.get(name, 0) <= value <= _MOST.get(name, MAX_EXACT)
    }
    sizes = {
        "bytes": result.get("bytes"),
        "peakMemoryBytes": max(_numbers(told.get("peakBytes")), default=0),
    }
    return found | {name: int(value) for name, value in sizes.items() if _is_number(value) and value >= 1}


def _numbers(value: object) -> list[float]:
    """Numbers of a measure that is told by step or by file."""
    return [one for one in value.values() if _is_number(one)] if isinstance(value, Mapping) else []


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= abs(value) < MAX_EXACT


def model_name(owner: str, spec: AcceleratedSpec) -> str:
    """Name under which clients ask for the model."""
    return (spec.model.name if spec.model else "") or owner
