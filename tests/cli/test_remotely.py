"""`renew` through the deployed function: what is asked, what is told, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from certkeeper import wiring
from certkeeper.cli import remotely
from certkeeper.cli.main import main
from certkeeper.cli.terminal import BAD_NEWS, GOOD, NO_NEWS
from certkeeper.core.errors import FunctionError
from certkeeper.core.model import Outcome
from certkeeper.core.report import outcomes_json
from tests.fakes import START, InMemoryRecords

SETTINGS = """\
store = "s3://bucket/prod"
sealing = "store"
deployment = "prod"
[certificates.www]
identifiers = ["example.com"]
"""
RENEWED = Outcome("www", "renewed", "due", "4a1b", START.replace(year=2126))
FAILED = replace(RENEWED, outcome="failed", error="no zone", hint="make one")
Captured = pytest.CaptureFixture[str]


@dataclass
class FakeFunction:
    """Answers as told; `before` runs while somebody waits for the answer."""

    answer: dict[str, Any]
    refuse: FunctionError | None = None
    before: Callable[[], object] = lambda: None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, event: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(event)
        self.before()
        if self.refuse:
            raise self.refuse
        return self.answer


@dataclass
class FakeLog:
    lines: list[dict[str, Any]] = field(default_factory=list)
    looked: Event = field(default_factory=Event)

    def new_lines(self) -> list[dict[str, Any]]:
        new, self.lines = self.lines, []
        self.looked.set()
        return new


class Terminal(StringIO):
    """Somebody who types this."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(name="log")
def _log() -> FakeLog:
    return FakeLog()


@pytest.fixture(name="function")
def _function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: FakeLog) -> FakeFunction:
    monkeypatch.chdir(tmp_path)
    Path("certkeeper.toml").write_text(SETTINGS)
    function = FakeFunction(outcomes_json([RENEWED]))
    monkeypatch.setattr(remotely, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(
        wiring,
        "deployed",
        lambda settings: wiring.Deployed(function, "eu-west-1", lambda since: log),  # type: ignore[arg-type,return-value] # fakes
    )
    return function


def test_the_function_is_asked_and_its_outcomes_are_ours(function: FakeFunction, capsys: Captured) -> None:
    assert main(["renew", "www", "--force", "--spend-reserve", "--json"]) == GOOD

    assert function.asked == [{"names": ["www"], "force": True, "spend_reserve": True}]
    assert json.loads(capsys.readouterr().out) == outcomes_json([RENEWED])


TWO = f'{SETTINGS}[certificates."api"]\nidentifiers = ["api.example.com"]\n'


def test_all_names_are_forced_only_if_somebody_says_so(function: FakeFunction, capsys: Captured) -> None:
    Path("certkeeper.toml").write_text(TWO)

    assert main(["renew", "--force"]) == NO_NEWS
    assert function.asked == []
    assert "hint: name those that are meant, or give --yes" in capsys.readouterr().err
    assert main(["renew", "--force", "--yes"]) == GOOD
    assert function.asked == [{"names": [], "force": True, "spend_reserve": False}]


@pytest.mark.parametrize(("answer", "asked"), [("yes", 1), ("no", 0), ("", 0)])
def test_a_person_is_asked_whether_all_are_to_be_forced(
    function: FakeFunction, capsys: Captured, monkeypatch: pytest.MonkeyPatch, answer: str, asked: int
) -> None:
    Path("certkeeper.toml").write_text(TWO)
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))

    main(["renew", "--force"])

    assert "Renew all 2 certificates, due or not?" in capsys.readouterr().err
    assert len(function.asked) == asked


@pytest.mark.parametrize("words", [["www"], ["www", "api"], ["--staging"]])
def test_names_are_forced_and_all_are_rehearsed_without_a_question(function: FakeFunction, words: list[str]) -> None:
    Path("certkeeper.toml").write_text(TWO)

    assert main(["renew", "--force", *words]) == GOOD

    assert len(function.asked) == 1


def test_a_rehearsal_is_the_functions_too(function: FakeFunction) -> None:
    assert main(["renew", "--staging"]) == GOOD

    assert function.asked == [{"names": [], "force": False, "spend_reserve": False, "staging": True}]


ACCOUNTS = {"accounts": [{
    "ca_directory": "https://acme-v02.api.letsencrypt.org/directory", "account_url": "https://ca.test/account/1",
    "sealing": "kms", "kms_key_arn": None, "rollover_unfinished": False,
}]}  # fmt: skip


@pytest.mark.parametrize("what", ["show", "rollover"])
def test_the_account_is_the_functions(function: FakeFunction, capsys: Captured, what: str) -> None:
    function.answer = ACCOUNTS

    assert main(["account", what]) == GOOD

    directory = "https://acme-v02.api.letsencrypt.org/directory"
    assert function.asked == [{"account": what, "directories": [directory]}]
    assert "https://ca.test/account/1" in capsys.readouterr().out


def test_a_rollback_is_the_functions(function: FakeFunction, capsys: Captured) -> None:
    function.answer = {"serial_number": "4a1b", "revision": 9, "due": "2026-12-24T12:00:00Z"}

    assert main(["rollback", "www", "7"]) == GOOD

    assert function.asked == [{"rollback": "www", "revision": 7, "release": False}]
    assert "4a1b is current, as revision 9; it is kept until 2026-12-24 12:00" in capsys.readouterr().err


@pytest.mark.parametrize(("done", "status"), [(True, GOOD), (False, BAD_NEWS)])
def test_a_revocation_is_the_functions_from_the_wish_to_the_last_look(
    function: FakeFunction, capsys: Captured, done: bool, status: int
) -> None:
    function.answer = {"serial_number": "4a1b", "reason": "keyCompromise", "done": done, **outcomes_json([RENEWED])}

    assert main(["revoke", "www", "--reason", "keyCompromise", "--yes"]) == status

    assert function.asked == [
        {"revoke": "www", "reason": "keyCompromise", "revision": None},
        {"names": ["www"], "force": False, "spend_reserve": False},
        {"revoke": "www"},
    ]
    assert ("4a1b is revoked (keyCompromise)" in capsys.readouterr().err) == done


def test_a_wish_to_revoke_is_withdrawn_by_the_function_and_nothing_is_renewed(
    function: FakeFunction, capsys: Captured
) -> None:
    function.answer = {"cancelled": "4a1b", "done": True}

    assert main(["revoke", "www", "--cancel"]) == GOOD

    assert function.asked == [{"revoke": "www", "cancel": True}]
    assert capsys.readouterr().err.endswith("www: 4a1b will not be revoked\n")


def test_a_function_that_cannot_withdraw_a_wish_yet_is_not_believed_to_have_done_so(
    function: FakeFunction, capsys: Captured
) -> None:
    function.answer = {"done": False}

    assert main(["revoke", "www", "--cancel"]) == NO_NEWS

    assert "upgrade it: certkeeper deploy" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--cancel", "--reason", "superseded"], []], ids=["both", "neither"])
def test_revoke_wants_a_reason_or_to_be_cancelled(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["revoke", "www", *words])

    assert caught.value.code == NO_NEWS


def test_a_revision_is_not_cancelled(function: FakeFunction, capsys: Captured) -> None:
    assert main(["revoke", "www", "--cancel", "--revision", "7"]) == NO_NEWS

    assert function.asked == []
    assert "goes with --reason" in capsys.readouterr().err


def test_the_history_is_the_functions(function: FakeFunction, capsys: Captured) -> None:
    row = {"revision": 7, "serial_number": "4a1b", "not_before": "2026-11-23T12:00:00Z"}
    row |= {"not_after": "2027-02-21T12:00:00Z", "issuer": "R3", "current": True, "pinned": False, "problem": None}
    function.answer = {"name": "www", "history": [row], "version": "0.1.0"}

    assert main(["history", "www"]) == GOOD
    assert "7         4a1b    2026-11-23 12:00Z  2027-02-21 12:00Z  R3      current" in capsys.readouterr().out
    assert main(["history", "www", "--json"]) == GOOD
    assert json.loads(capsys.readouterr().out) == {"name": "www", "history": [row]}
    function.answer["history"] = []
    assert main(["history", "www"]) == NO_NEWS
    assert function.asked == [{"history": "www"}] * 3
    assert "nothing is stored for www" in capsys.readouterr().err


def test_a_plan_by_the_stored_settings_is_the_functions(
    function: FakeFunction, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = InMemoryRecords()
    records.write("settings.toml", SETTINGS.encode(), None)
    monkeypatch.setattr(wiring, "records_of", lambda *place: records)
    budget = {"exact_set": {"left": 4, "of": 5, "period_seconds": 604800, "possible_from": "2026-11-23T12:00:00Z"}}
    row = {"name": "www", "action": "renew", "reason": "due", "until": None, "last_error": None, "hint": None}
    planned = {"as_of": "2026-11-23T12:00:00Z", "plan": [{**row, "budget": budget}]}
    function.answer = {**planned, "version": "0.1.0"}

    assert main(["--from", "s3://bucket/prod", "plan", "www", "--json"]) == GOOD
    assert json.loads(capsys.readouterr().out) == planned
    function.answer["left_out"] = {"keep": 7}
    assert main(["--from", "s3://bucket/prod", "plan"]) == GOOD

    said = capsys.readouterr()
    assert function.asked == [{"plan": ["www"]}, {"plan": []}]
    assert "www   renew   -      4 of 5  due" in said.out
    assert "besides 7 keep" in said.err


@pytest.mark.parametrize("taken", [None, "4a1b"])
def test_the_store_is_renamed_by_the_function_around_the_change_of_the_settings(
    function: FakeFunction, capsys: Captured, monkeypatch: pytest.MonkeyPatch, taken: str | None
) -> None:
    records = InMemoryRecords()
    monkeypatch.setattr(wiring, "records_of", lambda store, bucket_owner: records)
    records.write("settings.toml", SETTINGS.encode(), None)
    function.answer = {"renamed": True, "serial_number": taken, **outcomes_json([replace(RENEWED, name="new")])}

    assert main(["rename", "www", "new"]) == GOOD

    rename: list[dict[str, Any]] = [{"rename": "www", "to": "new"}] * 2
    renew = [] if taken else [{"names": ["new"], "force": False, "spend_reserve": False}]
    assert function.asked == rename + renew
    wanted = SETTINGS.replace("[certificates.www]", '[certificates."new"]')
    assert (Path("certkeeper.toml").read_text(), records.objects["settings.toml"][0].decode()) == (wanted, wanted)
    assert ("4a1b is held under this name too" in capsys.readouterr().err) == (taken is not None)


def test_what_the_function_does_not_let_be_renamed_stays_in_the_settings(
    function: FakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "records_of", lambda store, bucket_owner: InMemoryRecords())
    function.refuse = FunctionError("the function prod could not run: something is stored under 'new'")

    assert main(["rename", "www", "new"]) == NO_NEWS
    assert Path("certkeeper.toml").read_text() == SETTINGS


def test_what_is_added_waits_for_the_deployment_that_gives_the_function_its_rights(
    function: FakeFunction, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = InMemoryRecords()
    monkeypatch.setattr(wiring, "records_of", lambda store, bucket_owner: records)
    records.write("settings.toml", SETTINGS.encode(), None)

    assert main(["--from", "s3://bucket/prod", "add", "api", "api.example.com"]) == GOOD

    assert '[certificates."api"]' in records.objects["settings.toml"][0].decode()
    assert function.asked == []
    assert "certkeeper --from s3://bucket/prod deploy" in capsys.readouterr().err


def test_a_function_that_does_not_know_the_question_is_said(function: FakeFunction, capsys: Captured) -> None:
    assert main(["rollback", "www"]) == NO_NEWS

    assert "certkeeper deploy" in capsys.readouterr().err


def test_a_ca_that_is_none_of_the_settings_has_no_account(function: FakeFunction, capsys: Captured) -> None:
    assert main(["account", "show", "--ca", "https://other.test/directory"]) == NO_NEWS

    assert function.asked == []
    assert "is no CA of these settings" in capsys.readouterr().err


def test_a_name_that_failed_there_is_bad_news_here(function: FakeFunction, capsys: Captured) -> None:
    function.answer = outcomes_json([FAILED])

    assert main(["renew"]) == BAD_NEWS

    said = capsys.readouterr()
    assert "certkeeper: error: www: no zone" in said.err
    assert "certkeeper: hint: make one" in said.err
    assert "failed" in said.out


def test_a_function_that_could_not_run_is_no_news(function: FakeFunction, capsys: Captured) -> None:
    function.refuse = FunctionError("the function prod could not run: the store is out of reach", "look at its log")

    assert main(["renew"]) == NO_NEWS
    assert "the store is out of reach" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [{}, {"outcomes": [{"name": "www"}]}, {"outcomes": None}])
def test_an_answer_that_is_none_is_said(function: FakeFunction, capsys: Captured, answer: dict[str, Any]) -> None:
    function.answer = answer

    assert main(["renew"]) == NO_NEWS
    assert "not that of a tick" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left_out", "status"),
    [({"kept": 7}, GOOD), ({"failed": 1}, BAD_NEWS), (["kept"], NO_NEWS), ({"kept": "7"}, NO_NEWS)],
)
def test_what_the_answer_had_no_room_for_is_told(
    function: FakeFunction, capsys: Captured, left_out: object, status: int
) -> None:
    function.answer = {**outcomes_json([RENEWED]), "left_out": left_out}

    assert main(["renew", "--json"]) == status

    said = capsys.readouterr()
    if status != NO_NEWS:
        assert json.loads(said.out) == {**outcomes_json([RENEWED]), "left_out": left_out}
        assert "no room for all" in said.err


def test_what_the_function_does_is_told_while_it_works(function: FakeFunction, log: FakeLog, capsys: Captured) -> None:
    log.lines = [{"name": "www", "doing": "finalizing"}, {"tick": "ended"}]
    function.before = lambda: log.looked.wait(10)

    assert main(["renew", "--verbose"]) == GOOD

    assert "certkeeper: www: finalizing\n" in capsys.readouterr().err


def test_an_unknown_name_is_refused_before_the_function_is_asked(function: FakeFunction) -> None:
    assert main(["renew", "nobody"]) == NO_NEWS
    assert function.asked == []


def test_a_trial_notice_is_asked_of_the_function(function: FakeFunction, capsys: Captured) -> None:
    function.answer = {"alert": "certkeeper: a trial"}

    assert main(["alert", "--test"]) == GOOD

    assert function.asked == [{"alert": "test"}]
    assert "sent: certkeeper: a trial" in capsys.readouterr().err
