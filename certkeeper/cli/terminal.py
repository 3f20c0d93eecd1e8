"""What the commands say and hear: data on stdout, talk on stderr, files written whole, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from certkeeper.core.errors import SettingsError

GOOD, BAD_NEWS, NO_NEWS, INTERRUPTED = 0, 1, 2, 130
CANNOT_WRITE = "give a file in a folder that you may write to"


def print_data(said: Namespace, as_json: Callable[[], dict[str, Any]], as_text: Callable[[bool], str]) -> None:
    if said.json:
        put(json.dumps(as_json(), indent=1) + "\n")
    else:
        put(as_text(sys.stdout.isatty() and not os.environ.get("NO_COLOR")))


def put(data: str | bytes) -> None:
    """Write data to stdout, now. Raises SettingsError if it does not take them."""
    try:
        # A terminal that lacks a letter shows its escape.
        encoded = data.encode(sys.stdout.encoding, "backslashreplace") if isinstance(data, str) else data
        sys.stdout.buffer.write(encoded)
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        # Whoever read us may have gone: that is its right, and no failure of ours.
        if not isinstance(error, BrokenPipeError):
            raise SettingsError(
                f"standard output cannot be written: {error.strerror}", "look at where it goes to: the disk may be full"
            ) from None


def _give_up(stream: TextIO) -> None:
    """What is left of a stream goes nowhere: the interpreter would try it once more at its end, and fail."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def progress(verbose: bool) -> Callable[[str, str], None]:
    lock = Lock()

    def tell(name: str, doing: str) -> None:
        with lock:
            talk(f"{name}: {doing}" if name else doing)

    return tell if verbose or sys.stderr.isatty() else lambda name, doing: None


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have Ctrl-C and SIGTERM end the run in order, giving claims back; a second one ends it at once."""
    caught: list[int] = []

    def handle(number: int, frame: object) -> None:
        # os.write, since the signal may have come while sys.stderr was being written.
        if caught:
            # Nothing ends a thread that waits for an answer; what it began is journaled.
            os.write(2, b"certkeeper: interrupted again; the next run finishes what was begun\n")
            os._exit(INTERRUPTED)
        caught.append(number)
        stop()
        os.write(2, b"certkeeper: ending in order; once more ends it at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def talk(text: str) -> None:
    """Say it on stderr. If nobody hears it, work goes on all the same."""
    try:
        sys.stderr.write(f"certkeeper: {text}\n")
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def complain(what: str, hint: str | None = None) -> None:
    talk(f"error: {what}")
    if hint:
        talk(f"hint: {hint}")


def asked(asking: bool, question: str, default: str) -> str:
    if not asking:
        return default
    sys.stderr.write(f"{question} [{default}]: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:  # Ctrl-D
        raise KeyboardInterrupt
    return line.strip() or default


def confirm(said: Namespace, what: str, hint: str = "confirm it with --yes") -> None:
    """Have a person say yes to what cannot be undone. Raises SettingsError, with `hint`, if nobody can."""
    if said.yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nothing was changed: this cannot be undone, and there is nobody to ask", hint)
    if not agreed(f"{what}? yes or no"):
        raise SettingsError("nothing was changed", "answer yes, or give --yes")


def agreed(question: str) -> bool:
    """Whether a person at a terminal says yes; without one nobody does."""
    return asked(sys.stdin.isatty(), question, "no").lower() in ("y", "yes")


def replace_file(path: Path, data: bytes) -> None:
    """Have a file hold this, or what it held before; a symlink stays one. Raises SettingsError."""
    path = path.resolve()
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(mode)
        Path(file.name).replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}", CANNOT_WRITE) from None
