"""What the commands say and hear: data on stdout, talk on stderr, files written whole, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from certkeeper.core.errors import SettingsError

GOOD, BAD_NEWS, NO_NEWS, INTERRUPTED = 0, 1, 2, 130


def print_data(said: Namespace, as_json: Callable[[], dict[str, Any]], as_text: Callable[[bool], str]) -> None:
    if said.json:
        sys.stdout.write(json.dumps(as_json(), indent=1) + "\n")
    else:
        sys.stdout.write(as_text(sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    sys.stdout.flush()


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
    sys.stderr.write(f"certkeeper: {text}\n")
    sys.stderr.flush()


def complain(what: str, hint: str | None = None) -> None:
    talk(f"error: {what}")
    if hint:
        talk(f"hint: {hint}")


def asked(asking: bool, question: str, default: str) -> str:
    if not asking:
        return default
    sys.stderr.write(f"{question} [{default}]: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or default


def confirm(said: Namespace, what: str, hint: str = "confirm it with --yes") -> None:
    """Have a person say yes to what cannot be undone. Raises SettingsError, with `hint`, if nobody can."""
    if said.yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nothing was changed: this cannot be undone", hint)
    if asked(asking=True, question=f"{what}? yes or no", default="no") != "yes":
        raise SettingsError("nothing was changed", "answer yes, or give --yes")


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
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
