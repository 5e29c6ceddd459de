"""Every parser of what strangers send, with seeds and with the errors that its docstring promises.

`modules` are those whose parsing a target reaches; `tests/fuzz/test_targets.py` holds the list against the code, so
that a module that begins to parse is noticed. The order is that in which a request meets them.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from hybrid.auth import bearer, keys
from hybrid.auth.door import address_group
from hybrid.auth.dpop import ProofDesk
from hybrid.auth.fetch import FetchError, JsonFetcher
from hybrid.auth.introspection import IntrospectionConfig, Introspector
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.auth.origin import DoorPolicy
from hybrid.auth.revocation import Revocations
from hybrid.auth.tickets import TicketOffice
from hybrid.broker.base import Kept
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.broker.memory_tickets import MemoryTicketStore
from hybrid.broker.redis.address import parse_address
from hybrid.broker.redis.broker import RedisBroker
from hybrid.client import plain
from hybrid.client.credentials import Credentials
from hybrid.client.device import _refused, _seconds
from hybrid.client.ending import Ending, of_close, of_http
from hybrid.client.longpoll import LongPollLeg
from hybrid.client.plain import PlainReader
from hybrid.client.uplink import Uplink
from hybrid.engine.nodes import NodeInfo, Nodes
from hybrid.errors import AuthError, LimitError, ProtocolError, SettingsError
from hybrid.limits import Limits
from hybrid.links.deflate import offers_deflate
from hybrid.links.head import HAS_PARSER, read_head
from hybrid.links.inbound import CLOSE, BrokenFrame, MessageReader, parse_close
from hybrid.links.inflate import BrokenMessage, inflate
from hybrid.links.recognise import recognise
from hybrid.model import Principal
from hybrid.protocol import channels, codec, control, cursor, data, eventstream, seal
from hybrid.protocol.commands import Attach, Publish
from hybrid.protocol.pushes import Attached
from hybrid.settings import load
from hybrid.transports.exchange import Exchange
from hybrid.transports.forwarded import TrustedProxies
from hybrid.transports.target import read_target
from tests.support.listeners import RecordingListener
from tests.support.tokens import AUDIENCE, EC_KEY, ISSUER, NOW_S, HandClock, claims, dpop_proof, public, sign

LIMITS: Final = Limits()
_PRINCIPAL: Final = Principal(issuer=ISSUER, subject="alice", client="app", token_hash=b"h" * 16)
_KEY: Final = b"k" * 32
_CLOCK: Final = HandClock()


@dataclass(frozen=True)
class Target:
    """One parser. `run` is given bytes and may raise nothing but `raises`; anything else is a fault."""

    name: str
    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    raises: tuple[type[BaseException], ...] = ()
    modules: tuple[str, ...] = ()

    def fault(self, raw: bytes) -> BaseException | None:
        """What came out that may not; None when all is well."""
        try:
            self.run(raw)
        except self.raises:
            return None
        except Exception as error:
            return error
        return None


def _now(work: Coroutine[Any, Any, object]) -> object:
    """Run what never really waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("a parser waits for something")


# -- the head of a request


def _headers(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Lines as an HTTP server hands them over: names in lower case, no line ends, no NUL in values."""
    pairs = []
    for line in raw.replace(b"\r", b"").replace(b"\0", b"").split(b"\n"):
        name, _, value = line.partition(b":")
        pairs.append((name.strip().lower(), value.strip(b" \t")))
    return pairs


def _scope(raw: bytes) -> dict[str, Any]:
    """A request in ASGI's terms: path, `?`, query, line end, headers."""
    line, _, rest = raw.partition(b"\n")
    path, _, query = line.partition(b"?")
    return {"type": "http", "method": "GET", "raw_path": path, "query_string": query, "headers": _headers(rest)}


def _exchange(raw: bytes) -> None:
    exchange = Exchange(_scope(raw), None, None)  # type: ignore[arg-type]
    exchange.accepts("application/json")
    read_target(exchange, LIMITS)
    exchange.query_number("wait", 0, 25)


def _forwarded(raw: bytes) -> None:
    proxies = TrustedProxies(["127.0.0.0/8", "2001:db8::/32"])
    for client in (("127.0.0.1", 1), (raw.decode("latin-1"), 1), None):
        resolved = proxies.resolve({"type": "http", "client": client, "scheme": "http", "headers": _headers(raw)})
        address_group(str((resolved.get("client") or ("",))[0]))


def _frames(raw: bytes) -> None:
    for takes_deflated in (False, True):
        reader = MessageReader(takes_deflated=takes_deflated)
        with suppress(BrokenFrame):
            for first in range(0, len(raw), 1 + len(raw) // 3):
                reader.feed(raw[first : first + 1 + len(raw) // 3])
                while (event := reader.next_event(4_096, 8)) is not None:
                    if event[0] == CLOSE:
                        parse_close(event[1])


_REQUEST: Final = (
    b"GET /v1/stream?a=b HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: x, hybrid.v1\r\n\r\n",
    b"POST /v1/stream HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\ncontent-length: 4\r\n\r\n{ } ",
    b"POST /v1/channels/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n123",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)
_TARGETS: Final = (
    b"/v1/channels/chat%3Alobby?after=k3f9-42-9c1d07aa&wait=25&history=3\nhost: a\naccept: text/event-stream;q=1, */*",
    b"/v1/channels?name=a&name=b%C3%A9&after=a%3Dk3f9-42-9c1d07aa%2Cb%3D0\nlast-event-id: a=k3f9-42-9c1d07aa,b=0",
    b"/v1/channels/a?wait=2.5\nlast-event-id: k3f9-42-9c1d07aa",
)
_FRAMES: Final = (
    b"\x81\x85maskhello",
    b"\x01\x82maskab\x89\x80mask\x80\x81maskc",
    b"\x82\xfe\x00\x80mask" + b"x" * 128,
    b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00mask" + b"y" * 100,
    b"\xc1\x8bmask\x9f\x29\xbe\xa2\xa6\x2e\xbe\x6b\x6d\x6d\x6d",
    b"\x88\x82mask\x6e\x89",
    b"\x88\x85\0\0\0\0\x03\xe8bye",
)


# -- commands and what they hold


def _command(coder: Any) -> Callable[[bytes], None]:
    def run(raw: bytes) -> None:
        assert coder.command_id(raw) >= 0
        for part in coder.split(raw, max_bytes=LIMITS.command_max_bytes, commands_max=8):
            command = coder.decode_command(part, LIMITS.command_max_bytes)
            if isinstance(command, Publish):
                data.check_json(bytes(command.data), LIMITS.data_max_bytes)

    return run


def _data(raw: bytes) -> None:
    checked = data.check_json(raw, LIMITS.data_max_bytes)
    json.loads(checked)
    data.to_msgpack(checked, False)


def _binary(raw: bytes) -> None:
    data.to_msgpack(data.check_binary_json(raw, LIMITS.data_max_bytes), True)


def _from_msgpack(raw: bytes) -> None:
    data.check_json(data.from_msgpack(raw)[0], LIMITS.data_max_bytes)


def _event_stream(raw: bytes) -> None:
    parser = eventstream.EventStreamParser(10_000)
    for first in range(0, len(raw), 1 + len(raw) // 3):
        parser.feed(raw[first : first + 1 + len(raw) // 3])


_COMMANDS: Final = (
    b'{"method":"attach","attempt":7,"nonce":"n1","session":"a.b","last_seq":12,"confirm":true,"heartbeat_s":10,'
    b'"client":{"name":"n","version":"v"},"tried":[{"transport":"websocket","reason":"mute"}],'
    b'"subscriptions":[{"channel":"a","position":{"offset":42,"epoch":"k3f9","tag":"9c1d07aa"}}]}',
    b'{"method":"publish","id":1,"channel":"a","data":{"a":[1,2.5e3,"\\ud83d\\ude00"]},"key":"k","type":"said"}',
    b'{"method":"subscribe","id":1,"channel":"a","history":3,"n":1}\n{"method":"heartbeat"}',
    b'{"method":"poll","session":"s","attempt":1,"positions":[{"channel":"a","position":{"offset":0}}],"sealed":"x"}',
    b'{"method":"auth","token":"x"}',
    b'{"method":"call","id":2,"name":"n","data":[1],"key":"k"}',
)
_POSTS: Final = (b'{"session":"s","commands":[{"method":"presence","id":1,"channel":"a"}],"last_seq":1}',)
_JSON: Final = (b'{"a":[1,-2.5e10,true,null,"\\u00e9\\n"],"b":{}}', b'"text"', b"17", b'{"base64":"/w=="}', b" [ ] ")
_PUSHES: Final = (
    b'{"attached":{"session":"s","attempt":1,"nonce":"n","heartbeat_interval_s":20,"limits":{"data_max_bytes":1,'
    b'"command_max_bytes":1,"channels_max":1,"key_window_s":1,"poll_wait_max_s":1}}}',
    b'{"publication":{"channel":"a","offset":1,"epoch":"k","tag":"9c1d07aa","data":{"base64":"/w=="},"binary":true}}',
    b'{"reply":{"id":1,"error":{"number":3400,"name":"bad_request"}}}',
    b'{"disconnect":{"code":1012,"reason":"draining","reconnect":true,"delay_ms":5}}',
)


def _packed(texts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(msgspec.msgpack.encode(json.loads(line)) for text in texts for line in text.splitlines())


# -- credentials


def _credential(raw: bytes) -> None:
    found = bearer.find_credential(_headers(raw))
    if found is not None:
        _now(_verifier().verify(found.token))


def _token(raw: bytes) -> None:
    _now(_verifier().verify(raw.decode("latin-1")))


def _claims(raw: bytes) -> None:
    """A token that is signed well, with whatever in it: an issuer can be wrong, too."""
    _now(_verifier().verify(sign(raw)))


def _verifier() -> JwtVerifier:
    return JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY]))], AUDIENCE, _CLOCK, LIMITS)


def _proof(raw: bytes) -> None:
    desk = ProofDesk(MemoryProofStore(_CLOCK, LIMITS), _CLOCK)
    desk.check(raw.decode("latin-1"), "token", method="GET", urls=["https://hybrid.example/v1/stream"])


def _introspected(raw: bytes) -> None:
    """What an issuer says about a token, as it came over the wire."""

    async def post(url: str, form: object) -> dict[str, Any]:
        document = json.loads(raw)
        if not isinstance(document, dict):
            raise FetchError("not a JSON object")  # as the fetcher does, which is a target of its own
        return document

    config = IntrospectionConfig(ISSUER, AUDIENCE, "us", "secret", url="https://issuer.example/introspect")
    with suppress(ValueError, RecursionError):
        json.loads(raw)
        introspector = Introspector(config, _CLOCK, LIMITS, post=post)
        asyncio.run(introspector.verify("opaque"))


def _ticket(raw: bytes) -> None:
    revocations = Revocations(LIMITS, _CLOCK)
    revocations.is_known = True
    office = TicketOffice(MemoryTicketStore(_CLOCK, LIMITS), _CLOCK, revocations)
    _now(office.redeem_session(raw.decode("latin-1"), None))


def _door(raw: bytes) -> None:
    policy = DoorPolicy(["https://app.example"], ["hybrid.example", "127.0.0.1:*"])
    policy.foreign_origin(_headers(raw))
    policy.check(_headers(raw))


class _Body:
    """A stream as httpx2 gives it, of one body."""

    status_code = 200

    def __init__(self, raw: bytes, **headers: str) -> None:
        self.raw = raw
        self.headers = headers

    async def aiter_raw(self, size: int) -> AsyncIterator[bytes]:
        yield self.raw

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        yield self.raw


class _Fetching(JsonFetcher):
    def __init__(self, raw: bytes) -> None:
        super().__init__(http_hosts=frozenset())
        self.raw = raw

    async def _read(self, method: str, url: str, **options: Any) -> bytes:
        return self.raw


def _key_set(raw: bytes) -> None:
    """An issuer's document, from its bytes to keys."""
    document = asyncio.run(_Fetching(raw).get("https://issuer.example/jwks"))
    StaticKeys(keys.import_jwks(document))


# -- what servers say to our client


class _Endpoint:
    """Answers everything with the same bytes."""

    is_secure = True
    netloc = "test"
    connect_timeout_s = 1.0

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    async def request(self, *arguments: object, **options: object) -> bytes | Ending:
        return self.raw

    @asynccontextmanager
    async def stream(self, *arguments: object, **options: object) -> AsyncIterator[_Body]:
        yield _Body(self.raw, **{"content-type": "text/event-stream"})


class _Host:
    """The session that a leg is of, as far as a leg asks."""

    encoding = "json"
    last_seq = 0
    sealed = ""
    poll_wait_s = 25.0
    credentials = Credentials(None)

    def __init__(self, raw: bytes) -> None:
        self.endpoint = _Endpoint(raw)

    def leg_pushed(self, leg: object, push: object) -> None: ...


def _poll_answer(raw: bytes) -> None:
    async def take() -> None:
        LongPollLeg(_Host(raw), Attach(attempt=1, nonce="n"))._take_answer(raw)  # type: ignore[arg-type]

    asyncio.run(take())


def _replies(raw: bytes) -> None:
    async def take() -> None:
        leg = LongPollLeg(_Host(raw), Attach(attempt=1, nonce="n"))  # type: ignore[arg-type]
        leg.attached = msgspec.convert(json.loads(_PUSHES[0])["attached"], Attached)
        await Uplink(leg)._post([msgspec.Raw(b"{}")])

    asyncio.run(take())


def _plain_reader(raw: bytes) -> PlainReader:
    return PlainReader(_Endpoint(raw), Credentials(None), "a", "longpoll")  # type: ignore[arg-type]


async def _all(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


def _plain_poll(raw: bytes) -> None:
    asyncio.run(_all(_plain_reader(raw)._poll()))


def _plain_events(raw: bytes) -> None:
    asyncio.run(_all(_plain_reader(raw)._read_sse()))


def _plain_frame(raw: bytes) -> None:
    plain.read_frame(raw)


def _http_error(raw: bytes) -> None:
    head, _, body = raw.partition(b"\n")
    ended = of_http(503, {"retry-after": head.decode("latin-1")}, body)
    ended.as_error()
    of_close(3000 + len(raw), head.decode("latin-1")).as_error()


def _device(raw: bytes) -> None:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        _seconds(document.get("interval"), 5.0, (1.0, 60.0))
        _refused(document, 400)


# -- what stands in Redis, and in settings


def _announced(raw: bytes) -> None:
    broker = RedisBroker(parse_address("redis://127.0.0.1:1/0"), "fuzz", LIMITS)
    broker._listener = RecordingListener()
    broker._channel_of[b"topic"] = "a"
    broker._heard_by[b"node"] = lambda message: None
    broker._heard(b"topic", raw)
    broker._heard(b"elsewhere", raw)


def _control(raw: bytes) -> None:
    """With a good seal around it: a node of another version may say anything."""
    coder = control.ControlCodec(_KEY, "here")
    coder.open(raw)
    coder.open(coder._digest(raw) + raw)


class _Leases:
    """A store of nodes in which another one says this of itself."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    async def listen(self, node: str, heard: object) -> None: ...

    async def keep(self, node: str, generation: int, lease_s: float, text: bytes) -> Kept:
        return Kept(1, [self.raw])

    def schedule(self, entry: object, due_s: float) -> None:
        """The wheel's."""


def _other_node(raw: bytes) -> None:
    store: Any = _Leases(raw)
    nodes = Nodes(
        "here", store, store, store, describe=lambda: NodeInfo(id="here"), heard=lambda raw: None, lost=lambda: None
    )
    _now(nodes.start())


def _sealed(raw: bytes) -> None:
    sealer = seal.Sealer(_KEY)
    sealer.open(raw.decode("latin-1"), _PRINCIPAL, "s")
    signed = sealer._digest(_PRINCIPAL, "s", raw) + raw
    text = seal.urlsafe_b64encode(signed).decode().rstrip("=")
    sealer.open(text, _PRINCIPAL, "s")


def _settings(raw: bytes) -> None:
    descriptor, path = tempfile.mkstemp(suffix=".toml")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
        load(path, {}, {})
    finally:
        Path(path).unlink()


_TOML: Final = (
    b'public_url = "https://live.example.com"\nallowed_origins = ["https://app.example.com"]\nport = 8000\n'
    b'[[issuers]]\nurl = "https://id.example.com"\nalgorithms = ["ES256"]\n[[issuers.grants]]\nscope = "a"\n'
    b'subscribe = ["x:*"]\n[limits]\ndata_max_bytes = 1000\nheartbeat_interval_s = 5.5\n'
    b'[namespaces.chat]\nhistory_size = 5\npresence = true\nsubscribe = "anyone"\n',
    b'development_issuer = true\nworkers = 4\nbroker = "redis://u:p@h:6379/0"\nsecret = "' + b"s" * 40 + b'"\n',
)


def _token_seeds() -> tuple[bytes, ...]:
    return (sign().encode(), sign(claims(aud=["x", AUDIENCE])).encode(), b"a.b.c", sign(kid=None).encode())


def _proof_seeds() -> tuple[bytes, ...]:
    url = "https://hybrid.example/v1/stream"
    return (dpop_proof(EC_KEY, "GET", url, "token", iat=int(NOW_S)).encode(),)


TARGETS: Final = (
    Target("recognise", lambda raw: recognise(raw, b"/v1/"), _REQUEST, (), ("links.recognise",)),
    *([Target("head", read_head, _REQUEST, (), ("links.head",))] if HAS_PARSER else []),
    Target("door", _door, (b"host: hybrid.example\norigin: https://app.example",), (AuthError,), ("auth.origin",)),
    Target(
        "forwarded",
        _forwarded,
        (
            b"x-forwarded-for: 192.0.2.1, [2001:db8::1]:5000, 127.0.0.1\nx-forwarded-proto: https, http",
            b"::ffff:1.2.3.4",
        ),
        (),
        ("transports.forwarded", "auth.door"),
    ),
    Target(
        "target of a request",
        _exchange,
        _TARGETS,
        (ProtocolError, LimitError, AuthError),
        ("transports.exchange", "transports.target", "protocol.channels", "protocol.cursor"),
    ),
    Target(
        "query without tokens",
        bearer.checked_query,
        (b"name=a&after=k3f9-42-9c1d07aa&ticket=x", b"access_token=a.b.c"),
        (AuthError,),
        ("auth.bearer",),
    ),
    Target(
        "credential",
        _credential,
        (b"authorization: Bearer " + _token_seeds()[0], b"authorization: DPoP a\ndpop: b"),
        (AuthError,),
        ("auth.bearer", "auth.jwt"),
    ),
    Target("token", _token, _token_seeds(), (AuthError,), ("auth.jwt",)),
    Target(
        "claims",
        _claims,
        (
            json.dumps(claims()).encode(),
            json.dumps(
                claims(
                    scope="hybrid:subscribe:user:{sub} hybrid:publish:a%3A* x",
                    authorization_details=[
                        {"type": "hybrid_channels", "actions": ["subscribe"], "channels": ["chat:*", "user:{sub}"]}
                    ],
                    cnf={"jkt": "x"},
                    sid="s",
                )
            ).encode(),
        ),
        (AuthError,),
        ("auth.claims", "auth.grants", "auth.details", "auth.jwt"),
    ),
    Target("proof of possession", _proof, _proof_seeds(), (AuthError,), ("auth.dpop",)),
    Target(
        "introspection",
        _introspected,
        (json.dumps(claims(active=True)).encode(), b'{"active":false}'),
        (AuthError,),
        ("auth.introspection",),
    ),
    Target("key set", _key_set, (json.dumps(public(EC_KEY)).encode(),), (FetchError,), ("auth.keys", "auth.fetch")),
    Target("ticket", _ticket, (b"A" * 43, b"-_" * 21 + b"a"), (AuthError,), ("auth.tickets",)),
    Target(
        "offers of compression",
        lambda raw: offers_deflate({"headers": _headers(raw)}),
        (b"sec-websocket-extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=10, x-y",),
        (),
        ("links.deflate",),
    ),
    Target("frames", _frames, _FRAMES, (), ("links.inbound", "links.inflate")),
    Target(
        "inflate",
        lambda raw: inflate(raw, 1_000),
        (b"\xf2H\xcd\xc9\xc9\x07\x00", b"\xabV\x02\x00"),
        (BrokenMessage,),
        ("links.inflate",),
    ),
    Target("commands in JSON", _command(codec.JSON), _COMMANDS, (ProtocolError,), ("protocol.codec",)),
    Target(
        "commands in MessagePack", _command(codec.MSGPACK), _packed(_COMMANDS), (ProtocolError,), ("protocol.codec",)
    ),
    Target(
        "posted commands",
        lambda raw: codec.decode_post(raw, max_bytes=LIMITS.body_max_bytes, commands_max=4),
        _POSTS,
        (ProtocolError,),
        ("protocol.codec", "transports.requests"),
    ),
    Target("data", _data, _JSON, (ProtocolError,), ("protocol.data",)),
    Target("binary data", _binary, _JSON, (ProtocolError,), ("protocol.data",)),
    Target("data in MessagePack", _from_msgpack, _packed(_JSON), (ProtocolError,), ("protocol.data",)),
    Target(
        "channel", channels.parse_channel, (b"chat:lobby", "\u00e9".encode()), (ProtocolError,), ("protocol.channels",)
    ),
    Target(
        "path segment",
        channels.channel_from_path,
        (b"chat%3Alobby", b"%C3%A9"),
        (ProtocolError,),
        ("protocol.channels",),
    ),
    Target(
        "cursor",
        lambda raw: cursor.parse_cursor(raw.decode("latin-1")),
        (b"k3f9-42-9c1d07aa", b"0"),
        (ProtocolError,),
        ("protocol.cursor",),
    ),
    Target(
        "cursor of several channels",
        lambda raw: cursor.parse_composite(raw.decode("latin-1")),
        (b"chat%3A1=k3f9-42-9c1d07aa,news=0",),
        (ProtocolError,),
        ("protocol.cursor",),
    ),
    Target(
        "Last-Event-ID",
        eventstream.last_event_id,
        (b"k3f9-42-9c1d07aa", "\u00e9".encode()),
        (ProtocolError,),
        ("protocol.eventstream",),
    ),
    Target("sealed list", _sealed, (b'["a","b"]', b"AAAA"), (), ("protocol.seal",)),
    Target("pushes in JSON", codec.JSON.decode_push, _PUSHES, (ProtocolError,), ("protocol.codec",)),
    Target("pushes in MessagePack", codec.MSGPACK.decode_push, _packed(_PUSHES), (ProtocolError,), ("protocol.codec",)),
    Target(
        "event stream",
        _event_stream,
        (
            b": pad\n\nretry: 3000\nid: k3f9-42-9c1d07aa\nevent: said\r\ndata: {}\r\ndata: x\r\n\r\n",
            b"\xef\xbb\xbfdata:\n\n",
        ),
        (ProtocolError,),
        ("protocol.eventstream",),
    ),
    Target(
        "answer to a poll", _poll_answer, tuple(b'{"pushes":[%b]}' % push for push in _PUSHES), (), ("client.longpoll",)
    ),
    Target("answer to commands", _replies, (b'{"replies":[{"id":1,"result":{"a":1}}]}',), (), ("client.uplink",)),
    Target(
        "answer to a plain poll",
        _plain_poll,
        (
            b'{"cursor":"k3f9-1-9c1d07aa","recovered":true,"publications":[{"channel":"a","offset":1,"epoch":"k3f9",'
            b'"tag":"9c1d07aa","data":1}]}',
        ),
        (plain._Ended,),
        ("client.plain",),
    ),
    Target(
        "plain event stream",
        _plain_events,
        (b'id: k3f9-1-9c1d07aa\nevent: said\ndata: {"a":1}\n\n', b"event: hybrid.reset\nid: 0\ndata: {}\n\n"),
        (plain._Ended,),
        ("client.plain",),
    ),
    Target(
        "plain frame",
        _plain_frame,
        (
            b'{"channel":"a","offset":1,"epoch":"k3f9","tag":"9c1d07aa","data":1,"type":"x"}',
            b'{"channel":"a","reset":{"offset":0}}',
        ),
        (plain._Ended,),
        ("client.plain",),
    ),
    Target(
        "HTTP error",
        _http_error,
        (b'120\n{"number":3503,"name":"draining","detail":"x","retry_after_s":2.5}', b"2\n<html>"),
        (),
        ("client.ending",),
    ),
    Target(
        "answer of a device flow",
        _device,
        (b'{"interval":5,"error":"slow_down","error_description":"x"}', b'{"interval":1e308}'),
        (),
        ("client.device",),
    ),
    Target(
        "announcement in Redis",
        _announced,
        (b"pk3f9-42-9c1d07aa said\n{}", b"bk3f9-1-9c1d07aa\n1", b'j["alice","app"]'),
        (),
        ("broker.redis.presence",),
    ),
    Target(
        "word of another node",
        _control,
        (
            control.ControlCodec(_KEY, "there").seal("here", control.Answer(1, b"{}")),
            control.ControlCodec(_KEY, "there").seal("here", control.Moved("s", _PRINCIPAL, 3)),
        ),
        (),
        ("protocol.control",),
    ),
    Target(
        "what another node says of itself",
        _other_node,
        (b'{"id":"there","version":"1","address":"x","streams":3,"room":4,"accepts_per_s":1.5,"is_draining":false}',),
        (),
        ("engine.nodes",),
    ),
    Target(
        "broker address",
        lambda raw: parse_address(raw.decode("latin-1")),
        (b"redis://u:p@h:6379/0", b"redis+sentinel://a:1,b:2/name/0", b"redis+cluster://[::1]:1,b:2", b"rediss://h"),
        (SettingsError,),
        ("broker.redis.address",),
    ),
    Target(
        "settings",
        _settings,
        _TOML,
        (SettingsError,),
        (
            "settings.load",
            "settings.words",
            "settings.server",
            "settings.issuer",
        ),
    ),
)
"""All of them."""
