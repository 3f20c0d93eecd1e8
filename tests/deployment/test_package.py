from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from certkeeper.deployment import package
from certkeeper.deployment.package import PYTHONS, Fetch, Package, PackageError, Target, build

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = CHECKOUT / "certkeeper" / "deployment" / "locks"
UV = shutil.which("uv") or str(Path(sysconfig.get_path("scripts"), "uv"))


def nothing(lock: Path, target: Target, tree: Path) -> None:
    """A registry without wheels, for tests of what is ours."""


def two_wheels_by_one_installer(lock: Path, target: Target, tree: Path) -> None:
    write(tree, {"alpha/__init__.py": "1", "alpha-1.dist-info/METADATA": "alpha", "beta.so": "native"})


def two_wheels_by_another(lock: Path, target: Target, tree: Path) -> None:
    write(tree, {"beta.so": "native", "alpha-1.dist-info/METADATA": "alpha", "alpha/__init__.py": "1"})
    write(tree, {"bin/alpha": f"#!{sys.executable}", ".lock": "", "alpha/__pycache__/__init__.pyc": "byte code"})
    write(tree, {f"alpha-1.dist-info/{name}": "mine" for name in ("RECORD", "INSTALLER", "REQUESTED")})


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_what_installers_add_is_not_in_the_zip(tmp_path: Path) -> None:
    one = build(Target(), tmp_path / "one.zip", fetch=two_wheels_by_one_installer)
    other = build(Target(), tmp_path / "other.zip", fetch=two_wheels_by_another)

    assert one.path.read_bytes() == other.path.read_bytes()
    assert {"alpha/__init__.py", "alpha-1.dist-info/METADATA", "beta.so"} <= set(names_in(one.path))


def test_the_zip_says_nothing_of_when_and_where_it_was_built(tmp_path: Path) -> None:
    built = build(Target(), tmp_path / "function.zip", fetch=two_wheels_by_one_installer)

    with zipfile.ZipFile(built.path) as archive:
        members = archive.infolist()
    assert [member.filename for member in members] == sorted(member.filename for member in members)
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
    assert {member.external_attr >> 16 for member in members} == {0o100644}


def test_the_hashes_are_those_that_anybody_can_compute(tmp_path: Path) -> None:
    built = build(Target(), tmp_path / "function.zip", fetch=two_wheels_by_one_installer)

    with zipfile.ZipFile(built.path) as archive:
        lines = [f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n" for name in archive.namelist()]
    assert built.sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    assert built.manifest_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert built.size == built.path.stat().st_size


def test_the_function_gets_its_handler_and_none_of_the_operators_tools(tmp_path: Path) -> None:
    names = names_in(build(Target(), tmp_path / "function.zip", fetch=nothing).path)

    assert {"handler.py", "certkeeper/wiring.py", "certkeeper/core/ports.py"} <= set(names)
    assert not [name for name in names if name.startswith(("certkeeper/cli/", "certkeeper/sandbox/"))]


def test_every_module_in_the_zip_finds_those_of_ours_that_it_imports(tmp_path: Path) -> None:
    built = build(Target(), tmp_path / "function.zip", fetch=nothing)

    missing = set()
    with zipfile.ZipFile(built.path) as archive:
        modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in archive.namelist()}
        for name in archive.namelist():
            missing |= {(name, module) for module in imported_by(archive.read(name)) if module not in modules}
    assert not missing


def imported_by(source: bytes) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name` may name a module or something in the package itself.
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {module for module in submodules if importlib.util.find_spec(node.module) and is_module(module)}
            found.add(node.module)
    return {module for module in found if module.split(".")[0] == "certkeeper"}


def is_module(name: str) -> bool:
    path = CHECKOUT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_a_build_that_fails_leaves_the_earlier_zip_and_nothing_else(tmp_path: Path) -> None:
    into = tmp_path / "function.zip"
    into.write_text("the earlier one")

    def fails(lock: Path, target: Target, tree: Path) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: hashes do not match\n")

    with pytest.raises(PackageError, match="hashes do not match"):
        build(Target(), into, fetch=fails)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("function.zip", "the earlier one")]


def test_without_uv_and_pip_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(PackageError, match="neither is here") as caught:
        build(Target(), tmp_path / "function.zip")

    assert caught.value.hint is not None
    assert "install uv" in caught.value.hint


@pytest.mark.parametrize(
    ("python", "architecture", "said"),
    [("3.9", "arm64", "no lock for Python 3.9"), ("3.13", "aarch64", "no architecture 'aarch64'")],
)
def test_a_target_that_lambda_does_not_have_is_refused(python: str, architecture: str, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        Target(python, architecture)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["function", "function-with-boto3"])
def test_each_lock_has_what_the_project_asks_for_and_names_no_host(name: str, python: str) -> None:
    lock = (LOCKS / f"{name}-{python}.txt").read_text()

    locked = dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))
    dependencies = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {re.split(r"[^\w-]", dependency)[0] for dependency in dependencies} - {"shtab"}
    if name == "function":
        wanted -= {"boto3"}
    assert wanted <= set(locked)
    assert ("boto3" in locked) == (name == "function-with-boto3")
    assert "://" not in lock
    # pip's marker for this one depends on the Python that runs pip: the reason for a lock per Python.
    assert ("typing-extensions" in locked) == (python in {"3.11", "3.12"})


@pytest.fixture(scope="module", name="reference")
def _reference(tmp_path_factory: pytest.TempPathFactory) -> Package:
    into = tmp_path_factory.mktemp("reference") / "function.zip"
    return build(Target(), into, fetch=functools.partial(package.fetch_with_uv, UV))


@pytest.mark.live
def test_the_zip_has_less_than_8_megabytes(reference: Package) -> None:
    assert 1_000_000 < reference.path.stat().st_size < 8_000_000


@pytest.mark.live
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_pip_and_uv_build_the_same_bytes_and_leave_nothing_behind(
    reference: Package, tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pip: Fetch = functools.partial(package.fetch_with_pip, sys.executable)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = os.umask(umask)
    try:
        built = build(Target(), tmp_path / "function.zip", fetch=with_pip)
    finally:
        os.umask(before)

    assert built.sha256 == reference.sha256
    assert built.path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(scratch.iterdir()) == []


@pytest.mark.live
def test_an_installed_wheel_builds_the_same_bytes(reference: Package, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([UV, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel], check=True)
    program = """if True:
        import json, sys
        from pathlib import Path
        from certkeeper.deployment import package
        built = package.build(package.Target(), Path(sys.argv[1]))
        print(json.dumps([package.__file__, built.sha256, built.manifest_sha256]))
    """

    done = subprocess.run(
        [python, "-I", "-c", program, tmp_path / "function.zip"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(UV).parent}{os.pathsep}{os.environ['PATH']}"},
    )

    file, sha256, manifest_sha256 = json.loads(done.stdout)
    assert Path(file).is_relative_to(environment)
    assert (sha256, manifest_sha256) == (reference.sha256, reference.manifest_sha256)


@pytest.mark.live
@pytest.mark.parametrize("python", PYTHONS)
def test_each_lock_is_whole_for_its_target(python: str, tmp_path: Path) -> None:
    for architecture in package.MACHINES:
        with_boto3 = architecture == "arm64"
        built = build(Target(python, architecture), tmp_path / f"{architecture}.zip", bundle_boto3=with_boto3)

        names = set(names_in(built.path))
        machine = package.MACHINES[architecture]
        assert f"_cffi_backend.cpython-{python.replace('.', '')}-{machine}-linux-gnu.so" in names
        assert {"acme/client.py", "OpenSSL/__init__.py", "dns/resolver.py"} <= names
        assert ("boto3/__init__.py" in names) == with_boto3
        assert ("typing_extensions.py" in names) == (python in {"3.11", "3.12"})
        assert built.size < 50_000_000
