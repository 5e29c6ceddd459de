"""`make bench-polls`: long polls for each second of the server's CPU, answered at once and after a wait.

Real `hybrid serve`, kept connections. *At once*: there is one publication of 128 bytes behind the poll's position.
*Waiting*: 200 polls wait for one publication, and come again when they have it. Exit status 1 when an answer is not
what it has to be.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.bench.asking import Clients, Failed, HttpTalk, Served, clients, options, request, run, serving

DATA: Final = b'"' + b"x" * 126 + b'"'
CHANNEL: Final = "kept:polled"
AT_ONCE: Final = 32
WAITING: Final = 200
_SETTLE_S: Final = 0.02  # for the polls to reach the server before what they wait for


def ask(served: Served, method: str, target: str, body: bytes = b"") -> dict[str, Any]:
    """One answer."""
    found: list[bytes] = []

    class _Once(HttpTalk):
        def answered(self, heard: bytes) -> int:
            worth = super().answered(heard)
            if worth:
                found.append(self._body)
            return worth

    question = request(method, target, served.token(), body)
    with clients(served.port, [_Once(lambda _: question)]) as made:
        made.ask()
        made.hear_all()
    answer: dict[str, Any] = json.loads(found[0])
    return answer


def publish(served: Served) -> dict[str, Any]:
    """The position of a new publication."""
    return ask(served, "POST", f"/v1/channels/{CHANNEL}", DATA)


def cursor(position: dict[str, Any]) -> str:
    return f"{position['epoch']}-{position['offset']}-{position['tag']}"


@contextmanager
def plain_at_once(served: Served) -> Iterator[Callable[[float], int]]:
    position = publish(served)
    ask(served, "GET", f"/v1/channels/{CHANNEL}")
    publish(served)
    question = request("GET", f"/v1/channels/{CHANNEL}?after={cursor(position)}&wait=25", served.token())
    talks = [HttpTalk(lambda _: question, must_hold=b'"publications":[{') for _ in range(AT_ONCE)]
    with clients(served.port, talks) as made:
        yield made.run


class Session:
    """A polled session: what its next poll says."""

    def __init__(self, served: Served, wait_s: float, subject: str) -> None:
        self._token = served.token(subject)
        self._wait_s = wait_s
        self._session = self._sealed = ""
        self.position: dict[str, Any] = {}
        body = b'{"method":"attach","attempt":1,"confirm":true,"subscriptions":[{"channel":"%b"}]}' % CHANNEL.encode()
        self._attach = request("POST", "/v1/stream", self._token, body)

    def question(self, answer: bytes) -> bytes:
        if not answer:
            return self._attach
        for push in json.loads(answer)["pushes"]:
            if "attached" in push:
                self._session = push["attached"]["session"]
            elif "subscribed" in push:
                self._sealed = push["subscribed"]["sealed"]
                self.position = push["subscribed"]["channels"][0]["position"]
            elif "publication" in push:
                self.position = {name: push["publication"][name] for name in ("offset", "epoch", "tag")}
            else:
                raise Failed(f"an unexpected push: {push}")
        return self.poll()

    def poll(self) -> bytes:
        body = {
            "method": "poll",
            "session": self._session,
            "attempt": 1,
            "positions": [{"channel": CHANNEL, "position": self.position}],
            "sealed": self._sealed,
            "wait_s": self._wait_s,
        }
        return request("POST", "/v1/stream", self._token, json.dumps(body).encode())


def attached(served: Served, made: Clients, count: int) -> None:
    """Let every session attach."""
    made.ask()
    if made.hear_all() != count:
        raise Failed("not all have attached")


@contextmanager
def session_at_once(served: Served) -> Iterator[Callable[[float], int]]:
    publish(served)
    sessions = [Session(served, 25.0, f"s{number}") for number in range(AT_ONCE)]
    fixed: list[bytes] = [b""] * AT_ONCE

    def talk(place: int) -> HttpTalk:
        def question(answer: bytes) -> bytes:
            if not fixed[place]:
                asked = sessions[place].question(answer)
                if answer:
                    fixed[place] = asked
                return asked
            return fixed[place]  # its position stays, so that there is always something behind it

        return HttpTalk(question)

    with clients(served.port, [talk(place) for place in range(AT_ONCE)]) as made:
        attached(served, made, AT_ONCE)
        publish(served)
        yield made.run


def waiting(served: Served, talks: list[HttpTalk], prepare: bool) -> Iterator[Callable[[float], int]]:
    question = request("POST", f"/v1/channels/{CHANNEL}", served.token(), DATA)
    with clients(served.port, talks) as made, clients(served.port, [HttpTalk(lambda _: question)]) as publisher:
        if prepare:
            attached(served, made, len(talks))

        def run(seconds: float) -> int:
            end_s, done = time.monotonic() + seconds, 0
            while time.monotonic() < end_s:
                made.ask()
                time.sleep(_SETTLE_S)
                publisher.ask()
                publisher.hear_all()
                done += made.hear_all()
            return done

        yield run


@contextmanager
def plain_waiting(served: Served) -> Iterator[Callable[[float], int]]:
    first = cursor(publish(served))
    token = served.token()

    def question(answer: bytes) -> bytes:
        after = json.loads(answer)["cursor"] if answer else first
        return request("GET", f"/v1/channels/{CHANNEL}?after={after}&wait=25", token)

    yield from waiting(served, [HttpTalk(question, must_hold=b'"publications":[{') for _ in range(WAITING)], False)


@contextmanager
def session_waiting(served: Served) -> Iterator[Callable[[float], int]]:
    publish(served)
    sessions = [Session(served, 25.0, f"w{number}") for number in range(WAITING)]
    yield from waiting(served, [HttpTalk(session.question) for session in sessions], True)


WORK: Final = {
    "plain polls answered at once": plain_at_once,
    "session polls answered at once": session_at_once,
    "plain polls that wait": plain_waiting,
    "session polls that wait": session_waiting,
}


async def main() -> None:
    chosen = options(__doc__).parse_args()
    async with serving(chosen) as servers:
        await run(chosen, servers, WORK)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
