"""`hybrid serve` with more than one worker: the process that serves nothing. Loads nothing that serves."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hybrid.cli.running import configure_logging, read_settings, tell_started
from hybrid.errors import SettingsError

if TYPE_CHECKING:
    from hybrid.limits import Limits
    from hybrid.settings import Settings

_log = logging.getLogger(__name__)
_FIXED = ("host", "port", "workers")  # what a reload leaves as it is


def supervise(
    settings: Settings, options: argparse.Namespace, overrides: Mapping[str, Any], announce: Callable[[str], None]
) -> int:
    """Run `settings.workers` workers until told to stop; returns the exit code, as `run_server` does.

    `overrides` are the options of the command line that `read_settings` does not read itself. Raises SettingsError.
    """
    if os.name != "posix":
        raise SettingsError(detail="More than one worker needs Linux, macOS or another POSIX system; set workers = 1.")
    from hybrid.settings import service_environment, worker_environment
    from hybrid.web.listener import bind_places
    from hybrid.web.supervisor import Crew, Supervisor
    from hybrid.web.systemd import ServiceManager

    configure_logging(settings.log_level, settings.log_format)

    def reread() -> Limits | None:
        if options.app:
            return None  # its settings are its own, and this process has its old code
        try:
            new = read_settings(options, **overrides)
        except SettingsError:
            return None  # new code has found them good, and this process runs the old
        for name in _FIXED:
            old_value, value = getattr(settings, name), getattr(new, name)
            if value != old_value and value != 0:  # 0 is any port
                _log.warning("%s stays %s until the next restart; the settings say %s", name, old_value, value)
        return new.limits

    fixed = [part for name in _FIXED for part in (f"--{name}", str(getattr(settings, name)))]
    command = [*_own_command(options.command_line), *fixed]
    service = service_environment()
    manager = ServiceManager(service.notify_socket, service.watchdog_s)
    with _meeting_place(is_needed=settings.metrics) as directory:
        crew = Crew(
            command=command,
            check_command=[*command, "--check"],
            environment=worker_environment(),
            limits=settings.limits,
            directory=directory,
            reread=reread,
        )
        listeners = bind_places(settings.host, settings.port, settings.workers)
        return Supervisor(listeners, crew, manager, lambda: tell_started(settings, announce)).run()


@contextmanager
def _meeting_place(*, is_needed: bool) -> Iterator[str]:
    """A directory that only this user can enter, for as long as there are workers; "" where the system has no room.

    Raises SettingsError where that is not enough.
    """
    try:
        place = TemporaryDirectory(prefix="hybrid-", ignore_cleanup_errors=True)
    except OSError as error:
        if is_needed:
            raise SettingsError(
                detail="metrics = true with several workers needs a directory for temporary files that can be written "
                f"(TMPDIR): {error.strerror or error}."
            ) from None
        yield ""
        return
    with place as directory:
        yield directory


def _own_command(arguments: list[str]) -> list[str]:
    """What started this process, with all its arguments: the same interpreter with the same options, and code."""
    count = len(sys.orig_argv) - len(arguments)
    if sys.orig_argv[count:] == arguments == sys.argv[1:]:
        return [sys.executable, *sys.orig_argv[1:count], *arguments]
    return [sys.executable, "-m", "hybrid", *arguments]
