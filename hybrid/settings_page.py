"""Writes `docs/settings.md` from the settings themselves: `python -m hybrid.settings_page > docs/settings.md`.

Apart from `settings.py` because no server needs it. The reason beside each limit is read from its source, where it
must stand anyway.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from hybrid.limits import Limits
from hybrid.settings import GrantSettings, HooksSettings, IssuerSettings, Namespace, Settings

_INTRODUCTION = """# Settings

<!-- Written by `python -m hybrid.settings_page`; a test fails when it is stale. -->

`hybrid serve` reads `hybrid.toml` in the directory it is started in, or the file named by `--settings` or the variable
`HYBRID_SETTINGS`. Variables win over the file, options of the command line over both. Whatever is not understood is
refused at the start, with a sentence that names the key.

A variable is the key in capitals behind `HYBRID_`: `HYBRID_PORT=9000`, `HYBRID_LIMITS_DATA_MAX_BYTES=131072`,
`HYBRID_NAMESPACES_CHAT_HISTORY_SIZE=500`. Lists are separated by commas; `HYBRID_ISSUERS` takes URLs. Names that end
in `_s` are seconds, in `_ms` milliseconds, in `_bytes` bytes.

```toml
public_url = "https://live.example.com"
allowed_origins = ["https://app.example.com"]

[[issuers]]
url = "https://id.example.com"

[namespaces.chat]
history_size = 500
presence = true

[namespaces.news]
subscribe = "anyone"

[limits]
data_max_bytes = 32768
```
"""

_GRANTS = """## [[issuers.grants]]

What the tokens of an issuer permit beside what their scopes say, for issuers whose scopes speak of other things. As
many tables as are needed, each below the `[[issuers]]` that it belongs to:

```toml
[[issuers]]
url = "https://id.example.com"

[[issuers.grants]]                # everybody: one's own channel
subscribe = ["user:{sub}"]

[[issuers.grants]]                # who has the role "editor"
claim = "realm_access.roles"
value = "editor"
subscribe = ["news:*"]
publish = ["news:*"]
```
"""

_NAMESPACES = """## [namespaces.&lt;name&gt;]

A channel belongs to the namespace that its name starts with: `chat:lobby` to `chat`. Names whose prefix has no table
of its own, and names without a `:`, belong to `[namespaces.default]`. When no table is written at all, that one exists
with the defaults below; as soon as one is written, only what is written exists, and other channels are forbidden.
"""


def describe() -> str:
    """The whole page, as Markdown that ends with a newline."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield _INTRODUCTION
    yield "## Top level\n"
    yield from _rows(fields(Settings), without=("limits", "namespaces", "issuers", "hooks"))
    yield "\n## [[issuers]]\n\nOne table for each authorization server.\n"
    yield from _rows(fields(IssuerSettings), without=("grants",))
    yield "\n" + _GRANTS
    yield from _rows(fields(GrantSettings))
    yield "\n" + _NAMESPACES
    yield from _rows(fields(Namespace), without=("name",))
    yield "\n## [hooks]\n\nThe application's backend, in whatever language: see [webhooks](webhooks.md).\n"
    yield from _rows(fields(HooksSettings))
    yield "\n## [limits]\n\nEach with what happens past it, or the reason for its value.\n"
    yield "| key | default | meaning |\n| --- | --- | --- |"
    reasons = _reasons()
    for item in fields(Limits):
        yield f"| `{item.name}` | `{item.default}` | {reasons.get(item.name, '')} |"


def _rows(items: tuple[Field[Any], ...], without: tuple[str, ...] = ()) -> Iterator[str]:
    yield "| key | default | meaning |\n| --- | --- | --- |"
    for item in items:
        if item.name not in without:
            default = "needed" if item.default is MISSING else _toml(item.default)
            yield f"| `{item.name}` | {default} | {item.metadata['doc']} |"


def _toml(value: Any) -> str:
    """A default as one would write it in the file; a dash where there is none."""
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`"


def _reasons() -> dict[str, str]:
    """The comment behind each limit."""
    found = re.findall(r"^    (\w+): \w+ = [\d._]+  # (.+)$", inspect.getsource(Limits), re.MULTILINE)
    return {name: comment[0].upper() + comment[1:] + "." for name, comment in found}


if __name__ == "__main__":
    sys.stdout.write(describe())
