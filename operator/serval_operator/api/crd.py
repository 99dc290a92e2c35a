"""The CustomResourceDefinition of a kind, from the dataclasses of its spec and its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serval_operator.api.schema import Block, Rule, Schema, block_schema
from serval_operator.constants import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``.

    Parameters
    ----------
    path:
        JSON path of its value.
    wide:
        Whether only ``-o wide`` shows it.
    """

    name: str
    path: str
    description: str = ""
    type: str = "string"
    wide: bool = False

    def schema(self) -> Schema:
        """Return the column as an item of ``additionalPrinterColumns``."""
        description = {"description": self.description} if self.description else {}
        priority = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.type, **description, **priority, "jsonPath": self.path}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crd:
    """What the CRD of a kind is made of.

    Parameters
    ----------
    kind, plural, short_names:
        Names of the kind; the singular is the kind in lower case.
    description:
        Meaning of the kind, for ``kubectl explain``.
    spec, status:
        Their dataclasses.
    spec_description, status_description:
        Meaning of both.
    rules:
        CEL rules of the whole object, such as one for its name.
    categories:
        Names under which ``kubectl get`` lists this kind together with others.
    status_default:
        What the API server writes as the status of an object that has none.
    scale:
        Paths of the scale subresource, or none.
    """

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[Block]
    spec_description: str
    status: type[Block]
    status_description: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    categories: tuple[str, ...] = ("serval",)
    status_default: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    def document(self) -> Schema:
        """Return the CustomResourceDefinition."""
        names = {
            "kind": self.kind,
            "listKind": f"{self.kind}List",
            "plural": self.plural,
            "singular": self.kind.lower(),
            "shortNames": list(self.short_names),
            **({"categories": list(self.categories)} if self.categories else {}),
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "conversion": {"strategy": "None"},
                "names": names,
                "versions": [self._version()],
            },
        }

    def _version(self) -> Schema:
        scale = {"scale": dict(self.scale)} if self.scale else {}
        return {
            "name": VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}, **scale},
            "additionalPrinterColumns": [one.schema() for one in self.columns],
            "schema": {"openAPIV3Schema": self.schema()},
        }

    def schema(self) -> Schema:
        """Return the schema of an object, ``openAPIV3Schema``."""
        rules = [one.schema() for one in self.rules]
        default = {"default": dict(self.status_default)} if self.status_default else {}
        version = f"Version of the schema of this object, {GROUP}/{VERSION}."
        return {
            "description": self.description,
            "type": "object",
            "required": ["spec"],
            **({"x-kubernetes-validations": rules} if rules else {}),
            "properties": {
                "apiVersion": {"description": version, "type": "string"},
                "kind": {"description": f"{self.kind}.", "type": "string"},
                "metadata": {"type": "object"},
                "spec": {"description": self.spec_description, **block_schema(self.spec)},
                "status": {"description": self.status_description, **block_schema(self.status), **default},
            },
        }
