"""The `hybrid` command. One file a command; each is imported for its options, and loads what it does only when it runs.

Exit codes: 0 done; 1 the server refused; 2 the command cannot be carried out as given (an option, a setting, a port
that is taken, a server that is not there); 130 interrupted. Whatever goes wrong in a known way is one line on stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from hybrid.cli import bench, demo, doctor, publish, revoke, serve, tail, token, top
from hybrid.cli.parser import HelpFormatter, Parser

EXIT_REFUSED = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130

_DESCRIPTION = """One channel API over WebSocket, Server-Sent Events and long polling.

Start with

  hybrid demo                        the whole thing, on this machine, in a browser

or, in three terminals:

  hybrid serve                       a server on http://127.0.0.1:8000
  hybrid tail chat:lobby             follow a channel
  hybrid publish chat:lobby '"hi"'   publish to it
"""


def build_parser() -> Parser:
    """The parser with all commands."""
    from hybrid import __version__

    parser = Parser(prog="hybrid", description=_DESCRIPTION, formatter_class=HelpFormatter)
    parser.add_argument("--version", action="version", version=f"hybrid {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (demo, serve, publish, tail, token, revoke, top, doctor, bench):
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` when None) and return the exit code.

    `--help` and bad options raise SystemExit, as argparse does.
    """
    options = build_parser().parse_args(arguments)
    options.command_line = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        code, sentence = _explain(error)
        if not code:
            raise
        print(f"hybrid: {sentence}", file=sys.stderr)
        return code


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code and the sentence for a failure that is nobody's mistake in here; code 0 for the others."""
    from hybrid.errors import HybridError, SettingsError

    if isinstance(error, SettingsError):
        return EXIT_UNUSABLE, str(error)
    if isinstance(error, HybridError):
        return EXIT_REFUSED, f"{error} ({error.row.number} {error.row.name})"
    if isinstance(error, ConnectionError):
        return EXIT_UNUSABLE, str(error)
    return 0, ""
