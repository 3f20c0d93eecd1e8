"""What `certkeeper deploy` says by itself; what it does is in tests/live/test_deploy.py."""

from __future__ import annotations

import pytest

from certkeeper.cli.deploy import LONGEST_WAIT, await_confirmation
from certkeeper.core.errors import NoticeError

Captured = pytest.CaptureFixture[str]
OPS = "ops@example.com"


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
