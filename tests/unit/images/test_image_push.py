from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from serval_lab.images import ImageError
from serval_lab.images.layout import Image, Layout
from serval_lab.images.push import Registry
from unit.images.layouts import write_image


@dataclass
class FakeRegistry:
    """The push half of a registry, as the distribution specification has it."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers for the registry that a subclass names."""

    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.registry.requests.append(f"HEAD {self.path}")
        name = self.path.rpartition("/")[2]
        content = self.registry.tags.get(name)
        if "/manifests/" in self.path and content is not None:
            self.answer(200, Docker_Content_Digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
        else:
            self.answer(200 if name in self.registry.blobs else 404)

    def do_POST(self) -> None:
        self.answer(202, Location=f"{self.path}a-session?state=1")

    def do_PUT(self) -> None:
        url = urlsplit(self.path)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.registry.refuse and self.registry.refuse in url.path:
            self.answer(507)
            return
        if "/manifests/" in url.path:
            self.registry.tags[url.path.rpartition("/")[2]] = content
        else:
            query = parse_qs(url.query)
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert query == {"state": ["1"], "digest": [digest]}
            self.registry.blobs[digest] = content
        self.answer(201)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"registry": fake})) as server:
        fake.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield fake
        server.shutdown()
        thread.join(timeout=10)


def image(root: Path, *layers: bytes) -> Image:
    write_image(root, "image", list(layers))
    found = Layout(root).find("image")
    assert found is not None
    return found


def test_everything_is_sent_once(registry: FakeRegistry, tmp_path: Path) -> None:
    made = image(tmp_path, b"first" * 100_000, b"second")
    sent = Registry(registry.address).push(made, "serval-server", "1")
    assert sent == made.size + made.manifest.size
    assert registry.blobs.keys() == {blob.digest for blob in made.blobs}
    assert registry.tags["1"] == made.manifest.path.read_bytes()
    registry.requests.clear()
    assert Registry(registry.address).push(made, "serval-server", "1") == 0
    assert registry.requests == ["HEAD /v2/serval-server/manifests/1"]


def test_only_what_the_registry_lacks_is_sent(registry: FakeRegistry, tmp_path: Path) -> None:
    Registry(registry.address).push(image(tmp_path / "old", b"large", b"old code"), "serval-server", "1")
    new = image(tmp_path / "new", b"large", b"new code")
    sent = Registry(registry.address).push(new, "serval-server", "2")
    assert sent == len(b"new code") + new.manifest.size


def test_a_tag_of_another_image_is_moved(registry: FakeRegistry, tmp_path: Path) -> None:
    Registry(registry.address).push(image(tmp_path / "old", b"old"), "serval-server", "1")
    new = image(tmp_path / "new", b"new")
    assert Registry(registry.address).push(new, "serval-server", "1") > 0
    assert registry.tags["1"] == new.manifest.path.read_bytes()


@pytest.mark.parametrize("part", ["/blobs/", "/manifests/"])
def test_a_refusal_is_told_with_its_status(registry: FakeRegistry, tmp_path: Path, part: str) -> None:
    registry.refuse = part
    with pytest.raises(ImageError, match="507"):
        Registry(registry.address).push(image(tmp_path, b"layer"), "serval-server", "1")
    assert registry.tags == {}


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot push to http://127\.0\.0\.1:1"):
        Registry("127.0.0.1:1").push(image(tmp_path, b"layer"), "serval-server", "1")
