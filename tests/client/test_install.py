"""What is on the disk already: links, strangers, certbot's folders, damage, owners."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from certkeeper.client import install
from tests.client.certificates import Pair, issue
from tests.client.conftest import Instance


def lay_certbot(instance: Instance, pair: Pair) -> Path:
    """What certbot leaves for one name; returns live/NAME."""
    archive = instance.into / "archive" / "example.com"
    archive.mkdir(parents=True)
    instance.live.mkdir(parents=True)
    end = pair.fullchain_pem.index("-----BEGIN", 1)
    texts = {
        "fullchain": pair.fullchain_pem,
        "privkey": pair.private_key_pem,
        "cert": pair.fullchain_pem[:end],
        "chain": pair.fullchain_pem[end:],
    }
    for kind, text in texts.items():
        (archive / f"{kind}1.pem").write_text(text)
        (instance.live / f"{kind}.pem").symlink_to(f"../../archive/example.com/{kind}1.pem")
    (instance.into / "renewal").mkdir()
    (instance.into / "renewal" / "example.com.conf").write_text("version = 5.8")
    return instance.live


@pytest.mark.parametrize("atomically", [True, False])
def test_certbots_folder_is_exchanged_and_kept_aside_with_its_settings(
    instance: Instance, atomically: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not atomically:
        monkeypatch.setattr(install, "swap", lambda *_: False)
    old, new = issue("example.com"), issue("example.com")
    lay_certbot(instance, old)
    instance.store(new)

    run = instance.pull(*instance.reload)

    aside = instance.into / "live" / "example.com.before-certkeeper"
    assert run.code == 0
    assert instance.reloads == [new.serial_number]
    assert (aside / "privkey.pem").read_text() == old.private_key_pem
    assert (instance.into / "renewal" / "example.com.conf.before-certkeeper").exists()
    assert not (instance.into / "renewal" / "example.com.conf").exists()
    assert "live/example.com.before-certkeeper; certbot does not renew" in run.err


def test_certbots_pair_returns_when_only_it_passes_the_check(instance: Instance) -> None:
    old = issue("example.com")
    lay_certbot(instance, old)
    instance.store(issue("example.com"))

    run = instance.pull("--check", f"readlink {instance.live} | grep -q {old.serial_number}")

    assert run.code == 3
    assert f"example.com kept {old.serial_number}" in run.out
    assert instance.installed()["privkey.pem"] == old.private_key_pem
    assert (instance.into / "live" / "example.com.before-certkeeper" / "privkey.pem").exists()


def test_certbots_folder_is_taken_over_even_if_it_holds_the_same_certificate(instance: Instance) -> None:
    pair = issue("example.com")
    lay_certbot(instance, pair)
    instance.store(pair)

    run = instance.pull()

    assert run.code == 0
    assert instance.live.is_symlink()


def test_certbots_pair_is_the_last_good_one(instance: Instance) -> None:
    old = issue("example.com")
    lay_certbot(instance, old)

    run = instance.pull()

    assert run.code == 0
    assert f"example.com kept {old.serial_number}" in run.out


@pytest.mark.parametrize("link", ["archive", "live", "archive/example.com"])
def test_a_link_in_the_way_is_not_followed(instance: Instance, link: str) -> None:
    elsewhere = instance.folder / "elsewhere"
    elsewhere.mkdir()
    (instance.into / link).parent.mkdir(parents=True, exist_ok=True)
    (instance.into / link).symlink_to(elsewhere)
    instance.store(issue("example.com"))

    run = instance.pull()

    assert run.code == 1
    assert "is a link or not a folder" in run.err
    assert list(elsewhere.iterdir()) == []


def test_a_link_planted_where_we_write_is_replaced_not_followed(instance: Instance) -> None:
    victim = instance.folder / "victim"
    victim.write_text("precious")
    archive = instance.into / "archive" / "example.com"
    archive.mkdir(parents=True)
    for name in (".staging", ".new", ".proof", "state.json", "reload-pending"):
        (archive / name).symlink_to(victim)
    instance.store(issue("example.com"))

    run = instance.pull(*instance.reload)

    assert run.code == 0
    assert victim.read_text() == "precious"
    assert len(instance.reloads) == 1


@pytest.mark.parametrize("kind", ["link elsewhere", "file"])
def test_something_else_at_live_is_left_alone(instance: Instance, kind: str) -> None:
    instance.live.parent.mkdir(parents=True)
    if kind == "file":
        instance.live.write_text("mine")
    else:
        (instance.folder / "mine").mkdir()
        instance.live.symlink_to(instance.folder / "mine")
    instance.store(issue("example.com"))

    run = instance.pull(*instance.reload)

    assert run.code == 1
    assert "is neither ours nor a folder" in run.err
    assert not (instance.live.parent / ".example.com.new").is_symlink()
    assert instance.reloads == []


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", ".hidden", "UPPER", "", "x" * 65, "-x", "a\n"])
def test_a_hostile_name_is_a_usage_error(instance: Instance, name: str) -> None:
    run = instance.pull(name=name)

    assert run.code == 2
    assert not instance.into.exists()


@pytest.mark.parametrize("damage", ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"])
@pytest.mark.parametrize("how", ["gone", "torn"])
def test_a_damaged_installation_is_mended(instance: Instance, damage: str, how: str) -> None:
    pair = issue("example.com")
    instance.store(pair)
    instance.pull(*instance.reload)
    good = instance.installed()
    if how == "gone":
        (instance.live / damage).unlink()
    else:
        (instance.live / damage).write_text(good[damage][:100])

    run = instance.pull(*instance.reload)

    assert run.code == 0
    assert instance.installed() == good
    assert len(instance.reloads) == 2


def test_a_lost_or_damaged_state_costs_one_more_request_only(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.pull(*instance.reload)
    (instance.into / "archive" / "example.com" / "state.json").write_text("{")

    run = instance.pull(*instance.reload)

    assert run.out.split()[1] == "unchanged"
    assert len(instance.reloads) == 1


def test_an_owner_may_read_and_nobody_else(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.pull()
    instance.into.chmod(0o700)  # as it comes with a umask of 077

    words = [instance.pull("--owner", "daemon:mail").out.split()[1] for _ in range(2)]

    key = (instance.live / "privkey.pem").stat()
    assert words == ["installed", "unchanged"]
    assert (key.st_uid, stat.S_IMODE(key.st_mode)) == (1, 0o640)
    for folder in (instance.live, instance.live.resolve().parent):
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (0, 0o750)
        assert folder.stat().st_gid == key.st_gid
    for parent in ("", "live", "archive"):
        assert stat.S_IMODE((instance.into / parent).stat().st_mode) == 0o711


@pytest.mark.parametrize("owner", [(), ("--owner", "daemon:mail")])
def test_nobody_else_can_open_the_private_key_from_its_first_byte_on(
    instance: Instance, owner: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(issue("example.com"))
    modes: list[int] = []
    write = os.write

    def watching(file: int, data: bytes) -> int:
        if b"PRIVATE KEY" in data and not in_memory(file):
            modes.append(stat.S_IMODE(os.fstat(file).st_mode))
        return write(file, data)

    before = os.umask(0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", watching)
            run = instance.pull("--combined", *owner)
    finally:
        os.umask(before)

    assert run.code == 0, run.err
    assert modes == [0o600, 0o600]


def test_an_unknown_owner_is_a_usage_error(instance: Instance) -> None:
    assert instance.pull("--owner", "nobody-of-this-name").code == 2


def test_two_pulls_at_once_take_turns(instance: Instance) -> None:
    instance.store(issue("example.com"))
    log = instance.folder / "log"
    attempt = f'import fcntl; fcntl.flock(open("{instance.into}/.certkeeper-lock"), 6)'
    inner = f"python3 -S -c '{attempt}' 2>&1 || echo locked >> {log}"

    instance.pull("--reload", inner)

    assert log.read_text() == "locked\n"


@pytest.mark.timeout(20)
def test_a_pull_says_that_it_waits_for_another(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    instance.store(issue("example.com"))
    instance.into.mkdir()
    holding = os.open(instance.into / ".certkeeper-lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(holding, fcntl.LOCK_EX)
    complete = print

    def end_the_other(*words: object, **how: Any) -> None:
        complete(*words, **how)
        fcntl.flock(holding, fcntl.LOCK_UN)

    monkeypatch.setattr("builtins.print", end_the_other)

    run = instance.pull("--for", "example.com")

    os.close(holding)
    assert (run.code, run.err) == (0, "certkeeper-pull: waiting for another pull\n")


@pytest.mark.timeout(20)
def test_who_may_only_read_the_folder_cannot_hold_up_a_pull(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.into.mkdir()
    holding = os.open(instance.into, os.O_RDONLY)
    fcntl.flock(holding, fcntl.LOCK_EX)

    run = instance.pull()

    os.close(holding)
    assert run.code == 0
    assert stat.S_IMODE((instance.into / ".certkeeper-lock").stat().st_mode) == 0o600


def test_everything_is_durable_before_the_flip(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    instance.store(issue("example.com"))
    synced: set[int] = set()
    at_the_flip: list[set[Path]] = []
    fsync, rename = os.fsync, os.rename

    def watching_fsync(file: int) -> None:
        synced.add(os.fstat(file).st_ino)
        fsync(file)

    def watching_rename(old: str, new: str) -> None:
        if new == str(instance.live):
            archive = instance.into / "archive"
            at_the_flip.append({path for path in archive.rglob("*") if path.stat().st_ino not in synced})
        # What a folder shows is as durable as its last fsync.
        synced.discard(os.stat(os.path.dirname(new)).st_ino)
        rename(old, new)

    monkeypatch.setattr(os, "fsync", watching_fsync)
    monkeypatch.setattr(os, "rename", watching_rename)

    instance.pull()

    assert at_the_flip == [set()]
    assert (instance.into / "archive" / "example.com" / "reload-pending").exists()
    assert (instance.into / "live").stat().st_ino in synced


# ---- SELinux, and disks that take nothing more


def test_selinux_contexts_are_right_before_anybody_sees_the_files(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(issue("example.com"))
    monkeypatch.setattr("certkeeper.client.install._SELINUX", str(instance.folder))
    (instance.folder / "restorecon").write_text(
        f'#!/bin/sh\necho "$@" >{instance.folder}/asked\nenv >>{instance.folder}/asked\n'
        f"cd {instance.into}\nfind . -name '*.pem' >{instance.folder}/there\nls -A live >>{instance.folder}/there\n"
    )
    (instance.folder / "restorecon").chmod(0o755)
    instance.environment["PATH"] = f"{instance.folder}:/usr/bin:/bin"

    run = instance.pull()

    asked, *variables = (instance.folder / "asked").read_text().splitlines()
    there = (instance.folder / "there").read_text().splitlines()
    assert run.code == 0, run.err
    assert asked == f"-R {instance.into}/archive/example.com {instance.into}/live"
    assert not any("AWS" in one or "canary" in one for one in variables)
    assert len(there) == 4
    assert all("/.staging/" in one for one in there)


@pytest.mark.parametrize("restorecon", ["without SELinux", "missing", "not executable"])
def test_without_restorecon_a_pull_installs_all_the_same(
    instance: Instance, restorecon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(issue("example.com"))
    selinux = "/nowhere" if restorecon == "without SELinux" else str(instance.folder)
    monkeypatch.setattr("certkeeper.client.install._SELINUX", selinux)
    if restorecon == "not executable":
        (instance.folder / "restorecon").write_text("")
    instance.environment["PATH"] = str(instance.folder)

    assert instance.pull().code == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "rename", "symlink"])
def test_a_disk_that_takes_nothing_leaves_the_last_good_pair(
    instance: Instance, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, newer = issue("example.com"), issue("example.com")
    instance.store(good)
    instance.pull()
    before = instance.installed()
    instance.store(newer, sealing="store")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if call == "write":  # but not into the memory file of the proof
            write = os.write
            patch.setattr(os, "write", lambda file, data: write(file, data) if in_memory(file) else refuse())
        else:
            patch.setattr(os, call, refuse)
        run = instance.pull()
    again = instance.pull()

    assert (run.code, run.out.split()[1:3]) == (0, ["kept", good.serial_number])
    assert run.err.count("certkeeper-pull: error: ") == 1
    assert os.strerror(number) in run.err
    assert before["privkey.pem"] == good.private_key_pem
    assert (again.code, again.out.split()[1:3]) == (0, ["installed", newer.serial_number])


def test_what_is_installed_is_told_so_though_nothing_could_be_noted_about_it(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(issue("example.com"))
    rename = os.rename

    def full(old: str, new: str) -> None:
        if new.endswith("state.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        run = instance.pull(*instance.reload)
    again = instance.pull(*instance.reload)

    assert (run.code, run.out.split()[1]) == (0, "installed"), run.err
    assert (again.code, again.out.split()[1], len(instance.reloads)) == (0, "unchanged", 1)


def in_memory(file: int) -> bool:
    return "memfd" in os.readlink(f"/proc/self/fd/{file}")
