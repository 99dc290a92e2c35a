"""The fetcher against object stores: Azurite, and S3 as moto has it, which speaks GCS's XML API too."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from serval_contract.models import WEIGHTS
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.safety.address_policy import AddressPolicy
from serval_serving.fetch.stores import bucket as buckets
from support.fetching import OPEN, Fetch
from support.object_stores import S3, Bucket, azurite, container, s3_server, sas_token
from unit.serving.fetch.builders import below, model_files, tar, write, zipped

ARCHIVE = tar(below("digits/4", model_files()))
GS_ACCOUNT = json.dumps({"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite(tmp_path_factory.mktemp("azurite") / "log") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"models-{uuid4().hex[:12]}"


@pytest.fixture(params=["azureblob", "s3", "gs"])
def bucket(request: pytest.FixtureRequest, name: str) -> Bucket:
    """A new bucket of each kind of store."""
    if request.param == "azureblob":
        return container(request.getfixturevalue("azure"), name)
    server: S3 = request.getfixturevalue("s3")
    return server.bucket(name, scheme=request.param, public=request.param == "gs")


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


def test_highest_version_of_a_folder(bucket: Bucket, fetch: Fetch) -> None:
    for version in ("1", "10", "9"):
        bucket.fill(below(f"digits/{version}", model_files(version.encode())))
    bucket.fill({"digits/README": b"read me", "digits-2/11/saved_model.pb": b"another"})
    fetched = fetch(f"{bucket.prefix}/digits", bucket.secret)
    assert fetched.version == 10
    assert fetch.files() == below("10", model_files(b"10"))

    write(fetch.folder / "source", below("m/10", model_files(b"10")))
    assert fetch("pvc://claim/m", None).digest == fetched.digest, "where files come from does not count"
    assert fetch(f"{bucket.prefix}/digits/", bucket.secret, version=9).version == 9
    assert fetch(f"{bucket.prefix}/digits/9", bucket.secret).version == 9


def test_names_with_odd_characters(bucket: Bucket, fetch: Fetch) -> None:
    files = model_files() | {"assets/ä b+c&d=e%41#~.txt": b"odd"}
    bucket.fill(below("my models/é/1", files))
    assert fetch(f"{bucket.prefix}/my%20models/%C3%A9", bucket.secret).version == 1
    assert fetch.files() == below("1", files)


def test_archive(bucket: Bucket, fetch: Fetch) -> None:
    bucket.put("packed/digits.tar.gz", ARCHIVE)
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    assert fetch(f"{bucket.prefix}/packed/digits.tar.gz", bucket.secret, sha256=digest).version == 4
    assert fetch.files() == below("4", model_files())
    with pytest.raises(FetchError) as caught:
        fetch(f"{bucket.prefix}/packed/digits.tar.gz", bucket.secret, sha256="0" * 64)
    assert caught.value.reason == "ModelDigestMismatch"


def test_weights_of_a_featurizer(bucket: Bucket, fetch: Fetch) -> None:
    """One object, which is a zip and stays one; and a folder, of which the names do not say so."""
    packed = zipped({"config.json": b"{}", "model.weights.h5": b"\x89HDF"})
    bucket.fill({"net.keras": packed, "net/resnet50": b"\x89HDF\r\n\x1a\n"})
    weights = FRAMEWORKS[WEIGHTS]
    sha256 = hashlib.sha256(packed).hexdigest()
    fetch(f"{bucket.prefix}/net.keras", bucket.secret, sha256=sha256, framework=weights)
    assert fetch.files() == {"1/weights": packed}
    fetch(f"{bucket.prefix}/net", bucket.secret, framework=weights)
    assert fetch.files() == {"1/resnet50": b"\x89HDF\r\n\x1a\n"}


def test_digest_of_a_folder(bucket: Bucket, fetch: Fetch) -> None:
    bucket.fill(model_files())
    digest = fetch(bucket.prefix, bucket.secret).digest.removeprefix("sha256:")
    assert fetch(bucket.prefix, bucket.secret, sha256=digest).version == 1
    with pytest.raises(FetchError, match="ModelDigestMismatch"):
        fetch(bucket.prefix, bucket.secret, sha256="0" * 64)


def test_large_objects_come_in_parts(bucket: Bucket, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "PART_BYTES", 300_000)
    weights = hashlib.shake_256(b"weights").digest(2_000_001)
    bucket.fill(model_files(weights) | {"variables/empty": b""})
    fetch(bucket.prefix, bucket.secret)
    assert fetch.files() == below("1", model_files(weights) | {"variables/empty": b""})


@pytest.mark.parametrize(
    ("path", "words"),
    [("nothing", "nothing at"), ("digits/7", "nothing at"), ("digits/1/saved", "nothing at")],
)
def test_what_is_not_there(bucket: Bucket, fetch: Fetch, path: str, words: str) -> None:
    bucket.fill(below("digits/1", model_files()))
    error = fetch.fails(f"{bucket.prefix}/{path}", bucket.secret)
    assert (error.reason, error.permanent) == ("ModelNotFound", True)
    assert words in error.message
    error = fetch.fails(f"{bucket.prefix}/digits", bucket.secret, version=3)
    assert (error.reason, error.message) == ("ModelNotFound", "there is no version 3; versions found: 1")


def test_missing_bucket(bucket: Bucket, fetch: Fetch) -> None:
    error = fetch.fails(f"{bucket.prefix}-missing/digits", bucket.secret)
    assert (error.reason, error.permanent) == ("ModelNotFound", True)
    assert "404" in error.message


def test_limits(bucket: Bucket, fetch: Fetch) -> None:
    bucket.fill(model_files(b"x" * 1000))
    bucket.put("one.tar", tar(model_files(), mode="w:"))
    for path in ("", "/one.tar"):
        error = fetch.fails(bucket.prefix + path, bucket.secret, max_bytes=1000)
        assert (error.reason, error.permanent) == ("ModelTooLarge", True)
    error = fetch.fails(bucket.prefix, bucket.secret, max_entries=2)
    assert (error.reason, error.permanent) == ("ModelArtifactRejected", True)


def test_sas_token(azure: str, name: str, fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    bucket = container(azure, name)
    bucket.fill(below("digits/1", model_files()))
    uri = f"{bucket.prefix}/digits"
    good = {
        "AZURE_STORAGE_SAS_TOKEN": sas_token("rl", "2100-01-01T00:00:00Z"),
        "AZURE_STORAGE_ENDPOINT": azure,
    }
    assert fetch(uri, good).version == 1
    assert fetch(uri, good | {"AZURE_STORAGE_SAS_TOKEN": "?" + good["AZURE_STORAGE_SAS_TOKEN"]}).version == 1

    other = Fetch(fetch.folder / "other")
    ended = sas_token("rl", "2020-01-01T00:00:00Z")
    error = other.fails(uri, good | {"AZURE_STORAGE_SAS_TOKEN": ended})
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert "403 AuthorizationFailure" in error.message
    assert "valid until 2020-01-01T00:00:00Z" in error.message
    assert ended.rpartition("sig=")[2] not in caplog.text + str(error)


def test_azure_account_key_and_nobody(azure: str, name: str, fetch: Fetch) -> None:
    bucket = container(azure, name)
    bucket.fill(below("1", model_files()))
    key = bucket.secret["AZURE_STORAGE_CONNECTION_STRING"].partition("AccountKey=")[2].partition(";")[0]
    assert fetch(bucket.prefix, {"AZURE_STORAGE_KEY": key, "AZURE_STORAGE_ENDPOINT": azure}).version == 1
    other = Fetch(fetch.folder / "other")
    error = other.fails(bucket.prefix, {"AZURE_STORAGE_ENDPOINT": azure})
    assert error.reason == "ModelAccessDenied"
    assert error.message.endswith("without credentials")
    wrong = {"AZURE_STORAGE_KEY": "AAAA" + key[4:], "AZURE_STORAGE_ENDPOINT": azure}
    error = other.fails(bucket.prefix, wrong)
    assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
    assert error.message.endswith("with the credentials of the Secret")


def test_gs_service_account(s3: S3, name: str, fetch: Fetch) -> None:
    bucket = s3.bucket(name, scheme="gs", public=True)
    bucket.fill(below("1", model_files()))
    assert fetch(bucket.prefix, bucket.secret | {"service-account.json": GS_ACCOUNT}).version == 1
    other = Fetch(fetch.folder / "other")
    error = other.fails(bucket.prefix, {"service-account.json": "{SECRET"})
    assert error.reason == "ModelAccessDenied"
    assert "SECRET" not in str(error)


def test_passing_failures_are_tried_again(s3: S3, name: str, fetch: Fetch) -> None:
    bucket = s3.bucket(name)
    bucket.fill(below("1", model_files()))
    s3.failures, s3.failing = [503, 500], name
    assert fetch(bucket.prefix, bucket.secret).version == 1
    assert fetch.slept == [1.0, 2.0]


def test_lasting_failure_is_named(s3: S3, name: str, fetch: Fetch) -> None:
    bucket = s3.bucket(name)
    s3.failures, s3.failing = [503] * 4, name
    error = fetch.fails(f"{bucket.prefix}/digits", bucket.secret)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "503" in error.message
    assert fetch.slept == [1.0, 2.0, 4.0]
    s3.failures = [400]
    assert "400" in fetch.fails(f"{bucket.prefix}/digits", bucket.secret).message
    assert len(fetch.slept) == 3, "what will not pass is asked once"


@pytest.mark.parametrize("key", ["1/assets/../../x", "1//x", "1/" + "d/" * 40 + "x"])
def test_hostile_names(s3: S3, name: str, fetch: Fetch, key: str) -> None:
    bucket = s3.bucket(name)
    bucket.fill(below("1", model_files()) | {key: b"hostile"})
    error = fetch.fails(f"{bucket.prefix}/1", bucket.secret)
    assert (error.reason, error.permanent) == ("ModelArtifactRejected", True)


def test_marks_of_folders_are_no_files(s3: S3, name: str, fetch: Fetch) -> None:
    bucket = s3.bucket(name)
    bucket.fill({"1/": b"", "1/assets/": b"", "1/variables/": b""} | below("1", model_files()))
    fetch(bucket.prefix, bucket.secret)
    assert fetch.files() == below("1", model_files())


def test_folders_of_azure_are_no_files(azure: str, name: str, fetch: Fetch) -> None:
    """As storage accounts with a hierarchical namespace have them."""
    bucket = container(azure, name)
    for folder in ("1", "1/assets", "1/variables"):
        bucket.put(folder, b"", attributes={"hdi_isfolder": "true"})
    bucket.fill(below("1", model_files() | {"empty": b""}))
    fetch(f"{bucket.prefix}/1", bucket.secret)
    assert fetch.files() == below("1", model_files() | {"empty": b""})


def test_object_that_changes_is_not_mixed(
    s3: S3, name: str, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.bucket(name)
    bucket.fill(below("1", model_files()))
    planned = buckets._planned

    def change(*arguments: Any) -> Any:
        made = planned(*arguments)
        bucket.put("1/variables/variables.data-00000-of-00001", b"changed")
        return made

    monkeypatch.setattr(buckets, "_planned", change)
    error = fetch.fails(bucket.prefix, bucket.secret)
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "changed while it was fetched" in error.message


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "127.0.0.1:1"]
)
def test_endpoint_at_a_refused_address(fetch: Fetch, scheme: str, host: str) -> None:
    for uri, key in (("s3://models/m", "AWS_ENDPOINT_URL"), ("gs://models/m", "GOOGLE_ENDPOINT_URL")):
        error = fetch.fails(uri, {key: f"{scheme}://{host}"}, policy=AddressPolicy())
        assert (error.reason, error.permanent) == ("ModelAccessDenied", True)
        assert "Serval connects to no such address" in error.message


def test_redirect_to_a_refused_address(fetch: Fetch) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        secret = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        try:
            error = fetch.fails("s3://models/m", secret)
        finally:
            server.shutdown()
            thread.join(timeout=10)
    assert asked
    assert error.reason == "ModelAccessDenied"
    assert "169.254.169.254" in error.message


def test_store_that_does_not_answer_is_named(fetch: Fetch) -> None:
    error = fetch.fails("s3://models/m", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert (error.reason, error.permanent) == ("ModelSourceUnavailable", False)
    assert "connection refused" in error.message
    error = fetch.fails("gs://models/m", {"GOOGLE_ENDPOINT_URL": "https://store.invalid"})
    assert error.reason == "ModelSourceUnavailable"
    assert error.message.startswith("DNS:")


def test_plain_endpoint_must_be_named(s3: S3, name: str, fetch: Fetch) -> None:
    """Without a Secret nothing but TLS is spoken, so a store without it is never reached by accident."""
    del s3, name
    error = fetch.fails("azureblob://devstoreaccount1/models/m", None, policy=OPEN)
    assert error.reason == "ModelSourceUnavailable"
