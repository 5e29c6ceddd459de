"""The server API: what a backend or an operator asks of the server over HTTP. Everything needs a scope of its own.

A token concerns sessions of its own issuer only, and anonymous ones; channels and nodes are everybody's. What a token
may not do is refused before its body is read. See docs/server-api.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from hybrid.auth.grants import Action, is_granted
from hybrid.engine.calls import Call
from hybrid.engine.engine import Engine
from hybrid.engine.operations import PublishRequest
from hybrid.errors import AuthError, HybridError, ProtocolError
from hybrid.limits import KEY_MAX_BYTES
from hybrid.model import Principal
from hybrid.protocol.channels import channel_from_path, parse_channel, percent_decode
from hybrid.protocol.codec import refusal, wire_error
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.management import (
    BroadcastAnswer,
    BroadcastRequest,
    BroadcastResult,
    DisconnectRequest,
    DrainRequest,
    PurgeRequest,
    SubscribeRequest,
)
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate

_audit = logging.getLogger("hybrid.audit")
_Body = TypeVar("_Body")
_BODY_MAX_BYTES: Final = 8_192
"""Of all but a broadcast: a channel, a name and a reason, escapes and all."""
_AUDITED_MAX_BYTES: Final = 512
_BARE_SCOPES: Final[frozenset[Action]] = frozenset(("sessions", "disconnect", "nodes", "drain", "admin"))


class ManagementRequests:
    """Serves them; which path is which stands in `protocol.routes.management`."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    # -- publications

    async def broadcast(self, exchange: Exchange) -> None:
        """`POST /v1/broadcast`: the same data to many channels, each of which the token may publish to, or is told."""
        principal = await self._gate.known_principal(exchange)
        key = _key(exchange)
        wanted = _decoded(await exchange.body(self._engine.limits.body_max_bytes), BroadcastRequest)
        if None not in (key, wanted.key) and key != wanted.key:
            raise ProtocolError("bad_request", "Give the key once: in the body, or as Idempotency-Key.")
        request = PublishRequest(
            channel="",
            data=bytes(wanted.data),
            form="binary" if wanted.binary else "json",
            type=wanted.type,
            key=key or wanted.key,
        )
        answers = await self._engine.operations.broadcast(principal, wanted.channels, request, address=exchange.address)
        results = [
            BroadcastResult(channel, error=wire_error(answer))
            if isinstance(answer, HybridError)
            else BroadcastResult(channel, to_wire(answer.position), answer.was_repeated)
            for channel, answer in zip(wanted.channels, answers, strict=True)
        ]
        await _respond(exchange, BroadcastAnswer(results))

    async def purge(self, exchange: Exchange) -> None:
        """`POST /v1/purge`."""
        principal = await self._permitted(exchange, "purge")
        raw = await exchange.body(_BODY_MAX_BYTES)
        wanted = _decoded(raw, PurgeRequest)
        self._check_channel(principal, "purge", wanted.channel)
        await self._once(exchange, principal, raw, lambda: self._engine.manage.purge(wanted.channel))

    # -- sessions

    async def subscribe(self, exchange: Exchange) -> None:
        """`POST /v1/subscribe`."""
        principal = await self._permitted(exchange, "assign")
        raw = await exchange.body(_BODY_MAX_BYTES)
        wanted = _decoded(raw, SubscribeRequest)
        self._check_channel(principal, "assign", wanted.channel)
        arguments = {**msgspec.structs.asdict(wanted), "issuer": principal.issuer}
        await self._once(exchange, principal, raw, lambda: self._engine.manage.subscribe(**arguments))

    async def unsubscribe(self, exchange: Exchange) -> None:
        """`POST /v1/unsubscribe`."""
        principal = await self._permitted(exchange, "assign")
        raw = await exchange.body(_BODY_MAX_BYTES)
        wanted = _decoded(raw, SubscribeRequest)
        self._check_channel(principal, "assign", wanted.channel)
        arguments = {**msgspec.structs.asdict(wanted), "issuer": principal.issuer}
        await self._once(exchange, principal, raw, lambda: self._engine.manage.unsubscribe(**arguments))

    async def disconnect(self, exchange: Exchange) -> None:
        """`POST /v1/disconnect`."""
        principal = await self._permitted(exchange, "disconnect")
        raw = await exchange.body(_BODY_MAX_BYTES)
        arguments = {**msgspec.structs.asdict(_decoded(raw, DisconnectRequest)), "issuer": principal.issuer}
        await self._once(exchange, principal, raw, lambda: self._engine.manage.disconnect(**arguments))

    async def sessions(self, exchange: Exchange) -> None:
        """`GET /v1/info/sessions`."""
        principal = await self._permitted(exchange, "sessions")
        answer = await self._engine.manage.sessions(
            subject=exchange.query_one("subject"),
            client=exchange.query_one("client"),
            transport=exchange.query_one("transport"),
            channel=exchange.query_one("channel"),
            issuer=principal.issuer,
            after=exchange.query_one("after") or "",
            limit=self._limit(exchange),
        )
        await _respond(exchange, answer)

    async def session(self, exchange: Exchange, segment: bytes) -> None:
        """`GET /v1/info/sessions/{session}`."""
        principal = await self._permitted(exchange, "sessions")
        session = percent_decode(segment).decode("utf-8", "replace")
        await _respond(exchange, await self._engine.manage.session(session, issuer=principal.issuer))

    # -- channels

    async def channels(self, exchange: Exchange) -> None:
        """`GET /v1/info/channels`: those that the token may see."""
        principal = await self._permitted(exchange, "channels")
        answer = await self._engine.manage.channels(
            prefix=exchange.query_one("prefix") or "",
            patterns=[grant.pattern for grant in principal.grants if grant.action == "channels"],
            after=exchange.query_one("after") or "",
            limit=self._limit(exchange),
        )
        await _respond(exchange, answer)

    async def channel(self, exchange: Exchange, segment: bytes) -> None:
        """`GET /v1/info/channels/{channel}`."""
        principal = await self._permitted(exchange, "channels")
        channel = channel_from_path(segment)
        self._check_channel(principal, "channels", channel)
        await _respond(exchange, await self._engine.manage.channel(channel))

    # -- nodes

    async def nodes(self, exchange: Exchange) -> None:
        """`GET /v1/info/nodes`."""
        await self._permitted(exchange, "nodes")
        await _respond(exchange, await self._engine.manage.nodes())

    async def stats(self, exchange: Exchange) -> None:
        """`GET /v1/info/stats`."""
        await self._permitted(exchange, "admin")
        await _respond(exchange, await self._engine.manage.stats())

    async def drain(self, exchange: Exchange) -> None:
        """`POST /v1/drain`."""
        principal = await self._permitted(exchange, "drain")
        raw = await exchange.body(_BODY_MAX_BYTES)
        wanted = _decoded(raw, DrainRequest)
        await self._once(exchange, principal, raw, lambda: self._engine.manage.drain(wanted.node))

    # -- inside

    async def _permitted(self, exchange: Exchange, action: Action) -> Principal:
        """Who asks, and may at all do this; on which channels is for `_check_channel` to say. Raises AuthError."""
        principal = await self._gate.lasting_principal(exchange)
        if principal.is_anonymous:
            raise AuthError("unauthorized", "Send the token in the Authorization header.")
        if not any(grant.action == action for grant in principal.grants):
            raise _refused(action)
        self._engine.revocations.check(principal)
        self._engine.rates.check_command(principal, exchange.address)
        return principal

    def _check_channel(self, principal: Principal, action: Action, name: str) -> None:
        if not is_granted(principal, action, parse_channel(name)):
            raise _refused(action)

    def _limit(self, exchange: Exchange) -> int:
        return int(exchange.query_number("limit", 100, self._engine.limits.managed_page_max))

    async def _once(
        self, exchange: Exchange, principal: Principal, raw: bytes, act: Callable[[], Awaitable[msgspec.Struct]]
    ) -> None:
        """Do it and answer; with an Idempotency-Key once, and a repeat gets the first answer, which says so."""
        key = _key(exchange)
        path = exchange.raw_path.decode("latin-1")
        _audit.info("%s by %r of %r: %r", path, principal.subject, principal.issuer, raw[:_AUDITED_MAX_BYTES])
        if key is None:
            await _respond(exchange, await act())
            return
        has_acted = False

        async def first(call: Call) -> Any:
            nonlocal has_acted
            has_acted = True
            return await act()

        answer = await self._engine.calls.once(principal, f"POST {path}", raw, key, first)
        await exchange.respond(200, answer if has_acted else answer[:-1] + b',"repeated":true}')


def _refused(action: Action) -> AuthError:
    scope = f"hybrid:{action}" if action in _BARE_SCOPES else f"hybrid:{action}:CHANNEL"
    told = scope if action in _BARE_SCOPES else ""  # the placeholder is no scope that could be asked for
    return AuthError("forbidden", f"For this, a token needs the scope {scope}.", scope=told)


def _key(exchange: Exchange) -> str | None:
    key = exchange.header(b"idempotency-key")
    if key is not None and not 0 < len(key) <= KEY_MAX_BYTES:
        raise ProtocolError("bad_request", f"An idempotency key has 1 to {KEY_MAX_BYTES} bytes.")
    return key


def _decoded(raw: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError) as error:
        raise refusal(error, "body") from None


async def _respond(exchange: Exchange, answer: msgspec.Struct) -> None:
    await exchange.respond(200, msgspec.json.encode(answer))
