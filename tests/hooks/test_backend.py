"""A backend that answers late, wrongly, too much, or not at all: no answer permits nothing, and nothing waits long."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hybrid.clock import Clock, SystemClock
from hybrid.hooks.backend import Backend, Unanswered
from hybrid.hooks.breaker import FAILURES_MAX, REST_MIN_S, State
from hybrid.hooks.messages import Answer, AskCall, AskSubscribe, CallAnswer, Who
from hybrid.hooks.post import Poster
from hybrid.hooks.signature import Signer, read_secret
from tests.support.receiver import OTHER_SECRET, SECRET, Raw, Receiver, Request, good, receiver, status
from tests.support.world import Clock as MovedClock

QUESTION = AskSubscribe(Who("https://issuer.example", "alice"), "chat:lobby")
ALLOW = b'{"allow": true}'


@asynccontextmanager
async def backend_of(
    here: Receiver,
    *,
    timeout_s: float = 5.0,
    asks_max: int = 8,
    asks_per_principal_max: int = 8,
    clock: Clock | None = None,
    max_bytes: int = 4_096,
) -> AsyncIterator[Backend]:
    poster = Poster(here.url, timeout_s=timeout_s, answer_max_bytes=max_bytes, connections_max=asks_max)
    signer = Signer([read_secret(OTHER_SECRET), read_secret(SECRET)])
    backend = Backend(
        poster, signer, clock or SystemClock(), asks_max=asks_max, asks_per_principal_max=asks_per_principal_max
    )
    try:
        yield backend
    finally:
        await backend.close()


async def ask(backend: Backend, question: AskSubscribe = QUESTION) -> Answer:
    return await backend.ask(question, Answer, is_repeatable=True)


async def test_questions_are_signed_and_share_kept_connections() -> None:
    async with receiver() as here, backend_of(here) as backend:
        for _ in range(3):
            assert (await ask(backend)).allow
    assert here.connections == 1
    assert len({request.id for request in here.requests}) == 3
    assert here.asked[0] == {
        "ask": "subscribe",
        "principal": {"issuer": "https://issuer.example", "subject": "alice"},
        "channel": "chat:lobby",
    }


BAD: dict[str, Raw] = {
    "500": status(500, body=ALLOW),
    "401": status(401, body=ALLOW),
    "201": status(201, body=ALLOW),
    "a redirect": status(307, "location: /hybrid", body=ALLOW),
    "another type": status(200, body=ALLOW, media_type="text/html"),
    "no JSON": status(200, body=b"<html>"),
    "not UTF-8": status(200, body=b'{"allow": "\xff"}'),
    "nothing": status(200, body=b""),
    "a list": status(200, body=b"[]"),
    "no word on it": status(200, body=b"{}"),
    "a word that is no boolean": status(200, body=b'{"allow": "true"}'),
    "a time that is none": status(200, body=b'{"allow": true, "cache_s": -1}'),
    "deeply nested": status(200, body=b"[" * 4_000),
    "too much": status(200, body=b" " * 4_096 + ALLOW),
    "too much, unannounced": Raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b" " * 4_097 + ALLOW),
    "compressed": status(200, "content-encoding: gzip", body=ALLOW),
    "not HTTP": Raw(b"\x16\x03\x01\x00 hello\r\n\r\n"),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_what_is_no_answer_permits_nothing_and_is_no_refusal(answer: Raw) -> None:
    async with receiver() as here, backend_of(here) as backend:
        here.answer = lambda request: answer
        with pytest.raises(Unanswered) as caught:
            await ask(backend)
        assert caught.value.is_sent
        assert all(request.json["ask"] == "subscribe" for request in here.requests)


async def test_the_largest_answer_is_taken() -> None:
    async with receiver() as here, backend_of(here) as backend:
        here.answer = lambda request: status(200, body=ALLOW + b" " * (4_096 - len(ALLOW)))
        assert (await ask(backend)).allow


async def test_an_answer_that_drips_ends_with_the_time_for_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    async def drip(request: Request) -> Any:
        await asyncio.Event().wait()

    async with receiver() as here, backend_of(here, timeout_s=0.05) as backend:
        here.answer = drip
        with pytest.raises(Unanswered) as caught:
            await ask(backend)
        assert caught.value.is_sent
        assert not caught.value.is_refused
    assert "within 0.05 s" in caplog.text
    assert "chat:lobby" not in caplog.text


def once(first: Raw, then: Callable[[Request], Any]) -> Callable[[Request], Any]:
    answers = iter([lambda request: first])
    return lambda request: next(answers, then)(request)


async def test_a_connection_that_broke_is_tried_again_where_that_does_no_harm() -> None:
    async with receiver() as here, backend_of(here) as backend:
        here.answer = once(Raw(b""), lambda request: {"allow": True})
        assert (await ask(backend)).allow
        assert len(here.requests) == 2
        assert here.requests[0].id == here.requests[1].id, "a repeat can be recognised"


async def test_a_call_that_may_have_been_heard_is_not_repeated() -> None:
    async with receiver() as here, backend_of(here) as backend:
        here.answer = once(Raw(b""), lambda request: {"result": 1})
        question = AskCall(QUESTION.principal, "pay", json_raw(1))
        with pytest.raises(Unanswered) as caught:
            await backend.ask(question, CallAnswer, is_repeatable=False)
        assert caught.value.is_sent
        assert len(here.requests) == 1


async def test_what_could_not_be_sent_is_not_taken_for_heard() -> None:
    async with receiver() as here, backend_of(here) as backend:
        await here.stop()
        with pytest.raises(Unanswered) as caught:
            await ask(backend)
        assert not caught.value.is_sent
        await here.start()
        assert (await ask(backend)).allow


async def test_more_than_are_taken_at_once_are_not_asked() -> None:
    gate = asyncio.Event()

    async def wait(request: Request) -> Any:
        await gate.wait()
        return {"allow": True}

    async with receiver() as here, backend_of(here, asks_max=3) as backend:
        here.answer = wait
        asking = [asyncio.create_task(ask(backend)) for _ in range(3)]
        await here.until(lambda: len(here.requests) == 3)
        assert backend.under_way == 3
        with pytest.raises(Unanswered) as caught:
            await ask(backend)
        assert caught.value.limit == "hook_asks_max"
        assert not caught.value.is_sent
        assert backend.hits == {"hook_asks_max": 1}
        gate.set()
        assert all([(await asked).allow for asked in asking])
        assert backend.under_way == 0


async def test_one_principal_leaves_room_for_others() -> None:
    gate = asyncio.Event()

    async def wait(request: Request) -> Any:
        await gate.wait()
        return {"allow": True}

    async with receiver() as here, backend_of(here, asks_max=4, asks_per_principal_max=3) as backend:
        here.answer = wait
        made_up = [AskSubscribe(Who("https://issuer.example", "alice", f"c{n}"), f"chat:{n}") for n in range(4)]
        asking = [asyncio.create_task(ask(backend, question)) for question in made_up[:3]]
        await here.until(lambda: len(here.requests) == 3)
        with pytest.raises(Unanswered) as caught:
            await ask(backend, made_up[3])
        assert (caught.value.limit, caught.value.is_sent) == ("hook_asks_per_principal_max", False)
        asking.append(asyncio.create_task(ask(backend, AskSubscribe(Who("https://issuer.example", "bob"), "chat:0"))))
        await here.until(lambda: len(here.requests) == 4)
        gate.set()
        assert all([(await asked).allow for asked in asking])
        assert (await ask(backend, made_up[3])).allow
        assert not backend._open_of


async def test_a_dead_backend_holds_nobody_up_and_is_noticed_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    clock = MovedClock()
    async with receiver() as here, backend_of(here, clock=clock) as backend:
        await here.stop()
        for _ in range(FAILURES_MAX):
            with pytest.raises(Unanswered):
                await ask(backend)
        assert backend.breaker.state is State.OPEN
        assert [r.levelno for r in caplog.records].count(logging.ERROR) == 1
        await here.start()
        with pytest.raises(Unanswered) as caught:
            await ask(backend)
        assert not caught.value.is_sent
        assert caught.value.retry_after_s <= REST_MIN_S
        assert here.requests == [], "it is left alone"
        clock.advance(REST_MIN_S)
        assert (await ask(backend)).allow
        assert (await ask(backend)).allow


async def test_what_it_fails_at_takes_it_away_from_nobody() -> None:
    """Or whoever knows a question that the backend breaks at could shut the door for all."""
    async with receiver() as here, backend_of(here) as backend:
        here.answer = lambda request: status(500)
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(Unanswered) as caught:
                await ask(backend)
            assert caught.value.is_refused
        assert backend.breaker.state is State.CLOSED


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_a_gateway_in_front_of_a_dead_backend_counts_as_that(code: int) -> None:
    async with receiver() as here, backend_of(here) as backend:
        here.answer = lambda request: status(code)
        for _ in range(FAILURES_MAX):
            with pytest.raises(Unanswered) as caught:
                await ask(backend)
            assert not caught.value.is_refused
        assert backend.breaker.state is State.OPEN


async def test_secrets_stand_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiver() as here, backend_of(here) as backend:
        here.answer = lambda request: status(500)
        with pytest.raises(Unanswered):
            await ask(backend)
    assert "whsec" not in caplog.text
    assert "v1," not in caplog.text


def json_raw(value: Any) -> Any:
    import msgspec

    return msgspec.Raw(json.dumps(value).encode())


def test_the_receiver_of_these_tests_answers_in_good_order() -> None:
    assert good({"a": 1}).endswith(b'content-length: 8\r\n\r\n{"a": 1}')
