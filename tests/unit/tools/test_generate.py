"""What is generated: everything is up to date, and a new kind needs no change of the generator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tools import generate
from tools.marks import MarkError, asked_for

from serval_operator.reconcile.kind import Kind
from serval_operator.registry import KINDS
from support.toy import TOY_KIND
from support.toy.spec import TOY_CRD

pytestmark = pytest.mark.unit

MARK = "<!-- make generate, fields Toy spec.steps: {} -->"
STALE = f"before\n{MARK.format('begin')}\n{MARK.format('end')}\nafter\n"


def asked() -> list[str]:
    """What all documents ask for."""
    pages = sorted(generate.ROOT.glob(generate.DOCUMENTS))
    return [one for path in pages for one in asked_for(path.name, path.read_text(encoding="utf-8"))]


@pytest.fixture
def toy_root(tmp_path: Path) -> Path:
    """A repository with one document, which asks for a table of a kind that the registry does not have."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "toys.md").write_text(STALE)
    return tmp_path


def test_everything_is_up_to_date() -> None:
    assert generate.generate(generate.ROOT, KINDS, check=True) == ""


def test_documents_ask_for_every_table() -> None:
    assert {one.split(" ")[0] for one in asked()} == set(generate.tables(KINDS))


FIRST = "ModelDeployment"
"""The kind whose tables have the fields of the shared blocks."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.crd.kind)
def test_documents_have_all_fields_and_rights_of_a_kind(kind: Kind) -> None:
    name, rows = kind.crd.kind, re.compile(r"^\| (`[^`]+`) ", flags=re.MULTILINE)
    wanted = set(rows.findall(generate.fields(kind.crd, "spec", "status")))
    tables = generate.tables(KINDS)
    shown = [one.split(" ")[1:] for one in asked() if one.startswith("fields ")]
    tables_of = {of: [tables["fields"](*one) for one in shown if one[0] == of] for of in (name, FIRST)}
    found = {of: {row for table in every for row in rows.findall(table)} for of, every in tables_of.items()}
    # Later kinds refer to the first one for the blocks that they share with it.
    assert found[name] <= wanted <= found[name] | found[FIRST]
    assert [one for one in asked() if one.startswith("rights ") and name in one.split(" ")]


def test_documents_have_the_rights_that_no_kind_owns() -> None:
    shown = {owner for one in asked() if one.startswith("rights ") for owner in one.split(" ")[1:]}
    assert set(generate.COMMON_RIGHTS) <= shown


def test_the_table_of_reasons_has_every_reason_with_its_words() -> None:
    text = generate.reasons()
    assert (
        "| `OutOfMemory` | `ModelFetched`, `ModelLoaded`, `Converted` "
        "| a container used more memory than its limit | raise `spec.resources.limits` |"
    ) in text
    assert text.count("\n| `") == len(generate.REASONS)
    assert "`ModelDigestMismatch`" in text.splitlines()[-1]


def test_fields_that_start_no_rollout_are_named_by_their_blocks() -> None:
    text = generate.tables(KINDS)["fields-without-rollout"]("ModelDeployment")
    assert "`spec.autoscaling`, `spec.disruption`" in text
    assert "`spec.rollout.strategy`" in text
    assert "trigger" not in text


@pytest.mark.parametrize(
    ("table", "arguments", "text"),
    [
        ("fields", ("Toys", "spec"), "there is no kind Toys; known are Toy"),
        ("fields", ("Toy",), "name one or more fields"),
        ("fields", ("Toy", "spec", "spec.stops"), "Toy has no field spec.stops"),
        ("fields", ("Toy", "spec.step"), "Toy has no field spec.step"),
        ("fields-without-rollout", ("Toys",), "there is no kind Toys; known are Toy"),
        ("rights", ("Toys",), "rights are known of Toy, operator, operator-capacity"),
        ("rights", (), "rights are known of Toy, operator, operator-capacity"),
    ],
)
def test_what_a_table_does_not_know_is_an_error(table: str, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        generate.tables([TOY_KIND])[table](*arguments)


class TestKindOutsideOfTheRegistry:
    def test_crd_rights_and_table_are_written(self, toy_root: Path) -> None:
        assert generate.generate(toy_root, [TOY_KIND], check=False)
        for folder in ("crds", "charts/serval/files/crds"):
            text = (toy_root / folder / "serval.dev_toys.yaml").read_text()
            assert yaml.safe_load(text) == TOY_CRD.document()
        table = "| `spec.steps` | 1 to 100, required | Number of steps. |"
        head = "| field | type, bounds, default | meaning |\n| --- | --- | --- |"
        begin, end = MARK.format("begin"), MARK.format("end")
        page = (toy_root / "docs" / "toys.md").read_text()
        assert page == f"before\n{begin}\n\n{head}\n{table}\n\n{end}\nafter\n"

    def test_the_rules_of_its_role_have_their_reasons(self, toy_root: Path) -> None:
        generate.generate(toy_root, [TOY_KIND], check=False)
        text = (toy_root / "charts/serval/files/rbac/toys.yaml").read_text()
        assert "# A Job plays the steps.\n- apiGroups: [batch]\n  resources: [jobs]\n" in text
        assert yaml.safe_load(text) == [
            {"apiGroups": ["serval.dev"], "resources": ["toys"], "verbs": ["list", "watch"]},
            {"apiGroups": ["serval.dev"], "resources": ["toys/status"], "verbs": ["patch"]},
            {"apiGroups": ["serval.dev"], "resources": ["toys/finalizers"], "verbs": ["update"]},
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "verbs": ["get", "list", "watch", "create", "patch"],
            },
            {
                "apiGroups": ["batch"],
                "resources": ["jobs"],
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            },
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        ]
        kinds = yaml.safe_load((toy_root / "charts/serval/files/kinds.yaml").read_text())
        assert kinds == {"Toy": {"plural": "toys", "scale": False}}

    def test_the_table_of_its_rights(self) -> None:
        text = generate.tables([*KINDS, TOY_KIND])["rights"]("Toy", "operator-autoscaler")
        jobs = "`jobs.batch` | get, list, watch, create, patch, delete | A Job plays the steps. |"
        assert f"| {jobs}\n" in text
        assert "\n| `configmaps`, only `cluster-autoscaler-status` | get | " in text
        assert "| `toys.serval.dev/status` | patch | " in text

    def test_bounds_of_the_status_name_no_defaults(self) -> None:
        text = generate.tables([TOY_KIND])["fields"]("Toy", "status")
        assert text.startswith("| field | type, bounds | meaning |")
        assert "`status.observedGeneration`" in text


def test_files_of_a_kind_that_is_gone_are_removed(toy_root: Path) -> None:
    generate.generate(toy_root, [*KINDS, TOY_KIND], check=False)
    (toy_root / "docs" / "toys.md").unlink()
    gone = set(toy_root.rglob("*toys.yaml"))
    assert len(gone) == 3
    checked = generate.generate(toy_root, KINDS, check=True)
    assert "-# Rights for Toys. Generated by `make generate`.\n" in checked
    assert gone == set(toy_root.rglob("*toys.yaml"))
    generate.generate(toy_root, KINDS, check=False)
    assert not list(toy_root.rglob("*toys.yaml"))


def test_a_check_shows_the_differences_and_writes_nothing(toy_root: Path) -> None:
    found = generate.generate(toy_root, [TOY_KIND], check=True)
    assert "+| `spec.steps` | 1 to 100, required | Number of steps. |\n" in found
    assert "+# Rights for Toys. Generated by `make generate`.\n" in found
    assert [path.name for path in toy_root.rglob("*.*")] == ["toys.md"]
    assert (toy_root / "docs" / "toys.md").read_text() == STALE


def test_main_fails_a_check_only_where_something_differs(
    monkeypatch: pytest.MonkeyPatch, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "KINDS", (TOY_KIND,))
    monkeypatch.setattr(generate, "ROOT", toy_root)
    assert generate.main(["--check"]) == 1
    assert "make generate" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_main_reports_an_unusable_mark(
    monkeypatch: pytest.MonkeyPatch, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", toy_root)
    assert generate.main([]) == 1
    text = (
        "docs/toys.md: the mark `fields Toy spec.steps` cannot be rendered: there is no kind Toy; known are "
    )
    assert capsys.readouterr().err.startswith(text)
    with pytest.raises(MarkError):
        generate.generate(toy_root, KINDS, check=True)
