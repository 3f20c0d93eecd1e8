"""The house holds: what imports what, that the walls are seen to stand, and what stays out of the small doors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")


def modules_of(*folders: str) -> list[str]:
    found = (path for folder in folders for path in sorted((ROOT / "certkeeper" / folder).rglob("*.py")))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in found]


def loaded_by(statement: str, *options: str, environment: dict[str, str] | None = None) -> list[str]:
    """The modules that a Python of its own has loaded after a statement, printed as the last line of stdout."""
    code = f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded: list[str] = json.loads(run.stdout.splitlines()[-1])
    return loaded


# Standard library only.


@pytest.mark.parametrize("folder", ["core", "client"])
def test_it_runs_where_nothing_is_installed(folder: str) -> None:
    modules = modules_of(folder)

    loaded = loaded_by(f"import {', '.join(modules)}", "-I", "-S")

    assert len(modules) > 5
    assert set(modules) <= set(loaded)
    assert {one.split(".")[0] for one in loaded} - set(sys.stdlib_module_names) <= {"certkeeper", "__main__"}


def test_the_jobs_run_where_nothing_is_installed() -> None:
    loaded = loaded_by(f"import {', '.join(modules_of('jobs'))}", "-I", "-S")

    assert {one.split(".")[0] for one in loaded} - set(sys.stdlib_module_names) <= {"certkeeper", "__main__"}


def test_the_client_brings_only_the_document_and_the_errors_along() -> None:
    loaded = loaded_by(f"import {', '.join(modules_of('client'))}", "-I", "-S")

    ours = {one for one in loaded if one.startswith("certkeeper.") and not one.startswith("certkeeper.client")}
    assert ours == {"certkeeper.core", "certkeeper.core.document", "certkeeper.core.errors"}


@pytest.mark.parametrize("dear", ["dataclasses", "enum", "typing", "re"])
def test_the_document_does_not_import_what_is_dear_for_itself(dear: str) -> None:
    source = (ROOT / "certkeeper" / "core" / "document.py").read_text()

    assert f"\nimport {dear}" not in source and f"\nfrom {dear}" not in source


def test_the_lambda_folder_is_no_package() -> None:
    assert (ROOT / "lambda" / "handler.py").is_file()
    assert not (ROOT / "lambda" / "__init__.py").exists()


# Walls between our own modules.

WALLS = {
    "Imports point inwards": [
        ("core/order.py", "certkeeper.jobs.tick"),
        ("jobs/status.py", "certkeeper.config"),
        ("adapters/threads.py", "certkeeper.wiring"),
        ("config.py", "certkeeper.cli.main"),
    ],
    "In the core, the document lies at the bottom": [
        ("core/errors.py", "certkeeper.core.model"),
        ("core/zones.py", "certkeeper.core.decision"),
    ],
    "Core, jobs and client are standard library only": [
        ("core/zones.py", "dns"),
        ("jobs/tick.py", "boto3"),
        ("client/proof.py", "cryptography"),
    ],
    "The client knows the document and the errors, nothing else of ours": [
        ("client/pull.py", "certkeeper.core.model"),
        ("client/install.py", "certkeeper.jobs.tick"),
    ],
    "Only wiring touches adapters": [
        ("cli/main.py", "certkeeper.adapters.x509"),
        ("sandbox/story.py", "certkeeper.adapters.s3_records"),
    ],
    "Adapters do not import each other": [
        ("adapters/x509.py", "certkeeper.adapters.kms_keys"),
    ],
}
BREACHES = [(wall, file, imported) for wall, breaches in WALLS.items() for file, imported in breaches]
HOMELESS = {
    "Imports point inwards": "a_new_one.py",
    "In the core, the document lies at the bottom": "core/a_new_one.py",
}


def copied(folder: Path) -> Path:
    shutil.copytree(ROOT / "certkeeper", folder / "certkeeper", ignore=shutil.ignore_patterns("__pycache__", "locks"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def linted(folder: Path) -> tuple[int, str]:
    run = subprocess.run([LINT], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.fixture(scope="module")
def said_of_breaches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each wall of a copy of the house, after every wall was broken in every way."""
    house = copied(tmp_path_factory.mktemp("house"))
    for _, file, imported in BREACHES:
        with (house / "certkeeper" / file).open("a") as source:
            source.write(f"\nimport {imported}\n")
    _, said = linted(house)
    details = said.partition("Broken contracts")[2]
    starts = {wall: details.find(f"\n{wall}\n") for wall in WALLS}
    ends = [*sorted(starts.values()), len(details)]
    return {wall: details[start : ends[ends.index(start) + 1]] for wall, start in starts.items() if start >= 0}


def test_all_walls_stand() -> None:
    code, said = linted(ROOT)

    assert code == 0, said
    assert f"Contracts: {len(WALLS)} kept, 0 broken." in said


def test_every_wall_is_tried() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert [one["name"] for one in pyproject["tool"]["importlinter"]["contracts"]] == list(WALLS)


@pytest.mark.parametrize(("wall", "file", "imported"), BREACHES)
def test_a_breach_is_seen(said_of_breaches: dict[str, str], wall: str, file: str, imported: str) -> None:
    importer = f"certkeeper.{file.removesuffix('.py').replace('/', '.')}"

    assert f"{importer} -> {imported} (l." in said_of_breaches[wall]


@pytest.mark.parametrize(("wall", "file"), list(HOMELESS.items()))
def test_a_module_that_lies_in_no_layer_is_seen(tmp_path: Path, wall: str, file: str) -> None:
    house = copied(tmp_path)
    (house / "certkeeper" / file).write_text("")

    code, said = linted(house)

    assert code != 0
    assert f"{wall} BROKEN" in said
    assert "a_new_one" in said


# What a quick look costs.


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        yield server
    desk.stop()


def test_status_starts_without_the_acme_stack(aws: AwsServer, tmp_path: Path) -> None:
    aws.create_bucket("bucket")
    settings = tmp_path / "certkeeper.toml"
    settings.write_text(f'store = "s3://bucket/prod"\nbucket_owner = "{ACCOUNT}"\nsealing = "store"\n')
    statement = f"from certkeeper.cli.main import main; main(['--config', {str(settings)!r}, 'status'])"
    environment = {"PATH": os.environ["PATH"], **aws.environment}

    loaded = loaded_by(statement, environment=environment)

    assert "boto3" in loaded
    assert not {"acme", "josepy", "dns", "requests", "moto", "cryptography", "OpenSSL"} & set(loaded)


def test_help_starts_without_aws() -> None:
    loaded = loaded_by("from certkeeper.cli.main import main; main(['completion', 'bash'])")

    assert not {"boto3", "botocore", "acme", "cryptography"} & set(loaded)


# The tests.


def test_whatever_is_kept_from_caddys_ca_says_what_that_has_not() -> None:
    bare = re.compile(r"mark\.pebble\b(?!\([A-Z\"])")
    files = sorted((ROOT / "tests").rglob("*.py"))

    assert len([one for one in files if "mark.pebble(" in one.read_text()]) >= 3
    assert [str(one.relative_to(ROOT)) for one in files if bare.search(one.read_text())] == []
