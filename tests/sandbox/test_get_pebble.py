"""scripts/get-pebble, as far as it goes without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "get-pebble"


def run(folder: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), str(folder)],
        env={"PATH": path} if path else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fake(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\necho dev\n")
    (folder / name).chmod(0o755)


def test_what_is_installed_already_is_left_alone(tmp_path: Path) -> None:
    for name in ("pebble", "pebble-challtestsrv"):
        fake(tmp_path / "bin", name)

    done = run(tmp_path, path="/nowhere")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_machine_without_apt_is_told_so_in_one_sentence_and_exit_code_3(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh",):
        (programs / name).symlink_to(str(shutil.which(name)))

    done = run(tmp_path / "parts", path=str(programs))

    assert done.returncode == 3
    assert done.stderr.startswith("get-pebble: Pebble comes as a Debian package, and this machine has no apt-get")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "parts").exists()


def test_an_apt_that_knows_no_debian_archive_is_told_so(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "awk", "apt-config", "dpkg-deb"):
        fake(programs, name) if name.startswith(("apt", "dpkg")) else (programs / name).symlink_to(
            str(shutil.which(name))
        )
    (programs / "dpkg").write_text("#!/bin/sh\necho arm64\n")
    (programs / "apt-get").write_text("#!/bin/sh\necho 'https://elsewhere.invalid/ noble main Ubuntu'\n")
    for name in ("dpkg", "apt-get"):
        (programs / name).chmod(0o755)

    done = run(tmp_path / "parts", path=str(programs))

    assert (done.returncode, done.stderr) == (
        3,
        "get-pebble: this machine's apt sources name no Debian archive to take Pebble from\n",
    )


def test_another_architecture_is_told_so(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    for name in ("apt-get", "apt-config", "dpkg-deb"):
        fake(programs, name)
    (programs / "dpkg").write_text("#!/bin/sh\necho riscv64\n")
    (programs / "dpkg").chmod(0o755)

    done = run(tmp_path / "parts", path=str(programs))

    assert done.returncode == 3
    assert "only amd64 and arm64 are supported, this machine is riscv64" in done.stderr
