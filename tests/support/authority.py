"""An HTTP server that answers with JSON, as what gives out tokens does."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from unit.serving.fetch.tls import Pki


@dataclass
class Authority:
    """A running server.

    Attributes
    ----------
    answers
        JSON by path; other paths answer 404.
    uri
        Its address.
    headers, forms
        What each request had; names of headers in small letters.
    """

    answers: dict[str, Mapping[str, Any]]
    uri: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def answering(pki: Pki | None, answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Authority]:
    """Run the server on 127.0.0.1, with TLS where there is a `pki`."""
    state = Authority(dict(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            if body:
                state.forms.append(dict(parse_qsl(body)))
            answer = state.answers.get(urlsplit(self.path).path)
            data = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if pki is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki.certificate, pki.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        state.uri = f"http{'' if pki is None else 's'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(timeout=10)
