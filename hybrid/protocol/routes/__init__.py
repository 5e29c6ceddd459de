"""The table of HTTP routes under `/v1`: one for the dispatcher, the published documents and the tests.

    shapes      what a route says of itself
    channels    plain channels: read, publish, history, presence
    sessions    what carries sessions
    access      tickets and revocations
    management  what backends and operators ask
    server      the server itself, and what describes it

Whoever adds a route writes it here and gives `transports.app` what serves it; the dispatcher refuses to begin while
one of both is missing. The rules of use are in `docs/protocol.md`.
"""

from __future__ import annotations

from typing import Final

from hybrid.protocol.routes.access import ACCESS
from hybrid.protocol.routes.channels import CHANNELS
from hybrid.protocol.routes.management import MANAGEMENT
from hybrid.protocol.routes.server import SERVER
from hybrid.protocol.routes.sessions import SESSIONS
from hybrid.protocol.routes.shapes import Route

ROUTES: Final[tuple[Route, ...]] = (*CHANNELS, *ACCESS, *MANAGEMENT, *SESSIONS, *SERVER)
"""Every route, in the order of the documents."""
