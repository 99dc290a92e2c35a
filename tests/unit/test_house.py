"""Rules of the house that no other tool checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1_000_000
SHADOWING = {"operator.py", "types.py", "logging.py", "queue.py", "select.py"}
SOURCE_ROOTS = (ROOT / "contract", ROOT / "operator", ROOT / "serving", ROOT / "tests" / "lab")


def tracked() -> list[Path]:
    """Files that git knows, or that a copy without git holds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=30
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("root", SOURCE_ROOTS, ids=lambda path: path.name)
def test_a_source_root_is_no_package(root: Path) -> None:
    # operator/__init__.py would shadow the standard library's module for everything run from here.
    assert root.is_dir()
    assert not (root / "__init__.py").exists()
    assert not SHADOWING & {path.name for path in root.iterdir()}


def test_no_large_file_is_kept() -> None:
    files = tracked()
    assert files, "not a git checkout"
    assert [path for path in files if path.stat().st_size > LARGEST] == []


def test_what_names_a_file_in_the_docs_names_one_that_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in _links(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def _links(text: str) -> list[str]:
    """Relative targets of Markdown links."""
    targets = []
    for part in text.split("](")[1:]:
        target = part.partition(")")[0].partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            targets.append(target)
    return targets
