"""`certkeeper demo`: every word of the story comes true, and nothing is left behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.keepers import ROOT
from tests.live.operators import awaited, clean

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def started(folder: Path) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it, with its temporary files in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "certkeeper", "demo", "--boots", "3"],
        env=clean({"TMPDIR": str(folder)}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, SIGINT is ignored, and that is passed on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left(folder: Path) -> list[str]:
    """What is left of it: files, and processes whose command line names the folder."""
    found = [str(path) for path in folder.rglob("*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(f"{process.name} {command}")
    return found


def assert_nothing_left(folder: Path) -> None:
    # A guard needs a moment to end what it guards.
    awaited(lambda: left(folder) == [])
    assert left(folder) == []


def test_the_demo_serves_every_instance_with_one_certificate_and_leaves_nothing(tmp_path: Path) -> None:
    with started(tmp_path) as demo:
        assert demo.stdout is not None
        told = demo.stdout.read()

    assert demo.returncode == 0, told
    assert re.search(r"^ +replaced instances that served HTTPS +3 of 3$", told, re.MULTILINE)
    assert re.search(r"^ +certificates issued for them +1$", told, re.MULTILINE)
    assert re.search(r"^ +orders at the CA +1$", told, re.MULTILINE)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("told", ["The schedule's tick:", "  instance  1:"])
def test_ctrl_c_ends_the_demo_with_130_and_leaves_no_process_and_no_file(tmp_path: Path, told: str) -> None:
    with started(tmp_path) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        assert any(line.startswith(told) for line in lines)
        assert left(tmp_path)
        # Ctrl-C reaches the whole group in the foreground.
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.stdout.read()

    assert demo.returncode == 130, rest
    assert "interrupted" in rest
    assert "Traceback" not in rest
    assert_nothing_left(tmp_path)
