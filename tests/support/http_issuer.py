"""An issuer whose keys other processes fetch over HTTP: the key set is served on the loopback by a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hybrid.auth.development import DevelopmentIssuer
from hybrid.clock import SystemClock

JWKS_PATH = "/jwks.json"


@contextmanager
def http_issuer(audience: str) -> Iterator[DevelopmentIssuer]:
    """An issuer for this audience; its `issuer` is the URL, and `jwks_url` below tells where its keys are."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    issuer = DevelopmentIssuer(f"http://127.0.0.1:{server.server_port}", audience, SystemClock(), lifetime_s=3_600)
    server.document = json.dumps(issuer.jwks()).encode()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def jwks_url(issuer: DevelopmentIssuer) -> str:
    """Where the keys of an issuer of this module are."""
    return issuer.issuer + JWKS_PATH


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        document: bytes = self.server.document  # type: ignore[attr-defined]
        is_known = self.path == JWKS_PATH
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document) if is_known else 0))
        self.end_headers()
        if is_known:
            self.wfile.write(document)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
