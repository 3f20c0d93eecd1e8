"""The function's zip: the same bytes from every machine, made of wheels whose hashes are locked.

Markers such as `python_version < "3.13"` follow the Python that evaluates them, which is the builder's and not the
function's. So there is one whole lock for each Python (made by scripts/lock), and nothing is resolved here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from certkeeper.core.errors import CertkeeperError

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

_HERE = Path(__file__).resolve().parent
_OURS = _HERE.parent
_NOT_NEEDED = {"__main__.py", "cli", "client", "deployment", "sandbox"}
# What an installer writes, and so differs from one to the next.
_INSTALLERS_NOTES = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_READABLE_FILE = 0o100644 << 16
_WRITTEN_BY_UNIX = 3
_SECONDS_TO_FETCH = 600


class PackageError(CertkeeperError):
    """The function's zip could not be built; nothing was left behind."""


@dataclass(frozen=True)
class Target:
    """A Lambda runtime and an architecture, in Lambda's words."""

    python: str = "3.13"
    architecture: str = "arm64"

    def __post_init__(self) -> None:
        if self.python not in PYTHONS:
            raise PackageError(f"there is no lock for Python {self.python}", f"one of {', '.join(PYTHONS)}")
        if self.architecture not in MACHINES:
            raise PackageError(f"Lambda has no architecture {self.architecture!r}", f"one of {', '.join(MACHINES)}")

    @property
    def runtime(self) -> str:
        """As the Lambda API calls it."""
        return f"python{self.python}"

    @property
    def machine(self) -> str:
        """As wheels call the architecture."""
        return MACHINES[self.architecture]


# Brings the wheels of a lock, for a target, into a folder. Raises subprocess's errors.
Fetch = Callable[[Path, Target, Path], None]


@dataclass(frozen=True)
class Package:
    """A zip on disk. Another zlib may compress to other bytes: then `manifest_sha256` still says what is inside."""

    path: Path
    size: int
    sha256: str
    manifest_sha256: str

    @property
    def code_sha256(self) -> str:
        """What Lambda answers as CodeSha256 once this zip is deployed."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode("ascii")


def build(
    target: Target,
    into: Path,
    *,
    bundle_boto3: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    fetch: Fetch | None = None,
) -> Package:
    """Build the zip at `into`, which appears whole or not at all. Raises PackageError.

    `fetch` brings the wheels; without one, uv does, or pip if there is no uv or it fails.
    """
    lock = _lock(target, bundle_boto3)
    try:
        with tempfile.TemporaryDirectory(prefix="certkeeper-package-") as scratch:
            tree = Path(scratch, "tree")
            _fetch(lock, target, tree, progress, [("the given one", fetch)] if fetch else _installers())
            contents = {**_files_below(tree), **_own_files(), "handler.py": _handler()}
        package = _write(contents, into)
    except OSError as error:
        raise PackageError(
            f"the zip could not be built at {into}: {error.strerror or type(error).__name__}",
            "look at the folder that it goes to, and at the disk",
        ) from error
    progress(f"{into}: {package.size / 1e6:.1f} MB, {len(contents)} files, SHA-256 {package.sha256}")
    return package


def inputs(target: Target, *, bundle_boto3: bool = False) -> dict[str, bytes]:
    """All that decides what is in the zip: the same again is the same zip. Nothing is fetched."""
    lock = _lock(target, bundle_boto3)
    named = f"{target.runtime} {target.architecture}".encode()
    return {**_own_files(), "handler.py": _handler(), "lock": lock.read_bytes(), "target": named}


def _lock(target: Target, bundle_boto3: bool) -> Path:
    return _HERE / "locks" / f"function{'-with-boto3' if bundle_boto3 else ''}-{target.python}.txt"


def manifest(contents: Mapping[str, bytes]) -> str:
    """Sorted paths with the hashes of what they hold, as sha256sum prints them."""
    return "".join(f"{hashlib.sha256(contents[path]).hexdigest()}  {path}\n" for path in sorted(contents))


def _own_files() -> dict[str, bytes]:
    """Our modules, without the doors and tools that only people use."""
    relative_paths = (path.relative_to(_OURS) for path in _OURS.rglob("*.py"))
    return {
        f"{_OURS.name}/{path.as_posix()}": (_OURS / path).read_bytes()
        for path in relative_paths
        if path.parts[0] not in _NOT_NEEDED
    }


def _handler() -> bytes:
    """In the wheel it is data, since it is no module of the package; in the checkout it has its own folder."""
    for path in (_HERE / "handler.py.txt", _OURS.parent / "lambda" / "handler.py"):
        if path.is_file():
            return path.read_bytes()
    raise PackageError("the function's handler.py is missing from this installation", "install certkeeper again")


def _write(contents: Mapping[str, bytes], into: Path) -> Package:
    buffer = io.BytesIO()
    # Level 9 leaves 0.3 % less than 7, and takes 1.5 s longer.
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(contents):
            member = zipfile.ZipInfo(path, _EARLIEST)
            member.create_system = _WRITTEN_BY_UNIX
            member.external_attr = _READABLE_FILE
            archive.writestr(member, contents[path], zipfile.ZIP_DEFLATED, compresslevel=7)
    whole = buffer.getvalue()
    into.parent.mkdir(parents=True, exist_ok=True)
    unfinished = into.with_name(f".{into.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(whole)
        unfinished.replace(into)
    finally:
        unfinished.unlink(missing_ok=True)
    return Package(
        path=into,
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        manifest_sha256=hashlib.sha256(manifest(contents).encode()).hexdigest(),
    )


def _files_below(tree: Path) -> dict[str, bytes]:
    """What the wheels brought, without what their installer added."""
    paths = (path for path in tree.rglob("*") if path.is_file())
    named = {path.relative_to(tree).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not _left_out(PurePosixPath(name))}


def _left_out(path: PurePosixPath) -> bool:
    # Scripts carry the builder's paths, byte code its Python's version; uv leaves a lock file at the top.
    if path.parts[0] == "bin" or path.parts[0].startswith(".") or "__pycache__" in path.parts:
        return True
    return path.parent.suffix == ".dist-info" and path.name in _INSTALLERS_NOTES


def _fetch(
    lock: Path, target: Target, tree: Path, progress: Callable[[str], None], installers: Iterable[tuple[str, Fetch]]
) -> None:
    """Bring the locked wheels' files into `tree`, by the first installer that manages to."""
    count = sum(not line.startswith(" ") for line in lock.read_text().splitlines())
    failures = []
    for name, fetch in installers:
        progress(f"fetching {count} wheels for {target.runtime} on {target.architecture} with {name}")
        # Made anew, so that nothing of a failed attempt stays.
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        try:
            return fetch(lock, target, tree)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            failures.append(f"{name}: {_last_words(error)}")
    if failures:
        raise PackageError(
            f"the wheels could not be fetched ({'; '.join(failures)})",
            "uv and pip must reach a package registry that has the wheels named in " + str(lock),
        )
    raise PackageError(
        "fetching the wheels needs uv or pip, and neither is here",
        "install uv (https://docs.astral.sh/uv/), or pip for this Python or for the python3 on PATH",
    )


def _last_words(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"nothing after {_SECONDS_TO_FETCH} s"
    lines = [line.strip() for line in str(error.stderr).splitlines() if line.strip()]
    return " ".join(lines[-3:]) or f"exit code {error.returncode}"


def _installers() -> Iterator[tuple[str, Fetch]]:
    """What can fetch wheels for another machine: uv, our own pip, or (`uv tool install` gives none) another one."""
    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    if uv:
        yield "uv", lambda lock, target, tree: fetch_with_uv(uv, lock, target, tree)
    if importlib.util.find_spec("pip"):
        yield "pip", lambda lock, target, tree: fetch_with_pip(sys.executable, lock, target, tree)
        return
    python = shutil.which("python3")
    if python:
        with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            _run([python, "-m", "pip", "--version"])
            yield f"the pip of {python}", lambda lock, target, tree: fetch_with_pip(python, lock, target, tree)


def fetch_with_uv(uv: str, lock: Path, target: Target, tree: Path) -> None:
    """uv unpacks the wheels itself. Raises subprocess's errors."""
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(tree)]
    platform = f"{target.machine}-manylinux2014"
    foreign = ["--python-version", target.python, "--python-platform", platform, "--only-binary", ":all:"]
    _run([*command, *foreign, "--no-deps", "--require-hashes", "--requirement", str(lock)])


def fetch_with_pip(python: str, lock: Path, target: Target, tree: Path) -> None:
    """pip only downloads: what it installs depends on the Python it runs on. Raises subprocess's errors."""
    with tempfile.TemporaryDirectory(prefix="certkeeper-wheels-") as wheels:
        command = [python, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        # Newer tags, such as manylinux_2_28, would have to be listed one by one: pip does not widen them.
        foreign = [f"--platform={tag}_{target.machine}" for tag in ("manylinux_2_17", "manylinux2014")]
        foreign += ["--implementation=cp", f"--python-version={target.python}", "--only-binary=:all:"]
        _run([*command, *foreign, "--no-deps", "--require-hashes", "--requirement", str(lock), "--dest", wheels])
        for wheel in sorted(Path(wheels).glob("*.whl")):
            _unpack(wheel, tree)


def _unpack(wheel: Path, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if parts[0].endswith(".data"):
                if parts[1] not in {"purelib", "platlib"}:
                    continue
                parts = parts[2:]
            if not member.is_dir():
                path = tree.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=_SECONDS_TO_FETCH,
        # pip outside a virtual environment is fine for a download.
        env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
    )
