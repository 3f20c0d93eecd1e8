"""The joined program: under every Python found, with nothing but the standard library, small."""

from __future__ import annotations

import ast
import datetime
import fcntl
import hashlib
import hmac
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from certkeeper.deployment.one_file import ALSO_FOREIGN, attributes, one_file, shrunk
from tests.client.certificates import authority, document, issue
from tests.client.conftest import BUCKET, Instance, made_for

ROOT = Path(__file__).parents[2]
PYTHONS = sorted(
    {
        str(python)
        for minor in range(9, 15)
        for python in [Path(f"/usr/bin/python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")]
        if python.exists()
    }
)
# All that a pull imports when all goes well, beside what these need themselves.
IMPORTED = "gc, binascii, fcntl, hashlib, hmac, json, os, socket, ssl, stat, sys, time"


def written(text: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("client") / "certkeeper-pull"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(one_file(), tmp_path_factory)


def execute(instance: Instance, python: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-S", *words], env=instance.environment, capture_output=True, text=True, check=False
    )


def ordinary(instance: Instance) -> list[str]:
    roots = str(instance.folder / "roots.pem")
    return ["example.com", "--from", f"s3://{BUCKET}/prod", "--into", str(instance.into), "--roots", roots]


def test_there_is_a_python_3_9_to_test_with() -> None:
    assert any("3.9" in python for python in PYTHONS) or os.environ.get("CI") is None


@pytest.mark.live
@pytest.mark.parametrize(
    ("is_shrunk", "python"),
    [*((False, python) for python in PYTHONS), *((True, python) for python in (PYTHONS[0], PYTHONS[-1]))],
)
def test_both_forms_run_under_every_python(
    instance: Instance, program: str, is_shrunk: bool, python: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    instance.environment = instance.aws.environment(role=True)
    pair = issue("example.com", "*.example.com")
    instance.store(pair)
    arguments = [*ordinary(instance), "--for", "www.example.com", *instance.reload]

    command = [written(made_for(instance.folder, arguments), tmp_path_factory)] if is_shrunk else [program, *arguments]

    done = [execute(instance, python, *command) for _ in range(2)]
    instance.store(issue("example.com", by=authority("Other")))
    refused = execute(instance, python, *command)

    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    assert [one.stdout.split()[1] for one in done] == ["installed", "unchanged"]
    assert instance.reloads == [pair.serial_number]
    assert refused.stdout.split()[1:3] == ["kept", pair.serial_number]
    assert not instance.aws.problems


@pytest.mark.parametrize("python", PYTHONS)
def test_what_goes_well_imports_these_modules_and_no_other(
    instance: Instance, python: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    instance.environment = instance.aws.environment(role=True)
    instance.store(issue("example.com"))
    program = written(made_for(instance.folder, ordinary(instance)), tmp_path_factory)
    text = (
        f"import sys\nsys.argv = [{program!r}]\nnamespace = {{'__name__': 'program'}}\n"
        f"exec(compile(open({program!r}, encoding='utf-8').read(), 'program', 'exec'), namespace)\n"
        "code = namespace['main']()\nprint([code, *sorted(sys.modules)])"
    )

    done = execute(instance, python, "-c", text)
    allowed = execute(instance, python, "-c", f"import {IMPORTED}\nprint(sorted(sys.modules))")

    code, *modules = ast.literal_eval(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    assert set(modules) - set(ast.literal_eval(allowed.stdout)) <= {"encodings.ascii", "encodings.latin_1"}


def test_the_package_form_needs_nothing_but_the_standard_library_either(instance: Instance) -> None:
    instance.store(issue("example.com"))
    text = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom certkeeper.client.__main__ import main\n"
        f"sys.exit(main({ordinary(instance)!r}))"
    )

    done = execute(instance, PYTHONS[0], "-c", text)

    assert done.returncode == 0, done.stderr


def test_the_one_file_is_deterministic_and_small() -> None:
    text = one_file()

    assert text == one_file()
    assert text.count("\n") <= 1640
    assert len(zlib.compress(text.encode(), 9)) <= 23_700


def test_the_shrunk_form_is_deterministic_and_takes_no_other_command_line(instance: Instance) -> None:
    text = made_for(instance.folder, ordinary(instance))
    program = instance.folder / "program"
    program.write_text(text)

    done = execute(instance, PYTHONS[0], str(program), "other.test", "--from", "s3://elsewhere")

    assert text == shrunk(ordinary(instance))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"certkeeper-pull: error: this program was made for example.com --from s3://{BUCKET}/prod alone",
        "certkeeper-pull: hint: give it no words",
    ]


# Of each kind of command line one: the same comes of it in both forms. What the others have in common with these, the
# tests of folding hold.
WORDS = [
    ("--for", "www.example.com", "--region", "eu-west-1", "--bucket-owner", "123456789012"),
    ("--from", "secretsmanager:prod", "--quiet"),
    ("--from", "secretsmanager:prod", "--region", "eu-west-1", "--check", "true"),
    (
        "--combined",
        "--check",
        "! grep -q x {into}/live/example.com/refused.pem",
        "--reload",
        "touch {into}/reloaded",
    ),
    ("--owner", "nobody", "--reload", "false"),
    ("other.test", "--wait", "1", "--reload", "touch {into}/reloaded"),
]


@pytest.mark.parametrize(
    ("words", "role"), [(words, role) for words in WORDS for role in (True, False) if role or "--wait" not in words]
)
def test_both_forms_do_the_same(instance: Instance, words: tuple[str, ...], role: bool) -> None:
    pair = issue("example.com", "*.example.com")
    instance.store(pair)
    instance.aws.secrets["prod/example.com"] = document(pair)
    instance.environment = instance.aws.environment(role=role)
    found = []
    for instance.as_user_data in (False, True):
        said = [instance.pull(*(word.format(into=instance.into) for word in words)) for _ in range(2)]
        files = {path: path.stat().st_mode for path in instance.into.rglob("*")}
        contents = [path.read_bytes() for path in sorted(files) if path.is_file() and path.name != "state.json"]
        found.append(([(one.code, one.out, one.err) for one in said], files, contents))
        shutil.rmtree(instance.into)

    assert found[0] == found[1]
    assert "example.com installed" in found[0][0][0][1] or "--quiet" in words


def test_no_attribute_that_others_have_as_well_is_renamed() -> None:
    library = [os, ssl, socket, time, hashlib, hmac, subprocess, datetime, fcntl, json, sys, sys.flags, ssl.SSLContext]
    library += [ssl.SSLObject, ssl.MemoryBIO, ssl.SSLCertVerificationError, socket.socket, os.stat_result, Exception]
    library += [datetime.datetime, subprocess.CompletedProcess, str, bytes, dict, list, set, tuple, int, float]
    theirs = {name for one in library for name in dir(one)}

    ours = {name for name in attributes(ast.parse(one_file())) if not name.startswith("__")}

    assert ours & theirs <= set(ALSO_FOREIGN)


def test_nothing_in_the_one_file_has_two_meanings_and_nothing_of_ours_is_imported() -> None:
    tree = ast.parse(one_file())

    names: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    modules = [getattr(node, "module", "") for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert len(names) == len(set(names))
    assert modules.count("__future__") == 1
    assert not any(str(module).startswith("certkeeper") for module in modules)


def test_every_function_of_the_one_file_is_there_or_was_never_used(program: str) -> None:
    tree = ast.parse(Path(program).read_text())

    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert defined <= used
    assert "main" in defined


def test_help_tells_everything_and_nothing_that_is_not_there(instance: Instance, program: str) -> None:
    done = execute(instance, PYTHONS[0], program, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    for option in (
        "from",
        "into",
        "for",
        "reload",
        "check",
        "wait",
        "region",
        "bucket-owner",
        "owner",
        "combined",
        "roots",
        "install-timer",
        "quiet",
    ):
        assert f"  --{option} " in done.stdout
    assert "secretsmanager:PREFIX" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which certificate? give at least one NAME"),
        (["a", "--from"], "--from needs a value"),
        (["a", "--from", "s3://b"], "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX"),
        (["a", "--from", "s3://../x"], "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX"),
        (
            ["a", "--from", "s3://evil.example@x/y"],
            "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX",
        ),
        (["a", "--from", "secretsmanager:"], "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX"),
        (
            ["a", "--from", "secretsmanager:a b"],
            "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX",
        ),
        (["a", "--from", "s3://bucket", "--bucket-owner", "me"], "--bucket-owner takes an account number"),
        (["a", "--from", "s3://bucket", "--frobnicate=1"], "there is no option --frobnicate"),
        (["a", "--from", "s3://bucket", "--wait", "soon"], "--wait takes whole seconds"),
        (["a", "--from", "s3://bucket", "--for", "münchen.de"], "--for takes a DNS name, as A-label"),
        (["a", "--from", "s3://bucket", "--roots", "/nowhere"], "--roots: there is no such file"),
        (["a", "--from", "s3://bucket", "--region", "evil.example/"], "the region is not an AWS region"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(instance: Instance, arguments: list[str], message: str) -> None:
    run = (
        instance.run(*arguments, "--into", str(instance.into))
        if arguments != ["a", "--from"]
        else instance.run(*arguments)
    )

    assert run.code == 2
    assert run.err.splitlines()[0] == f"certkeeper-pull: error: {message}"
    assert run.out == ""
    assert not instance.live.exists()
