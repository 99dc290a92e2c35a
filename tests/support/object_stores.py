"""Object stores on loopback: Azurite for Azure, moto for S3, and moto's S3 for the XML API of GCS."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import obstore
import urllib3
from moto.server import DomainDispatcherApplication, create_backend_app
from obstore.store import AzureStore
from werkzeug.serving import WSGIRequestHandler, make_server

from serval_lab.settings import Settings
from support.wait import until

LOCK = Path(__file__).parent / "azurite"
INSTALL_SECONDS = 400
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's own, published by Microsoft."""
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "AKIATESTTESTTESTTEST", "secret-of-the-test"
_LISTENS = re.compile(r"successfully listens on (https?://127\.0\.0\.1:\d+)")


@dataclass
class Bucket:
    """One bucket or container of a store.

    Attributes
    ----------
    prefix
        URI of the bucket, without a slash at its end.
    secret
        Contents of a Secret that lets one in.
    put
        Writes one object.
    """

    prefix: str
    secret: dict[str, str]
    put: Callable[..., Any]

    def fill(self, files: dict[str, bytes]) -> None:
        """Write all `files`, by key."""
        for key, content in files.items():
            self.put(key, content)


@contextmanager
def azurite(log: Path, *, certificate: Path | None = None, key: Path | None = None) -> Iterator[str]:
    """Run Azurite, installing it where it is missing; yield the endpoint of its account.

    Parameters
    ----------
    log:
        File for what it says.
    certificate, key:
        Files for TLS on 127.0.0.1. It then takes tokens too, and looks at everything but their signatures.
    """
    program = _installed() / "node_modules/azurite/dist/src/blob/main.js"
    command = ["node", str(program), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    if certificate is not None:
        command += ["--cert", str(certificate), "--key", str(key), "--oauth", "basic"]
    with (
        log.open("wb") as file,
        subprocess.Popen(  # noqa: S603 - the command is this one
            command, cwd=log.parent, stdout=file, stderr=file
        ) as process,
    ):
        try:
            found = until("Azurite", lambda: _LISTENS.search(log.read_text()), limit=60)
            yield f"{found[1]}/{ACCOUNT}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def container(endpoint: str, name: str, *, ca: Path | None = None) -> Bucket:
    """Make a container of Azurite, whose certificate is of `ca`."""
    uri = f"{endpoint}/{name}?restype=container&{sas_token('c', '2100-01-01T00:00:00Z')}"
    with urllib3.PoolManager(ca_certs=ca and str(ca)) as client:
        reply = client.request("PUT", uri, retries=False)
    assert reply.status == 201, reply.data
    connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY}"
    secret = {"AZURE_STORAGE_CONNECTION_STRING": f"{connection};BlobEndpoint={endpoint};"}
    store = AzureStore(
        name,
        config={"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": endpoint},
        client_options={"allow_http": True} | ({"root_certificate": ca.read_bytes()} if ca else {}),
    )
    return Bucket(f"azureblob://{ACCOUNT}/{name}", secret, partial(obstore.put, store))


def sas_token(permissions: str, ends: str) -> str:
    """Return a SAS token of the emulator's account that is valid until `ends` (ISO 8601)."""
    signed = [ACCOUNT, permissions, "b", "sco", "", ends, "", "", "2020-12-06", "", ""]
    key = base64.b64decode(ACCOUNT_KEY)
    digest = hmac.new(key, "\n".join(signed).encode(), hashlib.sha256).digest()
    values = {"sv": "2020-12-06", "ss": "b", "srt": "sco", "sp": permissions, "se": ends}
    return urlencode(values | {"sig": base64.b64encode(digest).decode()})


@dataclass
class S3:
    """A server that speaks S3.

    Attributes
    ----------
    endpoint
        Its address.
    failures
        Status codes that the next requests get instead of an answer; those of `failing` only.
    failing
        Part of a path that a request must have to get one of `failures`.
    requests
        Method and path of every request.
    """

    endpoint: str = ""
    failures: list[int] = field(default_factory=list)
    failing: str = ""
    requests: list[str] = field(default_factory=list)

    def client(self) -> Any:
        """Return boto3's client."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )

    def bucket(self, name: str, *, scheme: str = "s3", public: bool = False) -> Bucket:
        """Make a bucket. GCS answers lists and reads as S3 does, so it may be one of ``gs``."""
        client = self.client()
        client.create_bucket(Bucket=name)
        acl = {"ACL": "public-read"} if public else {}
        secret = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }
        if scheme == "gs":
            secret = {"GOOGLE_ENDPOINT_URL": self.endpoint}
        return Bucket(
            f"{scheme}://{name}",
            secret,
            lambda key, data: client.put_object(Bucket=name, Key=key, Body=data, **acl),
        )


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run moto's S3 on loopback."""
    state = S3()
    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])
        state.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        if state.failures and state.failing in path:
            start(f"{state.failures.pop(0)} Injected", [("Content-Length", "0")])
            return [b""]
        # A client of GCS writes these in hexadecimal, one of S3 does not, and moto reads what stands there.
        environ["RAW_URI"] = str(environ["RAW_URI"]).replace("%2F", "/").replace("%2D", "-")
        return application(environ, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join(timeout=20)
        server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object, **__: object) -> None:
        """Say nothing."""


def _installed() -> Path:
    """Return the folder with Azurite in it; npm fills it once, with the versions of the lock."""
    names = ("package.json", "package-lock.json")
    key = hashlib.sha256(b"".join((LOCK / name).read_bytes() for name in names)).hexdigest()[:16]
    folder = Settings.from_environment().cache / "npm" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            half = folder.with_suffix(f".{os.getpid()}")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            for name in names:
                shutil.copy(LOCK / name, half / name)
            command = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
            done = subprocess.run(  # noqa: S603 - the command is this one
                command, cwd=half, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
            assert done.returncode == 0, f"npm cannot install Azurite: {done.stderr[-2000:]}"
            half.rename(folder)
    return folder
