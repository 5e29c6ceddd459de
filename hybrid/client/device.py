"""Signing in where there is no browser: the device code grant (RFC 8628), with any issuer that offers it.

What an issuer says is a stranger's: its answers are bounded, its URLs checked, its words made fit for a terminal.
Codes go to the issuer's own https addresses only; plain http is for this machine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from hybrid.client.endpoint import HTTP_ERRORS, Endpoint, read_bounded
from hybrid.errors import AuthError

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_ANSWER_S: Final = 15.0
_INTERVAL_S: Final = 5.0
"""Between two polls, where the issuer does not say (RFC 8628, section 3.2)."""
_INTERVALS_S: Final = (1.0, 120.0)
_EXPIRES_S: Final = (1.0, 86_400.0)
_SLOW_DOWN_S: Final = 5.0
_WORDS_MAX_CHARACTERS: Final = 300
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class DeviceIssuer:
    """Where an issuer's endpoints are."""

    issuer: str
    device_authorization_endpoint: str
    token_endpoint: str


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """What the person is shown, and what the device keeps to itself. Times are in seconds."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in_s: float
    interval_s: float
    device_code: str = field(repr=False)


async def find_issuers(server: Endpoint) -> list[str]:
    """The issuers whose tokens a server takes, by its metadata (RFC 9728, section 3). Raises AuthError, Unreachable."""
    # By itself `Endpoint` reaches below the server's path, where this server answers.
    status, document = await _exchange(server, "GET", "/.well-known/oauth-protected-resource")
    named = document.get("authorization_servers")
    if status != 200 or not isinstance(named, list):
        raise AuthError("token_refused", "This server does not say whose tokens it takes; name its issuer by --issuer.")
    return [issuer for issuer in named if isinstance(issuer, str)]


async def discover(issuer: str) -> DeviceIssuer:
    """Its endpoints, by its metadata: RFC 8414, else OpenID Connect Discovery. Raises AuthError, Unreachable."""
    parts = _checked_url(issuer, "The issuer's name")
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    document: dict[str, Any] = {}
    for place in (f"/.well-known/oauth-authorization-server{path}", f"{path}/.well-known/openid-configuration"):
        status, document = await _exchange_at(root + place, "GET")
        if status == 200 and document.get("issuer") == issuer:  # RFC 8414, section 3.3
            break
    else:
        raise AuthError("token_refused", f"{fit(issuer)} has no metadata of an issuer of that name.")
    found = [document.get(name) for name in ("device_authorization_endpoint", "token_endpoint")]
    if not isinstance(found[0], str) or not isinstance(found[1], str):
        raise AuthError("token_refused", f"{fit(issuer)} does not offer the device flow (RFC 8628).")
    for url in found:
        _checked_url(str(url), "An endpoint of the issuer")
    return DeviceIssuer(issuer, found[0], found[1])


async def begin(issuer: DeviceIssuer, client_id: str, scope: str) -> DeviceCodes:
    """Ask for the codes (RFC 8628, section 3.1). Raises AuthError, Unreachable."""
    form = {"client_id": client_id, **({"scope": scope} if scope else {})}
    status, answer = await _exchange_at(issuer.device_authorization_endpoint, "POST", form)
    texts = [answer.get(name) for name in ("device_code", "user_code", "verification_uri")]
    if status != 200 or not all(isinstance(text, str) and text for text in texts):
        raise _refused(answer, status)
    device_code, user_code, uri = (str(text) for text in texts)
    complete = answer.get("verification_uri_complete")
    _checked_url(uri, "The address to open")
    return DeviceCodes(
        user_code=fit(user_code),
        verification_uri=fit(uri),
        verification_uri_complete=fit(complete) if isinstance(complete, str) else "",
        expires_in_s=_seconds(answer.get("expires_in"), 300.0, _EXPIRES_S),
        interval_s=_seconds(answer.get("interval"), _INTERVAL_S, _INTERVALS_S),
        device_code=device_code,
    )


async def wait(
    issuer: DeviceIssuer,
    client_id: str,
    codes: DeviceCodes,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, Any]:
    """The token answer (RFC 6749, section 5.1), once the person has consented.

    Polls no faster than told, slower when told so, and slower still while the issuer cannot be reached (RFC 8628,
    section 3.5). Raises AuthError: denied, too late, or refused. Cancel-safe: nothing is issued for who stops asking.
    """
    form = {"grant_type": GRANT, "device_code": codes.device_code, "client_id": client_id}
    interval_s, left_s = codes.interval_s, codes.expires_in_s
    while left_s > 0:
        pause_s = min(interval_s, left_s)
        await sleep(pause_s)
        left_s -= pause_s
        try:
            status, answer = await _exchange_at(issuer.token_endpoint, "POST", form)
        except ConnectionError:
            interval_s = min(2 * interval_s, _INTERVALS_S[1])
            continue
        if status == 200 and isinstance(answer.get("access_token"), str):
            return answer
        error = answer.get("error")
        if error == "slow_down":
            interval_s += _SLOW_DOWN_S
        elif error == "access_denied":
            raise AuthError("token_refused", "The sign-in was denied.")
        elif error == "expired_token":
            break
        elif error != "authorization_pending" and status < 500:
            raise _refused(answer, status)
    raise AuthError("token_refused", "Nobody signed in in time; run the command again for a new code.")


def fit(text: str) -> str:
    """A stranger's words, fit for a terminal: one line, nothing that a terminal would obey, and not too long."""
    return "".join(c if c.isprintable() else "?" for c in text[:_WORDS_MAX_CHARACTERS])


def _checked_url(url: str, what: str) -> Any:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises for one that is none)
    except ValueError:
        raise AuthError("token_refused", f"{what} is no URL: {fit(url)}") from None
    is_local = parts.hostname in _LOOPBACK
    if parts.username is not None or not parts.hostname or parts.scheme not in ("https", "http"):
        raise AuthError("token_refused", f"{what} is no URL: {fit(url)}")
    if parts.scheme == "http" and not is_local:
        raise AuthError("token_refused", f"{what} is not https, and a token would go there in the clear: {fit(url)}")
    return parts


async def _exchange_at(url: str, method: str, form: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    endpoint = Endpoint(f"{parts.scheme}://{parts.netloc}")
    await endpoint.open()
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return await _exchange(endpoint, method, target, form)
    finally:
        await endpoint.close()


async def _exchange(
    endpoint: Endpoint, method: str, path: str, form: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON object, {} for anything else. Raises Unreachable."""
    from hybrid.client.plain import Unreachable

    shown = f"{'https' if endpoint.is_secure else 'http'}://{endpoint.netloc}"
    headers = _FORM if form is not None else {"Accept": "application/json"}
    body = urlencode(form).encode() if form is not None else b""
    try:
        async with asyncio.timeout(_ANSWER_S):
            async with endpoint.stream(method, path, "longpoll", dict(headers), content=body) as response:
                status, text = response.status_code, await read_bounded(response)
    except TimeoutError:
        raise Unreachable(f"Cannot reach {shown}: no answer within {_ANSWER_S:g} s") from None
    except HTTP_ERRORS as error:
        raise Unreachable(f"Cannot reach {shown}: {str(error) or 'the connection failed'}") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    return status, document if isinstance(document, dict) else {}


def _refused(answer: dict[str, Any], status: int) -> AuthError:
    error, words = answer.get("error"), answer.get("error_description")
    if not isinstance(error, str):
        return AuthError("token_refused", f"The issuer answered {status}, which is not how one answers.")
    more = f" ({fit(words)})" if isinstance(words, str) and words else ""
    hint = ""
    if error in ("invalid_client", "unauthorized_client"):
        hint = " Name a client that the issuer knows and lets use the device flow by --client-id."
    elif error == "invalid_scope":
        hint = " Ask for less by --scope."
    return AuthError("token_refused", f"The issuer refused: {fit(error)}{more}.{hint}")


def _seconds(value: Any, default: float, bounds: tuple[float, float]) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return float(min(max(value, bounds[0]), bounds[1])) if is_number else default  # bounded first: an int has no end
