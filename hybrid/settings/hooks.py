"""The application's backend over HTTP: `[hooks]`."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hybrid.settings.words import check_url, doc, is_loopback, listed, refusal

TOLD: Final = ("connected", "disconnected", "occupied", "vacated")
"""What a backend can be told."""
_SECRET_BYTES: Final = range(24, 65)
_SECRET_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class HooksSettings:
    """Where the application's backend is asked and told: see webhooks.md. A table `[hooks]` of the file."""

    url: str = doc("Where questions are posted, and events unless tell_url says otherwise; no hooks when empty.", "")
    tell_url: str = doc("Where events are posted.", "")
    secrets: tuple[str, ...] = doc(
        "What signs every request, each whsec_ and 24 to 64 bytes in base64 (`openssl rand -base64 32`); several sign "
        "at once, while one takes the place of another.",
        (),
        secret=True,
    )
    connect: bool = doc("Whether the backend is asked about each token that is shown, and may give it rights.", False)
    calls: tuple[str, ...] = doc(
        "Calls that it answers where no handler does: names, with one * at the end for all that start so.", ()
    )
    tell: tuple[str, ...] = doc(f"What it is told, out of {', '.join(TOLD)}.", ())
    tell_namespaces: tuple[str, ...] = doc(
        "The namespaces whose channels it is told about; all of them when not given.", ()
    )
    allow_insecure: bool = doc(
        "Spells out that answers which decide over rights may come over plain http from another machine.", False
    )

    def __post_init__(self) -> None:
        for key, url in (("hooks.url", self.url), ("hooks.tell_url", self.tell_url)):
            if url:
                check_url(key, url.partition("?")[0], needs_tls=False)
                _check_channel(key, url, is_allowed=self.allow_insecure)
        if (self.connect or self.calls) and not self.url:
            raise refusal("hooks.connect and hooks.calls need hooks.url: somebody has to be asked.")
        if self.tell and not (self.url or self.tell_url):
            raise refusal("hooks.tell needs hooks.tell_url or hooks.url: somebody has to be told.")
        if (self.url or self.tell_url) and not self.secrets:
            raise refusal(
                "hooks.secrets must hold at least one secret, or the backend could not tell our requests from "
                "anybody's: whsec_ and what `openssl rand -base64 32` prints. HYBRID_HOOKS_SECRETS says it, too."
            )
        for secret in self.secrets:
            if not _is_secret(secret):
                raise refusal("hooks.secrets: each is whsec_ and 24 to 64 bytes in base64.")  # without the value
        for event in self.tell:
            if event not in TOLD:
                raise refusal(f"hooks.tell: {event!r} cannot be told; accepted are {listed(TOLD)}.")
        for name in self.calls:
            if not name or "*" in name[:-1]:
                raise refusal(f"hooks.calls: {name!r} is no name, with one * at its end for all that start so.")

    @property
    def told_at(self) -> str:
        """Where events are posted."""
        return self.tell_url or self.url


def _check_channel(key: str, url: str, *, is_allowed: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not is_allowed:
        raise refusal(
            f"{key} must be https, or http on this machine: whoever stands between could grant rights. If the way "
            "there is safe otherwise, set allow_insecure = true in [hooks]."
        )


def _is_secret(text: str) -> bool:
    try:
        decoded = b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(_SECRET_PREFIX) and len(decoded) in _SECRET_BYTES
