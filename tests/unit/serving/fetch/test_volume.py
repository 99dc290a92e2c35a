from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.tree import BoundedTree, Copier
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.settings import FetchSettings
from unit.serving.fetch.builders import below, model_files, saved_model, write
from unit.serving.fetch.clocks import Clock

Settings = Callable[..., FetchSettings]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    write(tmp_path, {"secret": b"secret", "elsewhere/saved_model.pb": saved_model()})
    return folder


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


def test_highest_version_is_copied(source: Path, settings: Settings, environment: Environment) -> None:
    for version in ("1", "002", "10", "9"):
        write(source, below(f"m/digits/{version}", model_files(version.encode())))
    write(source, {"m/digits/README": b"", "m/digits/draft/x": b""})
    made = settings("pvc://claim/m/digits")
    fetched = Fetcher(made, environment).run()
    assert fetched.version == 10
    copied = made.dest / "digits" / "10"
    assert {p.relative_to(copied).as_posix(): p.read_bytes() for p in copied.rglob("*") if p.is_file()} == (
        model_files(b"10")
    )
    assert sorted(p.name for p in (made.dest / "digits").iterdir()) == ["10", "10.sha256"]


@pytest.mark.parametrize(("wanted", "version"), [(2, 2), (None, 2)])
def test_leading_zeros_do_not_count(
    source: Path, settings: Settings, environment: Environment, wanted: int | None, version: int
) -> None:
    write(source, below("002", model_files()))
    assert Fetcher(settings("pvc://claim", version=wanted), environment).run().version == version


def test_model_in_a_numbered_folder_keeps_its_number(
    source: Path, settings: Settings, environment: Environment
) -> None:
    write(source, below("digits/5", model_files()))
    assert Fetcher(settings("pvc://claim/digits/5"), environment).run().version == 5


def test_digest_pins_the_files(source: Path, settings: Settings, environment: Environment) -> None:
    write(source, model_files())
    expected = hashlib.sha256()
    for path, data in sorted(model_files().items()):
        expected.update(f"{path}\0{len(data)}\0".encode() + data)
    pinned = settings("pvc://claim/", sha256=expected.hexdigest())
    assert Fetcher(pinned, environment).run().digest == f"sha256:{expected.hexdigest()}"
    other = settings("pvc://claim/", sha256="0" * 64, dest=pinned.dest.parent / "other")
    error = fails(other, environment)
    assert (error.reason, error.permanent) == ("ModelDigestMismatch", True)


def test_links_inside_the_volume_are_followed(
    source: Path, settings: Settings, environment: Environment
) -> None:
    """As Kubernetes builds the volumes of ConfigMaps."""
    write(source, below("..2026/digits/1", model_files()))
    (source / "..data").symlink_to("..2026")
    (source / "digits").symlink_to("..data/digits")
    made = settings("pvc://claim/digits")
    Fetcher(made, environment).run()
    assert not [p for p in made.dest.rglob("*") if p.is_symlink()]


def _escape(source: Path, kind: str) -> None:
    write(source, below("m/1", model_files()))
    version = source / "m" / "1"
    if kind == "file":
        (version / "assets").symlink_to("../../../secret")
    elif kind == "absolute":
        (version / "assets").symlink_to(source.parent / "secret")
    elif kind == "folder":
        (version / "assets").symlink_to("../../../elsewhere")
    elif kind == "model":
        (version / "saved_model.pb").unlink()
        (version / "saved_model.pb").symlink_to("../../../elsewhere/saved_model.pb")
    elif kind == "version":
        (source / "m" / "2").symlink_to("../../elsewhere")
    elif kind == "pipe":
        os.mkfifo(version / "assets")
    elif kind == "circle":
        (version / "assets").symlink_to(".")
    elif kind == "link circle":
        (version / "assets").symlink_to("assets")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("file", "leads out of the volume"),
        ("absolute", "leads out of the volume"),
        ("folder", "leads out of the volume"),
        ("model", "leads out of the volume"),
        ("version", "leads out of the volume"),
        ("pipe", "pipe"),
        ("circle", "circle"),
        ("link circle", "symbolic links"),
    ],
)
def test_way_out_of_the_volume_is_rejected(
    source: Path, settings: Settings, environment: Environment, kind: str, words: str
) -> None:
    _escape(source, kind)
    error = fails(settings("pvc://claim/m", max_entries=1000), environment)
    assert (error.reason, error.permanent) == ("ModelArtifactRejected", True)
    assert words in error.message


def test_link_as_the_path_itself_is_judged(
    source: Path, settings: Settings, environment: Environment
) -> None:
    (source / "m").symlink_to("../elsewhere")
    assert fails(settings("pvc://claim/m"), environment).reason == "ModelArtifactRejected"


def test_limits(source: Path, settings: Settings, environment: Environment) -> None:
    write(source, model_files(b"x" * 1000))
    error = fails(settings("pvc://claim/", max_bytes=500), environment)
    assert (error.reason, error.permanent) == ("ModelTooLarge", True)
    error = fails(settings("pvc://claim/", max_entries=3), environment)
    assert (error.reason, error.permanent) == ("ModelArtifactRejected", True)


@pytest.mark.parametrize(
    ("uri", "files", "version", "reason", "permanent", "words"),
    [
        ("pvc://c/missing", {}, None, "ModelNotFound", False, "no /missing in the volume claim c"),
        ("pvc://c/m", below("m/3", model_files()), 4, "ModelNotFound", False, "versions found: 3"),
        ("pvc://c/m", {"m/3/x": b""}, None, "ModelInvalid", True, "version 3 holds no saved_model.pb"),
        ("pvc://c/m", {"m/x/y": b""}, None, "ModelInvalid", True, "folders found: x"),
        ("pvc://c/m", {"m/x": b""}, None, "ModelInvalid", True, "no folder found"),
        (
            "pvc://c/m",
            below("m/1", model_files()) | {"m/01/x": b""},
            None,
            "ModelInvalid",
            True,
            "both version 1",
        ),
        ("pvc://c/m", {"m/1/saved_model.pb": b"\xff"}, None, "ModelInvalid", True, "damaged"),
        ("pvc://c/m", {"m": b""}, None, "ModelArtifactRejected", True, "the file is no tar"),
    ],
)
def test_what_is_no_model_is_named(
    source: Path,
    settings: Settings,
    environment: Environment,
    uri: str,
    files: dict[str, bytes],
    version: int | None,
    reason: str,
    permanent: bool,
    words: str,
) -> None:
    write(source, files)
    error = fails(settings(uri, version=version), environment)
    assert (error.reason, error.permanent) == (reason, permanent)
    assert words in error.message


def test_wrapping_folder_is_not_guessed_in_a_volume(
    source: Path, settings: Settings, environment: Environment
) -> None:
    write(source, below("only/1", model_files()))
    assert fails(settings("pvc://claim/"), environment).reason == "ModelInvalid"


def test_server_may_read_what_a_strict_umask_hides(
    source: Path, settings: Settings, environment: Environment
) -> None:
    write(source, model_files())
    made = settings("pvc://claim/")
    before = os.umask(0o077)
    try:
        Fetcher(made, environment).run()
    finally:
        os.umask(before)
    modes = {oct(p.stat().st_mode & 0o777) for p in made.dest.rglob("*")}
    assert modes == {"0o755", "0o644"}


def test_file_that_grows_is_not_served(
    source: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, {"a": b"begin"})
    progress = Progress(clock)
    monkeypatch.setattr(progress, "add", lambda _: (source / "a").write_bytes(b"begin and more"))
    copier = Copier(BoundedTree(source), Budget(1000, 10), Deadline(clock, 60), progress)
    with pytest.raises(FetchError, match="changed while it was copied") as caught:
        copier.copy(source, tmp_path / "copy")
    assert not caught.value.permanent


def test_link_that_changes_between_look_and_open_leads_nowhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, {"good": b"good"})
    link = source / "link"
    link.symlink_to("good")
    tree = BoundedTree(source)
    real_open = os.open

    def swap_then_open(path: Path, flags: int) -> int:
        link.unlink()
        link.symlink_to(tmp_path / "secret")
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(FetchError, match="leads out of the volume"), tree.opened(link):
        pass


def test_remains_of_a_killed_run_are_cleared(
    source: Path, settings: Settings, environment: Environment
) -> None:
    write(source, model_files())
    made = settings("pvc://claim/")
    write(made.dest, {".staging/archive": b"half", "digits/9/saved_model.pb": b"older"})
    Fetcher(made, environment).run()
    assert sorted(p.name for p in made.dest.iterdir()) == ["digits", "monitoring.config"]
    assert sorted(p.name for p in (made.dest / "digits").iterdir()) == ["1", "1.sha256"]
