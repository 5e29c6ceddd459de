"""The two sides of the matrix: what may be wrong with a credential, and the ways on which it can be shown.

A `Case` makes a credential and names what it must lead to. A `Way` shows it to a whole server and tells what came
back; from the case's name and the way's nature follows exactly what that has to be.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from hybrid.errors import TABLE
from tests.support.bytewise import (
    EVENTS,
    JSON,
    WEBSOCKET,
    Answer,
    Connection,
    EventStream,
    call,
    connected,
    request,
    text,
)
from tests.support.server import AUDIENCE, RunningServer
from tests.support.tokens import EC_KEY, OTHER_EC_KEY, RSA_KEY, claims, dpop_proof, segment, sign

OTHER_ISSUER: Final = "https://other.example"
CHANNEL: Final = "room:1"
SCOPE: Final = "hybrid:subscribe:room:* hybrid:publish:room:* hybrid:revoke hybrid:nodes hybrid:disconnect"
METADATA: Final = f"{AUDIENCE}/.well-known/oauth-protected-resource"
NO_TOKEN: Final = ("unauthorized", "A credential is needed here and none was sent.")


# -- one side: credentials


@dataclass(frozen=True)
class Credential:
    """What is shown: pairs for the head, a token for a frame (None: there is none to send), something for the URL."""

    headers: tuple[tuple[str, str], ...] = ()
    token: str | None = None
    query: str = ""


@dataclass(frozen=True)
class Case:
    """`leads_to` is `ok`, `small` (accepted, but its scope does not do) or the name of an error, with its words.

    With `needs` "head" or "url" it cannot be shown in a frame. `of_another` speaks for somebody else than alice.
    """

    make: Callable[[], Credential]
    leads_to: str
    words: str = ""
    needs: str = ""
    of_another: bool = False


def now(**changes: Any) -> dict[str, Any]:
    """Claims that are in order now, but for the changes."""
    now_s = int(time.time())
    return claims(**{"iat": now_s, "exp": now_s + 600, "scope": SCOPE, **changes})


def bearer(token: str, scheme: str = "Bearer") -> Credential:
    return Credential((("Authorization", f"{scheme} {token}"),), token)


def head(*values: str) -> Callable[[], Credential]:
    return lambda: Credential(tuple(("Authorization", value.replace("{good}", sign(now()))) for value in values))


def signed(
    *, key: Any = EC_KEY, algorithm: str = "ES256", header: Any = None, **changes: Any
) -> Callable[[], Credential]:
    return lambda: bearer(sign(now(**changes), key, algorithm, **(header or {})))


def later(**seconds: float) -> Callable[[], Credential]:
    """Claims of times, as seconds from now."""
    return lambda: bearer(sign(now(**{name: int(time.time() + value) for name, value in seconds.items()})))


def unsigned() -> Credential:
    return bearer(f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': 'ec'})}.{segment(now())}.")


def with_public_key_as_secret() -> Credential:
    text = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'rsa'})}.{segment(now())}"
    return bearer(f"{text}.{segment(hmac.digest(RSA_KEY.as_pem(private=False), text.encode(), 'sha256'))}")


def in_url(name: str) -> Callable[[], Credential]:
    return lambda: Credential(query=f"{name}={sign(now())}")


def in_both() -> Credential:
    good = sign(now())
    return Credential((("Authorization", f"Bearer {good}"),), good, f"access_token={good}")


def proven(*proofs: str, scheme: str = "DPoP") -> Callable[[], Credential]:
    """A token that is bound to a key, with proofs of that key for what each names: a URL."""

    def make() -> Credential:
        token = sign(now(cnf={"jkt": EC_KEY.thumbprint()}))
        shown = [("DPoP", dpop_proof(EC_KEY, "GET", url, token)) for url in proofs]
        return Credential((("Authorization", f"{scheme} {token}"), *shown), token)

    return make


_MALFORMED: Final = "The Authorization header is malformed."
_REFUSED: Final = "The token is not accepted here."
_PROOF: Final = "The DPoP scheme needs one DPoP header with a proof."
_IN_URL: Final = "A token must not be in a URL: use the Authorization header, or ask for a ticket."
_SCHEME: Final = "The Bearer or DPoP scheme is needed here."


def refused(make: Callable[[], Credential]) -> Case:
    return Case(make, "token_refused", _REFUSED)


CASES: Final[dict[str, Case]] = {
    "valid": Case(signed(), "ok"),
    "valid RS256": Case(signed(key=RSA_KEY, algorithm="RS256"), "ok"),
    "no credential": Case(Credential, *NO_TOKEN),
    "scheme without token": Case(head("Bearer"), "bad_request", _MALFORMED, "head"),
    "scheme and a space": Case(head("Bearer "), "bad_request", _MALFORMED, "head"),
    "two tokens in a header": Case(head("Bearer {good} {good}"), "bad_request", _MALFORMED, "head"),
    "token without scheme": Case(head("{good}"), "unauthorized", _SCHEME, "head"),
    "another scheme": Case(head("Basic YWxpY2U6cHc="), "unauthorized", _SCHEME, "head"),
    "two headers": Case(
        head("Bearer {good}", "Bearer {good}"), "bad_request", "Send one Authorization header only.", "head"
    ),
    "lower-case scheme": Case(head("bearer {good}"), "ok", needs="head"),
    "upper-case scheme": Case(head("BEARER {good}"), "ok", needs="head"),
    "short token": refused(lambda: bearer("x")),
    "two segments": refused(lambda: bearer(sign(now()).rpartition(".")[0])),
    "longer than may be": refused(signed(x="a" * 6_100)),  # within a frame, and over the bound of a token
    "alg none": Case(unsigned, "token_refused", _REFUSED),
    "alg HS256 with the public key": refused(with_public_key_as_secret),
    "alg not of the key": refused(signed(key=RSA_KEY, algorithm="RS512")),
    "key of another issuer": refused(signed(key=OTHER_EC_KEY)),
    "issuer that is not configured": refused(signed(iss="https://evil.example")),
    "same kid, its own issuer": Case(signed(key=OTHER_EC_KEY, iss=OTHER_ISSUER), "ok", of_another=True),
    "same kid, the first one's key": refused(signed(key=EC_KEY, iss=OTHER_ISSUER)),
    "kid unknown": refused(signed(header={"kid": "unknown"})),
    "typ missing": refused(signed(header={"typ": None})),
    "typ JWT": refused(signed(header={"typ": "JWT"})),
    "typ mixed case": Case(signed(header={"typ": "Application/At+JWT"}), "ok"),
    "crit": refused(signed(header={"crit": ["exp"], "exp": 1})),
    "aud missing": refused(signed(aud=None)),
    "aud list": Case(signed(aud=["https://a.example", AUDIENCE]), "ok"),
    "aud list without us": refused(signed(aud=["https://a.example"])),
    "aud wrong": refused(signed(aud=AUDIENCE + "/")),
    "no sub": refused(signed(sub=None)),
    "no exp": refused(signed(exp=None)),
    "exp NaN": refused(signed(exp=float("nan"))),
    "exp text": refused(signed(exp="2100000000")),
    "expired": Case(later(exp=-3_600), "token_expired", "The token's time is over; come back with a new one."),
    "expired and wrong aud": refused(lambda: bearer(sign(now(exp=1, aud="https://a.example")))),
    "nbf future": refused(later(nbf=3_600)),
    "iat future within the leeway": Case(later(iat=20), "ok"),
    "iat future": refused(later(iat=120)),
    "bound to a key": refused(signed(cnf={"jkt": "A" * 43})),
    "bound to a key, proof beside Bearer": Case(proven(AUDIENCE, scheme="Bearer"), "token_refused", _REFUSED, "head"),
    "DPoP without a proof": Case(proven(), "proof_refused", _PROOF, "head"),
    "DPoP with two proofs": Case(proven(AUDIENCE, AUDIENCE), "proof_refused", _PROOF, "head"),
    "DPoP for another request": Case(
        proven("https://elsewhere.example/"), "proof_refused", TABLE["proof_refused"].meaning, "head"
    ),
    "scope unreadable": refused(signed(scope="hybrid:subscribe:a*b")),
    "scope too small": Case(signed(scope="hybrid:subscribe:other hybrid:publish:other"), "small"),
    "token in query": Case(in_url("access_token"), "bad_request", _IN_URL, "url"),
    "token in query, other name": Case(in_url("x"), "bad_request", _IN_URL, "url"),
    "token in query and header": Case(in_both, "bad_request", _IN_URL, "url"),
}


# -- the other side: ways. Each returns what came back, as `http`, `closed`, `reply`, ... below make it.

Seen = tuple[Any, ...]
OK: Final[Seen] = ("ok",)


def http(answer: Answer) -> Seen:
    """An HTTP refusal: status, challenge and problem, whole."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer.headers["cache-control"] == "no-store"
    return "http", answer.status, answer.headers.get("www-authenticate"), answer.json()


def refusal(name: str, words: str, scope: str = "") -> Seen:
    """What `http` has to see for an error; `scope` is what would be enough."""
    row = TABLE[name]
    phrases = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
    problem = {
        "title": phrases[row.http_status], "status": row.http_status, "detail": words, "number": row.number,
        "name": name,
    }  # fmt: skip
    # RFC 6750, section 3.1: no code where no credential was shown.
    codes = {
        "unauthorized": "", "bad_request": "invalid_request", "forbidden": "insufficient_scope",
        "proof_refused": "invalid_dpop_proof",
    }  # fmt: skip
    code = codes.get(name, "invalid_token")
    told = f'error="{code}", error_description="{words}", ' if code else ""
    told += f'scope="{scope}", ' if scope else ""
    if name == "proof_refused":  # RFC 9449, section 7.1
        algorithms = 'algs="ES256 ES384 PS256 RS256 Ed25519 EdDSA"'
        return "http", 401, f'DPoP {told}{algorithms}, resource_metadata="{METADATA}"', problem
    return "http", row.http_status, f'Bearer {told}resource_metadata="{METADATA}"', problem


FORBIDDEN: Final = ("forbidden", TABLE["forbidden"].meaning)


@dataclass(frozen=True)
class Way:
    """`show` shows a credential. `carries` is "head" or "frame". `small` is what too small a scope comes to.

    `another` is what somebody else's good token comes to, where the credential follows a good one of alice's. `told`
    turns an error into what has to be seen.
    """

    show: Callable[[RunningServer, Credential], Awaitable[Seen]]
    carries: str
    small: Seen
    another: Seen | None = None
    told: Callable[[str, str], Seen] = refusal


def target(path: str, credential: Credential, more: str = "") -> str:
    query = "&".join(filter(None, (more, credential.query)))
    return f"{path}?{query}" if query else path


def pairs(credential: Credential, *others: dict[str, str]) -> list[tuple[str, str]]:
    return [*(pair for other in others for pair in other.items()), *credential.headers]


def asked(
    method: str, path: str, body: bytes = b"", *, more: str = "", status: int = 200, **headers: str
) -> Callable[[RunningServer, Credential], Awaitable[Seen]]:
    """One request with one answer."""

    async def show(server: RunningServer, credential: Credential) -> Seen:
        answer = await call(
            server, method, target(path, credential, more), pairs(credential, JSON if body else {}, headers), body
        )
        if answer.status != status:
            return http(answer)
        told = answer.json()
        for item in (*told.get("results", ()), *told.get("replies", ())):
            if "error" in item:
                return "item", item["error"]["number"], item["error"]["name"]
        return _of_pushes(told["pushes"]) if "pushes" in told else OK

    return show


def _of_pushes(pushes: list[dict[str, Any]]) -> Seen:
    (channel,) = next(push["subscribed"]["channels"] for push in pushes if "subscribed" in push)
    return ("channel", channel["error"]) if "error" in channel else OK


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


ATTACH: Final = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": CHANNEL}]}


async def _subscribed(next_push: Callable[[], Awaitable[Any]]) -> list[dict[str, Any]]:
    pushes = []
    while "subscribed" not in (push := await next_push()):
        pushes.append(push)
    return [*pushes, push]


async def event_stream(server: RunningServer, raw: bytes, *, is_session: bool) -> Seen:
    async with connected(server) as connection:
        connection.send(raw)
        answer = await connection.head()
        if answer.status != 200:
            length = int(answer.headers["content-length"])
            return http(Answer(answer.status, answer.headers, await connection.reader.readexactly(length)))
        stream = EventStream(connection, answer)

        async def push() -> Any:
            return json.loads((await stream.event())["data"])

        if is_session:
            return _of_pushes(await _subscribed(push))
        while "data" not in await stream.event():
            pass
        return OK


async def plain_events(server: RunningServer, credential: Credential) -> Seen:
    path = target("/v1/channels/room%3A1", credential, "history=1")
    return await event_stream(server, request("GET", path, pairs(credential, EVENTS)), is_session=False)


async def session_events(server: RunningServer, credential: Credential) -> Seen:
    raw = request("POST", target("/v1/stream", credential), pairs(credential, EVENTS, JSON), dumped(ATTACH))
    return await event_stream(server, raw, is_session=True)


async def _first(connection: Connection) -> Seen | Any:
    """The next push, or how it ended; a push that only announces the end is part of it."""
    while True:
        opcode, payload = await connection.frame()
        if opcode == 8:
            return "closed", int.from_bytes(payload[:2], "big"), payload[2:].decode()
        if opcode == 1 and "disconnect" not in (push := json.loads(payload)):
            return push


def socket(path: str, *, in_frame: bool) -> Callable[[RunningServer, Credential], Awaitable[Seen]]:
    """A WebSocket; the credential in the handshake, or in the first frame."""
    is_session = path == "/v1/stream"

    async def show(server: RunningServer, credential: Credential) -> Seen:
        headers = list(WEBSOCKET.items()) if in_frame else pairs(credential, WEBSOCKET)
        more = "" if is_session else "history=1"
        async with connected(server) as connection:
            connection.send(request("GET", target(path, credential, more), headers))
            answer = await connection.head()
            if answer.status != 101:
                length = int(answer.headers["content-length"])
                return http(Answer(answer.status, answer.headers, await connection.reader.readexactly(length)))
            if in_frame and credential.token is not None:
                connection.send(text({"method": "auth", "token": credential.token}))
            if is_session or (in_frame and credential.token is None):
                connection.send(text(ATTACH))
            elif not credential.headers and not in_frame:
                connection.send(text({"method": "heartbeat"}))
            first = await _first(connection)
            if isinstance(first, tuple):
                return first
            return _of_pushes(await _subscribed(connection.push)) if is_session else OK

    return show


def closed(name: str, words: str) -> Seen:
    return "closed", TABLE[name].number, name


def handshake(name: str, words: str) -> Seen:
    """Of a WebSocket: without any credential it is taken, and waits for the first frame."""
    if (name, words) == NO_TOKEN:
        return closed(name, words)
    return refusal(name, words)


def in_reason(name: str, words: str) -> Seen:
    """Of a plain WebSocket, which has nowhere else to tell it in words."""
    if (name, words) == NO_TOKEN:
        return "closed", 3401, "Send `auth` with a token first."
    return closed(name, words)


def handshake_in_reason(name: str, words: str) -> Seen:
    return in_reason(name, words) if (name, words) == NO_TOKEN else refusal(name, words)


def known(name: str, words: str) -> Seen:
    """Of what belongs to no channel: it asks for a token in words of its own."""
    return refusal(name, "Send a token in the Authorization header." if (name, words) == NO_TOKEN else words)


def for_ticket(name: str, words: str) -> Seen:
    return refusal(name, "Send the token in the Authorization header." if (name, words) == NO_TOKEN else words)


def ticket(wanted: dict[str, Any], path: str) -> Callable[[RunningServer, Credential], Awaitable[Seen]]:
    """Ask for a ticket with the credential, and open the stream with the ticket alone."""

    async def show(server: RunningServer, credential: Credential) -> Seen:
        answer = await call(server, "POST", target("/v1/ticket", credential), pairs(credential, JSON), dumped(wanted))
        if answer.status != 201:
            return http(answer)
        got = answer.json()["ticket"]
        more = "" if path == "/v1/stream" else "&history=1"
        raw = request("GET", f"{path}?ticket={got}{more}", EVENTS)
        return await event_stream(server, raw, is_session=path == "/v1/stream")

    return show


def _alice() -> Credential:
    return bearer(sign(now()))


async def refreshed_socket(server: RunningServer, credential: Credential) -> Seen:
    async with connected(server) as connection:
        connection.send(request("GET", "/v1/stream", pairs(_alice(), WEBSOCKET)))
        assert (await connection.head()).status == 101
        connection.send(text(ATTACH))
        await _subscribed(connection.push)
        shown = {} if credential.token is None else {"token": credential.token}
        connection.send(text({"method": "refresh", "id": 7, "n": 1, **shown}))
        return await _of_refresh(lambda: _first(connection))


async def refreshed_events(server: RunningServer, credential: Credential) -> Seen:
    async with connected(server) as connection:
        connection.send(request("POST", "/v1/stream", pairs(_alice(), EVENTS, JSON), dumped(ATTACH)))
        stream = EventStream(connection, await connection.head())

        async def push() -> Any:
            return json.loads((await stream.event())["data"])

        session = (await _subscribed(push))[0]["attached"]["session"]
        body = dumped({"session": session, "commands": [{"method": "refresh", "id": 7, "n": 1}]})
        answer = await call(server, "POST", target("/v1/command", credential), pairs(credential, JSON), body)
        if answer.status != 200:
            seen = http(answer)
        else:
            (reply,) = answer.json()["replies"]
            assert reply["id"] == 7
            if "error" in reply:
                seen = "reply", reply["error"]["number"], reply["error"]["name"]
            else:
                assert 0 < reply["token_expires_in_s"] <= 600
                seen = OK
        await server.engine.publish(CHANNEL, "after")
        while not (told := await push()).keys() & {"publication", "unsubscribed"}:
            pass
        return ("unsubscribed", told["unsubscribed"]["error"]) if "unsubscribed" in told else seen


async def _of_refresh(next_push: Callable[[], Awaitable[Any]]) -> Seen:
    lost: Seen | None = None
    while True:
        push = await next_push()
        if isinstance(push, tuple):
            return push
        if "unsubscribed" in push:
            lost = "unsubscribed", push["unsubscribed"]["error"]
        if "reply" in push:
            assert push["reply"]["id"] == 7
            if "error" in push["reply"]:
                error = push["reply"]["error"]
                return "reply", error["number"], error["name"]
            assert 0 < push["reply"]["token_expires_in_s"] <= 600
            return lost or OK


async def refreshed_polls(server: RunningServer, credential: Credential) -> Seen:
    """A poll of a session, with another token than the one that it began with."""
    first = await call(server, "POST", "/v1/stream", pairs(_alice(), JSON), dumped(ATTACH))
    pushes = first.json()["pushes"]
    subscribed = pushes[1]["subscribed"]
    await server.engine.publish(CHANNEL, "unread")
    body = {
        "method": "poll", "session": pushes[0]["attached"]["session"], "attempt": 1, "sealed": subscribed["sealed"],
        "positions": [{key: subscribed["channels"][0][key] for key in ("channel", "position")}], "wait_s": 0,
    }  # fmt: skip
    answer = await call(server, "POST", target("/v1/stream", credential), pairs(credential, JSON), dumped(body))
    if answer.status != 200:
        return http(answer)
    told = answer.json()["pushes"]
    publications = [push for push in told if "publication" in push]
    if "attached" in told[0]:  # somebody else's session is none
        assert told[0]["attached"]["session"] != body["session"]
        return "another session", len(publications)
    if "subscribed" in told[0]:
        seen = _of_pushes(told)
        assert seen == OK or not publications
        return seen
    assert len(publications) == 1
    return OK


def replied(name: str, words: str) -> Seen:
    """Of a refresh in a frame: an answer, while the old token lives on. No token is one that is not accepted."""
    row = TABLE["token_refused" if (name, words) == NO_TOKEN else name]
    return "reply", row.number, row.name


_CHANNEL: Final = "/v1/channels/room%3A1"
_SMALL: Final = refusal(*FORBIDDEN)
_NO_REVOKING: Final = refusal("forbidden", "To revoke, a token needs the scope hybrid:revoke.", "hybrid:revoke")
_NO_NODES: Final = refusal("forbidden", "For this, a token needs the scope hybrid:nodes.", "hybrid:nodes")
_NO_ENDING: Final = refusal("forbidden", "For this, a token needs the scope hybrid:disconnect.", "hybrid:disconnect")
_COMMANDS: Final = {
    name: dumped({"commands": [{"method": name, "id": 1, "channel": CHANNEL, **fields}]})
    for name, fields in (("publish", {"data": 1}), ("history", {}), ("presence", {}))
}
_BATCH: Final = dumped({"publications": [{"channel": CHANNEL, "data": 1}]})
_ITEM: Final = ("item", 3403, "forbidden")
_LOST: Final = ("channel", 3403)

WAYS: Final[dict[str, Way]] = {
    "websocket session, header": Way(socket("/v1/stream", in_frame=False), "head", _LOST, told=handshake),
    "websocket session, first frame": Way(socket("/v1/stream", in_frame=True), "frame", _LOST, told=closed),
    "websocket session, refresh": Way(
        refreshed_socket, "frame", ("unsubscribed", 3403), ("closed", 4505, "principal_changed"), replied
    ),
    "websocket plain, header": Way(
        socket(_CHANNEL, in_frame=False), "head", ("closed", 3403, FORBIDDEN[1]), told=handshake_in_reason
    ),
    "websocket plain, first frame": Way(
        socket(_CHANNEL, in_frame=True), "frame", ("closed", 3403, FORBIDDEN[1]), told=in_reason
    ),
    "sse session, header": Way(session_events, "head", _LOST, told=known),
    "sse session, posted refresh": Way(
        refreshed_events, "head", ("unsubscribed", 3403), ("reply", 3404, "session_unknown"), known
    ),
    "sse session, ticket": Way(
        ticket({"purpose": "session", "attach": ATTACH}, "/v1/stream"), "head", _LOST, told=for_ticket
    ),
    "sse plain, header": Way(plain_events, "head", _SMALL),
    "sse plain, ticket": Way(
        ticket({"purpose": "channels", "channels": [CHANNEL]}, _CHANNEL), "head", _SMALL, told=for_ticket
    ),
    "longpoll session, header": Way(asked("POST", "/v1/stream", dumped(ATTACH)), "head", _LOST, told=known),
    "longpoll session, next poll": Way(refreshed_polls, "head", _LOST, ("another session", 1), known),
    "longpoll plain, header": Way(asked("GET", _CHANNEL, more="history=1"), "head", _SMALL),
    "publish": Way(asked("POST", _CHANNEL, b"1"), "head", _SMALL),
    "publish many": Way(asked("POST", "/v1/publish", _BATCH), "head", _ITEM, told=known),
    "history": Way(asked("GET", "/v1/history/room%3A1"), "head", _SMALL),
    "presence": Way(asked("GET", "/v1/presence/room%3A1"), "head", _SMALL),
    "revoke": Way(asked("POST", "/v1/revoke", b'{"jti": "nobody has it"}'), "head", _NO_REVOKING, told=for_ticket),
    "nodes": Way(asked("GET", "/v1/info/nodes"), "head", _NO_NODES, told=for_ticket),
    "disconnect": Way(
        asked("POST", "/v1/disconnect", b'{"subject": "nobody"}'), "head", _NO_ENDING, told=for_ticket
    ),
    "posted publish": Way(asked("POST", "/v1/command", _COMMANDS["publish"]), "head", _ITEM, told=known),
    "posted history": Way(asked("POST", "/v1/command", _COMMANDS["history"]), "head", _ITEM, told=known),
    "posted presence": Way(asked("POST", "/v1/command", _COMMANDS["presence"]), "head", _ITEM, told=known),
}  # fmt: skip


def applies(case: Case, way: Way) -> bool:
    """The form of a header is nothing that a frame could have; and a refresh in a frame has no URL of its own."""
    return way.carries == "head" or not case.needs or (case.needs == "url" and way.another is None)


def expected(case: Case, way: Way) -> Seen:
    """What has to come back for a case on a way."""
    if case.of_another and way.another is not None:
        return way.another
    if case.leads_to == "ok":
        return OK
    if case.leads_to == "small":
        return way.small
    if case.needs == "url":
        return refusal(case.leads_to, case.words)
    return way.told(case.leads_to, case.words)
