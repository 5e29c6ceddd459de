"""Tells the process's log which node it is, and how to call whom it is about."""

from __future__ import annotations

import logging

from hybrid.auth.derive import derive_key
from hybrid.engine.engine import Engine
from hybrid.logs import JsonFormatter, hashed, plain
from hybrid.settings import Settings


def introduce(engine: Engine, settings: Settings) -> None:
    """For all handlers of the root logger that write JSON. Nodes that share `secret` call a principal the same."""
    name_of = plain if settings.log_principals == "plain" else hashed(derive_key(settings.secret, "names in logs"))
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.node = engine.router.node
            handler.formatter.name_of = name_of
