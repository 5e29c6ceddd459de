"""What the settings' classes say and check alike: documented fields, refusals in one sentence, addresses."""

from __future__ import annotations

import ipaddress
import typing
from collections.abc import Iterable
from dataclasses import MISSING, field
from typing import Any
from urllib.parse import urlsplit

from hybrid.errors import SettingsError


def doc(text: str, default: Any = MISSING, *, secret: bool = False) -> Any:
    """A dataclass field that carries its own line of documentation; a secret one does not show in a `repr`."""
    return field(default=default, repr=not secret, metadata={"doc": text})


def refusal(sentence: str) -> SettingsError:
    """The error of a setting: one sentence that names it and says what is accepted."""
    return SettingsError(detail=sentence)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names other than `localhost` count as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_in_url(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def check_choice(key: str, value: str, kind: Any) -> None:
    """Raises SettingsError unless the value is one of a Literal's."""
    if value not in typing.get_args(kind):
        raise refusal(f"{key} must be {choices(kind)}, not {value!r}.")


def choices(kind: Any) -> str:
    """A Literal's words, quoted, for a sentence."""
    return listed(typing.get_args(kind))


def listed(words: Iterable[str]) -> str:
    """Words, quoted, with "or" before the last."""
    quoted = [f'"{word}"' for word in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def check_url(key: str, url: str, *, needs_tls: bool) -> None:
    """Raises SettingsError unless this is an absolute URL; with `needs_tls` only loopback may be plain http."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise refusal(f"{key} must be an absolute http or https URL without query or fragment, not {url!r}.")
    if needs_tls and parts.scheme == "http" and not is_loopback(host):
        raise refusal(f"{key} must be https, for keys must not be read over plain http; got {url!r}.")


def is_plain_name(name: str) -> bool:
    """Whether a name can stand in keys and variables as it is."""
    return len(name) <= 64 and name.isascii() and all(c.isalnum() or c in "._-" for c in name)
