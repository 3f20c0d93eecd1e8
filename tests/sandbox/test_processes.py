"""Programs of the sandbox end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certkeeper.sandbox import processes
from certkeeper.sandbox.processes import PortTaken, Program, SandboxError

# Says its process id, so that a test can look whether it still runs.
SLEEPER = [sys.executable, "-I", "-S", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
STUBBORN = [*SLEEPER[:-1], "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER[-1]]
# A program with a child, as nginx with its workers.
PARENT = ["/bin/sh", "-c", 'sleep 60 & echo "$$ $!"; wait']
STARTER = """
import sys, time
from certkeeper.sandbox.processes import Program
program = Program("test")
program.start(sys.argv[1:])
program.wait_until(lambda: program.log().endswith("\\n"), "speaking")
print(program.folder, program.log().strip(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program("test")
    yield program
    program.close()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    # A zombie whose new parent has not looked yet is as dead as can be.
    return "State:\tZ" not in status


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def started(program: Program, command: list[str]) -> list[int]:
    program.start(command)
    program.wait_until(lambda: program.log().endswith("\n"), "speaking")
    return [int(word) for word in program.log().split()]


@pytest.mark.parametrize("command", [SLEEPER, PARENT], ids=["one process", "with a child"])
def test_a_closed_program_is_gone_with_its_children_and_its_folder(program: Program, command: list[str]) -> None:
    members = started(program, command)

    program.close()
    program.close()

    assert within(2, lambda: not any(alive(process) for process in members))
    assert not program.folder.exists()


def test_a_stopped_program_keeps_its_folder_and_can_be_started_again(program: Program) -> None:
    first = started(program, SLEEPER)
    (program.folder / "kept").touch()

    program.stop()
    second = started(program, SLEEPER)

    assert first != second
    assert program.running
    assert (program.folder / "kept").exists()


def test_a_program_that_ignores_sigterm_is_killed(program: Program) -> None:
    members = started(program, STUBBORN)

    program.close()

    assert within(2, lambda: not alive(members[0]))


@pytest.mark.parametrize("command", [SLEEPER, PARENT], ids=["one process", "with a child"])
def test_a_killed_sandbox_takes_its_programs_and_their_folders_with_it(command: list[str]) -> None:
    checkout = Path(processes.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, *command], stdout=subprocess.PIPE, text=True, cwd=checkout
    ) as sandbox:
        assert sandbox.stdout is not None
        folder, *members = sandbox.stdout.readline().split()
        sandbox.send_signal(signal.SIGKILL)

    assert within(5, lambda: not any(alive(int(process)) for process in members))
    assert within(5, lambda: not Path(folder).exists())


def test_a_program_started_from_a_thread_that_ends_lives_on(program: Program) -> None:
    thread = threading.Thread(target=started, args=(program, SLEEPER))
    thread.start()
    thread.join()

    assert not within(0.3, lambda: not program.running)


def test_a_program_that_ends_too_early_is_quoted(program: Program) -> None:
    program.start(["/bin/sh", "-c", "echo cannot open my eyes >&2; exit 3"])

    with pytest.raises(SandboxError, match="test ended before answering") as ended:
        program.wait_until(lambda: False, "answering")

    assert ended.value.hint == "its last words: cannot open my eyes"


def test_a_program_that_never_gets_ready_is_given_up(program: Program) -> None:
    program.start(SLEEPER)

    with pytest.raises(SandboxError, match="test runs, but not answering after 0 s"):
        program.wait_until(lambda: False, "answering", seconds=0.1)


def test_a_program_that_cannot_be_run_is_said(program: Program) -> None:
    program.start(["/nowhere/at/all"])

    with pytest.raises(SandboxError) as ended:
        program.wait_until(lambda: False, "answering")

    assert "No such file" in str(ended.value.hint)


def test_a_taken_port_is_tried_again_and_not_for_ever() -> None:
    tries: list[int] = []

    def taken_twice() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise PortTaken

    def always_taken() -> None:
        raise PortTaken

    processes.on_free_port(taken_twice)
    with pytest.raises(SandboxError, match="no free port"):
        processes.on_free_port(always_taken)

    assert len(tries) == 3
