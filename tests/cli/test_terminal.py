"""Where output goes and what a person presses: full disks, closed pipes and descriptors, Ctrl-C, and answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from certkeeper import __main__ as door
from certkeeper.cli.main import COMMANDS, main
from certkeeper.cli.terminal import BAD_NEWS, GOOD, INTERRUPTED, NO_NEWS, agreed, put, talk
from certkeeper.jobs.check import UNKNOWN
from certkeeper.sandbox.aws import ACCOUNT, AwsServer

SETTINGS = f"""\
store = "s3://bucket/prod"
bucket_owner = "{ACCOUNT}"
sealing = "store"

[certificates.www]
identifiers = ["example.com"]
"""


@pytest.fixture
def environment(aws: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a process that finds AWS and settings; this one does as well."""
    aws.create_bucket("bucket")
    (tmp_path / "certkeeper.toml").write_text(SETTINGS)
    monkeypatch.setenv("CERTKEEPER_CONFIG", str(tmp_path / "certkeeper.toml"))
    return {name: os.environ[name] for name in ("PATH", "CERTKEEPER_CONFIG", *aws.environment)}


class Terminal(StringIO):
    """A keyboard."""

    def isatty(self) -> bool:
        return True


def typed(line: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command line of a shell in which `certkeeper` stands for the program."""
    words = line.replace("certkeeper ", f"{sys.executable} -m certkeeper ")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("command", "status"), [("status", NO_NEWS), ("status --json", NO_NEWS), ("check", UNKNOWN)])
def test_a_full_disk_is_no_news_of_certificates(environment: dict[str, str], command: str, status: int) -> None:
    said = typed(f"certkeeper {command} >/dev/full", environment)

    assert said.returncode == status
    assert said.stderr.startswith("certkeeper: error: standard output cannot be written: No space left on device\n")
    assert "Traceback" not in said.stderr


def test_whoever_stops_reading_changes_neither_the_exit_status_nor_what_is_said(environment: dict[str, str]) -> None:
    said = typed("certkeeper status | true", environment)

    assert (said.returncode, said.stderr) == (BAD_NEWS, "")


def test_a_closed_descriptor_is_written_nowhere(environment: dict[str, str]) -> None:
    said = typed("certkeeper status <&- >&- 2>&-", environment)

    assert (said.returncode, said.stdout, said.stderr) == (BAD_NEWS, "", "")


def test_nobody_needs_to_hear_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)

        for _ in range(3):
            talk("ordering")


def test_a_letter_that_a_terminal_lacks_is_shown_by_its_escape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        put("bücher ☃\n")

    assert (tmp_path / "out").read_bytes() == b"b\xfccher \\u2603\n"


def test_ctrl_c_while_the_program_is_still_being_loaded_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "certkeeper.cli.main", Loading("main"))

    assert door.main() == INTERRUPTED
    assert capsys.readouterr().err == "certkeeper: error: interrupted\n"


def test_ctrl_c_at_a_question_is_an_answer(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pressing:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the question is still there")

    monkeypatch.setattr(sys, "stdin", Pressing())

    assert main(["forget", "www"]) == INTERRUPTED
    assert capsys.readouterr().err.endswith("certkeeper: error: interrupted\n")


@pytest.mark.parametrize(
    ("typed", "said"), [("yes\n", True), ("Y\n", True), ("no\n", False), ("\n", False), ("yep\n", False)]
)
def test_only_a_yes_is_one(monkeypatch: pytest.MonkeyPatch, typed: str, said: bool) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))

    assert agreed("Go on?") is said


def test_ctrl_d_at_a_question_is_no_answer(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Terminal("s3://bucket/prod\n"))

    assert main(["--config", "new.toml", "init"]) == INTERRUPTED
    assert capsys.readouterr().err.endswith("certkeeper: error: interrupted\n")
    assert not Path("new.toml").exists()


@pytest.mark.parametrize(("command", "status"), [("status", NO_NEWS), ("check", UNKNOWN)])
def test_a_defect_of_ours_is_no_news_of_certificates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, status: int
) -> None:
    def broken(said: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, command, broken)

    assert main([command]) == status
    assert "certkeeper: error: this is a defect of certkeeper\n" in capsys.readouterr().err


def test_nothing_is_wrong_with_a_shell_that_reads_all(environment: dict[str, str]) -> None:
    said = typed("certkeeper completion bash | cat", environment)

    assert (said.returncode, said.stderr) == (GOOD, "")
    assert said.stdout.endswith("\n")
