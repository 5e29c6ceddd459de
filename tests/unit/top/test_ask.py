"""What is asked of whom, and what comes of answers of every kind. The network is a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from hybrid.client.ending import Ending, network, of_number
from hybrid.client.endpoint import Endpoint
from hybrid.errors import AuthError
from hybrid.top import ask
from hybrid.top.ask import Asker, Source, first
from hybrid.top.snapshot import Channels, Snapshot, Trouble
from tests.unit.top.test_reading import TEXT

Answer = bytes | Ending
REFUSED = of_number(3403)


class Server:
    """Answers by path; `seen` is what it was asked, with which token."""

    def __init__(self, answers: dict[str, Answer | Callable[[dict[str, str]], Answer]]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str | None]] = []

    async def request_within(
        self, max_s: float, method: str, path: str, transport: str, headers: dict[str, str]
    ) -> Answer:
        assert method == "GET"
        parts = urlsplit(path)
        self.seen.append((path, headers.get("Authorization")))
        answer = self.answers.get(parts.path, Ending(0, "HTTP 404", status=404))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return answer(query) if callable(answer) else answer


def source(server: Server, name: str = "a:1", *tokens: str | Exception | None) -> Source:
    left = list(tokens or (None,))

    async def get_token() -> str | None:
        token = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(token, Exception):
            raise token
        return token

    return Source(name, cast(Endpoint, server), get_token)


def nodes(name: str = "n1") -> bytes:
    item = {"node": name, "version": "0.1.0", "streams": 1, "sessions": 1, "channels": 1, "room": 9, "news": "later"}
    return json.dumps({"nodes": [item]}).encode()


def head(name: str, subscribers: int, offset: int) -> bytes:
    position = {"offset": offset, "epoch": "e1abcd", "tag": "9c1d07aa"}
    return json.dumps({"channel": name, "subscribers": subscribers, "position": position, "nodes": 1}).encode()


async def look(*sources: Source, channels: int = 0, prefix: str = "") -> Snapshot:
    return await Asker(sources, channels, clock=lambda: 5.0, wall=lambda: 6.0).look(prefix)


async def test_everything_is_told() -> None:
    server = Server({"/metrics": TEXT.encode(), "/v1/info/nodes": nodes()})
    now = await look(source(server, "a:1", "secret"))
    assert (now.at_s, now.wall_s, now.channels) == (5.0, 6.0, None)
    assert now.servers[0].reading is not None
    assert isinstance(now.nodes, tuple)
    assert now.nodes[0].node == "n1"
    assert {token for _, token in server.seen} == {"Bearer secret"}
    assert not any("secret" in path for path, _ in server.seen)


async def test_the_channels_with_the_most_subscribers_are_asked_for_their_heads() -> None:
    def page(query: dict[str, str]) -> bytes:
        assert (query["prefix"], query["limit"]) == ("chat:", "500")
        names = {None: ["chat:a", "chat:ä/b"], "chat:ä/b": ["chat:c", "chat:d"]}[query.get("after")]
        items = [{"channel": name, "subscribers": 10 * ord(name[5])} for name in names]
        more = {} if "after" in query else {"next": names[-1]}
        return json.dumps({"channels": items, "nodes": 1, **more}).encode()

    server = Server({"/v1/info/channels": page, "/v1/info/channels/chat%3Ad": head("chat:d", 7, 40)})
    now = await look(source(server), channels=2, prefix="chat:")
    assert isinstance(now.channels, Channels)
    assert [(one.name, one.subscribers, one.offset) for one in now.channels.items] == [
        ("chat:ä/b", 2280, None),  # its head was not told: it is there all the same
        ("chat:d", 7, 40),
    ]
    assert (now.channels.seen, now.channels.has_more) == (4, False)
    assert "chat:ä/b" in {unquote(path.rpartition("/v1/info/channels/")[2]) for path, _ in server.seen}


async def test_channels_without_end_are_looked_through_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "PAGES_MAX", 3)
    item = {"channel": "c", "subscribers": 1}
    endless = json.dumps({"channels": [item], "nodes": 1, "next": "c"}).encode()
    server = Server({"/v1/info/channels": endless})
    now = await look(source(server), channels=1)
    assert isinstance(now.channels, Channels)
    assert (now.channels.seen, now.channels.has_more) == (3, True)
    assert sum(path.startswith("/v1/info/channels?") for path, _ in server.seen) == 3


async def test_what_concerns_all_is_asked_of_the_first_that_is_there() -> None:
    gone = Server(dict.fromkeys(("/metrics", "/v1/info/nodes"), network("refused")))
    there = Server({"/metrics": TEXT.encode(), "/v1/info/nodes": nodes("n2")})
    now = await look(source(gone, "a:1"), source(there, "b:2"))
    assert isinstance(now.nodes, tuple)
    assert now.nodes[0].node == "n2"
    assert now.servers[0].trouble == Trouble("unreachable", "Cannot reach a:1: refused")
    assert not now.is_empty


async def test_a_refusal_is_not_asked_of_others() -> None:
    one, two = Server({"/v1/info/nodes": REFUSED}), Server({"/v1/info/nodes": nodes()})
    now = await look(source(one, "a:1"), source(two, "b:2"))
    assert now.nodes == Trouble("refused", "a:1 does not tell the nodes: the token lacks the scope hybrid:nodes")


@pytest.mark.parametrize("number", [3401, 4501])
async def test_a_token_that_is_refused_is_replaced_once(number: int) -> None:
    server = Server({"/metrics": of_number(number, "No."), "/v1/info/nodes": nodes()})
    asked = source(server, "a:1", "old", "new", "newer")
    trouble = (await look(asked)).servers[0].trouble
    assert trouble is not None
    assert trouble.kind == "refused"
    assert [token for path, token in server.seen if path == "/metrics"] == ["Bearer old", "Bearer new"]


async def test_who_has_no_token_is_not_asked_for_it_again_and_told_where_one_belongs() -> None:
    server = Server({"/metrics": of_number(3401, "Send a token.")})
    trouble = (await look(source(server))).servers[0].trouble
    assert trouble is not None
    assert "HYBRID_TOKEN or --token-file" in trouble.sentence
    assert [path for path, _ in server.seen].count("/metrics") == 1


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (AuthError("token_refused", "The development issuer refused."), "refused", "The development issuer refused."),
        (ConnectionError("Cannot reach http://a:1: no route"), "unreachable", "Cannot reach http://a:1: no route"),
    ],
)
async def test_no_token_to_be_had(error: Exception, kind: str, said: str) -> None:
    now = await look(source(Server({}), "a:1", error))
    trouble = first(now.troubles)
    assert now.is_empty
    assert trouble is not None
    assert trouble.kind == kind
    assert said in trouble.sentence


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"nodes": 1}', b"\xff", b"[" * 100_000])
async def test_what_is_no_answer_of_ours_is_said(body: bytes) -> None:
    now = await look(source(Server({"/v1/info/nodes": body, "/metrics": body})))
    assert isinstance(now.nodes, Trouble)
    assert now.nodes.sentence.endswith("not that of a hybrid server")
    assert now.is_empty


@pytest.mark.parametrize(
    ("ping", "kind"), [(b'{"at_ms":1}', "absent"), (b"pong", "unreachable"), (network("x"), "unreachable")]
)
async def test_no_metrics_and_another_program_are_told_apart(ping: Answer, kind: str) -> None:
    trouble = (await look(source(Server({"/v1/ping": ping})))).servers[0].trouble
    assert trouble is not None
    assert trouble.kind == kind


def test_that_nobody_is_there_explains_the_rest() -> None:
    refused, gone = Trouble("refused", "r"), Trouble("unreachable", "u")
    assert first([refused, gone]) == gone
    assert first([refused]) == refused
    assert first([]) is None


def test_types_are_as_the_network_has_them() -> None:
    """The table stands for this method of the real one."""
    import inspect

    real: Any = inspect.signature(Endpoint.request_within).parameters
    assert [*real][:6] == ["self", "max_s", "method", "path", "transport", "headers"]
