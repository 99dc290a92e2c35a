from __future__ import annotations

import base64
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backports import zstd

from serval_contract.devices import EMULATOR
from serval_contract.models import ACCELERATED, ONNX
from serval_serving.engines.accelerated import AcceleratedEngine, AcceleratedOptions
from serval_serving.engines.onnx import OnnxEngine, OnnxOptions
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.oci.login import PULL_SECRET, read_login
from serval_serving.fetch.settings import FetchSettings
from unit.serving.engines.artifacts import write_artifact
from unit.serving.engines.onnx_models import half_plus_two, with_data
from unit.serving.fetch.builders import MEGABYTE, below, member, model_files, tar, write, zipped
from unit.serving.fetch.registries import (
    GZIP,
    INDEX,
    ORAS_DEFAULT,
    TAR,
    ZSTD,
    Registry,
    artifact,
    layer_tar,
    sha256,
)
from unit.serving.fetch.tls import HOST, Site, content, status

Settings = Callable[..., FetchSettings]
MODEL = tar(below("models/digits/3", model_files()))


@pytest.fixture
def registry(site: Site) -> Registry:
    return Registry(site)


def fails(settings: FetchSettings, environment: Environment) -> FetchError:
    with pytest.raises(FetchError) as caught:
        Fetcher(settings, environment).run()
    assert not list(settings.dest.iterdir()), "a failure leaves nothing behind"
    return caught.value


def files(settings: FetchSettings) -> dict[str, bytes]:
    """Read the files of the versions."""
    model = settings.dest / "digits"
    return {p.relative_to(model).as_posix(): p.read_bytes() for p in model.rglob("*/*") if p.is_file()}


def pull_secret(folder: Path, host: str, user: str = "robot", password: str = "pass:word") -> Path:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    content = json.dumps({"auths": {"other.test": {}, host: {"auth": auth}}})
    return write(folder / "secret", {PULL_SECRET: content.encode()})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (GZIP, MODEL),
        (TAR, tar(below("models/digits/3", model_files()), mode="w:")),
        (ZSTD, zstd.compress(tar(below("models/digits/3", model_files()), mode="w:"))),
        (GZIP, tar(below("3", model_files()))),
        (GZIP, tar(below("opt/3", model_files()))),
    ],
    ids=["gzip", "tar", "zstd", "at the root", "in a folder"],
)
def test_image_becomes_the_one_version(
    registry: Registry, settings: Settings, environment: Environment, kind: str, data: bytes
) -> None:
    registry.push((kind, data))
    made = settings(registry.uri())
    fetched = Fetcher(made, environment).run()
    assert fetched.version == 3
    assert files(made) == below("3", model_files())
    write(made.pvc_mount, below("m/3", model_files()))
    same = settings("pvc://c/m", dest=made.dest.parent / "same")
    assert Fetcher(same, environment).run().digest == fetched.digest
    pinned = settings(registry.uri(), sha256=fetched.digest.removeprefix("sha256:"))
    assert Fetcher(pinned, environment).run().version == 3


def test_operating_system_below_the_model_does_not_count(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    system = {f"usr/lib/{i}": b"x" for i in range(200)} | {
        "bin": member("bin", tarfile.SYMTYPE, "usr/bin"),
        "dev/null": member("dev/null", tarfile.CHRTYPE),
        "usr/bin/a": member("usr/bin/a", tarfile.LNKTYPE, "usr/lib/1"),
        "usr/lib/system-systemd\\x2dcryptsetup.slice": b"",
    }
    registry.push((TAR, layer_tar(system)), (GZIP, MODEL))
    made = settings(registry.uri(), max_entries=20)
    assert Fetcher(made, environment).run().version == 3


def test_links_beside_a_model_at_the_root_are_stepped_over(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    layer = layer_tar({"latest": member("latest", tarfile.SYMTYPE, "3")} | below("3", model_files()))
    registry.push((TAR, layer))
    made = settings(registry.uri())
    Fetcher(made, environment).run()
    assert files(made) == below("3", model_files())


def test_upper_layers_replace_and_remove(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    lower = below("models/1", model_files(b"old")) | {
        "models/1/gone": b"",
        "models/1/dir/a": b"",
        "models/2/x": b"",
    }
    upper = below("models/1", model_files(b"new")) | {
        "models/1/.wh.gone": b"",
        "models/.wh.2": b"",
        "models/1/dir/b": b"",
        "models/1/dir/.wh..wh..opq": b"",
        "models/1/.wh..wh.plnk": b"",
    }
    registry.push((TAR, layer_tar(lower)), (TAR, layer_tar(upper)))
    made = settings(registry.uri())
    Fetcher(made, environment).run()
    assert files(made) == below("1", model_files(b"new") | {"dir/b": b""})


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"models/../../x": b""}, r"\.\."),
        ({"/models/x": b""}, "absolute"),
        ({"models/.wh...": b""}, "hides no file"),
        ({".wh..": b""}, "hides no file"),
        ({".wh.": b""}, "hides no file"),
        ({"models/a": member("models/a", tarfile.SYMTYPE, "/etc")}, "symbolic link"),
        ({f"models/{i}": b"" for i in range(200)}, "100 entries"),
    ],
)
def test_hostile_layer_is_rejected(
    registry: Registry, settings: Settings, environment: Environment, entries: dict[str, bytes], words: str
) -> None:
    registry.push((TAR, layer_tar(entries)))
    with pytest.raises(FetchError, match=words) as caught:
        Fetcher(settings(registry.uri()), environment).run()
    assert (caught.value.reason, caught.value.permanent) == ("ModelArtifactRejected", True)


def test_files_with_titles(registry: Registry, settings: Settings, environment: Environment) -> None:
    """As artifacts have them, which are no images."""
    entries = [
        registry.blob(data)
        | {"mediaType": "application/octet-stream", "annotations": {"org.opencontainers.image.title": name}}
        for name, data in below("5", model_files()).items()
    ]
    registry.manifest({"layers": entries}, "v1")
    made = settings(registry.uri())
    assert Fetcher(made, environment).run().version == 5
    assert files(made) == below("5", model_files())
    entries[0]["annotations"]["org.opencontainers.image.title"] = "../x"
    registry.manifest({"layers": entries}, "v1")
    other = settings(registry.uri(), dest=made.dest.parent / "other")
    assert fails(other, environment).reason == "ModelArtifactRejected"


TAR_OF_FILES = tar(below("5", model_files()))
ASSETS = {"1/assets/words.gz": gzip.compress(b"a b"), "1/assets/data.tar": tar({"x": b""}, mode="w:")}
WEIGHT = "application/vnd.cncf.model.weight.v1"
FILEPATH = "org.cncf.model.filepath"
ARTIFACTS: dict[str, tuple[dict[str, bytes], str, dict[str, str], dict[str, bytes]]] = {
    "files, as oras names their type": (
        below("5", model_files()), ORAS_DEFAULT, {}, below("5", model_files())
    ),
    "files with archives among them": (
        below("1", model_files()) | ASSETS, ORAS_DEFAULT, {}, below("1", model_files()) | ASSETS
    ),
    "an archive": ({"model.tar.gz": TAR_OF_FILES}, ORAS_DEFAULT, {}, below("5", model_files())),
    "an archive of another type": (
        {"m.zip": zipped(below("5", model_files()))}, "application/zip", {}, below("5", model_files())
    ),
    "a folder, as oras packs it": (
        {"5": TAR_OF_FILES}, GZIP, {"io.deis.oras.content.unpack": "true"}, below("5", model_files())
    ),
    "files of a ModelPack": (
        below("5", model_files()), f"{WEIGHT}.raw", {"title": FILEPATH}, below("5", model_files())
    ),
    "archives of a ModelPack": (
        {f"5/{name}": tar({f"5/{name}": data}, mode="w:") for name, data in model_files().items()},
        f"{WEIGHT}.tar",
        {"title": FILEPATH},
        below("5", model_files()),
    ),
    "packed archives of its predecessor": (
        {f"5/{name}": tar({f"5/{name}": data}) for name, data in model_files().items()},
        "application/vnd.cnai.model.weight.v1.tar+gzip",
        {"title": "org.cnai.model.filepath"},
        below("5", model_files()),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pushed", "media_type", "notes", "kept"), ARTIFACTS.values(), ids=ARTIFACTS.keys())
def test_first_bytes_and_titles_decide(
    registry: Registry,
    settings: Settings,
    environment: Environment,
    pushed: dict[str, bytes],
    media_type: str,
    notes: dict[str, str],
    kept: dict[str, bytes],
) -> None:
    artifact(registry, pushed, media_type, **notes)
    made = settings(registry.uri())
    Fetcher(made, environment).run()
    assert files(made) == kept


def test_a_single_onnx_file_as_oras_pushes_it(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    data = half_plus_two().SerializeToString()
    artifact(registry, {"net.onnx": data}, ORAS_DEFAULT)
    made = settings(registry.uri(), framework=FRAMEWORKS[ONNX])
    assert Fetcher(made, environment).run().version == 1
    assert files(made) == {"1/net.onnx": data}


def test_an_artifact_becomes_a_version_that_the_server_loads(
    registry: Registry, settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    parts = {path.name: path.read_bytes() for path in write_artifact(tmp_path / "made").iterdir()}
    registry.push((GZIP, tar(parts)))
    made = settings(registry.uri(), framework=FRAMEWORKS[ACCELERATED])
    fetched = Fetcher(made, environment).run()
    assert fetched.version == 1
    assert [one.name for one in fetched.inputs or ()] == ["images"]
    assert files(made) == below("1", parts)
    engine = AcceleratedEngine(AcceleratedOptions(EMULATOR))
    assert engine.load(made.dest / "digits" / "1").signatures
    other = settings(registry.uri(), dest=made.dest.parent / "other")
    assert "create an AcceleratedModel with this artifact" in str(fails(other, environment))


def test_manifest_of_this_platform(
    registry: Registry, settings: Settings, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    arm = registry.push((GZIP, MODEL), tag="arm")
    entries = [
        {"digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": arm, "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": "sha256:" + "1" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    registry.manifest({"mediaType": INDEX, "manifests": entries}, "v1")
    assert Fetcher(settings(registry.uri()), environment).run().version == 3
    registry.manifest({"manifests": [{"digest": arm}]}, "v1")
    assert Fetcher(settings(registry.uri()), environment).run().version == 3
    registry.manifest({"manifests": [entries[0]]}, "v1")
    error = fails(settings(registry.uri(), dest=settings(registry.uri()).dest.parent / "other"), environment)
    assert (error.reason, error.permanent) == ("ModelNotFound", True)
    assert error.message.endswith("is not there for linux/arm64")


def test_reference_by_digest(registry: Registry, settings: Settings, environment: Environment) -> None:
    digest = registry.push((GZIP, MODEL))
    assert Fetcher(settings(registry.uri(f"@{digest}")), environment).run().version == 3
    assert Fetcher(settings(registry.uri(f":no-such-tag@{digest}")), environment).run().version == 3
    other = "sha256:" + "0" * 64
    registry.site.serve(f"/v2/team/digits/manifests/{other}", registry._guarded(content(b'{"layers": []}')))
    made = settings(registry.uri(f"@{other}"), dest=settings(registry.uri()).dest.parent / "other")
    assert fails(made, environment).reason == "ModelDigestMismatch"


def test_layer_that_is_another_is_refused(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    entry = registry.blob(MODEL, content(MODEL[:-1] + b"x")) | {"mediaType": GZIP}
    registry.manifest({"layers": [entry]}, "v1")
    error = fails(settings(registry.uri()), environment)
    assert (error.reason, error.permanent) == ("ModelDigestMismatch", True)
    entry = registry.blob(MODEL, content(MODEL + b"more")) | {"mediaType": GZIP}
    registry.manifest({"layers": [entry]}, "v1")
    assert fails(settings(registry.uri()), environment).reason == "ModelTooLarge"


def test_size_is_judged_before_layers_are_read(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    entry = registry.blob(MODEL) | {"mediaType": GZIP, "size": 3 * MEGABYTE}
    registry.manifest({"layers": [entry, entry]}, "v1")
    error = fails(settings(registry.uri()), environment)
    assert (error.reason, error.permanent) == ("ModelTooLarge", True)
    assert not [path for path, _ in registry.site.requests if "/blobs/" in path]


@pytest.mark.parametrize("basic", [False, True])
def test_pull_secret(
    registry: Registry, settings: Settings, environment: Environment, tmp_path: Path, basic: bool
) -> None:
    registry.login, registry.basic = ("robot", "pass:word"), basic
    registry.push((GZIP, MODEL))
    secret = pull_secret(tmp_path, registry.host)
    assert Fetcher(settings(registry.uri(), credentials_dir=secret), environment).run().version == 3
    assert set(registry.scopes) == (set() if basic else {"repository:team/digits:pull"})
    for wrong in (None, pull_secret(tmp_path, registry.host, password="SECRET")):
        made = settings(registry.uri(), credentials_dir=wrong, dest=tmp_path / "other")
        error = fails(made, environment)
        assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
        assert "SECRET" not in error.message


def test_credentials_do_not_follow_a_redirect(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    seen: list[str | None] = []

    def elsewhere(handler: object) -> None:
        seen.append(handler.headers.get("Authorization"))  # type: ignore[attr-defined]
        content(MODEL)(handler)  # type: ignore[arg-type]

    site = registry.site
    entry = registry.blob(MODEL, status(307, f"https://127.0.0.1:{site.port}/storage")) | {"mediaType": GZIP}
    site.serve("/storage", elsewhere)
    registry.manifest({"layers": [entry]}, "v1")
    assert Fetcher(settings(registry.uri()), environment).run().version == 3
    assert seen == [None]


def test_passing_failures_are_tried_again(
    registry: Registry, settings: Settings, environment: Environment
) -> None:
    registry.push((GZIP, MODEL))
    for path in ("/v2/", "/v2/team/digits/manifests/v1", f"/v2/team/digits/blobs/{sha256(MODEL)}", "/token"):
        registry.site.answers[path].insert(0, status(503))
    assert Fetcher(settings(registry.uri()), environment).run().version == 3


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "ModelArtifactRejected"),
        ({}, "ModelArtifactRejected"),
        ({"layers": [{"digest": "sha256:x", "size": 1, "mediaType": GZIP}]}, "ModelArtifactRejected"),
        (
            {"layers": [{"digest": "sha256:" + "0" * 64, "size": -1, "mediaType": GZIP}]},
            "ModelArtifactRejected",
        ),
        ({"layers": [{}]}, "ModelArtifactRejected"),
        ({"layers": 5}, "ModelArtifactRejected"),
        ({"manifests": 5}, "ModelArtifactRejected"),
        ({"manifests": [{"digest": "../../x"}]}, "ModelArtifactRejected"),
        ({"layers": []}, "ModelInvalid"),
    ],
)
def test_damaged_manifest(
    registry: Registry, settings: Settings, environment: Environment, document: object, reason: str
) -> None:
    registry.manifest(document, "v1")  # type: ignore[arg-type]
    error = fails(settings(registry.uri()), environment)
    assert (error.reason, error.permanent) == (reason, True)


def test_what_is_not_there(registry: Registry, settings: Settings, environment: Environment) -> None:
    error = fails(settings(registry.uri(":v9")), environment)
    assert (error.reason, error.permanent) == ("ModelNotFound", True)
    assert f"{HOST}:{registry.site.port}/v2/team/digits/manifests/v9" in error.message


@pytest.mark.parametrize("realm", ["http://models.test/token", "file:///etc/passwd", ""])
def test_authority_must_have_tls(
    registry: Registry, settings: Settings, environment: Environment, realm: str
) -> None:
    def challenge(handler: object) -> None:
        handler.send_response(401)  # type: ignore[attr-defined]
        handler.send_header("WWW-Authenticate", f'Bearer realm="{realm}"')  # type: ignore[attr-defined]
        handler.send_header("Content-Length", "0")  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]

    registry.site.serve("/v2/", challenge)
    error = fails(settings(registry.uri()), environment)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)


@pytest.mark.parametrize(
    ("registry_name", "config", "login"),
    [
        ("r.test", {"r.test": {"username": "u", "password": "p"}}, ("u", "p")),
        ("r.test:5000", {"r.test": {"auth": "eDp5"}}, None),
        ("docker.io", {"https://index.docker.io/v1/": {"auth": "eDp5"}}, ("x", "y")),
        ("r.test", {"https://r.test/v2/": {"auth": "eDp5"}}, ("x", "y")),
        ("r.test", {}, None),
    ],
)
def test_logins(
    tmp_path: Path, registry_name: str, config: dict[str, object], login: tuple[str, str] | None
) -> None:
    write(tmp_path, {PULL_SECRET: json.dumps({"auths": config}).encode()})
    assert read_login(tmp_path, registry_name) == login


@pytest.mark.parametrize(
    "text", [None, b"", b"{}", b"[]", b'{"auths": {"r.test": {}}}', b'{"auths": {"r.test": {"auth": "*"}}}']
)
def test_strange_pull_secret(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        write(tmp_path, {PULL_SECRET: text})
    with pytest.raises(FetchError) as caught:
        read_login(tmp_path, "r.test")
    assert caught.value.reason == "ModelAccessDenied"


class TestMounted:
    """Where the kubelet mounts the image, nothing is copied."""

    @pytest.fixture
    def mount(self, tmp_path: Path) -> Path:
        return write(tmp_path / "image", below("models/digits/3", model_files()) | {"etc/passwd": b""})

    def test_links(self, mount: Path, settings: Settings, environment: Environment) -> None:
        made = settings("oci://r.test/team/digits:v1", image_mount=mount)
        fetched = Fetcher(made, environment).run()
        assert fetched.version == 3
        assert files(made) == below("3", model_files())
        model = made.dest / "digits" / "3" / "saved_model.pb"
        assert model.readlink() == mount / "models/digits/3/saved_model.pb"
        assert not (made.dest / "digits" / "3" / "variables").is_symlink()

    def test_limits(self, mount: Path, settings: Settings, environment: Environment) -> None:
        made = settings("oci://r.test/team/digits:v1", image_mount=mount, max_bytes=50)
        assert fails(made, environment).reason == "ModelTooLarge"
        made = settings("oci://r.test/team/digits:v1", image_mount=mount, max_entries=3)
        assert fails(made, environment).reason == "ModelArtifactRejected"

    def test_onnx_with_data_beside_it_is_what_the_engine_loads(
        self, settings: Settings, environment: Environment, tmp_path: Path
    ) -> None:
        version = tmp_path / "image/models/net/4"
        version.mkdir(parents=True)
        with_data(version)
        made = settings(
            "oci://r.test/team/net:v1", image_mount=tmp_path / "image", framework=FRAMEWORKS[ONNX]
        )
        assert Fetcher(made, environment).run().version == 4
        served = made.dest / "digits" / "4"
        assert (served / "weights.bin").is_symlink()
        model = OnnxEngine(OnnxOptions(providers=("CPU",))).load(served)
        assert model.run("serving_default", {"x": np.ones(500, np.float32)}, ["y"])[0].tolist() == [2.0] * 500

    def test_way_out(self, mount: Path, settings: Settings, environment: Environment, tmp_path: Path) -> None:
        write(tmp_path, {"secret": b""})
        (mount / "models/digits/3/assets").symlink_to(tmp_path / "secret")
        error = fails(settings("oci://r.test/team/digits:v1", image_mount=mount), environment)
        assert error.reason == "ModelArtifactRejected"
        assert "leads out of" in error.message

    def test_not_mounted(self, settings: Settings, environment: Environment, tmp_path: Path) -> None:
        error = fails(settings("oci://r.test/team/digits:v1", image_mount=tmp_path / "none"), environment)
        assert (error.reason, error.permanent) == ("ModelNotFound", False)

    def test_an_artifact_without_layers_of_files_mounts_empty(
        self, settings: Settings, environment: Environment, tmp_path: Path
    ) -> None:
        (tmp_path / "image").mkdir()
        error = fails(settings("oci://r.test/team/digits:v1", image_mount=tmp_path / "image"), environment)
        assert (error.reason, error.permanent) == ("ModelInvalid", True)
        assert "r.test/team/digits:v1 mounts empty" in error.message
