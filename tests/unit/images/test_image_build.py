"""What a build does not do: nothing is built, pushed or asked for twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from serval_lab.images import ImageError, build, build_images, programs
from serval_lab.images.__main__ import main
from serval_lab.images.build import CONVERTER, OPERATOR, SERVER, TARGETS, Builder, Target
from serval_lab.images.cache import Cache
from unit.images.layouts import write_image


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fill(cache: Cache, root: Path = build.PROJECT_ROOT) -> dict[Target, str]:
    """Put images of the tree into the layout, as a build would; return their tags."""
    builder = Builder(root, cache, print)
    tags = {target: builder.tag(target) for target in TARGETS}
    for target, tag in tags.items():
        write_image(cache.layout, f"{target.repository}-{tag}", [target.name.encode()])
    return tags


def copy_of_the_tree(folder: Path) -> Path:
    for name in build.sources():
        source, target = build.PROJECT_ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def test_an_unchanged_tree_needs_no_tool_and_says_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    tags = fill(cache)
    said: list[str] = []
    images = build_images(None, progress=said.append, cache=cache)
    assert said == []
    assert images.operator == f"localhost/serval-operator:{tags[OPERATOR]}"
    assert images.server == f"localhost/serval-server:{tags[SERVER]}"
    assert images.converter == f"localhost/serval-converter:{tags[CONVERTER]}"
    references = (images.operator, images.server, images.converter)
    archives = [images.archives[reference] for reference in references]
    written = [path.stat().st_mtime_ns for path in archives]
    assert build_images(None, progress=said.append, cache=cache) == images
    assert [path.stat().st_mtime_ns for path in archives] == written


def test_a_missing_tool_is_named_with_the_command(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "buildah" else f"/usr/bin/{name}")
    with pytest.raises(ImageError, match=r"needs buildah; as root: apt-get install .*buildah"):
        build_images(None, progress=print, cache=cache)


def test_without_root_it_says_so(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="needs root"):
        build_images(None, progress=print, cache=cache)


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("operator/serval_operator/constants.py", {OPERATOR}),
        ("serving/serval_serving/__init__.py", {OPERATOR, SERVER, CONVERTER}),
        ("contract/serval_contract/__init__.py", {OPERATOR, SERVER, CONVERTER}),
        ("requirements/operator.txt", {OPERATOR}),
        ("requirements/tensorflow-cpu.txt", {SERVER, CONVERTER}),
        ("requirements/onnx-cpu.txt", {SERVER, CONVERTER}),
        ("requirements/converter.txt", {CONVERTER}),
        ("requirements/check_converter.py", {CONVERTER}),
        ("Dockerfile", {OPERATOR, SERVER, CONVERTER}),
    ],
)
def test_a_tag_changes_with_what_is_in_its_image(
    cache: Cache, tmp_path: Path, changed: str, rebuilt: set[Target]
) -> None:
    root = copy_of_the_tree(tmp_path / "tree")
    before = Builder(root, cache, print)
    tags = {target: before.tag(target) for target in TARGETS}
    with (root / changed).open("a") as file:
        file.write("# changed\n")
    after = Builder(root, cache, print)
    assert {target for target in tags if after.tag(target) != tags[target]} == rebuilt


def test_every_file_that_the_dockerfile_copies_is_in_a_tag() -> None:
    sources = build.sources()
    dockerfile = (build.PROJECT_ROOT / "Dockerfile").read_text()
    copied = set()
    for line in dockerfile.splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            copied.update(words[1:-1])
    # Patterns also match files of other builds; the context of this one lacks these.
    matched = [{source for source in sources if fnmatch(source, pattern)} for pattern in copied]
    assert all(matched)
    assert set().union(*matched) == sources - {"Dockerfile", ".dockerignore"}
    engines = re.search(r'^ARG ENGINES="(.*)"$', dockerfile, re.MULTILINE)
    assert engines
    assert tuple(f"requirements/{engine}.txt" for engine in engines[1].split()) == build.ENGINE_PINS


@pytest.mark.parametrize(("value", "status"), [("tensorflow-gpu", 1), ("", 0)])
def test_the_build_argument_of_earlier_releases_is_refused(value: str, status: int) -> None:
    dockerfile = (build.PROJECT_ROOT / "Dockerfile").read_text()
    (command,) = re.findall(r"^ARG TENSORFLOW=\nRUN (.*)$", dockerfile, re.MULTILINE)
    ran = subprocess.run(
        ["sh", "-c", command],
        env={"TENSORFLOW": value},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.returncode == status
    assert ("use ENGINES=tensorflow-gpu" in ran.stderr) == bool(status)


def test_a_failing_program_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    with pytest.raises(ImageError, match=r"step: ended with 3\n.*\n  the last words"):
        programs.run(["sh", "-c", "echo the last words >&2; exit 3"], log=log, limit_s=30)


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not done after 0 s"):
        programs.run(["sleep", "60"], log=tmp_path / "step.log", limit_s=0.05)


def test_the_command_line_ends_with_a_message(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Cache, "default", lambda: cache)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert main(["build"]) == 1
    assert "apt-get install" in capsys.readouterr().err
    tags = fill(cache)
    assert main(["build"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rpartition(":")[2] for line in printed] == list(tags.values())
