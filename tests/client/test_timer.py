"""The units that --install-timer writes: what systemd makes of them, and when they are written."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certkeeper.client import timer
from certkeeper.client.arguments import Options
from certkeeper.core.errors import CertkeeperError
from tests.client.certificates import issue
from tests.client.conftest import Instance

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
ODD = "echo \"100%\" $HOME \\ `x` 'y'"


@pytest.fixture
def units(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the units go; systemctl writes down what it is asked."""
    folder = instance.folder / "units"
    programs = instance.folder / "bin"
    for one in (folder, programs):
        one.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{instance.folder}/systemctl\nexit ${{FAILS:-0}}\n')
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setattr(timer, "_UNITS", str(folder))
    monkeypatch.setattr(timer, "_BOOTED", str(folder))
    monkeypatch.setattr(sys, "argv", [str(programs / "systemctl")])
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    instance.environment["PATH"] = f"{programs}:/usr/bin:/bin"
    return folder


def words_of(unit: Path) -> list[str]:
    """The command as systemd runs it, by its own rules of quoting."""
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=")[1:-1].split('" "')
    for escaped, letter in (("%%", "%"), ("$$", "$"), ('\\"', '"'), ("\\n", "\n"), ("\\\\", "\\")):
        words = [word.replace(escaped, letter) for word in words]
    return words


def test_the_units_hold_the_command_line_and_are_enabled(instance: Instance, units: Path) -> None:
    instance.store(issue("example.com"))

    run = instance.pull("--install-timer", "--reload", ODD + " || :")

    calls = (instance.folder / "systemctl").read_text().splitlines()
    boot, pull = (words_of(units / f"certkeeper-{one}.service") for one in ("boot", "pull"))
    assert run.code == 0, run.err
    assert calls == ["daemon-reload", "enable certkeeper-boot.service", "enable --now certkeeper-pull.timer"]
    assert pull[-2:] != ["--reload", ""]
    assert pull[pull.index("--reload") + 1] == ODD + " || :"
    assert boot == [*pull, "--boot"]
    assert "--install-timer" not in pull
    assert Options(boot[boot.index("example.com") :]).boot
    assert sorted(one.name for one in units.iterdir()) == [
        "certkeeper-boot.service", "certkeeper-pull.service", "certkeeper-pull.timer",
    ]  # fmt: skip


def test_what_the_timer_starts_reloads_though_the_boot_form_installed_it(instance: Instance, units: Path) -> None:
    instance.pull("--install-timer", "--boot", "--reload", ":")

    boot, pull = (words_of(units / f"certkeeper-{one}.service") for one in ("boot", "pull"))
    assert "--boot" not in pull
    assert boot == [*pull, "--boot"]


def test_only_the_boot_unit_is_ordered_before_the_server(instance: Instance, units: Path) -> None:
    instance.pull("--install-timer")

    boot, pull = ((units / f"certkeeper-{one}.service").read_text() for one in ("boot", "pull"))
    assert "Before=nginx.service" in boot and "WantedBy=multi-user.target" in boot
    assert "Before=" not in pull and "[Install]" not in pull
    # A missed hour is made up for at boot: a reload before the boot's own pull is through would wait for the server,
    # the server for that pull, and that pull for the lock.
    assert "After=network-online.target certkeeper-boot.service\n" in pull


def test_a_folder_that_an_image_does_not_have_is_made_before_the_sandbox_closes(
    instance: Instance, units: Path
) -> None:
    instance.pull("--install-timer")

    for one in ("boot", "pull"):
        text = (units / f"certkeeper-{one}.service").read_text()
        assert f'ExecStartPre=+mkdir -pm755 "{instance.into}"\n' in text


def test_the_timer_is_installed_though_nothing_came_and_no_secret_is_in_it(instance: Instance, units: Path) -> None:
    instance.environment |= {"AWS_SECURITY_TOKEN": "canary", "AWS_BEARER_TOKEN_BEDROCK": "canary"}

    run = instance.pull("--install-timer")

    text = "".join(one.read_text() for one in units.iterdir())
    assert run.code == 1
    assert "AWS_ENDPOINT_URL=http" in text
    assert "canary" not in text and "AKID" not in text


def test_the_units_mean_the_same_files_from_any_folder(
    instance: Instance, units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.store(issue("example.com"))
    monkeypatch.chdir(instance.folder)
    places = ("--into", "letsencrypt", "--roots", "roots.pem")

    run = instance.run("example.com", "--from", "s3://certs-123456789012/prod", *places, "--install-timer")

    monkeypatch.chdir("/")
    words = words_of(units / "certkeeper-pull.service")
    options = Options(words[words.index("example.com") :])
    assert run.code == 0, run.err
    assert options.into == str(instance.into)
    assert options.roots == str(instance.folder / "roots.pem")


def test_the_units_go_by_the_same_roots(instance: Instance, units: Path) -> None:
    instance.environment["SSL_CERT_FILE"] = str(instance.folder / "roots.pem")

    instance.pull("--install-timer", roots=False)

    line = f'Environment="SSL_CERT_FILE={instance.folder}/roots.pem"\n'
    assert all(line in one.read_text() for one in units.glob("*.service"))


def test_a_second_time_changes_nothing(instance: Instance, units: Path) -> None:
    instance.pull("--install-timer")
    before = {one.name: one.read_text() for one in units.iterdir()}

    instance.pull("--install-timer")

    assert {one.name: one.read_text() for one in units.iterdir()} == before


def test_without_systemd_it_is_one_line(instance: Instance, units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "_BOOTED", "/nowhere")
    instance.store(issue("example.com"))

    run = instance.pull("--install-timer", "--for", "example.com")

    assert run.code == 0
    assert run.err == "certkeeper-pull: no timer: this machine was not booted with systemd\n"
    assert list(units.iterdir()) == []


def test_a_systemctl_that_fails_is_code_3(instance: Instance, units: Path) -> None:
    instance.store(issue("example.com"))
    instance.environment["FAILS"] = "1"

    run = instance.pull("--install-timer")

    assert run.code == 3
    assert "the timer is not installed: systemctl daemon-reload failed" in run.err


@pytest.mark.parametrize("word", ["a\x00b", "\x1b[0m", "a\tb", "\u2028"])
def test_a_word_that_no_unit_file_can_hold_is_refused(word: str) -> None:
    with pytest.raises(CertkeeperError):
        timer.quoted(word)


@needs_systemd
@pytest.mark.parametrize("into", ["/etc/letsencrypt", '/srv/a "b" 100%', "/srv/c\\d"])
def test_systemd_accepts_the_units_and_finds_them_tight(instance: Instance, units: Path, into: str) -> None:
    options = ["example.com", "--from", "s3://certs-123456789012/prod", "--into", into, "--reload", ODD]
    timer.install_timer(options, Options(options), {"AWS_REGION": "eu-west-1"})
    names = [str(one) for one in units.iterdir()]

    verified = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    for service in (one for one in names if one.endswith(".service")):
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", service],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert rated.returncode == 0, rated.stdout.splitlines()[-1]

    assert [line for line in verified.stderr.splitlines() if str(units) in line] == []


def test_the_timer_is_spread_and_persistent() -> None:
    parsed = configparser.ConfigParser()
    parsed.optionxform = str  # type: ignore[assignment,method-assign] # as configparser documents it
    parsed.read_string(timer._TIMER)

    assert dict(parsed["Timer"]) == {
        "OnCalendar": "hourly", "RandomizedDelaySec": "50min", "FixedRandomDelay": "yes", "Persistent": "yes",
    }  # fmt: skip
