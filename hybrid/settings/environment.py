"""What the environment tells apart from settings: to the client commands, and by a service manager."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_SERVICE_VARIABLES: Final = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """What the client commands take from the environment: `HYBRID_URL` and `HYBRID_TOKEN`."""

    url: str = "http://127.0.0.1:8000"
    token: str = field(default="", repr=False)


def client_environment(environ: Mapping[str, str] | None = None) -> ClientEnvironment:
    """Where the client commands go, and with which token, when no option says it."""
    environ = os.environ if environ is None else environ
    return ClientEnvironment(
        url=environ.get("HYBRID_URL") or ClientEnvironment().url, token=environ.get("HYBRID_TOKEN", "").strip()
    )


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """What systemd put into the environment (sd_notify(3), sd_watchdog_enabled(3)); empty where it did not start us."""

    notify_socket: str = ""
    watchdog_s: float | None = None


def service_environment(environ: Mapping[str, str] | None = None, pid: int | None = None) -> ServiceEnvironment:
    """What the service manager wants to hear from this process."""
    environ = os.environ if environ is None else environ
    address = environ.get("NOTIFY_SOCKET", "")
    watchdog_usec, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_meant = meant in ("", str(os.getpid() if pid is None else pid))
    return ServiceEnvironment(
        notify_socket=address if address.startswith(("/", "@")) else "",
        watchdog_s=int(watchdog_usec) / 1e6 if is_meant and watchdog_usec.isdecimal() and int(watchdog_usec) else None,
    )


def tell_environment(settings: Mapping[str, object]) -> None:
    """Put settings into this process's environment, for an application that reads its own from there."""
    for name, value in settings.items():
        os.environ[f"HYBRID_{name.upper()}"] = str(value)


def worker_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a worker: this process's own, without what only its supervisor may use."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name not in _SERVICE_VARIABLES}
