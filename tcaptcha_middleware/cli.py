"""The command `tcaptcha`: serves the demo or the emulator, which need the extra `demo`, or
checks which routes of an application are protected.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from tcaptcha_middleware.errors import ConfigurationError, needs
from tcaptcha_middleware.tencent.credentials import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LAST_PORT = 65535

# For each address that means all of a machine's: one of the documentation (RFC 5737, RFC 3849),
# which a default route leads to, and the loopback's.
_EVERY_ADDRESS = {
    "0.0.0.0": (socket.AF_INET, "192.0.2.1", "127.0.0.1"),  # noqa: S104  a key
    "::": (socket.AF_INET6, "2001:db8::1", "[::1]"),
}

# Exit statuses as of a shell.
_NOT_FOUND = 127
_ENDED_BY_SIGNAL = 128


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    wait: Callable[[], object] | None = None,
) -> int:
    """Run the command; returns its exit status.

    Args:
        arguments: Its arguments; those of the process by default.
        environ: The variables with the settings of a real account for the demo, and of a
            command that the emulator runs; those of the process by default.
        wait: Returns when serving has to end; by default on Ctrl-C or SIGTERM.
    """
    asked = _parser().parse_args(arguments)
    if asked.command == "check":
        return _check(asked)
    # The first process of a container is not ended by a signal that it does not handle.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as serving:
            settings = os.environ if environ is None else environ
            variables = asked.start(asked, settings, serving)
            if getattr(asked, "run", None):
                return _run(asked.run, variables)
            (wait or _wait)()
    except KeyboardInterrupt:
        return 0
    except (ConfigurationError, ModuleNotFoundError, OSError) as error:
        print(f"tcaptcha: {error}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _wait() -> NoReturn:
    # Not on a lock without a timeout, which Ctrl-C does not interrupt on Windows.
    while True:
        time.sleep(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcaptcha", description="Try the captcha gate, or check what it protects."
    )
    release = f"tcaptcha-middleware {version('tcaptcha-middleware')}"
    parser.add_argument("--version", action="version", version=release)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="demo|emulator|check"
    )
    for name, start, port, text in (
        ("demo", _demo, "8000", "serve a small protected site; without an account, offline"),
        (
            "emulator",
            _emulator,
            "9000, or a free one with a command,",
            "serve an emulator of Tencent, to test an app with",
        ),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--host",
            default="127.0.0.1",
            help="the address to listen on; 127.0.0.1 by default",
        )
        command.add_argument("--port", type=_port, help=f"{port} by default")
        command.set_defaults(start=start)
    commands.choices["demo"].set_defaults(port=8000)
    text = "run a command with the settings of the emulator until it ends"
    commands.choices["emulator"].add_argument("run", nargs="*", metavar="-- command", help=text)
    text = "list the routes of an application, and which of them the rules protect"
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument("app", metavar="module:app", help="as for uvicorn, or module:factory()")
    check.add_argument("--factory", action="store_true", help="call what the name refers to")
    check.add_argument("--format", choices=("table", "json"), default="table")
    check.add_argument("--strict", action="store_true", help="fail for opaque routes, too")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 0 to {_LAST_PORT}")
    return int(text)


def _check(asked: argparse.Namespace) -> int:
    from tcaptcha_middleware.integrations.routes.command import report

    as_json = asked.format == "json"
    try:
        text, warnings, status = report(
            asked.app, factory=asked.factory, as_json=as_json, strict=asked.strict
        )
    except ConfigurationError as error:
        print(f"tcaptcha: {error}", file=sys.stderr)
        return 2
    except Exception:
        # Python's own status for it is 1, which says that the check was made.
        traceback.print_exc()
        return 2
    # Paths may have letters that a terminal or a log of ASCII cannot show.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
    for warning in warnings:
        print(f"tcaptcha: {warning}", file=sys.stderr)
    return status


def _demo(asked: argparse.Namespace, environ: Mapping[str, str], running: ExitStack) -> None:
    with needs("demo"):
        from tcaptcha_middleware.demo.site import SCRIPT, site
    from tcaptcha_middleware.operations.log import logger
    from tcaptcha_middleware.testing.emulator import TencentEmulator
    from tcaptcha_middleware.testing.emulator._http import serving
    from tcaptcha_middleware.verifiers.tencent import TencentVerifier

    if account := [name for name in ACCOUNT if environ.get(name)]:
        try:
            app = site(TencentVerifier.from_env(environ))
        except ConfigurationError as error:
            fix = f"{error}; for the demo, unset {', '.join(account)}"
            raise ConfigurationError(fix) from error
        judge = environ.get("TCAPTCHA_ENDPOINT") or "Tencent"
    else:
        emulator = TencentEmulator()
        endpoint = running.enter_context(emulator.serve())
        # Without the warning that this endpoint is not Tencent's.
        logger.disabled = True
        verifier = TencentVerifier(**emulator.settings, endpoint=endpoint, script=SCRIPT)
        logger.disabled = False
        app, judge = site(verifier, emulator), "an emulator on this machine"
    origin = running.enter_context(serving(app, asked.host, asked.port))
    port = urlsplit(origin).port
    addresses = [f"http://{host}:{port}" for host in _addresses(asked.host)]
    print(f"Open {addresses[0]} for a login behind a captcha, checked by {judge}", flush=True)
    if addresses[1:]:
        print(f"Through a forwarded port, or on this machine: {addresses[1]}", flush=True)


def _addresses(host: str) -> list[str]:
    """Return the hosts for URLs of a server: its own, or the machine's and the loopback's."""
    if host not in _EVERY_ADDRESS:
        return [f"[{host}]" if ":" in host else host]
    family, elsewhere, loopback = _EVERY_ADDRESS[host]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses the address of the route there, and sends nothing.
            probe.connect((elsewhere, 9))
        except OSError:  # a machine without a network
            return [loopback]
        own = probe.getsockname()[0]
    return [f"[{own}]" if ":" in own else own, loopback]


def _emulator(
    asked: argparse.Namespace, environ: Mapping[str, str], running: ExitStack
) -> Mapping[str, str]:
    """Serve the emulator; returns the variables of an application that uses it."""
    from tcaptcha_middleware.testing.emulator import TencentEmulator
    from tcaptcha_middleware.testing.environment import variables

    emulator = TencentEmulator()
    default_port = 0 if asked.run else 9000
    port = default_port if asked.port is None else asked.port
    origin = running.enter_context(emulator.serve(asked.host, port))
    settings = variables(emulator, origin)
    if asked.run:  # which has the standard output
        print(_NEW_PAIR.format(origin=origin), file=sys.stderr, flush=True)
    else:
        exports = "\n".join(
            f"export {name}={shlex.quote(value)}" for name, value in settings.items() if value
        )
        text = _INSTRUCTIONS.format(origin=origin, exports=exports)
        print(text + _NEW_PAIR.format(origin=origin), flush=True)
    return {**environ, **settings}


_INSTRUCTIONS = """\
# An emulator of Tencent's captcha API at {origin}. Settings for an application:
{exports}
# Its substitute for Tencent's script, for pages: {origin}/TJCaptcha.js
"""
_NEW_PAIR = """\
# A new ticket and randstr:
#   curl -X POST {origin}/__emulator__/tickets"""


def _run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command until it ends, and return its exit status."""
    # On Windows this finds the files that are not an .exe, such as npm.cmd.
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None:
        advice = "check its name, or activate its virtual environment"
        print(f"tcaptcha: {command[0]} is not a command: {advice}", file=sys.stderr)
        return _NOT_FOUND
    with subprocess.Popen([program, *command[1:]], env=environ) as process:  # noqa: S603  the user's

        def forward(number: int, _: object) -> None:
            # A terminal sends Ctrl-C to both, and a server ends at once if it comes twice.
            by_terminal = os.name == "nt" or (sys.stdin is not None and sys.stdin.isatty())
            if number == signal.SIGTERM or not by_terminal:
                process.send_signal(number)

        previous = {
            number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            status = process.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    return status if status >= 0 else _ENDED_BY_SIGNAL - status
