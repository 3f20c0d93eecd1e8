"""What a function runs on here: a Python that Lambda has too, and what AWS's runtime brings (awslambdaric, boto3)."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from certkeeper.sandbox.processes import SandboxError

PREFERRED = "3.13"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Interpreter:
    """A Python to run a function with; `version` as in the runtime's name ("3.13")."""

    path: Path
    version: str


def architecture() -> str:
    """This machine's, in Lambda's words: what a zip must be built for to run here."""
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def why_not() -> str | None:
    """Why no function can run on this machine, or None if it can. The native modules in its zip are Linux's."""
    if sys.platform != "linux":
        return f"the function's zip is for Linux, and this is {platform.system()}"
    if architecture() not in {"arm64", "x86_64"}:
        return f"Lambda has no {platform.machine()}"
    return None


def find_interpreter() -> Interpreter:
    """Python 3.13, which the function is deployed with, if this machine has it; else the one that runs us."""
    name = f"python{PREFERRED}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [shutil.which(name), f"/usr/bin/{name}", f"/usr/local/bin/{name}"]
    candidates += [str(path) for path in sorted(pyenv.glob(f"{PREFERRED}*/bin/{name}"), reverse=True)]
    for candidate in candidates:
        if candidate and _version_of(candidate) == PREFERRED:
            return Interpreter(Path(candidate), PREFERRED)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running not in VERSIONS:
        raise SandboxError(f"Lambda has no Python {running}", f"install Python {PREFERRED}")
    # The one behind a virtual environment, which brings no packages of its own.
    return Interpreter(Path(getattr(sys, "_base_executable", None) or sys.executable), running)


def _version_of(candidate: str) -> str | None:
    """By running it: pyenv has a shim for versions that are not switched on, too."""
    command = [candidate, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def runtime_folder(version: str) -> Path:
    """The folder with awslambdaric and boto3 for this Python, fetched if it is not there. Raises SandboxError."""
    lock = _HERE / "locks" / f"lambda-runtime-{version}.txt"
    folder = _parts() / f"lambda-runtime-{version}"
    mark = folder / "lock.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as alone:
        # Two test runs at once must not fetch into the same folder.
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != lock.read_text():
            _fetch(version, lock, folder)
            shutil.copyfile(lock, mark)
    return folder


def _parts() -> Path:
    """As for the sandbox's programs: $CERTKEEPER_PARTS, the checkout's .parts; else the user's cache."""
    own = os.environ.get("CERTKEEPER_PARTS")
    if own:
        return Path(own)
    checkout = _HERE.parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".parts"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certkeeper"


def _fetch(version: str, lock: Path, folder: Path) -> None:
    failures = []
    for name, command in _installers(version, lock, folder).items():
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            return
        failures.append(f"{name}: {' '.join(done.stderr.split())[-300:]}")
    raise SandboxError(
        f"what Lambda's runtime brings could not be fetched ({'; '.join(failures)})",
        "fetching it needs uv or pip, and a package registry",
    )


def _installers(version: str, lock: Path, folder: Path) -> dict[str, list[str]]:
    what = ["--no-deps", "--require-hashes", "--requirement", str(lock), "--target", str(folder)]
    what += [f"--python-version={version}", "--only-binary=:all:"]
    machine = platform.machine()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    tags = [f"--platform={tag}_{machine}" for tag in ("manylinux_2_17", "manylinux2014")]
    commands = {"pip": [*pip, *what, "--implementation=cp", *tags]}
    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", sys.executable]
        commands = {"uv": [*install, *what, f"--python-platform={machine}-manylinux2014"], **commands}
    return commands


if __name__ == "__main__":
    runtime_folder(find_interpreter().version)
