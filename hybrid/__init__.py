"""Channels over WebSocket, Server-Sent Events and long polling.

    from hybrid import Client, Hybrid, HybridMiddleware, create_app, load_settings

What stands in `__all__` is the public surface; it is loaded when it is first used, so that importing `hybrid` (and
`hybrid --help`) costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hybrid.broker.base import Appended
    from hybrid.client import Client
    from hybrid.embed.asgi import HybridMiddleware
    from hybrid.embed.extension import Hybrid, Message
    from hybrid.embed.hooks import ConnectedSession
    from hybrid.engine.calls import Call
    from hybrid.errors import HybridError
    from hybrid.model import Grant, Position, Principal, Publication
    from hybrid.settings import Settings
    from hybrid.settings import load as load_settings
    from hybrid.web.app import create_app

__version__ = "0.1.0"

__all__ = [
    "Appended",
    "Call",
    "Client",
    "ConnectedSession",
    "Grant",
    "Hybrid",
    "HybridError",
    "HybridMiddleware",
    "Message",
    "Position",
    "Principal",
    "Publication",
    "Settings",
    "__version__",
    "create_app",
    "load_settings",
]

_HOMES: Final = {
    "Appended": ("hybrid.broker.base", "Appended"),
    "Call": ("hybrid.engine.calls", "Call"),
    "Client": ("hybrid.client", "Client"),
    "ConnectedSession": ("hybrid.embed.hooks", "ConnectedSession"),
    "Hybrid": ("hybrid.embed.extension", "Hybrid"),
    "HybridMiddleware": ("hybrid.embed.asgi", "HybridMiddleware"),
    "Message": ("hybrid.embed.extension", "Message"),
    "HybridError": ("hybrid.errors", "HybridError"),
    "Grant": ("hybrid.model", "Grant"),
    "Position": ("hybrid.model", "Position"),
    "Principal": ("hybrid.model", "Principal"),
    "Publication": ("hybrid.model", "Publication"),
    "Settings": ("hybrid.settings", "Settings"),
    "create_app": ("hybrid.web.app", "create_app"),
    "load_settings": ("hybrid.settings", "load"),
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
