"""A chat room with presence. Who may talk is who is signed in, by the application's own session.

hybrid serve --app app:app
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from quart import Quart, Response, redirect, request, send_file, session

from hybrid import Hybrid, Principal

ROOM = "room:lobby"
app = Quart(__name__, static_folder=None)
app.secret_key = secrets.token_bytes(
    32
)  # of your configuration, in real life: this one signs everybody out at a restart
app.config.update(
    HYBRID_SESSION_COOKIE="__Host-chat",
    HYBRID_NAMESPACES={"room": {"history_size": 200, "history_ttl_s": 86_400, "presence": True, "join_leave": True}},
)
hybrid = Hybrid(app)

Text = Annotated[str, Meta(min_length=1, max_length=2_000)]


@hybrid.signed_in
def whose(session: Mapping[str, Any]) -> Principal | None:
    """Whom the session speaks for; hybrid asks when a page connects."""
    return Principal(issuer="chat", subject=session["name"]) if "name" in session else None


@hybrid.authorize("room")
def may_listen(principal: Principal, action: str, channel: str) -> bool:
    """Everybody who is signed in reads; nobody publishes but `say`, which knows whose words they are."""
    return action == "subscribe" and not principal.is_anonymous


@hybrid.rpc
async def say(text: Text, whom: Principal) -> None:
    """Say something in the room."""
    await hybrid.publish(ROOM, {"from": whom.subject, "text": text})


@app.get("/")
async def page() -> Response:
    return await send_file(Path(__file__).parent / "index.html")


@app.get("/me")
async def me() -> dict[str, str | None]:
    return {"name": session.get("name"), "room": ROOM}


@app.post("/sign-in")
async def sign_in() -> Response:
    name = " ".join((await request.form).get("name", "").split())
    if name.isprintable() and 0 < len(name) <= 32:
        session["name"] = name
    return redirect("/", 303)


@app.post("/sign-out")
async def sign_out() -> Response:
    session.clear()
    return redirect("/", 303)
