"""``make generate``: writes the files, and the parts of documents, that are generated from the code.

A generated part stands between two marks, which `Part.marks` gives. To add one, put the marks into the
document and a row into `PARTS`. A file that is generated as a whole has a row in `FILES`. Each kind has one
row in `CRDS`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[1]
# The benchmarks and the helpers of the tests are not installed.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.failures import not_provoked, table  # noqa: E402
from tools.crds import crd_text, field_rows, not_shaping  # noqa: E402
from tools.flag_tables import own_flags, shared_flags  # noqa: E402

from serval_operator.api.crd import Crd  # noqa: E402
from serval_operator.constants import GROUP  # noqa: E402
from serval_operator.kinds.model_deployment.crd import MODEL_DEPLOYMENT_CRD  # noqa: E402
from serval_operator.kinds.model_deployment.spec import ModelSpec  # noqa: E402
from serval_operator.reasons import REASONS, STALLING_REASONS  # noqa: E402


@dataclass(frozen=True)
class Part:
    """A generated part of a document.

    Parameters
    ----------
    path:
        The document, relative to the root of the repository.
    name:
        Distinguishes the parts of one document.
    render:
        Returns the text between the marks.
    """

    path: str
    name: str
    render: Callable[[], str]

    @property
    def marks(self) -> tuple[str, str]:
        """The lines before and after the part."""
        return f"<!-- make generate, {self.name}: begin -->", f"<!-- make generate, {self.name}: end -->"

    def placed(self, page: str) -> str:
        """Return the page with this part rendered.

        Raises
        ------
        ValueError
            The page does not have each mark exactly once, in order.
        """
        begin, end = self.marks
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        if [page.count(begin), page.count(end), rest.count(end)] != [1, 1, 1]:
            raise ValueError(f"{self.path} must have the lines {begin} and {end} once each, in this order")
        return f"{before}{begin}\n\n{self.render()}\n\n{end}{after}"


def reasons() -> str:
    """Return the table of reasons for docs/api.md."""
    rows = [[f"`{row.name}`", _names(row.conditions), row.when, row.cure] for row in REASONS.values()]
    stalling = _names(name for name in REASONS if name in STALLING_REASONS)
    note = f"No retry can help with these, so they set `Stalled`: {stalling}."
    return f"{table(['reason', 'set by', 'when', 'cure'], rows)}\n\n{note}"


def fields(crd: Crd, *paths: str) -> str:
    """Return the table of the fields below some paths."""
    if paths == ("status",):
        return table(["field", "type, bounds", "meaning"], field_rows(crd, *paths))
    return table(["field", "type, bounds, default", "meaning"], field_rows(crd, *paths))


def no_rollout() -> str:
    """Return the sentence about the fields whose change starts no rollout."""
    return f"A change of these fields starts no rollout: {_names(not_shaping(ModelSpec, 'spec'))}."


def _fields(name: str, *paths: str) -> Part:
    """A table of docs/api.md."""
    return Part("docs/api.md", name, lambda: fields(MODEL_DEPLOYMENT_CRD, *paths))


CRDS = (MODEL_DEPLOYMENT_CRD,)
FOLDERS_OF_CRDS = ("crds", "charts/serval/files/crds")
"""The second is in the chart, which Helm packs without what is beside it."""
FILES: Mapping[str, Callable[[], str]] = {
    f"{folder}/{GROUP}_{crd.plural}.yaml": partial(crd_text, crd)
    for crd in CRDS
    for folder in FOLDERS_OF_CRDS
}
"""Generated files by path."""
PARTS = (
    _fields("fields of the model", "spec.model"),
    _fields("fields of the server", "spec.runtime", "spec.imagePullSecrets", "spec.podMetadata"),
    _fields(
        "fields of the size",
        *("spec.replicas", "spec.suspend", "spec.resources", "spec.autoscaling", "spec.disruption"),
    ),
    _fields("fields of the place", "spec.accelerator", "spec.scheduling"),
    _fields("fields of the endpoint", "spec.endpoint"),
    _fields("fields of a rollout", "spec.rollout"),
    Part("docs/api.md", "fields that start no rollout", no_rollout),
    _fields("fields of the probes", "spec.probes"),
    _fields("fields of the status", "status"),
    Part("docs/api.md", "reasons", reasons),
    Part("docs/failures.md", "failures that are not provoked", not_provoked),
    Part("docs/serving.md", "flags of TensorFlow Serving", shared_flags),
    Part("docs/serving.md", "flags of this server", own_flags),
)


def generate(
    parts: Sequence[Part],
    root: Path,
    *,
    check: bool,
    files: Mapping[str, Callable[[], str]] = MappingProxyType({}),
) -> str:
    """Render the parts into their documents, and the files.

    Parameters
    ----------
    files:
        Generated files by their path below `root`.
    check:
        Whether to leave the documents as they are.

    Returns
    -------
    The differences, as a unified diff; empty if the documents were up to date.
    """
    wanted = {path: (_read(root / path), render()) for path, render in files.items()}
    for path in dict.fromkeys(part.path for part in parts):
        before = after = (root / path).read_text(encoding="utf-8")
        for part in parts:
            after = part.placed(after) if part.path == path else after
        wanted[path] = (before, after)
    found = []
    for path, (before, after) in wanted.items():
        found += difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), path, f"{path}, generated"
        )
        if not check and after != before:
            (root / path).write_text(after, encoding="utf-8")
    return "".join(found)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated parts, or with ``--check`` fail if one is not up to date."""
    parser = argparse.ArgumentParser(prog="tools/generate.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if there are differences")
    options = parser.parse_args(arguments)
    differences = generate(PARTS, ROOT, check=options.check, files=FILES)
    print(differences, end="")
    if options.check and differences:
        print("Generated parts are out of date. Run `make generate`.", file=sys.stderr)
        return 1
    return 0


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main())
