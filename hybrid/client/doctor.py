"""Finds out what the network between here and a server does to each transport, and says it in words.

Each is tried as the clients use it: the attach with a nonce that has to come back, an answer to a command, a poll that
waits. Nothing is decided by a proxy's name; what it calls itself is told all the same, for whoever has to talk to its
keeper. Without a token the server refuses, and that it is heard refusing shows that it can be reached.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from hybrid.client.ending import Ending, of_close, of_http
from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded
from hybrid.client.leg import STREAM_PATH
from hybrid.errors import ProtocolError
from hybrid.protocol.codec import JSON
from hybrid.protocol.eventstream import EventStreamParser
from hybrid.protocol.pushes import Push

PATIENCE_S: Final = 8.0
"""For whatever should come at once: below the 10 s after which clients give a transport up."""
WAIT_S: Final = 5.0
"""How long the poll waits that is tried: gateways that cut waiting requests sooner are rare."""
HELD_S: Final = 1.0
"""What comes so much later than the head of its answer was held back: the server writes both at once."""
TRANSPORTS: Final = ("websocket", "sse", "longpoll")
_EVENT_MAX_BYTES: Final = 1_048_576
_UNAUTHORIZED: Final = 3401
_CHANNEL: Final = "doctor"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one thing that was tried came to. `name`: "server" or a transport; `facts`: sentences, the verdict first."""

    name: str
    works: bool
    facts: tuple[str, ...]


async def examine(endpoint: Endpoint, token: str | None, *, patience_s: float = PATIENCE_S) -> list[Finding]:
    """Try the server and then each transport, one after the other: four findings, or one where there is no server.

    `endpoint` is open. It takes about `WAIT_S`, and `patience_s` more for each thing that does not answer. Cancel-safe.
    """
    doctor = _Doctor(endpoint, token, patience_s)
    server = await doctor.server()
    if not server.works:
        return [server]
    return [server, await doctor.websocket(), await doctor.sse(), await doctor.longpoll()]


class _Doctor:
    def __init__(self, endpoint: Endpoint, token: str | None, patience_s: float) -> None:
        self._endpoint = endpoint
        self._token = token
        self._patience_s = patience_s
        self._nonce = secrets.token_hex(8)
        self._clock = asyncio.get_running_loop().time

    # -- the server

    async def server(self) -> Finding:
        began_s = self._clock()
        try:
            async with asyncio.timeout(self._patience_s):
                async with self._endpoint.stream("GET", "/healthz", "longpoll", {}) as answer:
                    body = await read_bounded(answer)
                    secured = _certificate(answer)
        except TimeoutError:
            return Finding("server", False, (f"no answer within {self._patience_s:g} s",))
        except HTTP_ERRORS as error:
            return Finding("server", False, (f"cannot be reached: {_words(error)}",))
        facts = [f"answered in {_ms(self._clock() - began_s)}", *secured, *_passed(answer.headers)]
        if answer.status_code == 200 and _json(body).get("status") == "alive":
            return Finding("server", True, tuple(facts))
        told = f"HTTP {answer.status_code} that is not hybrid's: a sign-in page of the network, or another server"
        return Finding("server", False, (told, *facts))

    # -- WebSocket

    async def websocket(self) -> Finding:
        began_s = self._clock()
        endpoint = self._endpoint
        where: dict[str, Any] = {}
        dialled = endpoint.dialled("websocket")
        if dialled is not None:
            where = {"host": dialled[0], "port": dialled[1]}
        if endpoint.is_secure and endpoint.tls is not None:
            where["ssl"] = endpoint.tls
        try:
            socket = await connect(
                endpoint.websocket_url(STREAM_PATH),
                subprotocols=[Subprotocol("hybrid.v1")],
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=self._patience_s,
                close_timeout=1.0,
                **where,
            )
        except InvalidStatus as error:
            headers = {name.lower(): value for name, value in error.response.headers.raw_items()}
            return _fails("websocket", self._not_upgraded(error.response.status_code, headers, error.response.body))
        except TimeoutError:
            return _fails("websocket", f"the handshake was not answered within {self._patience_s:g} s")
        except (OSError, WebSocketException, ValueError) as error:
            return _fails("websocket", f"the handshake failed: {_words(error)}")
        opened_s = self._clock() - began_s
        try:
            if socket.subprotocol != "hybrid.v1":
                return _fails("websocket", "the subprotocol was lost on the way")
            if self._token is not None:
                await socket.send(json.dumps({"method": "auth", "token": self._token}))
            await socket.send(self._attach().decode())
            async with asyncio.timeout(self._patience_s):
                pushes = _lines(await socket.recv())
                if not self._is_ours(pushes):
                    ending = _disconnected(pushes)
                    return _heard("websocket", ending) if ending else _fails("websocket", "what came back is not ours")
                asked_s = self._clock()
                await socket.send(json.dumps({"method": "unsubscribe", "id": 7, "n": 1, "channel": _CHANNEL}))
                while not any(push.reply is not None for push in pushes):
                    pushes = _lines(await socket.recv())
        except TimeoutError:
            return _fails("websocket", f"opened after {_ms(opened_s)}, then nothing came back: frames are swallowed")
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code >= 1012:
                return _heard("websocket", of_close(closed.rcvd.code, closed.rcvd.reason))
            return _fails("websocket", f"opened after {_ms(opened_s)}, then cut after {_ms(self._clock() - began_s)}")
        except ProtocolError:
            return _fails("websocket", "what came back is not ours: frames are changed on the way")
        finally:
            socket.transport.abort()
        return _works("websocket", f"open after {_ms(opened_s)}, a command answered in {_ms(self._clock() - asked_s)}")

    def _not_upgraded(self, status: int, headers: Mapping[str, str], body: bytes | bytearray | None) -> str:
        ending = of_http(status, headers, bytes(body or b""))
        by = ", ".join(_passed(headers)) or "something on the way that does not say its name"
        if ending.number == _UNAUTHORIZED:
            # A handshake is taken, and asked for its token in a frame: this came in as a plain GET.
            return f"`Upgrade` is taken out on the way ({by})"
        if not ending.is_network:
            return f"the server refuses: {_visible(ending.detail)}"
        return f"the handshake was answered with HTTP {status} instead of 101 ({by})"

    # -- Server-Sent Events

    async def sse(self) -> Finding:
        began_s = self._clock()
        parser = EventStreamParser(_EVENT_MAX_BYTES)
        headers = self._headers({"Accept": "text/event-stream", "Content-Type": "application/json"})
        head_s = 0.0
        try:
            async with asyncio.timeout(self._patience_s):
                async with self._endpoint.stream("POST", STREAM_PATH, "sse", headers, content=self._attach()) as answer:
                    head_s = self._clock() - began_s
                    if answer.status_code != 200:
                        return self._answered("sse", answer, await read_bounded(answer))
                    facts = _passed(answer.headers)
                    async for chunk in answer.aiter_bytes():
                        pushes = [push for event in parser.feed(chunk) for push in _lines(event.data)]
                        if self._is_ours(pushes):
                            break
                        if ending := _disconnected(pushes):
                            return _heard("sse", ending)
                    else:
                        return _fails("sse", f"the stream ended after {_ms(self._clock() - began_s)}")
        except TimeoutError:
            if head_s:
                told = f"the head came after {_ms(head_s)} and nothing behind it: the body is held back on the way"
                return _fails("sse", told, *facts)
            return _fails("sse", f"no answer within {self._patience_s:g} s: held back until it would be whole")
        except HTTP_ERRORS as error:
            return _fails("sse", f"the stream failed: {_words(error)}")
        except ProtocolError:
            return _fails("sse", "what came back is not ours: the stream is changed on the way")
        first_s = self._clock() - began_s
        if first_s - head_s >= HELD_S:
            facts = [f"the body was held back for {first_s - head_s:.1f} s", *facts]
        return _works("sse", f"first event after {_ms(first_s)}", *facts)

    # -- long polling

    async def longpoll(self) -> Finding:
        began_s = self._clock()
        try:
            async with asyncio.timeout(self._patience_s):
                status, pushes = await self._post(self._attach())
            if isinstance(pushes, Finding):
                return pushes
            if not self._is_ours(pushes):
                return _fails("longpoll", "what came back is not ours")
            first_s = self._clock() - began_s
            asked_s = self._clock()
            async with asyncio.timeout(WAIT_S + self._patience_s):
                status, pushes = await self._post(self._poll(pushes))
        except TimeoutError:
            return _fails("longpoll", "no answer in time")
        except HTTP_ERRORS as error:
            return _fails("longpoll", f"the request failed: {_words(error)}")
        except ProtocolError:
            return _fails("longpoll", "what came back is not ours: answers are changed on the way")
        waited_s = self._clock() - asked_s
        if isinstance(pushes, Finding):
            told = f"a poll that waits is cut after {waited_s:.1f} s with HTTP {status}; shorter ones are used then"
            return _works("longpoll", f"answered in {_ms(first_s)}", told)
        return _works("longpoll", f"answered in {_ms(first_s)}, a poll of {WAIT_S:g} s after {waited_s:.1f} s")

    async def _post(self, body: bytes) -> tuple[int, list[Push] | Finding]:
        headers = self._headers({"Content-Type": "application/json"})
        async with self._endpoint.stream("POST", STREAM_PATH, "longpoll", headers, content=body) as answer:
            raw = await read_bounded(answer)
        if answer.status_code != 200:
            return answer.status_code, self._answered("longpoll", answer, raw)
        try:
            pushes = json.loads(raw)["pushes"]
            return 200, [JSON.decode_push(json.dumps(push).encode()) for push in pushes]
        except (ValueError, KeyError, TypeError):
            raise ProtocolError("bad_request") from None

    def _poll(self, pushes: list[Push]) -> bytes:
        [attached] = [push.attached for push in pushes if push.attached is not None]
        sealed = next((push.subscribed.sealed for push in pushes if push.subscribed is not None), "")
        poll = {"method": "poll", "session": attached.session, "attempt": 1, "positions": [], "wait_s": WAIT_S}
        return json.dumps({**poll, "last_seq": 0, "sealed": sealed or ""}).encode()

    # -- parts

    def _attach(self) -> bytes:
        client = {"name": "hybrid doctor"}
        attach = {"method": "attach", "attempt": 1, "nonce": self._nonce, "confirm": True, "client": client}
        return json.dumps({**attach, "subscriptions": []}).encode()

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return more if self._token is None else {**more, "Authorization": f"Bearer {self._token}"}

    def _is_ours(self, pushes: list[Push]) -> bool:
        return any(push.attached is not None and push.attached.nonce == self._nonce for push in pushes)

    def _answered(self, name: str, answer: Any, body: bytes) -> Finding:
        ending = of_http(answer.status_code, answer.headers, body)
        if ending.is_network:
            return _fails(name, f"answered with HTTP {answer.status_code}, not by the server", *_passed(answer.headers))
        return _heard(name, ending)


def _works(name: str, *facts: str) -> Finding:
    return Finding(name, True, facts)


def _fails(name: str, *facts: str) -> Finding:
    return Finding(name, False, facts)


def _heard(name: str, ending: Ending) -> Finding:
    """The server itself has answered: nothing on the way is to blame."""
    if ending.number == _UNAUTHORIZED:
        more = "" if name == "websocket" else "; whether what follows is held back is seen with one only"
        return _works(name, f"the server is heard, and wants a token{more}")
    return _works(name, f"the server is heard, and refuses: {_visible(ending.detail)}")


def _disconnected(pushes: list[Push]) -> Ending | None:
    for push in pushes:
        if push.disconnect is not None:
            return of_close(push.disconnect.code, push.disconnect.reason)
    return None


def _lines(text: str | bytes) -> list[Push]:
    """The pushes in a frame or an event. Raises ProtocolError."""
    raw = text.encode() if isinstance(text, str) else text
    return [JSON.decode_push(line) for line in raw.split(b"\n") if line.strip()]


def _passed(headers: Mapping[str, str]) -> list[str]:
    """What an answer tells of its way here."""
    facts = []
    for name in ("via", "x-cache", "x-squid-error", "cf-ray"):
        if value := headers.get(name):
            facts.append(f"{name.capitalize()}: {_visible(value)}")
    coding = headers.get("content-encoding", "identity")
    if coding != "identity":
        facts.append(f"recompressed on the way ({_visible(coding)})")
    return facts


def _certificate(answer: Any) -> list[str]:
    """Who has signed the server's certificate, as it is seen from here: an intercepting proxy signs for itself."""
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    if tls is None:
        return []
    issuer = {name: value for part in (tls.getpeercert() or {}).get("issuer", ()) for name, value in part}
    signer = issuer.get("organizationName") or issuer.get("commonName") or "somebody unnamed"
    return [f"TLS certificate issued by {_visible(signer)}"]


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:120]


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return _visible(lines[0]) if lines else type(error).__name__


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
