"""The operator's door: what is typed, what is said, and the exit status."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certkeeper import __version__, config
from certkeeper.cli import arguments
from certkeeper.cli.main import _exit_of, main
from certkeeper.cli.terminal import BAD_NEWS, GOOD, NO_NEWS
from certkeeper.core.errors import StoreError
from certkeeper.core.model import Outcome
from certkeeper.jobs.tick import Report, tick
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import START, FakeClock, World

COMMANDS = (
    "init",
    "plan",
    "renew",
    "status",
    "check",
    "export",
    "history",
    "rollback",
    "add",
    "forget",
    "rename",
    "revoke",
    "account",
    "policy",
    "user-data",
    "package",
    "deploy",
    "destroy",
    "alert",
    "doctor",
    "demo",
    "completion",
)
SETTINGS = f"""\
store = "s3://bucket/prod"
bucket_owner = "{ACCOUNT}"
sealing = "kms"
kms_key = "alias/certkeeper"

[ca]
directory = "https://ca.test/directory"

[certificates.www]
identifiers = ["example.com", "*.example.com"]

[certificates.api]
identifiers = ["api.example.com"]
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in a folder of its own, with no settings from around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CERTKEEPER_CONFIG", raising=False)


def refused(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


# Help and usage.


def test_these_are_all_commands() -> None:
    assert set(arguments.commands_of(arguments.parser())) == set(COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_has_an_example_that_can_be_pasted(command: str, capsys: Captured) -> None:
    assert refused(*filter(None, [command]), "--help") == 0

    said = capsys.readouterr().out
    (example,) = (line for line in said.splitlines() if line.startswith("example: "))
    words = shlex.split(example.removeprefix("example: certkeeper ").partition(" > ")[0])
    assert "*" not in re.sub("'[^']*'", "", example)  # which a shell takes for files
    assert arguments.parser().parse_args(words).command == (command or "renew")


def test_the_version(capsys: Captured) -> None:
    assert refused("--version") == 0
    assert capsys.readouterr().out == f"certkeeper {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param([], id="nothing"),
        pytest.param(["destroy-everything"], id="no such command"),
        pytest.param(["renew", "--no-such-option"], id="no such option"),
        pytest.param(["renew", "--deadline", "soon"], id="a deadline that is no number"),
        pytest.param(["renew", "--deadline", "4"], id="a deadline too short"),
        pytest.param(["renew", "--deadline", "nan"], id="a deadline that is not a number"),
        pytest.param(["init", "--sealing", "gpg"], id="no such sealing"),
        pytest.param(["completion", "powershell"], id="no such shell"),
    ],
)
def test_wrong_usage_is_no_news(argv: list[str], capsys: Captured) -> None:
    assert refused(*argv) == NO_NEWS

    captured = capsys.readouterr()
    assert captured.out == "" and "usage: certkeeper" in captured.err
    error, hint = captured.err.splitlines()[-2:]
    assert error.startswith("certkeeper: error: ") and hint.startswith("certkeeper: hint: ")


@pytest.mark.parametrize(
    ("line", "usage", "hint"),
    [
        ("stauts", "certkeeper", "did you mean status?"),
        ("renew --forced", "certkeeper renew", "did you mean --force?"),
        ("renew --spend", "certkeeper renew", "did you mean --spend-reserve?"),
        ("renew --all", "certkeeper renew", "see certkeeper renew --help"),
        ("", "certkeeper", "see certkeeper --help"),
        ("frobnicate", "certkeeper", "see certkeeper --help"),
        ("user-data www --wait -1", "certkeeper user-data", "see certkeeper user-data --help"),
    ],
)
def test_wrong_usage_is_told_with_what_may_have_been_meant(line: str, usage: str, hint: str, capsys: Captured) -> None:
    assert refused(*line.split()) == NO_NEWS

    said = capsys.readouterr().err
    assert said.startswith(f"usage: {usage} [-h]")
    assert said.endswith(f"certkeeper: hint: {hint}\n")


def test_an_option_is_taken_in_full_only(capsys: Captured) -> None:
    assert refused("renew", "--forc") == NO_NEWS
    assert refused("--conf", "certkeeper.toml", "renew") == NO_NEWS


def test_where_the_settings_are_is_said_before_the_command_or_after_it() -> None:
    def parsed(line: str) -> tuple[str | None, str | None]:
        said = arguments.parser().parse_args(line.split())
        return said.config, said.store

    assert parsed("--config a status") == parsed("status --config a") == parsed("--config b status --config a")
    assert parsed("--from s3://a/b status") == parsed("status www --from s3://a/b") == (None, "s3://a/b")
    assert parsed("status") == (None, None)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_its_shell_takes(shell: str, capsys: Captured, tmp_path: Path) -> None:
    assert main(["completion", shell]) == GOOD

    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    assert "certkeeper" in script.read_text() and "renew" in script.read_text()
    if shell == "bash":
        subprocess.run(["bash", "-n", script], check=True, timeout=10)


# Settings.


@pytest.mark.parametrize("command", ["plan", "renew", "status"])
def test_without_settings_there_is_a_hint(command: str, capsys: Captured) -> None:
    assert main([command]) == NO_NEWS

    assert capsys.readouterr() == (
        "",
        "certkeeper: error: there is no certkeeper.toml\n"
        "certkeeper: hint: write one with: certkeeper init; or say where the settings are, with --config or --from\n",
    )


def test_every_fault_of_the_settings_is_told_with_its_hint(capsys: Captured) -> None:
    Path("certkeeper.toml").write_text('stor = "x"\nsealing = "gpg"\n')

    assert main(["plan"]) == NO_NEWS

    said = capsys.readouterr().err
    assert said.count("certkeeper: error: certkeeper.toml: ") == 3
    assert "certkeeper: hint: did you mean store?\n" in said


def test_settings_are_found_by_option_and_by_environment(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTKEEPER_CONFIG", "by-environment.toml")

    main(["plan"])
    main(["--config", "by-option.toml", "plan"])

    said = capsys.readouterr().err
    assert "there is no by-environment.toml" in said and "there is no by-option.toml" in said


def test_two_places_for_settings_exclude_each_other(capsys: Captured) -> None:
    assert main(["--config", "x.toml", "--from", "s3://bucket/prod", "status"]) == NO_NEWS
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "renew"])
def test_a_name_that_nobody_knows_is_told_with_those_that_there_are(command: str, capsys: Captured) -> None:
    Path("certkeeper.toml").write_text(SETTINGS)

    assert main([command, "www", "nobody"]) == NO_NEWS

    assert capsys.readouterr().err == (
        "certkeeper: error: there is no certificate called 'nobody'\ncertkeeper: hint: there are: api, www\n"
    )


def test_an_export_against_roots_that_are_not_there_is_refused(capsys: Captured) -> None:
    Path("certkeeper.toml").write_text(SETTINGS)

    assert main(["export", "www", "--into", "out", "--roots", "roots.pem"]) == NO_NEWS

    assert capsys.readouterr().err == (
        "certkeeper: error: there is no file roots.pem\ncertkeeper: hint: give --roots a file of roots in PEM\n"
    )
    assert not Path("out").exists()


def test_settings_without_certificates_have_nothing_to_renew(capsys: Captured) -> None:
    Path("certkeeper.toml").write_text('store = "s3://bucket"\nsealing = "store"\n')

    assert main(["renew"]) == NO_NEWS
    assert "names no certificates" in capsys.readouterr().err


# init.


def test_init_writes_settings_that_are_taken(capsys: Captured) -> None:
    argv = ["init", "--yes", "--store", "s3://my-bucket/prod", "--identifier", "bücher.example",
            "--identifier", "*.bücher.example", "--contact", "ops@example.com", "--staging"]  # fmt: skip

    assert main(argv) == GOOD

    settings = config.read(Path("certkeeper.toml"))
    (spec,) = settings.specs
    assert capsys.readouterr().out == ""
    assert (settings.store, settings.sealing, settings.kms_key) == ("s3://my-bucket/prod", "kms", "alias/certkeeper")
    assert (settings.ca.contact, "staging" in settings.ca.directory) == ("ops@example.com", True)
    assert spec.identifiers == ("xn--bcher-kva.example", "*.xn--bcher-kva.example")


@pytest.mark.parametrize("sealing", ["kms", "store"])
def test_init_says_what_sealing_costs(sealing: str) -> None:
    assert main(["init", "--yes", "--sealing", sealing, "--identifier", "example.com"]) == GOOD

    text = Path("certkeeper.toml").read_text()
    assert "about $1" in text and "#" in text
    assert config.read(Path("certkeeper.toml")).sealing == sealing


def test_init_overwrites_nothing(capsys: Captured) -> None:
    Path("certkeeper.toml").write_text("mine")

    assert main(["init", "--yes"]) == NO_NEWS

    assert Path("certkeeper.toml").read_text() == "mine"
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        pytest.param(["--store", "bucket"], "not a store", id="no store"),
        pytest.param(["--identifier", "localhost"], "not a domain name", id="no domain name"),
        pytest.param(["--contact", "me"], "e-mail", id="no address"),
    ],
)
def test_init_writes_nothing_that_would_not_be_taken(argv: list[str], told: str, capsys: Captured) -> None:
    assert main(["init", "--yes", *argv]) == NO_NEWS

    assert told in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_init_where_nobody_may_write_says_so(capsys: Captured) -> None:
    assert main(["--config", "no/such/folder.toml", "init", "--yes"]) == NO_NEWS
    assert "cannot be written" in capsys.readouterr().err


# Exit status.

HELD: Any = {"serial_number": "01", "not_after": START + timedelta(days=1)}
KEPT, RENEWED = Outcome("a", "kept", "", **HELD), Outcome("b", "renewed", "", **HELD)
FAILED, WAITING = Outcome("c", "failed", "", error="x"), Outcome("d", "waiting", "")
OLD = Outcome("e", "kept", "", "01", START)
DOWN = StoreError("the store is down")


@pytest.mark.parametrize(
    ("outcomes", "trouble", "status"),
    [
        pytest.param([KEPT, RENEWED], None, GOOD, id="all good"),
        pytest.param([], None, GOOD, id="nothing to do"),
        pytest.param([KEPT, FAILED], None, BAD_NEWS, id="one failed"),
        pytest.param([KEPT, WAITING], None, BAD_NEWS, id="one has none yet"),
        pytest.param([Outcome("f", "waiting", "", **HELD)], None, GOOD, id="one waits and holds a good one"),
        pytest.param([Outcome("f", "waiting", "", **HELD, error="x")], None, BAD_NEWS, id="one waits after a failure"),
        pytest.param([OLD], None, BAD_NEWS, id="one has expired"),
        pytest.param([FAILED, FAILED], DOWN, NO_NEWS, id="the store is down"),
        pytest.param([KEPT, FAILED], DOWN, BAD_NEWS, id="a part of the store is down"),
        pytest.param([KEPT], DOWN, BAD_NEWS, id="only the index is out of reach"),
    ],
)
def test_the_exit_status_of_a_tick(outcomes: list[Outcome], trouble: StoreError | None, status: int) -> None:
    assert _exit_of(Report(tuple(outcomes), START, trouble)) == status


# Status, over a store.


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[AwsServer]:
    with AwsServer(desk, HostedZones()) as running:
        yield running


@pytest.fixture
def aws(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    server.reset()
    server.create_bucket("bucket")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    Path("certkeeper.toml").write_text(SETTINGS)
    return server


def issued(aws: AwsServer, ago: timedelta) -> None:
    """Fill the store with what a tick of that long ago left."""
    world = World(FakeClock(datetime.now(UTC).replace(microsecond=0) - ago))
    keeper = world.keeper()
    specs = config.parse(SETTINGS, "certkeeper.toml").specs
    report = tick(replace(keeper, authorities={specs[0].ca: world.authority}), specs)
    assert {one.outcome for one in report.outcomes} == {"renewed"}
    for path, (data, _, _) in world.records.objects.items():
        aws.put_object("bucket", f"prod/{path}", data)


@pytest.mark.parametrize(
    ("ago", "state", "status"),
    [
        pytest.param(timedelta(hours=1), "ok", GOOD, id="fresh"),
        pytest.param(timedelta(days=61), "due", GOOD, id="due"),
        pytest.param(timedelta(days=80), "overdue", BAD_NEWS, id="overdue"),
        pytest.param(timedelta(days=91), "expired", BAD_NEWS, id="expired"),
    ],
)
def test_the_exit_status_of_a_status(aws: AwsServer, capsys: Captured, ago: timedelta, state: str, status: int) -> None:
    issued(aws, ago)

    assert main(["status", "--json"]) == status

    said = json.loads(capsys.readouterr().out)
    assert {one["state"] for one in said["certificates"]} == {state}
    assert said["as_of"].endswith("Z") and said["certificates"][0]["serial_number"] in ("0001", "0002")


@pytest.mark.parametrize(
    ("ago", "status"),
    [
        pytest.param(timedelta(hours=1), 0, id="fresh"),
        pytest.param(timedelta(days=70), 1, id="20 days left"),
        pytest.param(timedelta(days=85), 2, id="5 days left"),
    ],
)
def test_a_check_is_one_line_with_the_exit_status_of_a_monitoring_plugin(
    aws: AwsServer, capsys: Captured, ago: timedelta, status: int
) -> None:
    issued(aws, ago)

    assert main(["check", "--warn", "30%", "--critical", "10"]) == status

    said = capsys.readouterr()
    assert said.out.startswith(f"CERTKEEPER {('OK', 'WARNING', 'CRITICAL')[status]} - ")
    assert said.out.count("\n") == 1 and ";30:;10:;0;100" in said.out
    assert said.err == ""


def test_a_check_that_cannot_tell_is_unknown_and_says_so_on_stdout(capsys: Captured) -> None:
    assert main(["check"]) == 3

    assert capsys.readouterr().out == (
        "CERTKEEPER UNKNOWN - there is no certkeeper.toml; "
        "write one with: certkeeper init; or say where the settings are, with --config or --from\n"
    )


@pytest.mark.parametrize("share", ["x", "101%", "-1"])
def test_a_check_with_wrong_usage_is_unknown_too(share: str, capsys: Captured) -> None:
    assert refused("check", f"--warn={share}") == 3
    assert "is not a share of the lifetime" in capsys.readouterr().err


def test_a_check_with_an_option_that_there_is_not_is_unknown_too() -> None:
    assert refused("check", "--warning", "30%") == 3


def test_a_check_whose_warning_comes_after_its_alarm_is_unknown(capsys: Captured) -> None:
    assert main(["check", "--warn", "5%", "--critical", "10%"]) == 3


def test_a_name_that_left_the_settings_is_still_shown(aws: AwsServer, capsys: Captured) -> None:
    issued(aws, timedelta(hours=1))
    Path("certkeeper.toml").write_text(SETTINGS.partition("[certificates.api]")[0])

    assert main(["status"]) == GOOD

    line, why = (line for line in capsys.readouterr().out.splitlines() if line.startswith("api"))
    assert line.endswith("retired")
    assert why == "api: no longer in the settings, so it is not renewed"


def test_an_empty_store_is_bad_news(aws: AwsServer, capsys: Captured) -> None:
    assert main(["status", "--json"]) == BAD_NEWS

    said = json.loads(capsys.readouterr().out)
    assert said["as_of"] is None
    assert [(one["name"], one["state"]) for one in said["certificates"]] == [("www", "missing"), ("api", "missing")]


def test_a_store_out_of_reach_is_no_news(aws: AwsServer, desk: Desk, capsys: Captured) -> None:
    with desk.fault(Fault("refuse", "s3", status=403, code="AccessDenied")):
        assert main(["status"]) == NO_NEWS

    captured = capsys.readouterr()
    assert captured.out == "" and "AccessDenied" in captured.err and "hint: this role lacks rights" in captured.err


def test_a_status_of_chosen_names_and_unknown_ones(aws: AwsServer, capsys: Captured) -> None:
    assert main(["status", "--json", "api"]) == BAD_NEWS
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["certificates"]] == ["api"]

    assert main(["status", "nobody"]) == NO_NEWS
    assert "there is no certificate called 'nobody'" in capsys.readouterr().err


def test_an_unknown_name_is_told_with_those_that_there_are(aws: AwsServer, capsys: Captured) -> None:
    main(["status", "nobody"])

    assert "hint: there are: api, www\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [("API", "did you mean api?"), ("wwww", "did you mean www?"), ("Example.com", "with example.com is called www")],
)
def test_an_unknown_name_is_told_with_what_may_have_been_meant(
    aws: AwsServer, capsys: Captured, name: str, hint: str
) -> None:
    for command in ("status", "plan"):
        assert main([command, name]) == NO_NEWS

        assert hint in capsys.readouterr().err


def test_a_page_is_written_beside_the_text(aws: AwsServer, capsys: Captured) -> None:
    main(["status", "--html", "status.html"])

    assert Path("status.html").read_text().startswith("<!doctype html>")
    assert "missing" in capsys.readouterr().out
    assert [path.name for path in Path().iterdir() if path.name.startswith("tmp")] == []


def test_a_plan_for_an_empty_store(aws: AwsServer, capsys: Captured) -> None:
    assert main(["plan", "--json"]) == GOOD

    said = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["action"], one["reason"]) for one in said["plan"]] == [
        ("www", "renew", "not issued yet"),
        ("api", "renew", "not issued yet"),
    ]
    assert aws.objects("bucket") == {}


def test_init_from_the_store_gives_the_deployed_settings_back(aws: AwsServer, capsys: Captured) -> None:
    aws.put_object("bucket", "prod/settings.toml", SETTINGS.encode())

    Path("certkeeper.toml").unlink()
    assert main(["--from", "s3://bucket/prod", "init"]) == GOOD
    assert Path("certkeeper.toml").read_text() == SETTINGS
    assert "as it lies in s3://bucket/prod" in capsys.readouterr().err

    assert main(["--from", "s3://bucket/prod", "init"]) == NO_NEWS  # nothing is overwritten
    assert main(["--from", "s3://bucket/prod", "--config", "other.toml", "init"]) == GOOD
    assert main(["--from", "s3://bucket/nowhere", "--config", "third.toml", "init"]) == NO_NEWS
    assert {path.name for path in Path().iterdir()} == {"certkeeper.toml", "other.toml"}


def test_settings_from_the_store(aws: AwsServer, capsys: Captured) -> None:
    Path("certkeeper.toml").unlink()
    aws.put_object("bucket", "prod/settings.toml", SETTINGS.encode())

    assert main(["--from", "s3://bucket/prod", "plan"]) == GOOD
    assert "www   renew" in capsys.readouterr().out


def test_no_settings_in_the_store(aws: AwsServer, capsys: Captured) -> None:
    assert main(["--from", "s3://bucket/other", "plan"]) == NO_NEWS
    assert "there are no settings in s3://bucket/other" in capsys.readouterr().err


def test_an_address_to_probe_that_is_none(aws: AwsServer, capsys: Captured) -> None:
    assert main(["status", "--probe", "nowhere"]) == NO_NEWS
    assert "write it as HOST:PORT" in capsys.readouterr().err


def test_init_proposes_a_bucket_of_this_account_and_region(aws: AwsServer, capsys: Captured) -> None:
    assert main(["--config", "new.toml", "init", "--yes", "--identifier", "example.com"]) == GOOD

    settings = config.parse(Path("new.toml").read_text(), "new.toml")
    assert settings.store == f"s3://certkeeper-{ACCOUNT}-{aws.region}/prod"
    assert settings.deployment == "certkeeper"
    assert "is an example" not in capsys.readouterr().err


def test_init_says_that_its_bucket_is_an_example_where_aws_is_not_configured(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert main(["init", "--yes", "--identifier", "example.com"]) == GOOD

    assert "is an example" in capsys.readouterr().err
    assert "s3://certkeeper-123456789012-eu-west-1/prod" in Path("certkeeper.toml").read_text()
