"""Plain requests with one answer: publish, history, presence, tickets, revocations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from hybrid.auth.grants import REVOKE_SCOPE, is_granted
from hybrid.auth.tickets import CHANNELS_PURPOSE, SESSION_PURPOSE, Ticket
from hybrid.broker.base import Appended
from hybrid.engine.engine import Engine
from hybrid.engine.operations import PublishRequest
from hybrid.engine.rates import is_over_rate, who_is
from hybrid.errors import AuthError, HybridError, LimitError, ProtocolError
from hybrid.limits import KEY_MAX_BYTES
from hybrid.protocol.channels import channel_from_path, parse_channel
from hybrid.protocol.codec import JSON, refusal, wire_error
from hybrid.protocol.commands import Attach
from hybrid.protocol.cursor import format_cursor, parse_cursor, to_wire
from hybrid.protocol.management import PresenceCounts
from hybrid.protocol.publications import plain_json
from hybrid.protocol.pushes import PresenceItem
from hybrid.protocol.requests import Batch, BatchItem, BatchResult, RevokeRequest, TicketRequest
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate

_Body = TypeVar("_Body")
_REVOKE_MAX_BYTES: Final = 4_096
"""One name of at most 255 bytes, an issuer, and escapes."""
_PLACE_MAX_BYTES: Final = 5
"""A dot and the place in a batch of at most 9999."""


class Requests:
    """Serves them."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    async def publish(self, exchange: Exchange, segment: bytes) -> None:
        """`POST /v1/channels/{channel}`: the body is the data."""
        principal = await self._gate.principal(exchange)
        channel = channel_from_path(segment)
        if self._engine.operations.asks:
            await self._engine.operations.ask_publish(principal, (channel,))
        self._engine.operations.check_publish(principal, channel)  # before the body: strangers get no memory
        form = _form(exchange.header(b"content-type"))
        raw = await exchange.body(self._engine.limits.data_max_bytes)
        key = exchange.header(b"idempotency-key")
        appended = await self._engine.operations.publish(
            principal,
            PublishRequest(channel=channel, data=raw, form=form, type=exchange.header(b"hybrid-type"), key=key),
            address=exchange.address,
        )
        position = appended.position
        body = b'{"offset":%d,"epoch":"%b","tag":"%b"%b}' % (
            position.offset,
            position.epoch.encode(),
            position.tag.encode(),
            b',"repeated":true' if appended.was_repeated else b"",
        )
        await exchange.respond(200, body)

    async def ping(self, exchange: Exchange) -> None:
        """`GET /v1/ping`: somebody is here. Asks nobody who it is for, and nothing that could be away or full.

        Who is leaving says so: what breaks now is not the network's fault.
        """
        if self._engine.leaving.has_begun:
            self._engine.intake.check_room()
        await exchange.respond(200, b'{"at_ms":%d}' % int(self._engine.clock.wall_s() * 1000))

    async def publish_many(self, exchange: Exchange) -> None:
        """`POST /v1/publish`: many publications, one answer each."""
        principal = await self._gate.known_principal(exchange)
        limits = self._engine.limits
        raw = await exchange.body(limits.body_max_bytes)
        key = _batch_key(exchange.header(b"idempotency-key"))
        batch = _decoded(raw, Batch)
        if len(batch.publications) > limits.commands_per_post_max:
            detail = f"The body holds more than {limits.commands_per_post_max} publications."
            raise LimitError("commands_per_post_max", detail, name="too_large")
        requests: list[PublishRequest] = []
        answers: list[Appended | HybridError | None] = []
        for place, item_raw in enumerate(batch.publications):
            try:
                item = _decoded(bytes(item_raw), BatchItem)
            except ProtocolError as error:
                answers.append(error)
                continue
            form = "binary" if item.binary else "json"
            own = item.key if item.key is not None or key is None else f"{key}.{place}"
            requests.append(
                PublishRequest(channel=item.channel, data=bytes(item.data), form=form, type=item.type, key=own)
            )
            answers.append(None)
        given = await self._engine.operations.publish_many(principal, requests, address=exchange.address)
        _raise_if_all_are_too_many(given)
        appended = iter(given)
        results = [_result(answer if answer is not None else next(appended)) for answer in answers]
        await exchange.respond(200, msgspec.json.encode({"results": results}))

    async def history(self, exchange: Exchange, segment: bytes) -> None:
        """`GET /v1/history/{channel}`."""
        principal = await self._gate.principal(exchange)
        self._engine.rates.check_command(principal, exchange.address)
        after = exchange.query_one("after")
        reverse = exchange.query_one("reverse")
        if reverse not in (None, "", "0", "1", "true", "false"):
            raise ProtocolError("bad_request", "`reverse` is true or false.")
        page = await self._engine.operations.history(
            principal,
            channel_from_path(segment),
            after=None if after is None else parse_cursor(after),
            limit=max(1, int(exchange.query_number("limit", 100, self._engine.limits.history_page_max))),
            is_reverse=reverse in ("", "1", "true"),
        )
        body = b'{"publications":[%b],"cursor":"%b"}' % (
            b",".join(map(plain_json, page.publications)),
            format_cursor(page.head).encode(),
        )
        await exchange.respond(200, body)

    async def presence(self, exchange: Exchange, segment: bytes) -> None:
        """`GET /v1/presence/{channel}`: who is there, or with `?count` how many."""
        principal = await self._gate.principal(exchange)
        self._engine.rates.check_command(principal, exchange.address)
        if exchange.query_one("count") in ("", "1", "true"):
            channel = channel_from_path(segment)
            await self._engine.operations.ask_subscribe(principal, (channel,))
            self._engine.operations.check_subscribe(principal, channel)
            counts = await self._engine.operations.count_present(channel)
            answer = PresenceCounts(counts.principals, counts.sessions)
            await exchange.respond(200, msgspec.json.encode(answer))
            return
        entries = await self._engine.operations.presence(principal, channel_from_path(segment))
        items = [PresenceItem(entry.subject, entry.client) for entry in entries]
        await exchange.respond(200, msgspec.json.encode({"entries": items}))

    async def ticket(self, exchange: Exchange) -> None:
        """`POST /v1/ticket`."""
        principal = await self._gate.principal(exchange)
        if principal.is_anonymous:
            raise AuthError("unauthorized", "Send the token in the Authorization header.")
        self._engine.rates.check_command(principal, exchange.address)
        wanted = _decoded(await exchange.body(self._engine.limits.attach_max_bytes), TicketRequest)
        attach = b""
        channels: tuple[str, ...] = ()
        if wanted.purpose == CHANNELS_PURPOSE:
            channels = tuple(sorted({parse_channel(channel) for channel in wanted.channels}))
            if not channels:
                raise ProtocolError("bad_request", "Name the channels the ticket is for.")
            await self._engine.operations.ask_subscribe(principal, channels)
            for channel in channels:
                self._engine.operations.check_subscribe(principal, channel)
        elif wanted.purpose == SESSION_PURPOSE and (attach := bytes(wanted.attach)):
            command = JSON.decode_command(attach, self._engine.limits.attach_max_bytes)
            if not isinstance(command, Attach):
                raise ProtocolError("bad_request", "`attach` is an attach command.")
            self._engine.intake.check_subscriptions(command.subscriptions)
            self._engine.tickets.check_issuable(principal)
            # It may be used at another node, whose room is not ours to judge.
            self._engine.rates.connect(who_is(principal, exchange.address))
            self._engine.intake.arrivals.admit(principal, command.session, exchange.address)
        else:
            raise ProtocolError(
                "bad_request", 'A ticket is for "channels" with `channels`, or for "session" with `attach`.'
            )
        with self._engine.intake.told_apart():
            text, expires_in_s = await self._engine.tickets.issue(
                Ticket(
                    principal=principal,
                    purpose=wanted.purpose,
                    origin=self._gate.ticket_origin(exchange),
                    channels=channels,
                    attach=attach,
                )
            )
        await exchange.respond(201, msgspec.json.encode({"ticket": text, "expires_in_s": round(expires_in_s, 3)}))

    async def revoke(self, exchange: Exchange) -> None:
        """`POST /v1/revoke`: refuse tokens of the caller's own issuer, and end what they hold open."""
        principal = await self._gate.principal(exchange)
        if principal.is_anonymous:
            raise AuthError("unauthorized", "Send the token in the Authorization header.")
        if not is_granted(principal, "revoke", "*"):  # before the body: strangers get no memory
            raise AuthError("forbidden", f"To revoke, a token needs the scope {REVOKE_SCOPE}.", scope=REVOKE_SCOPE)
        wanted = _decoded(await exchange.body(_REVOKE_MAX_BYTES), RevokeRequest)
        if wanted.issuer not in (None, principal.issuer):
            raise AuthError("forbidden", "A token revokes those of its own issuer only.")
        self._engine.revocations.check(principal)
        done = await self._engine.revoke(
            issuer=principal.issuer,
            jti=wanted.jti,
            sid=wanted.sid,
            subject=wanted.subject,
            client=wanted.client,
        )
        revocation = done.revocation
        answer = {
            revocation.kind: revocation.value,
            "issuer": revocation.issuer,
            "at_s": revocation.at_s,
            "ended_here": done.ended_here,
        }
        await exchange.respond(200, msgspec.json.encode(answer))


def _form(content_type: str | None) -> str:
    media_type = (content_type or "application/json").split(";", 1)[0].strip().lower()
    if media_type == "application/json":
        return "json"
    if media_type == "application/octet-stream":
        return "bytes"
    # A form can be sent across origins without asking; what a page can forge is not taken for a publication.
    if media_type.startswith("text/"):
        return "text"
    raise ProtocolError("bad_request", "Send application/json, text/* or application/octet-stream.")


def _batch_key(key: str | None) -> str | None:
    """The key of a whole batch, to which the place of each publication is added."""
    if key is not None and not 1 <= len(key.encode()) <= KEY_MAX_BYTES - _PLACE_MAX_BYTES:
        detail = f"The Idempotency-Key of a batch has 1 to {KEY_MAX_BYTES - _PLACE_MAX_BYTES} bytes."
        raise ProtocolError("bad_request", detail)
    return key


def _decoded(raw: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError) as error:
        raise refusal(error, "body") from None


def _raise_if_all_are_too_many(answers: Sequence[Appended | HybridError]) -> None:
    """Where none was let in for its rate, the status says so: what looks at nothing else backs off as well."""
    refusals = [answer for answer in answers if isinstance(answer, LimitError) and is_over_rate(answer)]
    if refusals and len(refusals) == len(answers):
        raise refusals[-1]


def _result(answer: Appended | HybridError) -> BatchResult:
    if isinstance(answer, HybridError):
        return BatchResult(error=wire_error(answer))
    return BatchResult(position=to_wire(answer.position), repeated=answer.was_repeated)
