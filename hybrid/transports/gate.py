"""What every request passes before anything else: Host and Origin, no token in the URL, then who it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from hybrid.auth.bearer import Credential, find_credential, shows_proof, www_authenticate
from hybrid.auth.cookies import CookieReader, check_asker, find_cookie
from hybrid.auth.door import Admission
from hybrid.auth.origin import DoorPolicy
from hybrid.engine.engine import Engine
from hybrid.errors import AuthError, HybridError
from hybrid.model import ANONYMOUS, Principal
from hybrid.protocol.codec import problem
from hybrid.transports.exchange import Exchange, Headers


class Gate:
    """See the module's text. One per process."""

    def __init__(
        self,
        engine: Engine,
        door_policy: DoorPolicy,
        *,
        public_url: str = "",
        resource_metadata: str = "",
        cookie: tuple[str, CookieReader] | None = None,
    ) -> None:
        """`cookie` is the name of the session cookie that counts as a credential, and who reads it."""
        self._engine = engine
        self._cookie = cookie
        self._public_url = public_url.rstrip("/")
        self._door_policy = door_policy
        self._checks = {scheme: partial(door_policy.check, scheme=scheme) for scheme in ("http", "https", "ws", "wss")}
        self._resource_metadata = resource_metadata

    def check(self, exchange: Exchange) -> None:
        """Raises AuthError origin_refused, or bad_request for a token in the URL."""
        check = self._checks.get(exchange.scope.get("scheme", ""), self._checks["http"])
        exchange.read_headers(check)
        exchange.fields()

    def ticket_origin(self, exchange: Exchange) -> str | None:
        """What a ticket of this request is bound to, or was."""
        return self._door_policy.foreign_origin(exchange.headers, scheme=exchange.scope.get("scheme", "http"))

    def cors_headers(self, exchange: Exchange, *, is_preflight: bool = False) -> Headers:
        """What lets a listed page read the answer."""
        if is_preflight:
            return self._door_policy.cors_headers(exchange.header(b"origin"), is_preflight=True)
        return exchange.read_headers(self._cors_headers)

    def _cors_headers(self, headers: Headers) -> Headers:
        origin = next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)
        return self._door_policy.cors_headers(origin)

    async def shown(self, exchange: Exchange) -> Principal | None:
        """Who the Authorization header speaks for, or else the session cookie if that counts; None without either.

        Raises AuthError; LimitError when too many unverified requests wait; BrokerError where used proofs are kept.
        """
        exchange.principal = await self._shown(exchange)
        return exchange.principal

    async def _shown(self, exchange: Exchange) -> Principal | None:
        credential = exchange.read_headers(find_credential)
        if credential is None:
            return await self._signed_in(exchange)
        if credential.proof is not None:
            return await self._proven(exchange, credential, credential.proof)
        return self._engine.verifier.cached(credential.token) or await self._verified(exchange, credential.token)

    async def principal(self, exchange: Exchange) -> Principal:
        """As `shown`, but anonymous without a header."""
        return await self.shown(exchange) or ANONYMOUS

    async def lasting_principal(self, exchange: Exchange) -> Principal:
        """As `principal`, but refuses a token that is over and accepted only for clocks that differ.

        What ends with the token would end at once, and be asked again at once. Raises AuthError token_expired.
        """
        principal = await self.principal(exchange)
        if principal.expires_at_s <= self._engine.clock.wall_s():
            raise AuthError("token_expired")
        return principal

    async def known_principal(self, exchange: Exchange) -> Principal:
        """As `principal`, but refuses anonymous ones where no namespace has anything for them."""
        principal = await self.principal(exchange)
        if principal.is_anonymous and not self._engine.allows_anonymous:
            raise AuthError("unauthorized", "Send a token in the Authorization header.")
        return principal

    def enter(self, exchange: Exchange) -> Admission:
        """Count a connection that has not shown who it is. Raises LimitError."""
        return self._engine.door.enter(exchange.address)

    def arrive(self, exchange: Exchange) -> None:
        """Count a stream that is asked for, before anything is known of who asks. Raises LimitError."""
        self._engine.intake.arrive(exchange.address)

    async def refuse(self, exchange: Exchange, error: HybridError) -> None:
        """Answer an HTTP request with an error."""
        self._engine.counts.refused(error)
        exchange.refusal = error
        await exchange.respond(
            error.row.http_status,
            problem(error),
            content_type="application/problem+json",
            headers=self._error_headers(exchange, error),
        )

    async def refuse_handshake(self, exchange: Exchange, error: HybridError) -> None:
        """Answer a WebSocket handshake with an HTTP error, where the server can; with a bare refusal otherwise."""
        self._engine.counts.refused(error)
        exchange.refusal = error
        with suppress(OSError):  # nobody is left to answer
            await self._refuse_handshake(exchange, error)

    async def _refuse_handshake(self, exchange: Exchange, error: HybridError) -> None:
        if "websocket.http.response" not in exchange.scope.get("extensions", {}):
            await exchange.send({"type": "websocket.close"})
            return
        body = problem(error)
        head = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *self._error_headers(exchange, error),
        ]
        await exchange.send({"type": "websocket.http.response.start", "status": error.row.http_status, "headers": head})
        await exchange.send({"type": "websocket.http.response.body", "body": body})

    async def _verified(self, exchange: Exchange, token: str) -> Principal:
        admission = self.enter(exchange)
        try:
            return await self._engine.identification.verified(token, exchange.address)
        finally:
            admission.leave()

    async def _proven(self, exchange: Exchange, credential: Credential, text: str) -> Principal:
        admission = self.enter(exchange)
        try:
            return await self._engine.identification.proven(
                credential.token, text, exchange.address, method=exchange.method, urls=self._urls(exchange)
            )
        finally:
            admission.leave()

    async def _signed_in(self, exchange: Exchange) -> Principal | None:
        if self._cookie is None:
            return None
        name, reader = self._cookie
        value = find_cookie(exchange.headers, name)
        if value is None:
            return None
        principal = await reader.principal(value)
        if principal is not None:
            check_asker(exchange.headers)  # not for who is not signed in: without rights there is nothing to borrow
            self._engine.revocations.check_shown(principal)
        return principal

    def _urls(self, exchange: Exchange) -> tuple[str, str]:
        """As what a client may know this request's URL: by the public name, or by the Host it asked, which is ours."""
        path = exchange.raw_path.decode("latin-1")
        scheme = {"ws": "http", "wss": "https"}.get(exchange.scope["scheme"], exchange.scope["scheme"])
        return self._public_url + path, f"{scheme}://{exchange.header(b'host')}{path}"

    def _error_headers(self, exchange: Exchange, error: HybridError) -> Iterable[tuple[bytes, bytes]]:
        challenge = www_authenticate(
            error, resource_metadata=self._resource_metadata, with_proof=shows_proof(exchange.headers)
        )
        if challenge:
            yield b"www-authenticate", challenge.encode("ascii")
        if error.retry_after_s is not None or error.row.http_status in (429, 503):
            yield b"retry-after", str(max(1, math.ceil(error.retry_after_s or 1.0))).encode()
        if error.row.name == "draining" and self._engine.intake.is_full:  # another process may have some room
            yield b"connection", b"close"
