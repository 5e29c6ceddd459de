"""Tokens that are at hand, to be dealt out to the clients."""

from __future__ import annotations

import sys
from typing import Final

from hybrid.client.credentials import is_token
from hybrid.errors import SettingsError

TOKENS_MAX: Final = 100_000
_FILE_MAX_BYTES: Final = 1_000_000_000


def read_tokens(path: str) -> list[str]:
    """The tokens of a file, one a line, or of standard input for `-`. Raises SettingsError; nothing is quoted."""
    shown = "Standard input" if path == "-" else f"The token file {path}"
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(_FILE_MAX_BYTES)
        else:
            with open(path, "rb") as file:
                raw = file.read(_FILE_MAX_BYTES)
        tokens = [line.strip() for line in raw.decode("ascii").splitlines() if line.strip()]
    except OSError as error:
        raise SettingsError(detail=f"{shown} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise SettingsError(detail=f"{shown} holds no tokens: it is not plain text.") from None
    if not tokens:
        raise SettingsError(detail=f"{shown} holds no token; it must hold one a line.")
    if len(tokens) > TOKENS_MAX:
        raise SettingsError(detail=f"{shown} holds more than {TOKENS_MAX:,} tokens; fewer can be dealt out in turn.")
    for place, token in enumerate(tokens, 1):
        if not is_token(token):
            raise SettingsError(detail=f"{shown}: line {place} is no token (RFC 6750, section 2.1).")
    return tokens
