"""Keepers as processes of their own that start fast: one process imports certkeeper once and forks for each.

A kill is a real SIGKILL, and what runs is the operator's own command line.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from json import loads
from multiprocessing import connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
forking = multiprocessing.get_context("forkserver")
forking.set_forkserver_preload(["__main__", "tests.live.preloaded"])
# Starting one process polls all others, and an exit status can be read only once: not while a thread reads it.
_one_at_a_time = threading.Lock()
# How long such a keeper waits for AWS to answer, where a test cannot wait as long as an operator would.
IMPATIENT = "TEST_READ_SECONDS"
# How long new rights take as `deploy` has it, where a test cannot wait as long.
RIGHTS_TAKE = "TEST_RIGHTS_SECONDS"


@dataclass(frozen=True)
class Said:
    """How a command ended: its exit status (negative: the signal that killed it) and what it wrote."""

    status: int
    data: str
    talk: str

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Of a `renew --json`, by name."""
        return {one["name"]: one for one in loads(self.data)["outcomes"]}


class Keeper:
    """A `certkeeper` command under way."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="certkeeper-keeper-")
        self._process = forking.Process(target=run, args=(arguments, dict(environment), self._folder.name), daemon=True)
        with _one_at_a_time:
            self._process.start()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    @property
    def talk(self) -> str:
        """What it has said on stderr so far."""
        return (Path(self._folder.name) / "talk").read_text()

    def end(self, seconds: float = 100) -> Said:
        """Wait for its end."""
        connection.wait([self._process.sentinel], seconds)
        with _one_at_a_time:
            status = self._process.exitcode
        if status is None:
            self.kill()
            connection.wait([self._process.sentinel])
        texts = [(Path(self._folder.name) / file).read_text() for file in ("data", "talk")]
        self._folder.cleanup()
        assert status is not None, f"the keeper did not end within {seconds} s; it said: {texts}"
        return Said(status, *texts)


def run(arguments: list[str], environment: Mapping[str, str], folder: str) -> None:
    """In the forked process."""
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file in ((1, "data"), (2, "talk")):
        os.dup2(os.open(f"{folder}/{file}", os.O_WRONLY | os.O_CREAT), descriptor)
    from certkeeper.adapters import aws_clients
    from certkeeper.cli.main import main

    aws_clients.READ_SECONDS = int(environment.get(IMPATIENT, aws_clients.READ_SECONDS))
    if RIGHTS_TAKE in environment:
        from certkeeper.cli import after_deploying

        after_deploying.RIGHTS_TAKE = float(environment[RIGHTS_TAKE])
    sys.exit(main(arguments))
