"""The files of the browser client and of the demo page, below `/static`.

Only kinds of files that a page is made of are served. The Content Security Policy goes with every file, since what the
page may do is decided by the answer that carried it.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final

from quart import Blueprint, Response, abort, request, send_file
from werkzeug.security import safe_join

STATIC_PATH: Final = "/static"
ADMIN_FILES: Final = "admin"

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",  # covers ws: and wss: of the same host (CSP level 3, section 6.7.2.8)
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)

_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Names without a version: a module of yesterday beside one of today breaks the page, so each is asked for again,
    # and answered with 304 by its ETag.
    "Cache-Control": "no-cache",
}
# Our own table: on some systems the registry tells Python that JavaScript is text/plain, which browsers then refuse.
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}


def find_static_root(configured: str | None = None) -> Path:
    """The directory with the files: the configured one, else the packaged one, else that of a source checkout."""
    if configured:
        return Path(configured)
    package = Path(__file__).resolve().parent.parent
    packaged = package / "_static"
    return packaged if packaged.is_dir() else package.parent / "static"


async def send_page_file(root: Path, name: str) -> Response:
    """The file `name` below `root` with its type and headers; conditional requests are answered. Aborts with 404.

    The file is read whole, and its ETag is of its content: the same on all nodes, whenever each was installed. (A file
    that is streamed is left open where a client leaves at the wrong moment.)
    """
    media_type = _TYPES.get(Path(name).suffix)
    found = safe_join(str(root), name)
    if media_type is None or found is None:
        abort(404)
    try:
        data = await asyncio.to_thread(Path(found).read_bytes)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        abort(404)
    response = await send_file(BytesIO(data), mimetype=media_type, cache_timeout=0)
    response.headers.update(_HEADERS)
    response.headers.pop("Expires", None)  # Quart's twelve hours, which would say the opposite
    response.set_etag(blake2b(data, digest_size=12).hexdigest())
    await response.make_conditional(request, accept_ranges=True, complete_length=len(data))
    return response


def client_blueprint(root: Path, path: str) -> Blueprint:
    """The routes of the browser client alone: its modules and its one-file builds, all right below `path`."""
    blueprint = Blueprint("hybrid_static", __name__)

    @blueprint.get(f"{path}/<path:name>")
    async def file(name: str) -> Response:
        return await send_page_file(root if name.startswith("hybrid.") else root / "hybrid", name)

    return blueprint


def static_blueprint(root: Path) -> Blueprint:
    """The route of all files below `root` but those of the operators' page, which `web/admin` serves where it is on."""
    blueprint = Blueprint("hybrid_static", __name__)

    @blueprint.get(f"{STATIC_PATH}/<path:name>")
    async def file(name: str) -> Response:
        if ADMIN_FILES in PurePosixPath(name).parts:
            abort(404)
        return await send_page_file(root, name)

    return blueprint
