"""The device flow against issuers of every kind: they answer from a script, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from hybrid import cli
from hybrid.client import device
from hybrid.client.device import DeviceCodes, DeviceIssuer
from hybrid.errors import AuthError

TOKEN = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900, "scope": "s"}
PENDING = (400, {"error": "authorization_pending"})
OAUTH = "/.well-known/oauth-authorization-server"


class Script(BaseHTTPRequestHandler):
    """Each path answers with the next of its answers, and at last with the same one again."""

    answers: dict[str, list[tuple[int, Any]]]
    seen: list[tuple[str, dict[str, str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.seen.append((self.path, {name: values[0] for name, values in parse_qs(body).items()}))
        listed = self.answers.get(self.path, [(404, {})])
        status, answer = listed.pop(0) if len(listed) > 1 else listed[0]
        if status == 0:
            self.close_connection = True
            return
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.path}/elsewhere")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print nothing."""


class Issuer:
    def __init__(self) -> None:
        self.handler = type("Handler", (Script,), {"answers": {}, "seen": []})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.root = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.url = f"{self.root}/tenant"
        self.endpoints = DeviceIssuer(self.url, f"{self.root}/device", f"{self.root}/token?x=1")
        self.answers["/.well-known/oauth-protected-resource"] = [(200, {"authorization_servers": [self.url]})]
        self.answers[f"{OAUTH}/tenant"] = [(200, self.metadata())]
        self.answers["/device"] = [(200, self.codes())]
        self.answers["/token?x=1"] = [(200, TOKEN)]

    @property
    def answers(self) -> dict[str, list[tuple[int, Any]]]:
        return self.handler.answers  # type: ignore[attr-defined, no-any-return]

    @property
    def seen(self) -> list[tuple[str, dict[str, str]]]:
        return self.handler.seen  # type: ignore[attr-defined, no-any-return]

    def metadata(self, **changes: Any) -> dict[str, Any]:
        made = {
            "issuer": self.url,
            "device_authorization_endpoint": f"{self.root}/device",
            "token_endpoint": f"{self.root}/token?x=1",
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def codes(self, **changes: Any) -> dict[str, Any]:
        return {
            "device_code": "SecretDeviceCode",
            "user_code": "BCDF-GHJK",
            "verification_uri": f"{self.root}/enter",
            "verification_uri_complete": f"{self.root}/enter?user_code=BCDF-GHJK",
            "expires_in": 600,
            "interval": 1,
            **changes,
        }


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join()
        made.http.server_close()


class Sleeping:
    """Sleeps not at all, and remembers for how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


CODES = DeviceCodes("BCDF-GHJK", "http://127.0.0.1/enter", "", 600.0, 5.0, "SecretDeviceCode")


# -- finding the endpoints


async def test_metadata_is_where_rfc_8414_puts_it(issuer: Issuer) -> None:
    assert await device.discover(issuer.url) == issuer.endpoints


async def test_or_where_openid_connect_does(issuer: Issuer) -> None:
    issuer.answers["/tenant/.well-known/openid-configuration"] = issuer.answers.pop(f"{OAUTH}/tenant")
    assert await device.discover(issuer.url) == issuer.endpoints


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "https://other.example"}, "no metadata of an issuer of that name"),
        ({"issuer": None}, "no metadata of an issuer of that name"),
        ({"device_authorization_endpoint": None}, "does not offer the device flow"),
        ({"token_endpoint": 5}, "does not offer the device flow"),
        ({"token_endpoint": "http://id.example/token"}, "in the clear"),
        ({"device_authorization_endpoint": "file:///etc/passwd"}, "no URL"),
        ({"device_authorization_endpoint": "https://user:secret@id.example/"}, "no URL"),
        ({"token_endpoint": "https://id.example:port/"}, "no URL"),
    ],
)
async def test_metadata_that_cannot_be_used_says_why(issuer: Issuer, changes: dict[str, Any], words: str) -> None:
    issuer.answers[f"{OAUTH}/tenant"] = [(200, issuer.metadata(**changes))]
    with pytest.raises(AuthError, match=words):
        await device.discover(issuer.url)


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, b"[1]"), (200, b"[" * 100_000), (500, {}), (302, {})])
async def test_what_is_no_metadata_is_none(issuer: Issuer, answer: tuple[int, Any]) -> None:
    issuer.answers[f"{OAUTH}/tenant"] = [answer]
    with pytest.raises(AuthError, match="no metadata"):
        await device.discover(issuer.url)
    assert not [path for path, _ in issuer.seen if "elsewhere" in path], "no redirect is followed"


@pytest.mark.parametrize("url", ["http://id.example", "id.example", "ftp://id.example", "", "https://", "http://[::1"])
async def test_an_issuer_is_https_or_this_machine(url: str) -> None:
    with pytest.raises(AuthError, match=r"no URL|in the clear"):
        await device.discover(url)


# -- the codes


async def test_the_codes_are_asked_for_with_client_and_scope(issuer: Issuer) -> None:
    codes = await device.begin(issuer.endpoints, "tool", "a b")
    assert (codes.user_code, codes.expires_in_s, codes.interval_s) == ("BCDF-GHJK", 600.0, 1.0)
    assert issuer.seen[-1] == ("/device", {"client_id": "tool", "scope": "a b"})
    assert "SecretDeviceCode" not in repr(codes)
    await device.begin(issuer.endpoints, "tool", "")
    assert issuer.seen[-1] == ("/device", {"client_id": "tool"})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expires_in": None, "interval": None}, (300.0, 5.0)),
        ({"expires_in": "soon", "interval": True}, (300.0, 5.0)),
        ({"expires_in": 1e300, "interval": 0}, (86_400.0, 1.0)),
        ({"expires_in": -5, "interval": 1e300}, (1.0, 120.0)),
    ],
)
async def test_times_are_bounded(issuer: Issuer, changes: dict[str, Any], expected: tuple[float, float]) -> None:
    issuer.answers["/device"] = [(200, issuer.codes(**changes))]
    codes = await device.begin(issuer.endpoints, "tool", "")
    assert (codes.expires_in_s, codes.interval_s) == expected


async def test_a_stranger_cannot_write_on_the_terminal(issuer: Issuer) -> None:
    evil = "\x1b]0;owned\x07\r\n\u202eBCDF" + "x" * 1_000
    issuer.answers["/device"] = [(200, issuer.codes(user_code=evil, verification_uri_complete=evil))]
    codes = await device.begin(issuer.endpoints, "tool", "")
    for shown in (codes.user_code, codes.verification_uri_complete):
        assert shown.isprintable()
        assert len(shown) <= 300
    issuer.answers["/device"] = [(400, {"error": evil, "error_description": evil})]
    with pytest.raises(AuthError) as caught:
        await device.begin(issuer.endpoints, "tool", "")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {"error": "invalid_client"}), "--client-id"),
        ((400, {"error": "unauthorized_client", "error_description": "no"}), r"unauthorized_client \(no\)"),
        ((400, {"error": "invalid_scope"}), "--scope"),
        ((200, {"device_code": "x"}), "answered 200"),
        ((404, b"nothing"), "answered 404"),
    ],
)
async def test_a_refusal_says_what_to_do(issuer: Issuer, answer: tuple[int, Any], words: str) -> None:
    issuer.answers["/device"] = [answer]
    with pytest.raises(AuthError, match=words):
        await device.begin(issuer.endpoints, "tool", "")


async def test_the_address_to_open_must_be_safe(issuer: Issuer) -> None:
    issuer.answers["/device"] = [(200, issuer.codes(verification_uri="javascript:alert(1)"))]
    with pytest.raises(AuthError, match="no URL"):
        await device.begin(issuer.endpoints, "tool", "")


# -- waiting


async def test_it_polls_as_told_and_slower_when_told_so(issuer: Issuer) -> None:
    slow = (400, {"error": "slow_down"})
    issuer.answers["/token?x=1"] = [PENDING, slow, PENDING, slow, (200, TOKEN)]
    sleeping = Sleeping()
    assert await device.wait(issuer.endpoints, "tool", CODES, sleep=sleeping) == TOKEN
    assert sleeping.slept == [5, 5, 10, 10, 15]
    form = {"grant_type": device.GRANT, "device_code": "SecretDeviceCode", "client_id": "tool"}
    assert issuer.seen == [("/token?x=1", form)] * 5


async def test_it_survives_an_issuer_that_is_away_and_asks_more_and_more_rarely(issuer: Issuer) -> None:
    issuer.answers["/token?x=1"] = [(0, {}), (0, {}), (503, b"busy"), (200, TOKEN)]
    sleeping = Sleeping()
    assert await device.wait(issuer.endpoints, "tool", CODES, sleep=sleeping) == TOKEN
    assert sleeping.slept == [5, 10, 20, 20]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "was denied"),
        ("expired_token", "again for a new code"),
        ("invalid_grant", "refused: invalid_grant"),
        ("invalid_client", "--client-id"),
    ],
)
async def test_it_ends_when_the_issuer_says_so(issuer: Issuer, error: str, words: str) -> None:
    issuer.answers["/token?x=1"] = [PENDING, (400, {"error": error})]
    with pytest.raises(AuthError, match=words):
        await device.wait(issuer.endpoints, "tool", CODES, sleep=Sleeping())


async def test_it_ends_by_itself_when_the_codes_are_over(issuer: Issuer) -> None:
    """Also when the issuer would let it ask for ever."""
    issuer.answers["/token?x=1"] = [PENDING]
    sleeping = Sleeping()
    with pytest.raises(AuthError, match="Nobody signed in in time"):
        await device.wait(issuer.endpoints, "tool", CODES, sleep=sleeping)
    assert sum(sleeping.slept) == 600


# -- the command


def test_the_token_alone_goes_to_stdout(issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    issuer.answers["/token?x=1"] = [PENDING, (200, TOKEN)]
    assert cli.main(["token", "--device", "--url", issuer.root, "--scope", "a b"]) == 0
    out, err = capsys.readouterr()
    assert out == "a.b.c\n"
    assert f"\n  {issuer.root}/enter\n" in err
    assert "\n  BCDF-GHJK\n" in err
    assert "10 minutes" in err
    assert "valid for 900 s, scope: s" in err
    assert "SecretDeviceCode" not in err
    assert "a.b.c" not in err
    assert ("/device", {"client_id": "cli", "scope": "a b"}) in issuer.seen


def test_another_issuer_and_client_can_be_named(issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    del issuer.answers["/.well-known/oauth-protected-resource"]
    assert cli.main(["token", "--device", "--issuer", issuer.url, "--client-id", "tool"]) == 0
    assert capsys.readouterr().out == "a.b.c\n"
    assert ("/device", {"client_id": "tool"}) in issuer.seen


@pytest.mark.parametrize(
    ("issuers", "code", "words"),
    [
        ([], 2, "Choose the server's issuer by --issuer; it takes the tokens of: none"),
        (["https://a.example", "https://b\x1b.example"], 2, "https://a.example, https://b?.example"),
        (None, 1, "name its issuer by --issuer"),
    ],
)
def test_the_servers_issuer_must_be_clear(
    issuer: Issuer, issuers: list[str] | None, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.answers["/.well-known/oauth-protected-resource"] = [(200, {"authorization_servers": issuers})]
    assert cli.main(["token", "--device", "--url", issuer.root]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [["--issuer", "https://a.example"], ["--client-id", "x"], ["--device", "--subject", "ada"]],
)
def test_options_that_do_not_go_together_are_one_line_and_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["token", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_issuer_that_is_not_there_is_one_line_and_2(issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    issuer.answers[f"{OAUTH}/tenant"] = [(0, {})]
    assert cli.main(["token", "--device", "--url", issuer.root]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Cannot reach" in err
