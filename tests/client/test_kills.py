"""Killed at any change of the file system, a pull leaves a working pair, and the next one finishes its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.certificates import Pair, issue
from tests.client.conftest import Instance
from tests.client.test_install import lay_certbot

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]

# Runs in a process of its own, without threads: for each n, a child dies just before its n-th change of the
# file system (a write dies half way); then the disk is looked at; then another child pulls undisturbed.
DRIVER = """
import json, os, shutil, ssl, subprocess, sys
sys.path.insert(0, ROOT)
import ctypes
from certkeeper.client.__main__ import main

os.fsync = lambda file: None  # nothing to one who is killed, and half of the time
CHANGES = ["mkdir", "write", "chmod", "chown", "fchmod", "fchown", "fsync", "rename", "symlink", "unlink", "rmdir"]

def dying_at(n):
    left = [n]
    def wrapped(name, real):
        def call(*arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(99)
            return real(*arguments, **named)
        return call
    for name in CHANGES:
        setattr(os, name, wrapped(name, getattr(os, name)))
    real_open = os.open
    creating = wrapped("open", real_open)
    def opening(path, flags, *more, **named):
        return (creating if flags & os.O_CREAT else real_open)(path, flags, *more, **named)
    os.open = opening
    if SWAPS:
        libc = ctypes.CDLL(None)
        class Library:
            renameat2 = staticmethod(wrapped("renameat2", libc.renameat2))
        ctypes.CDLL = lambda name: Library

def run(n):
    child = os.fork()
    if child == 0:
        if n:
            dying_at(n)
        try:
            os._exit(main(ARGUMENTS))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(98)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def served():
    if not os.path.lexists(LIVE):
        return None
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(LIVE + "/fullchain.pem", LIVE + "/privkey.pem")
    return open(LIVE + "/fullchain.pem").read()

n = 0
while True:
    n += 1
    shutil.rmtree(INTO, ignore_errors=True)
    if os.path.exists(BEFORE):
        shutil.copytree(BEFORE, INTO, symlinks=True)
    if os.path.exists(LOADED):
        os.unlink(LOADED)
    killed = run(n)
    left = served()
    again = run(0)
    loaded = open(LOADED).read() if os.path.exists(LOADED) else None
    leftovers = [
        one for folder in (INTO + "/live", INTO + "/archive/example.com") for one in os.listdir(folder)
        if one.startswith(".") or one == "reload-pending"
    ]
    aside = INTO + "/live/example.com.before-certkeeper/privkey.pem"
    kept = open(aside).read() if os.path.exists(aside) else None
    print(json.dumps([n, killed, left, again, served(), loaded, leftovers, kept]), flush=True)
    if killed != 99:
        break
"""


Row = tuple[int, int, str | None, int, str, str | None, list[str], str | None]


def drive(instance: Instance, swaps: bool = False) -> list[Row]:
    """One row for each moment of death, the last one for the pull that was not killed."""
    before = instance.folder / "before"
    if instance.into.exists():
        os.rename(instance.into, before)
    loaded = instance.folder / "loaded"
    settings = {
        "ROOT": str(ROOT),
        "SWAPS": swaps,
        "INTO": str(instance.into),
        "LIVE": str(instance.live),
        "BEFORE": str(before),
        "LOADED": str(loaded),
        "ARGUMENTS": [
            *("example.com", "--from", "s3://certs-123456789012/prod", "--into", str(instance.into), "--quiet"),
            *("--roots", str(instance.folder / "roots.pem"), "--reload", f"cd {instance.live} && pwd -P > {loaded}"),
        ],
    }
    text = "".join(f"{name} = {value!r}\n" for name, value in settings.items()) + DRIVER
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text], env=instance.environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("start", ["nothing", "older", "certbot"])
def test_killed_at_any_write_there_is_a_pair_and_the_next_pull_serves_the_right_one(
    instance: Instance, start: str
) -> None:
    old: Pair | None = None if start == "nothing" else issue("example.com")
    new = issue("example.com")
    if old is not None and start == "certbot":
        lay_certbot(instance, old)
    elif old is not None:
        instance.store(old)
        instance.pull("--reload", "true")
    instance.store(new, sealing="store")

    rows = drive(instance, swaps=start == "certbot")

    assert len(rows) > 30
    assert rows[-1][1] == 0
    pairs = {None if old is None else old.fullchain_pem, new.fullchain_pem}
    for n, killed, left, again, served, loaded, leftovers, kept in rows:
        assert killed == (0 if n == len(rows) else 99)
        assert left in pairs, f"killed at change {n}"
        assert (again, served, leftovers) == (0, new.fullchain_pem, []), f"killed at change {n}"
        assert kept == (old.private_key_pem if old and start == "certbot" else None), f"killed at change {n}"
        assert loaded is not None, f"killed at change {n}"
        assert new.serial_number in loaded, f"killed at change {n}"
