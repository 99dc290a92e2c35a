"""The word check: what counts as prose, what counts as a marker, and when the limits hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools import words
from tools.words import Count, count, markdown_prose, python_prose, verdict

pytestmark = pytest.mark.unit

PAGE = """# Nobody

Text of whoever, `whatever` and ``so `long` so long``.

| a | b |
| --- | --- |
| `nobody` | somebody |

```python
anew = 1
```

1. A step:

       in vain

    for ever

- A list
    - anew
"""
SOURCE = '''"""Module of whoever."""
# A comment about what
# is split over lines.
LIMIT = 3  # anew
"""What `nobody` may exceed, in so
many words."""
TEXT = "whatever is in a string does not count"


def call() -> None:
    """Return nobody."""
'''


@pytest.mark.parametrize("marker", words.MARKERS)
def test_each_marker_is_found_in_any_case_and_over_the_end_of_a_line(marker: str) -> None:
    broken = marker.replace(" ", "\n    ")
    assert count(f"One {marker.upper()}. Two: {broken}!").markers == 2


@pytest.mark.parametrize("text", ["nobodys", "anewly", "whatevers", "so. many", "what it's", "Thenobody"])
def test_only_whole_words_count(text: str) -> None:
    assert count(text).markers == (1 if text == "what it's" else 0)


def test_rate_is_per_thousand_words() -> None:
    assert count("nobody " * 3 + "word " * 97) == Count(100, 3)
    assert Count(100, 3).rate == 30.0
    assert Count(0, 0).rate == 0.0


def test_code_in_markdown_does_not_count() -> None:
    prose = markdown_prose(PAGE)
    assert count(prose).markers == 4
    for kept in ("Nobody", "whoever", "somebody", "anew"):
        assert kept in prose
    for dropped in ("whatever", "so long", "nobody", "in vain", "for ever", "anew = 1"):
        assert dropped not in prose


def test_a_phrase_is_not_found_across_code() -> None:
    assert count(markdown_prose("what `x` is it, what `x` it")).markers == 0


def test_docstrings_and_comments_of_python_count_and_other_strings_do_not() -> None:
    prose = python_prose(SOURCE)
    assert count(prose).markers == 5  # whoever, "what is", anew, "so many", nobody of the function
    assert "string" not in prose


def test_comments_apart_are_not_one_text() -> None:
    assert count(python_prose("# what\nX = 1\n# is it\n")).markers == 0


@pytest.mark.parametrize(
    ("rate", "within", "says"),
    [
        (5.01, False, "use plainer words"),
        (5.0, True, "5.00 allowed"),
        (4.91, True, "5.00 allowed"),
        (4.8, True, "lower the number in tools/words.toml to 4.80"),
    ],
)
def test_verdict(rate: float, within: bool, says: str) -> None:
    assert verdict("docs", rate, 5.0)[0] is within
    assert verdict("docs", rate, 5.0)[1].endswith(says) or says in verdict("docs", rate, 5.0)[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=30)
    for name, text in {
        "README.md": "nobody " + "word " * 99,
        "docs/design/note.md": "word " * 100,
        "operator/package/module.py": '"""Says anew: nine more words are needed in this text."""\n',
        "tests/module.py": '"""Nobody, whoever."""\n',
        "other/README.md": "nobody",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True, timeout=30)
    (tmp_path / words.LIMITS).parent.mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("limits", "code"), [("docs = 5.00\ncode = 100.00\n", 0), ("docs = 4.99\ncode = 100.00\n", 1)]
)
def test_a_run_fails_only_above_a_limit(
    repository: Path, limits: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / words.LIMITS).write_text(limits)
    assert words.main(repository) == code
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("docs: 5.00 markers per 1,000 words")
    assert told[1] == "code: 100.00 markers per 1,000 words, 100.00 allowed"
    assert [line.rpartition(": ")[2] for line in told[2:4]] == ["README.md", "operator/package/module.py"]


def test_the_limits_of_this_repository_hold() -> None:
    assert words.main() == 0
