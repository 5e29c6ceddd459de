"""The client's token: asked for only when there is none, or the one at hand is of no more use."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from hybrid.errors import AuthError, HybridError

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")

TokenSource: TypeAlias = Callable[[], "str | Awaitable[str | None] | None"]


def is_token(text: object) -> bool:
    """Whether it can stand in an `Authorization` header (RFC 6750, section 2.1: b64token).

    Ask before it goes further: libraries quote a header that they cannot send, and so the token, in what they raise.
    """
    return isinstance(text, str) and _B64TOKEN.fullmatch(text) is not None


class TokenFailed(Exception):
    """`get_token` raised something that is no HybridError; worth another try, as a network failure is."""


class Credentials:
    """Keeps the last token of `get_token` (a function or coroutine function; None for anonymous clients)."""

    def __init__(self, get_token: TokenSource | None) -> None:
        self._get_token = get_token
        self._token: str | None = None
        self._is_needed = True
        self._ends_at_s: float | None = None
        self._asking = asyncio.Lock()

    async def token(self) -> str | None:
        """The token to show; None for anonymous. Cancel-safe.

        Raises what `get_token` raises: a HybridError as it is, everything else as TokenFailed. And AuthError
        `token_refused` for what is no token; it is not quoted.
        """
        async with self._asking:
            if self._ends_at_s is not None and asyncio.get_running_loop().time() >= self._ends_at_s:
                self._is_needed = True
            if self._is_needed and self._get_token is not None:
                try:
                    answer = self._get_token()
                    token = await answer if inspect.isawaitable(answer) else answer
                except HybridError:
                    raise
                except Exception as error:
                    raise TokenFailed(f"get_token failed: {error or type(error).__name__}") from error
                if token and not is_token(token):
                    raise AuthError("token_refused", "What get_token gave is no token (RFC 6750, section 2.1).")
                self._token = token
                self._ends_at_s = None
            self._is_needed = False
            return self._token

    def expires_in(self, seconds: float | None) -> None:
        """The server has told how long the token at hand lives from now; None: it did not say."""
        self._ends_at_s = None if seconds is None else asyncio.get_running_loop().time() + seconds

    def invalidate(self) -> None:
        """The server did not want the token at hand, or it is about to end: the next use asks for a new one."""
        self._is_needed = True

    async def headers(self) -> dict[str, str]:
        """The `Authorization` header (RFC 6750, section 2.1), or nothing."""
        token = await self.token()
        return {"Authorization": f"Bearer {token}"} if token else {}
