"""Every object of our kinds that the documents and examples show is one that the API server takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.crd_samples import NAMESPACE, Document, install_crd
from support.plane import kubectl

ROOT = Path(__file__).parents[2]
MARKDOWN = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts" / "serval" / "README.md",
]
NOTES = ROOT / "charts" / "serval" / "templates" / "NOTES.txt"
MANIFESTS = sorted(path for path in (ROOT / "examples").rglob("*.yaml"))
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'?EOF'?\n(.*?)^\s*EOF$", flags=re.MULTILINE | re.DOTALL)
KINDS = ("ModelDeployment", "AcceleratedModel")
KIND = re.compile(rf"^\s*kind: ({'|'.join(KINDS)})$", flags=re.MULTILINE)
TEMPLATE = re.compile(r"^.*\{\{.*\}\}\n", flags=re.MULTILINE)


def texts() -> Iterator[tuple[str, str]]:
    """YAML texts with an object of our kinds, and where they stand."""
    for path in MARKDOWN:
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), (HEREDOC.findall(block) or [block])[0]
    yield (
        str(NOTES.relative_to(ROOT)),
        TEMPLATE.sub("", HEREDOC.findall(NOTES.read_text(encoding="utf-8"))[0]),
    )
    for path in MANIFESTS:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def shown() -> list[Any]:
    found = [
        (place, one)
        for place, text in texts()
        if KIND.search(text)
        for one in yaml.safe_load_all(text)
        if one and one.get("kind") in KINDS
    ]
    return [pytest.param(one, id=f"{place} {one['metadata']['name']}") for place, one in found]


def test_documents_show_some() -> None:
    kinds = [one.values[0]["kind"] for one in shown()]
    assert kinds.count("ModelDeployment") >= 3
    assert kinds.count("AcceleratedModel") >= 3


@pytest.mark.parametrize("body", shown())
def test_what_is_shown_is_taken(control_plane: Any, body: Document) -> None:
    install_crd(control_plane)
    body["metadata"]["namespace"] = NAMESPACE
    done = kubectl(control_plane, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))
    assert done.returncode == 0, done.stderr
