"""The atomic steps, one Lua file each, by the SHA-1 under which Redis knows them."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple


class Script(NamedTuple):
    """One step. `sha` is what EVALSHA wants, in hexadecimal."""

    name: str
    text: bytes
    sha: bytes


def _script(name: str) -> Script:
    text = files(__name__).joinpath(f"{name}.lua").read_bytes()
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())


PUBLISH: Final = _script("publish")
PURGE: Final = _script("purge")
READ: Final = _script("read")
HISTORY: Final = _script("history")
JOIN: Final = _script("join")
LEAVE: Final = _script("leave")
DUE: Final = _script("due")
KEEP: Final = _script("keep")
LOOK: Final = _script("look")
CLAIM: Final = _script("claim")
NODE: Final = _script("node")
CALL: Final = _script("call")
REVOKE: Final = _script("revoke")
REVOKED: Final = _script("revoked")

ALL: Final = (PUBLISH, PURGE, READ, HISTORY, JOIN, LEAVE, DUE, KEEP, LOOK, CLAIM, NODE, CALL, REVOKE, REVOKED)
"""Loaded on every new connection; a script that was flushed meanwhile is loaded again when it is missed."""
