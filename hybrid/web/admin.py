"""`/admin`: the operators' page, where the setting `admin` says so.

Only files, which hold nothing: what the page shows and does, it asks of the server API with the operator's token. They
are served below `/admin` with those of the demo page that they use, so that an app with a `/static` of its own has them
too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quart import Blueprint, Response, abort, redirect
from werkzeug.wrappers import Response as WerkzeugResponse

from hybrid.web.static import ADMIN_FILES, send_page_file

ADMIN_PATH: Final = "/admin"
_SERVED: Final = (f"{ADMIN_FILES}/", "demo/", "demo.css", "favicon.svg")


def admin_blueprint(root: Path) -> Blueprint:
    """The page and its files; `root` is that of all files of pages."""
    blueprint = Blueprint("hybrid_admin", __name__)

    @blueprint.get(ADMIN_PATH)
    async def page() -> Response:
        return await send_page_file(root, f"{ADMIN_FILES}/index.html")

    @blueprint.get(f"{ADMIN_PATH}/")
    async def with_slash() -> WerkzeugResponse:
        return redirect("../admin")  # its files stand relative to it

    @blueprint.get(f"{ADMIN_PATH}/files/<path:name>")
    async def file(name: str) -> Response:
        if not name.startswith(_SERVED) or ".." in name:
            abort(404)
        return await send_page_file(root, name)

    return blueprint
