"""What is too large or too much is refused by nginx, in words that clients understand; what is not, passes."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import httpx2
import pytest
import websockets
from websockets.asyncio.client import connect

from hybrid.client.ending import of_http
from hybrid.limits import Limits
from tests.support.nginx import CONFIGURATION, HOST, Change
from tests.support.processes import program
from tests.support.proxied import Site, node_settings, proxied, socket_to
from tests.support.world import Pipe

CHANNEL = "/v1/channels/chat:lobby"
RETRY_AFTER_S = ("2", "3", "5", "8")
FEW = Change("limit_conn connections 2000;", "limit_conn connections 3;")


def slow(rate: str) -> tuple[Change, Change]:
    return (
        Change("rate=500r/s;", f"rate={rate};"),
        Change("limit_req zone=requests burst=2000 nodelay;", "limit_req zone=requests burst=2 nodelay;"),
    )


def long_token(site: Site, size: int) -> str:
    """A valid token of exactly so many bytes, as far as base64 allows it."""
    scope = "hybrid:subscribe:* hybrid:publish:*"
    for length in range(size * 3 // 4 - 700, size):
        token = site.token(scope=f"{scope} {'x' * length}")
        if len(token) > size:
            break
        best = token
    return best


async def until_let_in(site: Site, http: httpx2.AsyncClient) -> None:
    """Ask until nginx passes a request on; the test's time limit ends it."""
    while (await http.get(CHANNEL, **site.named(site.bearer()))).status_code != 200:  # noqa: ASYNC110 -- only asking tells
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "http/2"])
async def test_the_largest_token_and_cursor_pass(http2: bool) -> None:
    """8 KB in Authorization, 2 KB in Last-Event-ID, and a query that is as long as its names and cursor can be."""
    async with proxied() as site, site.http(http2=http2) as http:
        token = long_token(site, 8_192)
        assert 8_150 < len(token) <= 8_192
        names = [f"chat:{number}{'n' * 100}" for number in range(10)]
        headers = {"Authorization": f"Bearer {token}", "Last-Event-ID": "x" * 2_048}
        query = {"name": names, "after": "k" * 2_048}
        answer = await http.get("/v1/channels", params=query, **site.named(headers))
        assert answer.status_code == 400
        assert answer.json()["number"] == 3400  # hybrid has read it all, and the cursor is none
        del headers["Last-Event-ID"], query["after"]
        answer = await http.get("/v1/channels", params=query, **site.named(headers))
        assert answer.status_code == 200
        assert answer.json()["cursor"].count(",") == 9


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer " + "x" * 20_000}, {f"X-{number}": "x" * 7_000 for number in range(4)}],
    ids=["one", "several"],
)
async def test_20_kb_of_headers_are_refused_by_nginx(headers: dict[str, str]) -> None:
    async with proxied() as site:
        async with site.http() as http:
            answer = await http.get(CHANNEL, **site.named(headers))
            assert answer.status_code == 400
            assert "Too Large" in answer.text
        async with site.http(http2=True) as http:
            try:
                told = str((await http.get(CHANNEL, **site.named(headers))).status_code)
            except httpx2.RemoteProtocolError as error:
                told = str(error)
            assert told == "400" or "error_code:11" in told  # ENHANCE_YOUR_CALM: nginx ends the whole connection
        async with site.http() as http:
            assert (await http.get(CHANNEL, **site.named(site.bearer()))).status_code == 200
        entries = await site.nginx.entries(2)
        assert [entry["status"] for entry in entries if entry["node"]] == ["200"]  # no node saw the others


async def test_a_body_of_more_than_1_mb_is_refused_by_nginx() -> None:
    async with proxied() as site, site.http() as http:
        body = b'{"publications":[]}'
        answer = await http.post("/v1/publish", content=body.ljust(1_048_576), **site.named(site.bearer()))
        assert answer.status_code == 200, answer.text  # hybrid's own bound, to the byte
        answer = await http.post("/v1/publish", content=body.ljust(1_048_577), **site.named(site.bearer()))
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["number"] == 3413

        async def pieces():  # type: ignore[no-untyped-def]
            for _ in range(20):
                yield b" " * 65_536

        answer = await http.post("/v1/publish", content=pieces(), **site.named(site.bearer()))
        assert answer.status_code == 413  # also where no length was told
        entries = await site.nginx.entries(3)
        assert [entry["node_status"] for entry in entries] == ["200", "", ""]  # no node was asked


async def test_a_large_body_on_http2() -> None:
    """With curl: httpx2 waits for leave to send the rest of a body that was refused."""
    curl = program("curl")
    async with proxied() as site:
        for size, expected in ((1_048_576, "200"), (1_048_577, "413")):
            body = site.nginx.folder / "body.json"
            body.write_bytes(b'{"publications":[]}'.ljust(size))
            process = await asyncio.create_subprocess_exec(
                *(curl, "--silent", "--http2", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"),
                *("--cacert", site.nginx.certificate.certificate, "--noproxy", "*"),
                *("--resolve", f"{HOST}:{site.nginx.https_port}:127.0.0.1", "--data-binary", f"@{body}"),
                *("-H", f"Authorization: {site.bearer()['Authorization']}", "-H", "Content-Type: application/json"),
                f"https://{HOST}:{site.nginx.https_port}/v1/publish",
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await process.communicate()
            version, status = told.decode().split()
            if version != "2":
                pytest.skip("needs curl with HTTP/2")
            assert status == expected


async def test_hybrids_client_understands_what_nginx_refuses() -> None:
    """It gives up where the same again would fail again, and comes back where it would not."""
    async with proxied() as site, site.http() as http:
        answer = await http.post("/v1/publish", content=b" " * 1_048_577, **site.named(site.bearer()))
        ending = of_http(answer.status_code, answer.headers, answer.content)
        assert (ending.number, ending.comes_back) == (3413, False)
    async with proxied(None, *slow("1r/s")) as site, site.http() as http:
        for _ in range(4):
            answer = await http.get(CHANNEL, **site.named(site.bearer()))
        ending = of_http(answer.status_code, answer.headers, answer.content)
        assert (ending.number, ending.comes_back) == (4429, True)
        assert ending.delay_s in map(float, RETRY_AFTER_S)


async def test_too_many_requests_of_one_address() -> None:
    """429 with Retry-After for it, nothing for others, and it is let in again when it has waited."""
    async with proxied(None, *slow("10r/s")) as site, site.http() as http, site.http(source="127.0.0.2") as other:
        answers = [await http.get(CHANNEL, **site.named(site.bearer())) for _ in range(8)]
        assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused
        for answer in refused:
            assert answer.status_code == 429
            assert answer.headers["retry-after"] in RETRY_AFTER_S
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json()["retry_after_s"] == int(answer.headers["retry-after"])
        assert (await other.get(CHANNEL, **site.named(site.bearer()))).status_code == 200
        await until_let_in(site, http)
        assert "REJECTED " in {entry["limits"] for entry in await site.nginx.entries(9)}


async def test_too_many_streams_of_one_address() -> None:
    async with proxied(None, FEW) as site, site.http() as http, site.http(source="127.0.0.2") as other:
        headers = {**site.bearer(), "Accept": "text/event-stream"}
        async with http.stream("GET", CHANNEL, **site.named(headers)), socket_to(site, "/v1/stream"):
            async with http.stream("GET", CHANNEL, **site.named(headers)):
                answer = await http.get(CHANNEL, **site.named(headers))
                assert answer.status_code == 429
                assert answer.headers["retry-after"] in RETRY_AFTER_S
                with pytest.raises(websockets.InvalidStatus, match="429"):
                    await socket_to(site, CHANNEL)
                assert (await other.get(CHANNEL, **site.named(site.bearer()))).status_code == 200
            await until_let_in(site, http)


async def test_every_stream_of_http2_counts() -> None:
    """One connection could carry 128 of them."""
    async with proxied(None, FEW) as site, site.http(http2=True) as http:
        headers = {**site.bearer(), "Accept": "text/event-stream"}
        async with AsyncExitStack() as stack:
            for _ in range(3):
                stream = await stack.enter_async_context(http.stream("GET", CHANNEL, **site.named(headers)))
                assert stream.status_code == 200
            assert (await http.get(CHANNEL, **site.named(headers))).status_code == 429


async def test_the_numbers_of_the_file() -> None:
    """A flood of small requests from one address: 2000 pass, then 500 a second; and it is in again at once."""
    async with proxied() as site:
        request = f"GET /static/favicon.svg HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        count = 4_000

        async def flood() -> tuple[int, int]:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", site.nginx.https_port, ssl=site.nginx.client_context(), server_hostname=HOST
            )
            writer.write(request * (count // 8 - 1) + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            seen = await reader.read(-1)
            writer.transport.abort()
            return seen.count(b"HTTP/1.1 200"), seen.count(b"HTTP/1.1 429")

        results = await asyncio.gather(*(flood() for _ in range(8)))
        passed, refused = (sum(result[place] for result in results) for place in (0, 1))
        assert passed + refused == count
        assert passed >= 2_000
        assert refused > 0
        async with asyncio.timeout(1), site.http() as http:
            await until_let_in(site, http)


async def test_a_storm_behind_one_address_is_let_in() -> None:
    """Sixty clients that come back at once, each with a handshake, an attach and a subscription: nobody is refused."""
    async with proxied() as site:
        clients = [await site.client(Pipe("websocket"), f"user{number}", is_connected=False) for number in range(60)]
        await asyncio.gather(*(client.connected() for client in clients))


LIMITS = Limits(unauthenticated_per_address_max=2)


async def test_nobody_chooses_an_address_by_a_header() -> None:
    """hybrid's bound on connections without a token counts the address that nginx has seen."""

    def stranger(number: int, source: str = "127.0.0.2") -> connect:
        return connect(
            f"wss://{HOST}/v1/stream",
            host="127.0.0.1",
            port=site.nginx.https_port,
            ssl=site.nginx.client_context(),
            local_addr=(source, 0),
            proxy=None,
            additional_headers={
                "X-Forwarded-For": f"203.0.113.{number}",
                "Forwarded": f"for=203.0.113.{number}",
                "X-Real-IP": f"203.0.113.{number}",
                "X-Forwarded-Proto": "http",
            },
        )

    async with proxied(node_settings(LIMITS)) as site:
        async with stranger(1), stranger(2):
            assert dict(site.node.engine.door._per_group) == {"127.0.0.2": 2}
            with pytest.raises(websockets.InvalidStatus) as refused:
                await stranger(3)
            assert refused.value.response.status_code == 429
            assert b'"rate_limited"' in (refused.value.response.body or b"")
            assert (await site.nginx.entries(1))[0]["node_status"] == "429"  # said by the node, not by nginx
            async with stranger(4, "127.0.0.3"):
                assert site.node.engine.door.count == 3


async def test_nobody_chooses_a_scheme_by_a_header() -> None:
    """A page in the clear is not of our origin behind TLS; the node learns of TLS from nginx only."""
    async with proxied() as site, site.http() as http:
        for origin, expected in ((f"http://{HOST}", 403), (f"https://{HOST}", 200)):
            headers = {**site.bearer(), "Origin": origin, "X-Forwarded-Proto": "http"}
            assert (await http.get(CHANNEL, **site.named(headers))).status_code == expected


async def test_cookies_stay_outside() -> None:
    """A head is 16 KB at most; cookies of other applications under the same name are not to fill it."""
    async with proxied() as site, site.http() as http:
        headers = {"Authorization": f"Bearer {long_token(site, 8_192)}", "Cookie": "a=" + "x" * 8_000}
        assert (await http.get(CHANNEL, **site.named(headers))).status_code == 200


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:"),
        ("2001:db8:1:2::6", "2001:db8:1:2:"),
        ("2001:db8:1::6", "2001:db8:1:"),
        ("2001:db8::6", "2001:db8:"),
        ("2001:db8::3:4:5:6", "2001:db8:"),
        ("2001::6", "2001:"),
        ("::1", "::1"),
    ],
)
async def test_an_ipv6_network_counts_as_one(address: str, network: str) -> None:
    """Whoever has a /64 has 2^64 addresses, all of them one customer."""
    told = (
        Change(
            "        location = /v1/stream {",
            "        set_real_ip_from 127.0.0.1;\n        real_ip_header X-Test;\n"
            "        location = /network { default_type text/plain; try_files /none @network; }\n"
            "        location @network { return 200 $client_network; }\n        location = /v1/stream {",
        ),
    )
    async with proxied(None, *told) as site, site.http() as http:
        answer = await http.get("/network", **site.named({"X-Test": address}))
        assert answer.text == network


def test_limits_of_hybrid_and_nginx_agree() -> None:
    """The file writes hybrid's defaults down; whoever changes one has to change the other."""
    text = " ".join(line.strip("# ") for line in CONFIGURATION.read_text().splitlines())
    limits = Limits()
    assert f"client_max_body_size {limits.body_max_bytes // 1_048_576}m;" in text
    assert limits.heartbeat_interval_s * limits.heartbeat_grace_intervals < 75
    assert limits.poll_wait_max_s < 75
    assert limits.call_timeout_s < 30
    assert f"after {limits.poll_wait_max_s:g} s at the latest" in text
    assert f"come every {limits.heartbeat_interval_s:g} s" in text
    assert limits.stream_age_max_s == 600
    assert "worker_shutdown_timeout 10m;" in text
    assert f"takes {limits.links_max} streams" in text


def test_everything_that_has_to_be_changed_is_marked() -> None:
    """What the block at the top lists stands below, and nothing else does."""
    top, _, below = CONFIGURATION.read_text().partition("\nuser ")
    listed = re.findall(r"^#   (\[\d\]) ", top, re.MULTILINE)
    assert listed == [f"[{number}]" for number in range(1, 7)]
    assert set(re.findall(r"# (\[\d\])$", below, re.MULTILINE)) | {"[1]"} == set(listed)
    assert "live.example.com" not in "".join(line for line in below.splitlines() if not line.endswith("]"))
