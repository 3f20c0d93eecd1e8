"""The schedule's door, on a real store: what it says, what it starts, and when it raises."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import StringIO
from typing import Any

import boto3
import handler as door
import pytest

from certkeeper import __version__, wiring
from certkeeper.core.decision import Held
from certkeeper.core.errors import AuthorityError, FunctionError, NoticeError, StoreError
from certkeeper.core.index import Facts, Index
from certkeeper.core.model import Outcome, Revocation, Validity
from certkeeper.core.ports import Notices
from certkeeper.jobs.tick import Report
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import START, FakeNotices

STORE = "s3://bucket/prod"
SETTINGS = f"""
store = "{STORE}"
bucket_owner = "{ACCOUNT}"
sealing = "store"
[certificates."www"]
identifiers = ["example.com"]
[certificates."api"]
identifiers = ["api.example.com"]
"""
RENEWED, KEPT = Outcome("www", "renewed", "due", "01", START), Outcome("www", "kept", "not due yet", "01", START)
HELD = Held(("example.com",), None, None, "ca", Validity(START, START + timedelta(days=9_999)), "01", "CA", None)
INDEX = Index(START, {"www": Facts(held=HELD), "api": Facts(held=HELD)})
OUT_OF_TIME = Outcome("api", "waiting", "out of time; the next run goes on", unfinished=True)
FAILED = Outcome("api", "failed", "due", error="no zone", hint="make one")


class Context:
    """Lambda's, as far as it is used."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass
class FakeFunction:
    """A function that notes how it was started."""

    started: list[dict[str, Any]] = field(default_factory=list)
    refuse: FunctionError | None = None

    def start(self, event: dict[str, Any]) -> None:
        if self.refuse:
            raise self.refuse
        self.started.append(event)


@dataclass
class Deployment:
    """One call of the handler at a time, in a world where the tick did as `report` says."""

    notices: FakeNotices
    function: FakeFunction
    report: Report
    capsys: pytest.CaptureFixture[str]
    asked: list[Any] = field(default_factory=list)
    waited_for: list[bool] = field(default_factory=list)

    def call(self, event: object = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        answer = door.handler(event, Context())
        return answer, self.log()

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module", name="aws")
def _aws() -> Iterator[AwsServer]:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        server.create_bucket("bucket")
        server.put_object("bucket", "prod/settings.toml", SETTINGS.encode())
        yield server
    desk.stop()


@pytest.fixture(name="deployment")
def _deployment(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deployment]:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CERTKEEPER_STORE", STORE)
    monkeypatch.setenv("CERTKEEPER_DEPLOYMENT", "prod")
    monkeypatch.setenv("CERTKEEPER_TOPIC", f"arn:aws:sns:eu-west-1:{ACCOUNT}:certkeeper-notices")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "certkeeper")
    deployment = Deployment(FakeNotices(), FakeFunction(), Report((KEPT,), START, index=INDEX), capsys)

    def ticked(keeper: object, specs: object, ask: object, *, waited_for: bool) -> Report:
        deployment.asked.append((specs, ask))
        deployment.waited_for.append(waited_for)
        return deployment.report

    def notices(topic: str) -> Notices:
        return deployment.notices

    monkeypatch.setattr(door, "tick", ticked)
    monkeypatch.setattr(wiring, "notices", notices)
    monkeypatch.setattr(wiring, "function", lambda name: deployment.function)
    yield deployment
    boto3.DEFAULT_SESSION = None


def gauges(log: list[dict[str, Any]]) -> dict[str, Any]:
    (line,) = (one for one in log if "_aws" in one)
    return {key: value for key, value in line.items() if key != "_aws"}


def test_an_account_that_is_not_there_is_shown_as_none(deployment: Deployment) -> None:
    answer, _ = deployment.call({"account": "show", "directories": ["https://acme-v02.api.letsencrypt.org/directory"]})

    assert answer == {"accounts": [], "version": __version__}
    assert deployment.asked == []


@pytest.mark.parametrize(
    "event",
    [
        {"account": "steal", "directories": []},
        {"account": "show", "directories": "all"},
        {"account": ["show"], "directories": []},
    ],
)
def test_what_is_not_known_of_accounts_raises(deployment: Deployment, event: dict[str, Any]) -> None:
    with pytest.raises(door.TickError, match="nothing that is known of accounts"):
        deployment.call(event)


@pytest.mark.parametrize(
    "event",
    [
        {"revoke": "../settings", "reason": "superseded"},
        {"revoke": "www", "reason": "boredom"},
        {"revoke": "www", "reason": "superseded", "revision": "7"},
        {"revoke": ["www"]},
        {"rollback": "a/b"},
        {"rollback": "www", "revision": {}},
    ],
)
def test_what_is_no_name_no_reason_and_no_revision_raises(deployment: Deployment, event: dict[str, Any]) -> None:
    with pytest.raises(door.TickError, match=r"names no certificate and revision|is no reason"):
        deployment.call(event)


def test_what_the_settings_do_not_name_is_revoked_at_once_and_the_wish_told_though_the_ca_refuses(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished: list[str] = []

    def wish(keeper: object, name: str, reason: str, revision: int | None) -> Revocation:
        wished.append(name)
        return Revocation("4a1b", "", "https://ca.test/directory", reason, "")

    def refused(keeper: object, name: str) -> None:
        raise AuthorityError("it is down", status=503)

    monkeypatch.setattr(door, "wish", wish)
    monkeypatch.setattr(door, "without_replacement", refused)
    monkeypatch.setattr(door, "is_done", lambda keeper, name: False)

    retired, _ = deployment.call({"revoke": "old", "reason": "superseded"})
    wanted, _ = deployment.call({"revoke": "www", "reason": "superseded"})

    assert wished == ["old", "www"]
    assert wanted == {"serial_number": "4a1b", "reason": "superseded", "done": False, "version": __version__}
    assert wanted.items() <= retired.items()
    assert "it is down" in retired["error"]


def test_what_has_nothing_to_be_revoked_or_made_current_says_so_and_no_tick_runs(deployment: Deployment) -> None:
    with pytest.raises(door.TickError, match="nothing of www can be revoked"):
        deployment.call({"revoke": "www", "reason": "superseded"})
    with pytest.raises(door.TickError, match="no earlier certificate of www"):
        deployment.call({"rollback": "www"})
    answer, _ = deployment.call({"revoke": "www"})

    assert answer == {"done": True, "version": __version__}
    assert deployment.asked == []


def test_a_wish_to_revoke_is_taken_back(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(door.TickError, match="nothing of www is to be revoked"):
        deployment.call({"revoke": "www", "cancel": True})
    monkeypatch.setattr(
        door, "withdraw", lambda keeper, name: Revocation("4a1b", "", "https://ca.test/directory", "superseded", "")
    )

    answer, _ = deployment.call({"revoke": "www", "cancel": True})

    assert answer == {"cancelled": "4a1b", "done": True, "version": __version__}
    assert deployment.asked == []


def test_a_name_without_a_certificate_has_no_history(deployment: Deployment) -> None:
    answer, _ = deployment.call({"history": "www"})

    assert answer == {"name": "www", "history": [], "version": __version__}
    assert deployment.asked == []


@pytest.mark.parametrize("event", [{"reissue": "www"}, {"names": [], "until": "noon"}, {"key1": "value1"}])
def test_what_only_a_later_version_knows_is_refused_and_no_tick_runs(
    deployment: Deployment, event: dict[str, Any]
) -> None:
    with pytest.raises(door.TickError, match=r"does not know; upgrade it: certkeeper deploy"):
        deployment.call(event)
    assert deployment.asked == []


def test_a_rule_of_eventbridge_starts_a_tick_as_the_schedule_does(deployment: Deployment) -> None:
    # Amazon EventBridge User Guide, "Scheduled Event": among its fields is an account, which is no question of ours.
    event = {"version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": ACCOUNT}
    where = {"time": "2026-11-23T12:00:00Z", "region": "eu-west-1", "resources": ["arn:aws:events:eu-west-1::rule/r"]}

    answer, _ = deployment.call({**event, **where, "detail": {}})

    assert answer["outcomes"] == {"kept": 1}
    assert len(deployment.asked) == 1


@pytest.mark.parametrize("event", ["www", ["www"], [], 7, True])
def test_what_is_no_object_is_refused_and_no_tick_runs(deployment: Deployment, event: object) -> None:
    with pytest.raises(door.TickError, match="is no JSON object"):
        deployment.call(event)
    assert deployment.asked == []


def test_a_plan_is_told_and_nothing_is_done(deployment: Deployment) -> None:
    one, _ = deployment.call({"plan": ["www"]})
    both, _ = deployment.call({"plan": []})

    assert [(row["name"], row["action"], row["reason"]) for row in one["plan"]] == [("www", "renew", "not issued yet")]
    assert [row["name"] for row in both["plan"]] == ["www", "api"]
    assert deployment.asked == []
    for names, why in (("www", "not a list of names"), (["nobody"], "no certificate called nobody")):
        with pytest.raises(door.TickError, match=why):
            deployment.call({"plan": names})


def test_a_name_is_renamed_only_once_the_settings_that_are_not_the_functions_say_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(door, "refuse", lambda keeper, spec, new: done.append(("look", spec.name, new)))
    monkeypatch.setattr(door, "copied", lambda keeper, old, new: done.append(("copy", old, new)))

    before, _ = deployment.call({"rename": "www", "to": "new"})
    after, _ = deployment.call({"rename": "old", "to": "www"})

    assert done == [("look", "www", "new"), ("copy", "old", "www")]
    assert (before["renamed"], after["renamed"]) == (False, True)
    for old, new, which in (("www", "api", "both of"), ("one", "other", "neither of")):
        with pytest.raises(door.TickError, match=which):
            deployment.call({"rename": old, "to": new})
    assert len(done) == 2
    assert deployment.asked == []


@pytest.mark.parametrize(
    "event",
    [
        {"history": "../settings"},
        {"history": ["www"]},
        {"rename": "www"},
        {"rename": "www", "to": "a/b"},
        {"rename": 1},
    ],
)
def test_what_names_no_certificate_raises(deployment: Deployment, event: dict[str, Any]) -> None:
    with pytest.raises(door.TickError, match="names no certificate"):
        deployment.call(event)


def test_a_rehearsal_is_no_tick_and_moves_no_gauge(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsed: list[tuple[str, str]] = []

    def rehearse(keeper: object, specs: Any) -> Report:
        rehearsed.extend((spec.name, spec.ca) for spec in specs)
        return Report((Outcome("api", "rehearsed", "nothing was saved"),), START)

    monkeypatch.setattr(door, "rehearse", rehearse)

    answer, log = deployment.call({"names": ["api"], "staging": True})

    assert rehearsed == [("api", "https://acme-staging-v02.api.letsencrypt.org/directory")]
    assert answer["outcomes"][0]["outcome"] == "rehearsed"
    assert deployment.asked == []
    assert not [one for one in log if "_aws" in one]


def test_the_schedule_asks_for_all_names_and_the_gauges_are_logged(deployment: Deployment) -> None:
    answer, log = deployment.call({})

    ((specs, ask),) = deployment.asked
    assert [spec.name for spec in specs] == ["www", "api"]
    assert (ask.by_name, ask.force, ask.spend_reserve) == (False, False, False)
    assert answer == {"version": __version__, "outcomes": {"kept": 1}}
    assert gauges(log) == {
        "Deployment": "prod", "TickCompleted": 1, "CertificatesFailing": 0, "CertificatesUrgent": 0, "BudgetLeft": 5,
    }  # fmt: skip
    assert deployment.function.started == []


def test_a_person_may_ask_for_names(deployment: Deployment) -> None:
    deployment.call({"names": ["api"], "force": True, "spend_reserve": True})

    ((specs, ask),) = deployment.asked
    assert [spec.name for spec in specs] == ["api"]
    assert (ask.by_name, ask.force, ask.spend_reserve) == (True, True, True)


@pytest.mark.parametrize("said", ["false", "true", 0, 1, []])
@pytest.mark.parametrize(
    ("event", "word"),
    [
        ({}, "force"), ({}, "spend_reserve"), ({}, "staging"), ({"rollback": "www"}, "release"),
        ({"revoke": "www", "reason": "superseded"}, "cancel"),
    ],
)  # fmt: skip
def test_what_only_looks_like_yes_or_no_is_neither(
    deployment: Deployment, event: dict[str, Any], word: str, said: object
) -> None:
    with pytest.raises(door.TickError, match=f"{word} is neither true nor false"):
        deployment.call({**event, word: said})

    assert deployment.asked == []


def test_whoever_asks_for_all_names_waits_for_what_an_answer_takes_and_the_schedule_for_none(
    deployment: Deployment,
) -> None:
    """Lambda makes a failure of an answer of more than 6 MB, also where nobody reads it."""
    many = tuple(replace(FAILED, name=f"n{number}", error="e" * 1000) for number in range(10_000))
    deployment.report = Report((KEPT, *many, RENEWED), START)

    scheduled, _ = deployment.call({})
    again, _ = deployment.call({"restarts": 1, "names": ["www"]})
    asked, _ = deployment.call({"names": []})

    assert max(len(json.dumps(scheduled)), len(json.dumps(again))) < 1000
    assert 4_900_000 < len(json.dumps(asked)) < 5_500_000
    told = len(asked["outcomes"])
    assert asked["left_out"] == {"failed": 10_000 - told, "renewed": 1, "kept": 1}
    assert [one["name"] for one in asked["outcomes"]] == [one.name for one in many[:told]]


def test_what_fits_is_answered_whole(deployment: Deployment) -> None:
    deployment.report = Report((KEPT, *(replace(FAILED, name=f"n{number}") for number in range(1000)), RENEWED), START)

    asked, _ = deployment.call({"names": []})

    assert len(asked["outcomes"]) == 1002
    assert "left_out" not in asked


def test_a_name_that_fails_is_logged_and_the_run_is_green(deployment: Deployment) -> None:
    deployment.report = Report((KEPT, FAILED), START, index=INDEX)

    answer, log = deployment.call({"names": []})

    assert [one["outcome"] for one in answer["outcomes"]] == ["kept", "failed"]
    assert {"name": "api", "outcome": "failed", "error": "no zone"}.items() <= log[0].items()
    # The index knows nothing of it here, as if the failure could not be written down: it counts all the same.
    assert (gauges(log)["TickCompleted"], gauges(log)["CertificatesFailing"]) == (1, 1)


def test_an_index_that_cannot_be_noted_counts_as_failing(deployment: Deployment) -> None:
    deployment.report = Report((KEPT,), START, StoreError("the index cannot be noted", "look"))

    _, log = deployment.call()

    assert log[0] == {"error": "the index cannot be noted", "hint": "look"}
    assert gauges(log)["CertificatesFailing"] == 1
    # Nobody knows, and an alarm that rings would take a 0 for good news.
    assert "CertificatesUrgent" not in gauges(log)


def test_names_that_nobody_waits_for_are_counted_and_are_no_failures(deployment: Deployment) -> None:
    deployment.report = Report((), START, StoreError("the index cannot be noted", "look"), left_out={"kept": 9})

    answer, log = deployment.call()
    deployment.call({"names": []})
    deployment.call({"names": ["www"], "restarts": 1})

    assert answer["outcomes"] == {"kept": 9}
    assert gauges(log)["TickCompleted"] == 1
    assert deployment.waited_for == [False, True, False]


def test_a_store_out_of_reach_is_a_run_that_could_not_run_and_the_alarm_hears_of_none(deployment: Deployment) -> None:
    deployment.report = Report((FAILED,), START, StoreError("the store is out of reach", "look"))

    with pytest.raises(door.TickError, match="the store is out of reach; look"):
        deployment.call()
    assert not [one for one in deployment.log() if "_aws" in one]


def test_a_run_that_got_something_done_and_ran_out_of_time_starts_itself_once_more(deployment: Deployment) -> None:
    deployment.report = Report((RENEWED, OUT_OF_TIME), START)

    _, log = deployment.call({"restarts": 2})

    assert deployment.function.started == [{"restarts": 3}]
    assert {"unfinished": 1, "restarted": True, "restarts": 3} in log


def test_what_a_person_asked_for_goes_on_with_what_is_left(deployment: Deployment) -> None:
    deployment.report = Report((RENEWED, OUT_OF_TIME), START)

    deployment.call({"names": ["www", "api"], "force": True})

    assert deployment.function.started == [
        {"restarts": 1, "names": ["api"], "force": True, "spend_reserve": False},
    ]


@pytest.mark.parametrize("said", [{"force": True}, {"spend_reserve": True}])
def test_what_a_person_asked_for_all_names_goes_on_with_what_is_left(
    deployment: Deployment, said: dict[str, bool]
) -> None:
    deployment.report = Report((RENEWED, OUT_OF_TIME), START)

    deployment.call({"names": [], **said})

    wish = {"force": False, "spend_reserve": False, **said}
    assert deployment.function.started == [{"restarts": 1, "names": ["api"], **wish}]


@pytest.mark.parametrize(
    ("outcomes", "restarts"),
    [
        pytest.param((KEPT, OUT_OF_TIME), 0, id="nothing was renewed"),
        pytest.param((RENEWED, OUT_OF_TIME), door.MOST_RESTARTS, id="often enough"),
        pytest.param((RENEWED, OUT_OF_TIME), "many", id="not a number"),
        pytest.param((RENEWED, OUT_OF_TIME), -5, id="fewer than none"),
    ],
)
def test_a_run_does_not_start_itself_for_ever(
    deployment: Deployment, outcomes: tuple[Outcome, ...], restarts: object
) -> None:
    deployment.report = Report(outcomes, START)

    _, log = deployment.call({"restarts": restarts})

    assert deployment.function.started == []
    assert log[-1]["restarted"] is False


def test_what_is_done_starts_nothing(deployment: Deployment) -> None:
    deployment.report = Report((RENEWED, FAILED), START)

    deployment.call()

    assert deployment.function.started == []


def test_a_restart_that_is_refused_is_said_and_the_run_is_green(deployment: Deployment) -> None:
    deployment.report = Report((RENEWED, OUT_OF_TIME), START)
    deployment.function.refuse = FunctionError("it cannot be asked", "check it")

    _, log = deployment.call()

    assert log[-1] == {"unfinished": 1, "restarted": False, "reason": "it cannot be asked", "hint": "check it"}


def test_a_trial_notice_is_sent_and_no_tick_runs(deployment: Deployment) -> None:
    answer, _ = deployment.call({"alert": "test"})

    (sent,) = deployment.notices.sent
    assert answer == {"alert": sent.subject, "version": __version__}
    assert deployment.asked == []
    with pytest.raises(door.TickError, match="no trial"):
        deployment.call({"alert": "real"})


@pytest.mark.parametrize("gone", ["CERTKEEPER_TOPIC", "CERTKEEPER_STORE"])
def test_a_trial_without_a_topic_or_a_store_says_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.delenv(gone)

    with pytest.raises(door.TickError, match=r"no topic|its store"):
        deployment.call({"alert": "test"})


def test_a_trial_that_cannot_be_sent_fails(deployment: Deployment) -> None:
    deployment.notices.refuse = NoticeError("no way", "make one")

    with pytest.raises(door.TickError, match="no way; make one"):
        deployment.call({"alert": "test"})


@pytest.mark.parametrize("names", ["www", [1], {"www": 1}, "", {}, 0, False])
def test_names_that_are_no_list_are_refused(deployment: Deployment, names: object) -> None:
    with pytest.raises(door.TickError, match="not a list of names"):
        deployment.call({"names": names})


def test_an_unknown_name_is_refused_before_anything_runs(deployment: Deployment) -> None:
    with pytest.raises(door.TickError, match=r"no certificate called nobody; .*certkeeper deploy"):
        deployment.call({"names": ["www", "nobody"]})
    assert deployment.asked == []


def test_time_is_left_for_what_comes_after_the_tick(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[timedelta] = []
    real = wiring.wired

    def wired(settings: Any, deadline: timedelta, *rest: Any, **named: Any) -> Any:
        given.append(deadline)
        return real(settings, deadline, *rest, **named)

    monkeypatch.setattr(wiring, "wired", wired)
    deployment.call()

    assert given == [timedelta(seconds=900) - door.SPARE]


def test_the_log_is_one_json_object_a_line_with_the_time_in_milliseconds(deployment: Deployment) -> None:
    _, log = deployment.call()

    (line,) = (one for one in log if "_aws" in one)
    stamp = line["_aws"]["Timestamp"]
    assert abs(stamp / 1000 - time.time()) < 60


def test_a_line_of_the_log_is_written_at_one_stroke_so_that_no_other_thread_comes_between() -> None:
    strokes: list[str] = []

    class Stdout(StringIO):
        def write(self, text: str) -> int:
            strokes.append(text)
            return len(text)

    with redirect_stdout(Stdout()):
        door.log({"name": "www", "doing": "ordering"})

    assert [one for one in strokes if one] == ['{"name": "www", "doing": "ordering"}\n']
