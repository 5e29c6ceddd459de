"""The issuer over HTTP, as people and programs meet it: through the whole application."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as Client

from hybrid.auth.development import RESOURCE_CLIENT, RESOURCE_SECRET
from hybrid.settings import Settings
from hybrid.web.app import EXTENSION, create_app
from hybrid.web.issuer import page_addresses
from hybrid.web.static import find_static_root
from tests.unit.auth.development.asking import CHALLENGE, DEVICE, VERIFIER, claims

HOST = "127.0.0.1:8000"
PAGE = f"http://{HOST}/"
SCOPE = "hybrid:subscribe:chat:* hybrid:publish:chat:lobby"


@pytest.fixture
def app() -> Quart:
    return create_app(Settings(development_issuer=True))


@pytest.fixture
def client(app: Quart) -> Client:
    return app.test_client()


def address(**changes: str | None) -> str:
    fields: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "demo",
        "redirect_uri": PAGE,
        "scope": SCOPE,
        "state": "s1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    return "/dev-issuer/authorize?" + urlencode({name: value for name, value in fields.items() if value is not None})


async def get(client: Client, path: str, **headers: str) -> tuple[Any, str]:
    response = await client.get(path, headers={"Host": HOST, **headers})
    return response, await response.get_data(as_text=True)


async def post(client: Client, path: str, form: dict[str, str], **headers: str) -> tuple[Any, str]:
    response = await client.post(path, form=form, headers={"Host": HOST, **headers})
    return response, await response.get_data(as_text=True)


def hidden(page: str, name: str = "seal") -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return html.unescape(found[1])


async def consented(client: Client, path: str = "", **changes: str) -> Any:
    path = path or address()
    _, page = await get(client, path)
    form = {"seal": hidden(page), "name": "ada", "decision": "allow", **changes}
    response, _ = await post(client, path, form, Origin=f"http://{HOST}", **{"Sec-Fetch-Site": "same-origin"})
    return response


def returned(response: Any) -> dict[str, str]:
    assert response.status_code == 303
    assert response.headers["Location"].startswith(PAGE + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


# -- consent


async def test_signing_in_through_the_page_gives_a_token_that_the_server_takes(app: Quart, client: Client) -> None:
    back = returned(await consented(client))
    assert (back["state"], back["iss"]) == ("s1", f"http://{HOST}/dev-issuer")
    form = {
        "grant_type": "authorization_code",
        "client_id": "demo",
        "code": back["code"],
        "redirect_uri": PAGE,
        "code_verifier": VERIFIER,
    }
    response, _ = await post(client, "/dev-issuer/token", form)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    body = await response.get_json()
    assert claims(body["access_token"])["sub"] == "ada"
    principal = await app.extensions[EXTENSION].verifier.verify(body["access_token"])
    assert (principal.subject, principal.client) == ("ada", "demo")
    again, _ = await post(client, "/dev-issuer/token", form)
    assert (await again.get_json())["error"] == "invalid_grant"


async def test_the_page_says_what_is_asked_for_and_what_it_is(client: Client) -> None:
    _, page = await get(client, address())
    for words in ("The demo page", "<code>chat:</code>", "<code>chat:lobby</code>", PAGE, "asks for no password"):
        assert words in page
    assert "<script" not in page
    assert "style=" not in page
    assert re.search(r'name="name" value="[a-z]+-[a-z]+"', page), "a name is suggested"


async def test_the_suggestion_stays_with_the_browser_and_a_hint_wins(client: Client) -> None:
    names = {hidden((await get(client, address()))[1], "name") for _ in range(3)}
    assert len(names) == 1
    assert hidden((await get(client, address(login_hint="grace")))[1], "name") == "grace"
    assert hidden((await get(client, address(login_hint="\u202e")))[1], "name") in names


async def test_the_pages_headers(client: Client) -> None:
    response, _ = await get(client, address())
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert f"form-action 'self' http://{HOST};" in policy
    assert "unsafe" not in policy
    assert "script" not in policy
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    redirect = await consented(client)
    assert redirect.headers["Referrer-Policy"] == "no-referrer"
    assert redirect.headers["Cache-Control"] == "no-store"


async def test_the_cookie_is_for_this_server_alone(client: Client) -> None:
    response, _ = await get(client, address())
    cookie = response.headers["Set-Cookie"]
    assert re.match(r"hybrid-dev-issuer=[\w-]{32}; HttpOnly; Path=/dev-issuer; SameSite=Strict$", cookie)
    assert "Set-Cookie" not in (await get(client, address()))[0].headers


async def test_over_https_the_cookie_cannot_come_from_anywhere_else() -> None:
    settings = Settings(development_issuer=True, public_url="https://dev.example", allowed_hosts=("dev.example",))
    client = create_app(settings).test_client()
    path = address(redirect_uri="https://dev.example/")
    response = await client.get(path, headers={"Host": "dev.example"})
    cookie = response.headers["Set-Cookie"]
    assert re.match(r"__Host-hybrid-dev-issuer=[\w-]{32}; Secure; HttpOnly; Path=/; SameSite=Strict$", cookie)


async def test_what_a_client_sends_is_text_on_the_page(client: Client) -> None:
    scope = "hybrid:subscribe:%3Cscript%3E hybrid:publish:%22%27%3Cimg%3E*"
    _, page = await get(client, address(scope=scope, login_hint='"><b>', state="<i>"))
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\u202eb", "\x00"])
async def test_a_name_that_cannot_be_used_is_asked_for_again(client: Client, name: str) -> None:
    response = await consented(client, name=name)
    assert response.status_code == 400
    assert "1 to 64 characters" in await response.get_data(as_text=True)


async def test_denial_goes_back_too_whatever_the_name(client: Client) -> None:
    back = returned(await consented(client, decision="deny", name=""))
    assert (back["error"], back["state"]) == ("access_denied", "s1")


@pytest.mark.parametrize("decision", ["", "yes", "ALLOW"])
async def test_only_allow_is_consent(client: Client, decision: str) -> None:
    assert returned(await consented(client, decision=decision))["error"] == "access_denied"


# -- what another page could try


async def test_looking_at_the_page_grants_nothing(client: Client) -> None:
    path = address()
    _, page = await get(client, path)
    response, _ = await get(client, f"{path}&{urlencode({'seal': hidden(page), 'decision': 'allow', 'name': 'ada'})}")
    assert response.status_code == 200
    assert "Location" not in response.headers


async def test_a_form_is_bound_to_its_browser(app: Quart) -> None:
    victim, attacker = app.test_client(), app.test_client()
    await get(victim, address())
    _, page = await get(attacker, address())
    for client in (victim, app.test_client()):  # one with a cookie of its own, one without any
        response, text = await post(
            client, address(), {"seal": hidden(page), "name": "ada", "decision": "allow"}, Origin=f"http://{HOST}"
        )
        assert response.status_code == 403
        assert "out of date" in text
        assert "Location" not in response.headers


@pytest.mark.parametrize("seal", ["", "0" * 64, "é"])
async def test_a_made_up_seal_is_none(client: Client, seal: str) -> None:
    assert (await consented(client, seal=seal)).status_code == 403


async def test_a_form_is_bound_to_what_it_was_shown_for(client: Client) -> None:
    _, page = await get(client, address(scope="hybrid:subscribe:chat:lobby"))
    form = {"seal": hidden(page), "name": "ada", "decision": "allow"}
    response, _ = await post(client, address(scope="hybrid:subscribe:*"), form)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
async def test_a_form_that_another_page_sends_is_refused(client: Client, headers: dict[str, str]) -> None:
    """Even with the right cookie and seal: pages on other ports of this machine can plant a cookie."""
    _, page = await get(client, address())
    form = {"seal": hidden(page), "name": "ada", "decision": "allow"}
    response, _ = await post(client, address(), form, **headers)
    assert response.status_code == 403


async def test_not_even_a_page_that_may_use_the_api_may_send_it() -> None:
    settings = Settings(development_issuer=True, allowed_origins=("http://localhost:5173",))
    client = create_app(settings).test_client()
    _, page = await get(client, address())
    form = {"seal": hidden(page), "name": "ada", "decision": "allow"}
    assert (await post(client, address(), form, Origin="http://localhost:5173"))[0].status_code == 403


# -- requests that are wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": PAGE + "deeper"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unchecked_address_is_never_gone_to(
    client: Client, changes: dict[str, str | None], method: str
) -> None:
    path = address(**changes)
    response = await client.open(path, method=method, headers={"Host": HOST})
    page = await response.get_data(as_text=True)
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "cannot go on" in page
    assert "evil.example" not in page
    assert "javascript:" not in page
    assert "form-action 'none'" in response.headers["Content-Security-Policy"]


async def test_a_parameter_that_comes_twice_is_a_page(client: Client) -> None:
    response, _ = await get(client, address() + "&state=s2")
    assert response.status_code == 400


@pytest.mark.parametrize("changes", [{"code_challenge": None}, {"code_challenge_method": "plain"}, {"scope": "openid"}])
async def test_what_a_known_client_does_wrong_goes_back_to_it(client: Client, changes: dict[str, str | None]) -> None:
    response, _ = await get(client, address(**changes))
    back = returned(response)
    assert back["error"] in ("invalid_request", "invalid_scope")
    assert (back["state"], back["iss"]) == ("s1", f"http://{HOST}/dev-issuer")


def test_the_addresses_of_the_page_are_those_of_its_hosts() -> None:
    settings = Settings(port=8000)
    assert set(page_addresses(settings.public_url, settings.allowed_hosts)) == {
        "http://127.0.0.1:8000/",
        "http://localhost:8000/",
        "http://[::1]:8000/",
    }
    assert page_addresses("https://a.example/live", ("a.example", "b.example:*")) == ("https://a.example/",)


# -- devices


async def begun(client: Client) -> dict[str, Any]:
    response, _ = await post(client, "/dev-issuer/device_authorization", {"client_id": "cli", "scope": SCOPE})
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = await response.get_json()
    return body


async def poll(client: Client, device: dict[str, Any]) -> dict[str, Any]:
    form = {"grant_type": DEVICE, "client_id": "cli", "device_code": device["device_code"]}
    body: dict[str, Any] = await (await post(client, "/dev-issuer/token", form))[0].get_json()
    return body


async def entered(client: Client, code: str) -> tuple[Any, str]:
    _, page = await get(client, "/dev-issuer/device")
    return await post(client, "/dev-issuer/device", {"seal": hidden(page), "user_code": code})


async def test_a_device_is_signed_in_by_its_code(client: Client) -> None:
    device = await begun(client)
    assert (await poll(client, device))["error"] == "authorization_pending"
    response, page = await entered(client, device["user_code"].lower().replace("-", " "))
    assert response.status_code == 200
    assert "The hybrid command" in page
    assert device["user_code"] in page
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    form = {"seal": hidden(page), "user_code": hidden(page, "user_code"), "name": "ada", "decision": "allow"}
    _, page = await post(client, "/dev-issuer/device", form)
    assert "The device is signed in" in page
    assert claims((await poll(client, device))["access_token"])["sub"] == "ada"
    assert (await poll(client, device))["error"] == "invalid_grant"


async def test_the_link_with_the_code_fills_it_in_and_decides_nothing(client: Client) -> None:
    device = await begun(client)
    link = urlsplit(device["verification_uri_complete"])
    for _ in range(20):  # nor does it count as a guess
        _, page = await get(client, f"{link.path}?user_code=BBBB-BBBB")
    _, page = await get(client, f"{link.path}?{link.query}")
    assert hidden(page, "user_code") == device["user_code"]
    assert "The hybrid command" not in page
    assert (await poll(client, device))["error"] == "authorization_pending"
    _, page = await get(client, f"{link.path}?user_code=%22%3E%3Cscript%3E" + "x" * 1_000)
    assert "<script" not in page
    assert "x" * 40 not in page


async def test_a_device_can_be_denied(client: Client) -> None:
    device = await begun(client)
    _, page = await entered(client, device["user_code"])
    form = {"seal": hidden(page), "user_code": device["user_code"], "name": "", "decision": "deny"}
    assert "Denied" in (await post(client, "/dev-issuer/device", form))[1]
    assert (await poll(client, device))["error"] == "access_denied"


async def test_a_bad_name_is_asked_for_again_and_decides_nothing(client: Client) -> None:
    device = await begun(client)
    _, page = await entered(client, device["user_code"])
    form = {"seal": hidden(page), "user_code": device["user_code"], "name": " ", "decision": "allow"}
    response, page = await post(client, "/dev-issuer/device", form)
    assert response.status_code == 400
    assert "1 to 64 characters" in page
    assert (await poll(client, device))["error"] == "authorization_pending"


async def test_consent_to_one_device_is_none_to_another(client: Client) -> None:
    first, second = await begun(client), await begun(client)
    _, page = await entered(client, first["user_code"])
    form = {"seal": hidden(page), "user_code": second["user_code"], "name": "ada", "decision": "allow"}
    assert (await post(client, "/dev-issuer/device", form))[0].status_code == 403
    _, page = await get(client, "/dev-issuer/device")  # nor is the seal of the first form good for the second
    form["seal"] = hidden(page)
    assert (await post(client, "/dev-issuer/device", form))[0].status_code == 403
    assert (await poll(client, second))["error"] == "authorization_pending"


@pytest.mark.parametrize("code", ["BBBB-BBBB", "", "x" * 33, "é"])
async def test_a_wrong_code_is_told_and_guessing_is_bounded(client: Client, code: str) -> None:
    response, _ = await entered(client, code)
    assert response.status_code in (400, 403)


async def test_after_ten_wrong_codes_a_right_one_has_to_wait(client: Client) -> None:
    device = await begun(client)
    for _ in range(10):
        response, page = await entered(client, "BBBB-BBBB")
        assert response.status_code == 400
        assert "No device waits" in page
    response, page = await entered(client, device["user_code"])
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert "Too many wrong codes" in page


# -- for programs


async def test_revocation_and_introspection_over_http(client: Client) -> None:
    response, _ = await post(client, "/dev-issuer/token", {"grant_type": "client_credentials", "client_id": "cli"})
    token = (await response.get_json())["access_token"]
    basic = {"Authorization": "Basic " + b64encode(f"{RESOURCE_CLIENT}:{RESOURCE_SECRET}".encode()).decode()}
    response, _ = await post(client, "/dev-issuer/introspect", {"token": token}, **basic)
    assert (await response.get_json())["active"] is True
    assert response.headers["Cache-Control"] == "no-store"
    response, _ = await post(client, "/dev-issuer/introspect", {"token": token})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    response, _ = await post(client, "/dev-issuer/revoke", {"token": token, "client_id": "cli"})
    assert response.status_code == 200
    response, _ = await post(client, "/dev-issuer/introspect", {"token": token}, **basic)
    assert await response.get_json() == {"active": False}


async def test_the_metadata_names_what_is_there(client: Client, app: Quart) -> None:
    response, _ = await get(client, "/.well-known/oauth-authorization-server/dev-issuer")
    metadata = await response.get_json()
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    named = {value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    assert len(named) == 6
    assert {urlsplit(url).path for url in named} <= routes
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert DEVICE in metadata["grant_types_supported"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]


def test_the_pages_have_the_colours_of_the_demo() -> None:
    """Two stylesheets, one palette: these pages must not need a file that an operator may have replaced."""

    def schemes(css: str) -> list[dict[str, str]]:
        return [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{([^}]+)\}", css)[:2]]

    own = Path(create_app.__code__.co_filename).parent / "issuer" / "style.css"
    theirs = schemes((find_static_root() / "demo.css").read_text())
    for mine, other in zip(schemes(own.read_text()), theirs, strict=True):
        assert mine
        assert {name: other.get(name) for name in mine} == mine
