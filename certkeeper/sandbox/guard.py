"""Runs one program and ends it, with all its children, when whoever started us says so or is gone.

Started as a script of its own, `python -I -S guard.py FOLDER PROGRAM ARGUMENT...`, with a pipe as standard input whose
other end only the starter holds. A byte in it says: end the program. If the pipe closes without one, the starter has
died, be it by SIGKILL, and its FOLDER is removed as well. Linux's "tell me when my parent dies" alone would not do: it
tells when the *thread* that started the program ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1
_SECONDS_TO_END = 1.5


def _die_with_the_guard() -> None:
    """Should somebody kill the guard itself. Linux only; elsewhere the program then lives on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        program.kill()
    _end_children(program)


def _end_children(program: subprocess.Popen[bytes]) -> None:
    # The program leads a session of its own, so its group is what it started (nginx's workers).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)


def main(folder: str, command: list[str]) -> None:
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_the_guard,  # there is but one thread yet
    )

    ending = threading.Lock()

    def leave_with_the_program() -> None:
        code = program.wait()
        with ending:
            _end_children(program)
            os._exit(code if code >= 0 else 128 - code)

    threading.Thread(target=leave_with_the_program, daemon=True).start()
    told = sys.stdin.buffer.read(1)
    with ending:
        _end(program)
        if not told:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
