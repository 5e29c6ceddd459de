"""`hybrid serve --app MODULE:NAME`: an application that embeds hybrid, served as hybrid itself is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hybrid.cli.running import free_port
from hybrid.errors import SettingsError
from hybrid.settings import tell_environment

if TYPE_CHECKING:
    from hybrid.settings import Settings

_READ_BY_ITS_NAME: Final = ("host", "port", "loop", "log_level", "workers")


def load_application(options: argparse.Namespace, overrides: Mapping[str, Any]) -> tuple[Any, Settings]:
    """The application that `options.app` names, and its settings.

    What the command line says reaches it by the environment, before it is imported. Raises SettingsError where that is
    no application with hybrid in it, or where it has settings of its own that say otherwise; and whatever the import
    raises.
    """
    named = {name: getattr(options, name) for name in _READ_BY_ITS_NAME if getattr(options, name) is not None}
    if named.get("port") == 0:
        named["port"] = free_port(named.get("host", "127.0.0.1"))
    told = {**named, **overrides}
    tell_environment(told | ({"settings": options.settings} if options.settings else {}))
    app = _find(options.app)
    extensions = getattr(app, "extensions", {})
    if "hybrid" not in extensions:
        raise SettingsError(
            detail=f"{options.app} does not embed hybrid: it needs Hybrid(app), or HybridMiddleware(app) around it."
        )
    settings: Settings = extensions["hybrid_settings"]
    for name, value in told.items():
        if getattr(settings, name) != value:
            raise SettingsError(
                detail=f"{options.app} has settings of its own, in which {name} is {getattr(settings, name)!r}; "
                f"change it there, or have it read the environment."
            )
    if settings.port == 0:
        raise SettingsError(detail=f"{options.app} needs a port that is known before it is served, not 0.")
    return app, settings


def _find(spelled: str) -> Any:
    module, colon, name = spelled.partition(":")
    if not (module and colon and name):
        raise SettingsError(detail=f"--app must read MODULE:NAME, such as shop.site:app, not {spelled!r}.")
    sys.path.insert(0, "")  # as the commands of other servers do: the working directory
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise SettingsError(detail=f"There is no module {module} in the working directory or installed.") from None
        raise
    made, is_factory = name.removesuffix("()"), name.endswith("()")
    if not hasattr(found, made):
        raise SettingsError(detail=f"The module {module} has no {made}.")
    app = getattr(found, made)
    return app() if is_factory else app
