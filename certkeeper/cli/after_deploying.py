"""What follows a deployment: the first run, though AWS may not know its rights yet, and people who confirm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from certkeeper.cli.terminal import talk
from certkeeper.core.errors import FunctionError, NoticeError
from certkeeper.jobs.tick import Report

LOOK_EVERY, LONGEST_WAIT = 3.0, 300.0
"""For the confirmation of an address."""
RIGHTS_TAKE, DENIED = 15.0, "AccessDenied"
"""How long until new rights are known in AWS, as a rule; and what its services' words for it have in common."""


def first_run(
    ask: Callable[[Sequence[str]], Report], *, changed: bool, wait: Callable[[float], None] = time.sleep
) -> Report:
    """What the function does with these names (none: all), as `ask` tells it.

    What was just changed in IAM is known everywhere in AWS only after some seconds: what is refused for lack of rights
    right after a change is asked for once more. Raises what `ask` raises.
    """
    try:
        report = ask(())
    except FunctionError as error:
        if not changed or DENIED not in error.message:
            raise
        _wait_for_rights(wait)
        return ask(())
    denied = [one.name for one in report.outcomes if DENIED in (one.error or "")]
    if not changed or not denied:
        return report
    _wait_for_rights(wait)
    again = {one.name: one for one in ask(denied).outcomes}
    return replace(report, outcomes=tuple(again.get(one.name, one) for one in report.outcomes))


def _wait_for_rights(wait: Callable[[float], None]) -> None:
    talk(f"AWS may not know the function's new rights everywhere yet; asking it once more in {RIGHTS_TAKE:.0f} s")
    wait(RIGHTS_TAKE)


def await_confirmation(waiting: Callable[[], list[str]], wait: Callable[[float], None] = time.sleep) -> None:
    """Stay until every address is confirmed, a person has enough of it, or it takes too long: all else is done."""
    try:
        for again in range(round(LONGEST_WAIT / LOOK_EVERY)):
            if not (addresses := waiting()):
                if again:
                    talk("confirmed: alarms reach everybody")
                return
            if not again:
                talk(f"waiting for {', '.join(addresses)} to follow the link in AWS's mail; Ctrl-C ends the waiting")
            wait(LOOK_EVERY)
    except KeyboardInterrupt:
        pass
    except NoticeError as error:
        talk(error.message)
        return
    talk("not confirmed yet; certkeeper doctor tells when it is")
