"""scripts/get-machine, as far as it goes without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "get-machine"


def run(folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), str(folder)],
        env={"PATH": str(path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(name="programs")
def _programs(tmp_path: Path) -> Path:
    """A PATH with a shell's own tools, and nobody but root."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("cat", "cksum", "dirname"):
        (programs / name).symlink_to(str(shutil.which(name)))
    says(programs, "id", "0")
    return programs


def says(programs: Path, name: str, words: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\necho {words}\n")
    (programs / name).chmod(0o755)


def test_a_machine_of_the_same_packages_and_wheels_is_left_alone(tmp_path: Path, programs: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    wanted = b"".join(path.read_bytes() for path in (SCRIPT, ROOT / "examples/spot-django/site/requirements.txt"))
    state = subprocess.run(["cksum"], input=wanted, capture_output=True, check=True).stdout
    (parts / "machine.state").write_bytes(state)

    done = run(parts, programs)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_whoever_is_not_root_is_told_so_and_exit_code_3(tmp_path: Path, programs: Path) -> None:
    says(programs, "id", "1000")

    done = run(tmp_path / "parts", programs)

    assert (done.returncode, done.stderr) == (3, "get-machine: the disk of a machine can be made by root alone\n")
    assert not (tmp_path / "parts").exists()


def test_the_program_that_is_missing_is_named(tmp_path: Path, programs: Path) -> None:
    for name in ("apt-get", "dpkg"):
        says(programs, name, "")

    done = run(tmp_path / "parts", programs)

    assert done.returncode == 3
    assert done.stderr == "get-machine: the machine is Debian's, and here is no debootstrap\n"
    assert not (tmp_path / "parts").exists()
