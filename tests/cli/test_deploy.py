"""What `certkeeper deploy` says by itself; what it does is in tests/live/test_deploy.py."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from certkeeper.cli.after_deploying import LONGEST_WAIT, RIGHTS_TAKE, await_confirmation, first_run
from certkeeper.cli.deployments import approved
from certkeeper.core.errors import FunctionError, NoticeError
from certkeeper.core.model import Outcome
from certkeeper.core.stacks import Change, ChangeSet
from certkeeper.jobs.tick import Report
from tests.fakes import START

Captured = pytest.CaptureFixture[str]
OPS = "ops@example.com"


RENEWED, KEPT = (Outcome(name, outcome, "due") for name, outcome in (("www", "renewed"), ("api", "kept")))
DENIED = replace(RENEWED, outcome="failed", error="the record could not be written: AccessDenied")
FAILED = replace(RENEWED, outcome="failed", error="no zone")
REFUSED = FunctionError("the function could not run: the store could not read s3://b/settings.toml: AccessDenied")


@dataclass
class Function:
    """Answers each ask with the next of these outcomes, or raises."""

    answers: list[FunctionError | tuple[Outcome, ...]]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def ask(self, names: Sequence[str]) -> Report:
        self.asked.append(tuple(names))
        answer = self.answers.pop(0)
        if isinstance(answer, FunctionError):
            raise answer
        return Report(answer, START)

    def first_run(self, *, changed: bool = True) -> tuple[Outcome, ...]:
        return first_run(self.ask, changed=changed, wait=self.waited.append).outcomes


def test_names_that_are_refused_for_rights_that_are_new_are_asked_for_once_more(capsys: Captured) -> None:
    function = Function([(KEPT, DENIED), (RENEWED,)])

    assert function.first_run() == (KEPT, RENEWED)

    assert (function.asked, function.waited) == ([(), ("www",)], [RIGHTS_TAKE])
    assert "once more in 15 s" in capsys.readouterr().err


def test_a_function_that_cannot_read_yet_is_asked_once_more() -> None:
    function = Function([REFUSED, (RENEWED, KEPT)])

    assert function.first_run() == (RENEWED, KEPT)
    assert (function.asked, function.waited) == ([(), ()], [RIGHTS_TAKE])


def test_rights_that_are_missing_for_good_are_waited_for_once() -> None:
    function, silent = Function([(DENIED,), (DENIED,)]), Function([REFUSED, REFUSED])

    assert function.first_run() == (DENIED,)
    with pytest.raises(FunctionError):
        silent.first_run()
    assert (len(function.waited), len(silent.waited)) == (1, 1)


@pytest.mark.parametrize(("outcomes", "changed"), [((FAILED,), True), ((DENIED,), False), ((RENEWED,), True)])
def test_what_no_new_right_would_help_is_asked_for_once(outcomes: tuple[Outcome, ...], changed: bool) -> None:
    function = Function([outcomes])

    assert function.first_run(changed=changed) == outcomes
    assert (len(function.asked), function.waited) == (1, [])


def test_a_function_that_cannot_run_at_all_is_not_asked_again() -> None:
    function, unchanged = Function([FunctionError("it is broken")]), Function([REFUSED])

    for one, changed in ((function, True), (unchanged, False)):
        with pytest.raises(FunctionError):
            one.first_run(changed=changed)
        assert (len(one.asked), one.waited) == (1, [])


SET = "arn:aws:cloudformation:eu-west-1:123456789012:changeSet/certkeeper-1/2"


def test_who_is_asked_sees_in_which_account_and_region_what_would_change(capsys: Captured) -> None:
    changes = (
        Change("Add", "Function", "AWS::Lambda::Function"),
        Change("Modify", "Bucket", "AWS::S3::Bucket", replaced=True),
        Change("Remove", "Key", "AWS::KMS::Key", kept=True),
    )

    assert approved(Namespace(yes=True), ChangeSet(SET, "keeper", changes))

    head, *table = capsys.readouterr().err.splitlines()
    assert head == "changes of the stack keeper, in account 123456789012 and eu-west-1:"
    assert [line.split()[:2] for line in table[1:]] == [["make", "Function"], ["replace", "Bucket"], ["let", "go,"]]


def test_where_no_resource_would_change_that_is_said(capsys: Captured) -> None:
    assert approved(Namespace(yes=True), ChangeSet(SET, "keeper", ()))

    assert capsys.readouterr().err.splitlines()[1:] == ["none of a resource"]


def test_a_person_is_waited_for_until_the_address_is_confirmed(capsys: Captured) -> None:
    answers, waited = [[OPS], [OPS], []], list[float]()

    await_confirmation(lambda: answers.pop(0), waited.append)

    assert (answers, len(waited)) == ([], 2)
    said = capsys.readouterr().err
    assert said.count(f"waiting for {OPS}") == 1
    assert "confirmed: alarms reach everybody" in said


def test_where_all_is_confirmed_nothing_is_said(capsys: Captured) -> None:
    await_confirmation(list, lambda seconds: pytest.fail("nothing to wait for"))

    assert capsys.readouterr().err == ""


def test_nobody_is_waited_for_for_ever(capsys: Captured) -> None:
    waited: list[float] = []

    await_confirmation(lambda: [OPS], waited.append)

    assert sum(waited) == LONGEST_WAIT
    assert "certkeeper doctor" in capsys.readouterr().err


def test_ctrl_c_ends_the_waiting_and_nothing_else(capsys: Captured) -> None:
    def enough(seconds: float) -> None:
        raise KeyboardInterrupt

    await_confirmation(lambda: [OPS], enough)

    assert "not confirmed yet" in capsys.readouterr().err


def test_what_sns_does_not_say_is_told_and_stops_nothing(capsys: Captured) -> None:
    def refused() -> list[str]:
        raise NoticeError("SNS does not say who has subscribed")

    await_confirmation(refused)

    assert "SNS does not say" in capsys.readouterr().err
