"""What the client commands share: which server, and with which token.

A token never stands on the command line, where every user of the machine could read it: it comes from a file, from
HYBRID_TOKEN, or, on this machine, from the server's own development issuer.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

if TYPE_CHECKING:
    from hybrid.client.ending import Ending
    from hybrid.client.endpoint import Endpoint

_Result = TypeVar("_Result")
_ISSUER_PATH = "/dev-issuer/token"
_TIMEOUT_S = 30.0


def add_client_options(parser: argparse.ArgumentParser, *, with_token: bool = True) -> None:
    """The options of all client commands."""
    parser.add_argument("--url", metavar="URL", help="the server (default: HYBRID_URL, else http://127.0.0.1:8000)")
    if with_token:
        parser.add_argument(
            "--token-file",
            metavar="FILE",
            help="file that holds an access token (default: HYBRID_TOKEN, else a "
            "token of the server's development issuer, where the server is on this machine)",
        )


def run_client(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a command's coroutine; Ctrl-C comes out as KeyboardInterrupt."""
    import asyncio  # not above: it costs more than the rest of the command line, which a supervisor loads too

    return asyncio.run(main)


def make_endpoint(options: argparse.Namespace) -> Endpoint:
    """The server that the options name. Raises SettingsError for a URL that is none."""
    from hybrid.client.endpoint import Endpoint
    from hybrid.settings import client_environment

    return Endpoint(options.url or client_environment().url)


class TokenSource:
    """Where the token of a client command comes from; what it gives can be asked for again when it has expired."""

    def __init__(self, options: argparse.Namespace, endpoint: Endpoint, *, scope: str = "") -> None:
        """`scope` is what a development issuer is asked for; empty: everything.

        Raises SettingsError for a token at hand that is none; it is not quoted.
        """
        from hybrid.client.credentials import is_token
        from hybrid.errors import SettingsError
        from hybrid.settings import client_environment

        self._endpoint = endpoint
        self._scope = scope
        self._file: str | None = options.token_file
        self._given = _read_token(self._file) if self._file else client_environment().token
        if self._given and not is_token(self._given):
            raise SettingsError(detail="HYBRID_TOKEN holds no token (RFC 6750, section 2.1).")
        # The same subject for the whole life of the command: a refreshed token must speak for the same party.
        self._subject = f"cli-{secrets.token_hex(4)}"

    async def get(self) -> str | None:
        """A token, or None to go on without one. Raises HybridError, Unreachable, SettingsError."""
        from hybrid.settings import is_loopback

        if self._file:
            return _read_token(self._file)  # whoever keeps it fresh writes it there
        if self._given:
            return self._given
        if not is_loopback(self._endpoint.host):
            return None
        answer = await request_token(self._endpoint, subject=self._subject, scope=self._scope)
        return answer["access_token"] if answer is not None else None


async def request_token(endpoint: Endpoint, *, subject: str = "", scope: str = "") -> dict[str, Any] | None:
    """The development issuer's answer (RFC 6749, section 5.1); None where the server has no such issuer.

    Raises AuthError when it refuses, Unreachable when there is no server.
    """
    from hybrid.client.credentials import is_token
    from hybrid.errors import AuthError

    form = {"grant_type": "client_credentials", "client_id": "cli", "subject": subject, "scope": scope}
    body = urlencode({name: value for name, value in form.items() if value}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    status, answer = await _exchange(endpoint, "POST", _ISSUER_PATH, headers, body)
    try:
        values = json.loads(answer)
    except ValueError:
        values = None
    if status == 200 and isinstance(values, dict) and is_token(values.get("access_token")):
        return values
    if status in (404, 405):
        return None
    if isinstance(values, dict) and isinstance(values.get("error"), str):
        words = f"{values['error']}: {values.get('error_description', '')}".rstrip(": ")
        raise AuthError("token_refused", f"The development issuer refused: {words}")
    raise _failure(endpoint, status, answer)


async def request(endpoint: Endpoint, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The body of a 200 or 201. Raises HybridError for the server's refusal, Unreachable where there is no server."""
    status, answer = await _exchange(endpoint, method, path, headers, body)
    if status in (200, 201):
        return answer
    raise _failure(endpoint, status, answer)


async def _exchange(
    endpoint: Endpoint, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    import asyncio

    from hybrid.client.endpoint import HTTP_ERRORS, read_bounded

    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async with endpoint.stream(method, path, "longpoll", headers, content=body) as response:
                return response.status_code, await read_bounded(response)
    except TimeoutError:
        raise unreachable(endpoint, f"no answer within {_TIMEOUT_S:g} s") from None
    except HTTP_ERRORS as error:
        raise unreachable(endpoint, str(error)) from None


def _failure(endpoint: Endpoint, status: int, answer: bytes) -> Exception:
    from hybrid.client.ending import of_http

    ending: Ending = of_http(status, {}, answer)
    return unreachable(endpoint, f"{ending.detail}, not a hybrid server?") if ending.is_network else ending.as_error()


def unreachable(endpoint: Endpoint, detail: str) -> ConnectionError:
    """The error for a server that is not there."""
    from hybrid.client.plain import Unreachable

    shown = f"{'https' if endpoint.is_secure else 'http'}://{endpoint.netloc}"
    return Unreachable(f"Cannot reach {shown}: {detail or 'the connection failed'}")


def _read_token(path: str) -> str:
    from hybrid.client.credentials import is_token
    from hybrid.errors import SettingsError

    try:
        with open(path, encoding="ascii") as file:
            token = file.read(65_536).strip()
    except OSError as error:
        raise SettingsError(detail=f"The token file {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise SettingsError(detail=f"The token file {path} holds no token: it is not plain text.") from None
    if not is_token(token):
        raise SettingsError(detail=f"The token file {path} must hold one token and nothing else.")
    return token


def say(words: str) -> None:
    """Tell the person at the terminal, on stderr: stdout is for what a program reads."""
    print(words, file=sys.stderr, flush=True)
