"""Binds a form to the browser that was shown it: a cookie with a random id, and in the form a digest made from it.

Nothing is stored. The digest also covers what the form is about, so a page that was shown for one request cannot be
sent for another. The cookie alone would be no protection on a machine of one's own: cookies do not know ports, and
another program's page on 127.0.0.1 is "same site". So where the browser says from where a form was sent, that is looked
at too (Fetch Metadata, and the Origin).
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from quart import Request, Response

_ID: Final = re.compile(r"[A-Za-z0-9_-]{32}")


class Browser:
    """The browser of one request. `id` is random, lasts as long as the browser runs, and identifies nobody."""

    def __init__(self, request: Request, key: bytes, *, is_secure: bool, path: str) -> None:
        self._name = "__Host-hybrid-dev-issuer" if is_secure else "hybrid-dev-issuer"
        self._is_secure = is_secure
        # The prefix demands the root (RFC 6265bis, section 4.1.3.2); without it the cookie goes to the issuer only.
        self._path = "/" if is_secure else path
        self._key = key
        sent = request.cookies.get(self._name, "")
        self._is_known = _ID.fullmatch(sent) is not None
        self.id: Final = sent if self._is_known else secrets.token_urlsafe(24)
        self._is_same_origin = _is_same_origin(request)

    def seal(self, subject: str) -> str:
        """What the form about `subject` carries along."""
        return hmac.new(self._key, f"{self.id}\n{subject}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()

    def is_sealed(self, subject: str, seal: str) -> bool:
        """Whether this very browser was shown the form about `subject`, and sends it from our own page."""
        # One without a cookie has just been given a new id, and so never has a seal that fits.
        return self._is_same_origin and hmac.compare_digest(
            self.seal(subject).encode(), seal.encode("utf-8", "surrogatepass")
        )

    def remember(self, response: Response) -> None:
        """Give the browser its cookie, if it has none."""
        if not self._is_known:
            response.set_cookie(
                self._name, self.id, path=self._path, secure=self._is_secure, httponly=True, samesite="Strict"
            )


def _is_same_origin(request: Request) -> bool:
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == request.host.lower()
    except ValueError:  # brackets that hold no address
        return False
