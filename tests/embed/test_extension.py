"""`Hybrid(app)`: what it adds, what it leaves alone, and what it says to who uses it wrongly."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from quart import Quart, current_app

from hybrid import Call, ConnectedSession, Grant, Hybrid, HybridError, Message, Principal, Settings
from hybrid.client import Subscription
from hybrid.errors import SettingsError
from hybrid.settings import Namespace
from hybrid.testing import TestClock
from tests.embed.apps import embedded, settings

TRANSPORTS = ("websocket", "sse", "longpoll")


# -- the app around it


async def test_the_app_keeps_its_own_routes_files_and_hosts() -> None:
    app, _ = embedded()

    @app.get("/")
    async def page() -> str:
        return "mine"

    async with app.test_app() as running:
        client = running.test_client()
        strange = {"Host": "anything.example"}
        assert await (await client.get("/", headers=strange)).get_data() == b"mine"
        assert (await client.get("/hybrid/index.js", headers=strange)).status_code == 403
        ours = {"Host": "127.0.0.1:8000"}
        for path, kind in (
            ("/hybrid/index.js", "text/javascript"),
            ("/hybrid/hybrid.min.js", "text/javascript"),
            ("/hybrid/transports/sse.js", "text/javascript"),
            ("/readyz", "application/json"),
            ("/.well-known/oauth-protected-resource", "application/json"),
        ):
            answer = await client.get(path, headers=ours)
            assert answer.status_code == 200, path
            assert answer.content_type.startswith(kind)
        assert (await client.get("/hybrid/../app.py", headers=ours)).status_code == 404
        assert app.config["MAX_CONTENT_LENGTH"] == Quart("other").config["MAX_CONTENT_LENGTH"]


async def test_health_can_be_left_to_the_app() -> None:
    app = Quart("somebody")
    Hybrid(app, settings=settings(), health=False)

    @app.get("/healthz")
    async def health() -> str:
        return "mine"

    async with app.test_app() as running:
        answer = await running.test_client().get("/healthz")
        assert await answer.get_data() == b"mine"
        assert (await running.test_client().get("/readyz")).status_code == 404


# -- settings


def test_settings_come_from_the_apps_configuration() -> None:
    app = Quart("somebody")
    app.config.update(
        HYBRID_DEVELOPMENT_ISSUER=True,
        HYBRID_PORT="9000",
        HYBRID_ALLOWED_ORIGINS=["https://app.example.com"],
        HYBRID_LIMITS={"shutdown_grace_s": 1},
        HYBRID_LIMITS_LINKS_MAX=7,
        HYBRID_NAMESPACES={"chat": {"history_size": 5}, "news": Namespace("news", subscribe="anyone")},
        HYBRID_NAMESPACES_CHAT_PRESENCE="true",
    )
    found = Hybrid(app).settings
    assert (found.port, found.public_url) == (9000, "http://127.0.0.1:9000")
    assert found.allowed_origins == ("https://app.example.com",)
    assert (found.limits.shutdown_grace_s, found.limits.links_max) == (1.0, 7)
    assert found.namespaces["chat"] == Namespace("chat", history_size=5, presence=True)
    assert found.namespaces["news"].subscribe == "anyone"


def test_the_configuration_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_PORT", "9001")
    monkeypatch.setenv("HYBRID_DEVELOPMENT_ISSUER", "1")
    app = Quart("somebody")
    assert Hybrid(app).settings.port == 9001
    other = Quart("other")
    other.config["HYBRID_PORT"] = 9002
    assert Hybrid(other).settings.port == 9002


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"HYBRID_PROT": 1}, "HYBRID_PROT is no setting"),
        ({"HYBRID_PORT": "many"}, "port .HYBRID_PORT. must be a whole number"),
        ({"HYBRID_PORT": 3.5}, "port must be a whole number"),
        ({"HYBRID_NAMESPACES": {"chat": {"histroy_size": 1}}}, "Did you mean namespaces.chat.history_size"),
        ({"HYBRID_NAMESPACES": ["chat"]}, "HYBRID_NAMESPACES must be a dictionary"),
        ({"HYBRID_NAMESPACES": {"chat": 3}}, "namespaces.chat must be a table"),
        ({"HYBRID_LIMITS": {"links_max": "x"}}, "links_max must be a whole number"),
        ({}, "No issuer is configured"),
    ],
)
def test_a_setting_that_is_wrong_is_said(config: dict[str, Any], says: str) -> None:
    app = Quart("somebody")
    app.config.update(config)
    with pytest.raises(SettingsError, match=says):
        Hybrid(app)


def test_settings_are_given_in_one_place() -> None:
    app = Quart("somebody")
    app.config["HYBRID_PORT"] = 9000
    with pytest.raises(RuntimeError, match="not from both"):
        Hybrid(app, settings=settings())


# -- used wrongly


async def test_before_it_is_part_of_an_app() -> None:
    hybrid = Hybrid(settings=settings())
    with pytest.raises(RuntimeError, match=r"call hybrid.init_app\(app\)"):
        await hybrid.publish("chat:lobby", 1)


def test_twice() -> None:
    app, hybrid = embedded()
    with pytest.raises(RuntimeError, match="has hybrid already"):
        hybrid.init_app(app)
    with pytest.raises(RuntimeError, match="has hybrid already"):
        Hybrid(app, settings=settings())


async def test_outside_of_serving() -> None:
    app, hybrid = embedded()
    with pytest.raises(RuntimeError, match="not being served yet"):
        await hybrid.publish("chat:lobby", 1)
    async with app.test_app():
        await hybrid.publish("chat:lobby", 1)
    with pytest.raises(RuntimeError, match="served, and has ended"):
        await hybrid.publish("chat:lobby", 1)
    with pytest.raises(RuntimeError, match="make a new one for each test"):
        async with hybrid.test_client():
            pass


async def test_several_apps_have_nothing_in_common() -> None:
    hybrid = Hybrid(settings=settings())
    apps = [Quart("one"), Quart("two")]
    for app in apps:
        hybrid.init_app(app)

    @hybrid.rpc
    async def where() -> str:
        await hybrid.publish("chat:lobby", current_app.name)
        return current_app.name

    async with apps[0].test_app(), apps[1].test_app():
        with pytest.raises(RuntimeError, match="part of several apps"):
            await hybrid.publish("chat:lobby", 1)
        for app in apps:
            async with app.app_context(), hybrid.test_client() as client:
                assert await client.call("where") == app.name
                assert [item.data for item in await hybrid.history("chat:lobby")] == [app.name]


async def test_each_test_may_make_an_app_of_its_own() -> None:
    hybrid = Hybrid(settings=settings())
    for round in range(3):
        app = Quart(f"round {round}")
        hybrid.init_app(app)
        async with asyncio.timeout(10), hybrid.test_client("alice") as client:
            await client.publish("chat:a", round)
            assert [item.data for item in await hybrid.history("chat:a")] == [round]


def test_apps_that_are_over_are_not_kept() -> None:
    hybrid = Hybrid(settings=settings())

    async def serve() -> weakref.ref[Quart]:
        app = Quart("somebody")
        hybrid.init_app(app)
        async with asyncio.timeout(10), hybrid.test_client("alice") as client:
            await client.publish("chat:a", 1)
        return weakref.ref(app)

    gone = asyncio.run(serve())  # a loop keeps what its timers were made in for as long as it lives
    gc.collect()
    assert gone() is None


def test_decorators_refuse_what_they_cannot_use() -> None:
    _, hybrid = embedded()
    with pytest.raises(TypeError, match="plain `def`"):

        @hybrid.authorize("chat")
        async def slow(principal: Principal, action: str, channel: str) -> bool:
            return True

    with pytest.raises(ValueError, match="neither a namespace"):
        hybrid.authorize("chat:*:x")(lambda principal, action, channel: True)
    with pytest.raises(TypeError, match="needs an `async def`"):
        hybrid.on_connect(lambda session: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="needs a type"):

        @hybrid.rpc
        async def untyped(a) -> None:  # type: ignore[no-untyped-def]
            pass

    with pytest.raises(TypeError, match="cannot be given by name"):

        @hybrid.rpc
        async def many(*numbers: int) -> None:
            pass

    @hybrid.rpc("taken")
    async def first() -> None:
        pass

    with pytest.raises(ValueError, match="registered already"):
        hybrid.rpc("taken")(first)


# -- what it does, over each transport


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_publish_history_presence_and_batch(transport: str) -> None:
    _, hybrid = embedded()
    async with asyncio.timeout(10), hybrid.test_client("alice", transport=transport) as alice:
        lobby = await alice.subscribe("chat:lobby")
        first = await hybrid.publish("chat:lobby", {"n": 1}, key="k", type="note")
        again = await hybrid.publish("chat:lobby", {"n": 1}, key="k", type="note")
        assert again.was_repeated
        assert again.position == first.position
        results = await hybrid.publish_many(
            [
                Message("chat:lobby", {"n": 2}),
                Message("chat:lobby", object()),
                Message("nowhere:x", 1),
                Message("chat:lobby", b"\x00\xff"),
            ]
        )
        assert [result.row.name if isinstance(result, HybridError) else None for result in results] == [
            None,
            "bad_request",
            "forbidden",
            None,
        ]
        seen = [await anext(lobby) for _ in range(3)]
        assert [item.data for item in seen] == [{"n": 1}, {"n": 2}, b"\x00\xff"]
        assert seen[0].type == "note"
        assert await hybrid.history("chat:lobby") == seen
        assert await hybrid.history("chat:lobby", after=first.position, limit=1) == seen[1:2]
        assert await hybrid.history("chat:lobby", reverse=True) == seen[::-1]
        assert [entry.subject for entry in await hybrid.presence("chat:lobby")] == ["alice"]
        with pytest.raises(HybridError, match="keeps no history"):
            await hybrid.history("quiet:x")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_authorisation_is_the_applications(transport: str) -> None:
    _, hybrid = embedded()

    @hybrid.authorize("chat")
    def chat(principal: Principal, action: str, channel: str) -> bool | None:
        return True if channel == "chat:lobby" else None

    @hybrid.authorize("chat:team-*")
    def team(principal: Principal, action: str, channel: str) -> bool:
        return principal.subject == "bob"

    @hybrid.authorize
    def everywhere(principal: Principal, action: str, channel: str) -> bool | None:
        return False if principal.subject == "mallory" else None

    async def may(subject: str, channel: str) -> bool:
        async with hybrid.test_client(subject, scope="hybrid:subscribe:quiet:*", transport=transport) as client:
            [answer] = await asyncio.gather(client.subscribe(channel), return_exceptions=True)
        refused = isinstance(answer, HybridError) and answer.row.name == "forbidden"
        assert refused or isinstance(answer, Subscription)
        return not refused

    async with asyncio.timeout(20), hybrid.app.test_app():
        assert await may("alice", "chat:lobby")
        assert not await may("alice", "chat:other")
        assert not await may("alice", "chat:team-1")
        assert await may("bob", "chat:team-1")
        assert not await may("mallory", "chat:lobby")
        assert await may("alice", "quiet:x")
        assert not await may("mallory", "quiet:x")


async def test_grants_come_from_the_application() -> None:
    _, hybrid = embedded()

    @hybrid.grants
    async def grants(principal: Principal, claims: Any) -> list[Grant]:
        return [*principal.grants, Grant("subscribe", f"chat:{claims['sub']}")]

    with pytest.raises(RuntimeError, match="once"):
        hybrid.grants(grants)
    async with hybrid.test_client("kim", scope="") as client:
        await client.subscribe("chat:kim")
        with pytest.raises(HybridError, match="may not do that"):
            await client.subscribe("chat:alice")


@dataclass
class Point:
    x: int
    y: int = 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_calls_have_typed_arguments(transport: str) -> None:
    _, hybrid = embedded()

    @hybrid.rpc
    async def add(a: int, b: int = 1, *, whom: Principal) -> dict[str, Any]:
        return {"sum": a + b, "for": whom.subject}

    @hybrid.rpc("move")
    async def moved(point: Point, by: Point, call: Call) -> Point:
        assert call.name == "move"
        return Point(point.x + by.x, point.y + by.y)

    @hybrid.rpc()
    async def refuse() -> None:
        raise HybridError("not_found", "There is no such room.")

    @hybrid.rpc
    async def fail() -> None:
        raise KeyError("a secret of ours")

    async with asyncio.timeout(10), hybrid.test_client("kim", transport=transport) as client:
        assert await client.call("add", {"a": 2}) == {"sum": 3, "for": "kim"}
        assert await client.call("move", {"point": {"x": 1}, "by": {"x": 2, "y": 3}}) == {"x": 3, "y": 3}
        for name, data, error, says in (
            ("add", {"a": "2"}, "bad_request", r"Expected `int`, got `str` - at `\$.a`"),
            ("add", {}, "bad_request", "missing required field `a`"),
            ("add", {"a": 1, "whom": "bob"}, "bad_request", "unknown field `whom`"),
            ("add", [1, 2], "bad_request", "Expected `object`, got `array`"),
            ("refuse", None, "not_found", "There is no such room"),
            ("fail", None, "call_failed", "The handler of the call failed"),
            ("nothing", None, "not_found", "no such call"),
        ):
            with pytest.raises(HybridError, match=says) as raised:
                await client.call(name, data)
            assert raised.value.row.name == error


async def test_who_shows_no_token_may_call_what_says_so() -> None:
    _, hybrid = embedded(namespaces={"news": Namespace("news", subscribe="anyone")})

    @hybrid.rpc
    async def closed() -> None:
        pass

    @hybrid.rpc(allow_anonymous=True)
    async def opened(whom: Principal) -> bool:
        return whom.is_anonymous

    async with asyncio.timeout(10), hybrid.test_client(None, transport="sse") as client:
        assert await client.call("opened") is True
        with pytest.raises(HybridError) as raised:
            await client.call("closed")
        assert raised.value.row.name == "unauthorized"


async def test_sessions_are_told_of_once_whatever_carries_them() -> None:
    app, hybrid = embedded()
    told: list[tuple[str, str]] = []
    changed = asyncio.Event()

    @hybrid.on_connect
    async def slow(session: ConnectedSession) -> None:
        await asyncio.sleep(0)
        told.append(("on", session.principal.subject))
        assert current_app.name == app.name
        changed.set()

    @hybrid.on_connect
    async def broken(session: ConnectedSession) -> None:
        raise ValueError("one handler's fault is not another's")

    @hybrid.on_disconnect
    async def gone(session: ConnectedSession) -> None:
        told.append(("off", session.principal.subject))
        changed.set()

    async def until(count: int) -> None:
        while len(told) < count:
            changed.clear()
            await changed.wait()

    async with asyncio.timeout(20), app.test_app():
        async with hybrid.test_client("alice", transport=TRANSPORTS) as alice:
            await alice.connected()
            await until(1)
            for transport in ("sse", "longpoll", "websocket"):
                await alice.move_to(transport)
            assert told == [("on", "alice")]
        await until(2)
        assert told[1] == ("off", "alice")
        async with hybrid.test_client("bob", transport="sse") as bob:
            await bob.connected()
            await until(3)
    assert told == [("on", "alice"), ("off", "alice"), ("on", "bob"), ("off", "bob")]  # the last one by the end


async def test_time_is_made_by_hand() -> None:
    app = Quart("somebody")
    clock = TestClock()
    hybrid = Hybrid(app, settings=settings(), clock=clock)
    async with asyncio.timeout(10), hybrid.test_client("alice", lifetime_s=3_600) as client:
        lobby = await client.subscribe("chat:lobby")
        token = hybrid.test_token("bob", lifetime_s=60)
        assert hybrid.engine.verifier.cached(token) is None
        assert (await hybrid.engine.verifier.verify(token)).subject == "bob"
        clock.advance(120)
        with pytest.raises(HybridError):
            await hybrid.engine.verifier.verify(token)
        await hybrid.publish("chat:lobby", 1)
        assert (await anext(lobby)).data == 1
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


async def test_the_session_of_the_app_counts_where_it_is_asked_to() -> None:
    app = Quart("somebody")
    app.secret_key = "a secret of this test"
    hybrid = Hybrid(app, settings=settings(session_cookie="__Host-session"))

    @hybrid.signed_in
    def signed_in(session: Any) -> Principal | None:
        return Principal(issuer="app", subject=session["user"]) if "user" in session else None

    with pytest.raises(RuntimeError, match="once"):
        hybrid.signed_in(signed_in)

    @hybrid.authorize
    def everybody(principal: Principal, action: str, channel: str) -> bool:
        return not principal.is_anonymous

    @app.post("/sign-in")
    async def sign_in() -> str:
        from quart import session

        session["user"] = "kim"
        return "in"

    async with app.test_app() as running:
        client = running.test_client()
        headers = {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
        assert (await client.get("/v1/history/chat:lobby", headers=headers, scheme="https")).status_code == 401
        await client.post("/sign-in", scheme="https", headers=headers)
        assert (await client.get("/v1/history/chat:lobby", headers=headers, scheme="https")).status_code == 200


async def test_a_cookie_that_nobody_reads_is_a_mistake() -> None:
    app = Quart("somebody")
    app.secret_key = "a secret of this test"
    hybrid = Hybrid(app, settings=settings(session_cookie="__Host-session"))
    with pytest.raises(RuntimeError, match="startup failed"):
        async with asyncio.timeout(10), hybrid.test_client():
            pass


def test_settings_need_no_issuer_where_the_app_signs_in() -> None:
    app = Quart("somebody")
    app.config["HYBRID_SESSION_COOKIE"] = "__Host-session"
    assert Hybrid(app).settings.issuers == ()
    assert isinstance(Hybrid(Quart("other"), settings=Settings()).settings, Settings)
