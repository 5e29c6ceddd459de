"""One examination from beginning to end: the certificate, the server, the transports side by side, then the silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from hybrid.client.credentials import is_token
from hybrid.client.doctor.certificate import look, no_certificate, try_certificate
from hybrid.client.doctor.finding import TRANSPORTS, Finding, Pace, works
from hybrid.client.doctor.idle import hold_lines, hold_poll
from hybrid.client.doctor.lines import UNAUTHORIZED, EventStreamLine, Line, Told, WebSocketLine
from hybrid.client.doctor.longpoll import Polling, try_polling
from hybrid.client.doctor.server import try_server
from hybrid.client.doctor.streaming import try_line
from hybrid.client.doctor.verdict import Verdict, conclude
from hybrid.client.doctor.words import visible
from hybrid.client.endpoint import Endpoint
from hybrid.errors import SettingsError

_LINES: dict[str, type[Line]] = {"websocket": WebSocketLine, "sse": EventStreamLine}


class Examination:
    """`findings` grow while it runs, so that one that is interrupted has something to say."""

    def __init__(
        self,
        endpoint: Endpoint,
        token: str | None,
        *,
        pace: Pace | None = None,
        expected_issuer: str = "",
        unchecked: Endpoint | None = None,
        on_finding: Callable[[Finding], None] = lambda finding: None,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """The endpoints are open. `unchecked` trusts any certificate, and is used where that of the server is not
        trusted; the token is not sent there. Without it nothing more is tried then. The token is not sent either where
        `expected_issuer` is given and was not seen.

        `on_idle` is called when the connections begin to be held open in silence.

        Raises SettingsError for an expected issuer where there are no certificates, and for what is no token.
        """
        if token is not None and not is_token(token):
            raise SettingsError(detail="What was given is no token (RFC 6750, section 2.1).")
        if expected_issuer and not endpoint.is_secure:
            raise SettingsError(detail="An issuer can be expected of https only: over http there is no certificate.")
        self.findings: list[Finding] = []
        self._endpoint = endpoint
        self._unchecked = unchecked
        self._token = token
        self._pace = pace or Pace()
        self._expected_issuer = expected_issuer
        self._on_finding = on_finding
        self._on_idle = on_idle
        self._opened: set[str] = set()

    @property
    def has_token(self) -> bool:
        """Whether the transports are tried with a token: there is one, and nothing has spoken against showing it."""
        return self._token is not None

    @property
    def verdict(self) -> Verdict:
        """From what is known so far."""
        return conclude(self.findings)

    async def run(self) -> None:
        """Find out. Cancel-safe."""
        if self._endpoint.is_secure and not await self._check_certificate():
            return
        self._note(await try_server(self._endpoint, self._pace.patience_s))
        if not self.findings[-1].works:
            return
        await self._together(self._try(name) for name in TRANSPORTS)
        if self._pace.idle_s > 0 and self._opened:
            self._on_idle()
            await self._together(self._hold(name) for name in TRANSPORTS if name in self._opened)

    async def _check_certificate(self) -> bool:
        """Whether to go on."""
        shown = await look(self._endpoint, self._pace.patience_s)
        if shown is None:
            self._note(no_certificate(self._expected_issuer))
            if self._expected_issuer:
                self._token = None  # the connections that follow may well be made, and whose they are nobody has seen
            return True  # the server's finding says why
        finding = try_certificate(shown, self._expected_issuer)
        self._note(finding)
        if not finding.works:
            self._token = None
        if shown.trust != "none":
            return True
        if self._unchecked is None:
            return False
        self._endpoint = self._unchecked
        return True

    async def _try(self, name: str) -> Finding:
        try:
            if name == "longpoll":
                polling = Polling(self._endpoint, self._token, self._pace.patience_s)
                finding = await try_polling(polling, self._pace)
            else:
                line = _LINES[name](self._endpoint, self._token, self._pace.patience_s)
                async with AsyncExitStack() as stack:
                    stack.push_async_callback(line.close)
                    finding = await try_line(line, self._pace)
        except Told as told:
            return _heard(name, told)
        if finding.works:
            self._opened.add(name)
        return finding

    async def _hold(self, name: str) -> Finding:
        if name == "longpoll":
            return await hold_poll(Polling(self._endpoint, self._token, self._pace.patience_s), self._pace)
        given = (self._endpoint, self._token, self._pace.patience_s)
        silent, beating = _LINES[name](*given), _LINES[name](*given, heartbeat_s=self._pace.heartbeat_s)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(silent.close)
            stack.push_async_callback(beating.close)
            return await hold_lines(silent, beating, self._pace)

    async def _together(self, tries: Any) -> None:
        async def noted(one: Coroutine[Any, Any, Finding]) -> None:
            self._note(await one)

        async with asyncio.TaskGroup() as group:
            for one in tries:
                group.create_task(noted(one))

    def _note(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._on_finding(finding)


async def examine(endpoint: Endpoint, token: str | None, *, pace: Pace | None = None) -> list[Finding]:
    """Try the server and then its transports. `endpoint` is open. Cancel-safe."""
    examination = Examination(endpoint, token, pace=pace)
    await examination.run()
    return examination.findings


def _heard(name: str, told: Told) -> Finding:
    """The server itself has answered: nothing on the way is to blame."""
    if told.ending.number == UNAUTHORIZED:
        return works(name, "the server is heard, and wants a token; how events fare is seen with one only")
    return works(name, f"the server is heard, and refuses: {visible(told.ending.detail)}")
