"""Programs the sandbox starts: each in a private folder, gone without a trace when closed or when we die."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from certkeeper.core.errors import CertkeeperError

_GUARD = Path(__file__).with_name("guard.py")
_LOG_TAIL = 2000
_TRIES = 5


class SandboxError(CertkeeperError):
    """A part of the sandbox is missing, did not start, or answered what it never should."""


class PortTaken(Exception):  # noqa: N818 - not a failure: the next port is tried
    """Somebody took the port between our looking and the program's listening."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Program:
    """A running program and its folder, which also holds its log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"certkeeper-{name}-"))
        self._log = self.folder / "log"
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self.stop()
        with self._log.open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(self.folder), *(str(word) for word in command)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                # Ctrl-C in the terminal is for us; we close our programs in order.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def log(self) -> str:
        """What the program has said since its last start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
        """Return once `condition` holds; raises PortTaken or SandboxError, with the log's tail, if it cannot."""
        deadline = time.monotonic() + seconds
        while True:
            # nginx goes on trying for a while, but the one who has the port means to keep it.
            if "address already in use" in self.log().lower():
                raise PortTaken
            if not self.running:
                raise SandboxError(f"{self.name} ended before {what}", self._log_hint())
            if condition():
                return
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} runs, but not {what} after {seconds:.0f} s", self._log_hint())
            time.sleep(0.02)

    def _log_hint(self) -> str:
        tail = self.log()[-_LOG_TAIL:].strip()
        return f"its last words: {tail}" if tail else "it said nothing"

    def stop(self) -> None:
        """End the program; the folder stays. Stopping twice is no mistake."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None  # noqa: S101 - for the type checker: it was asked for
        with contextlib.suppress(BrokenPipeError), guard.stdin:
            guard.stdin.write(b".")
        try:
            guard.wait(10)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()

    def close(self) -> None:
        """End the program and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def on_free_port(start: Callable[[], None]) -> None:
    """Call `start`, which chooses its ports itself, until no port was taken by somebody else meanwhile."""
    for _ in range(_TRIES):
        try:
            return start()
        except PortTaken:
            continue
    raise SandboxError(f"no free port in {_TRIES} tries", "is something else opening very many ports?")


def at_the_same_port(start: Callable[[], None]) -> None:
    """Call `start`, whose port others know by now; it may just be freeing itself, so try a little."""
    for _ in range(_TRIES):
        try:
            return start()
        except PortTaken:
            time.sleep(0.2)
    raise SandboxError("somebody else has taken the port meanwhile", "it works when done again")
