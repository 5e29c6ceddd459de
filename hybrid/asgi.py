"""For the commands of ASGI servers: `hypercorn hybrid.asgi:app`, or those of uvicorn and Granian.

Settings come from `hybrid.toml` and the environment; `public_url` and `allowed_hosts` must fit what the server binds
to.
"""

from __future__ import annotations

import logging

from hybrid.errors import SettingsError
from hybrid.settings import load
from hybrid.web.app import create_app

try:
    settings = load()
    app = create_app(settings)
except SettingsError as error:
    raise SystemExit(f"hybrid: {error}") from None
if settings.development_issuer:
    # `hybrid serve` says so itself.
    logging.getLogger("hybrid").warning(
        "the development issuer is on: whoever can reach %s gets a token under any name", settings.public_url
    )
