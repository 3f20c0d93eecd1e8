"""Commands that the deployed function carries out: it is asked, followed while it works, and its answer read."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

from certkeeper import config, wiring
from certkeeper.core.decision import Ask
from certkeeper.core.errors import DocumentError
from certkeeper.core.report import left_out_of, outcomes_from_json
from certkeeper.jobs.tick import Report

LOOK_EVERY = 2.0
Tell = Callable[[str, str], None]


def is_asked(settings: config.Settings, said: Namespace) -> bool:
    """Whether a command is the function's: one is deployed, and nobody said --here."""
    return settings.deployment is not None and not said.here


def renewed(settings: config.Settings, names: Sequence[str], ask: Ask, tell: Tell, *, staging: bool = False) -> Report:
    """What the function's tick did. Raises FunctionError, DocumentError, SettingsError, StoreError."""
    event: dict[str, object] = {"names": list(names), "force": ask.force, "spend_reserve": ask.spend_reserve}
    if staging:
        event["staging"] = True
    deployed = wiring.deployed(settings)
    tell("", f"asking the function {settings.deployment} in {deployed.region}")
    with followed(deployed, tell):
        answer = deployed.function.ask(event)
    return Report(outcomes_from_json(answer), datetime.now(UTC), left_out=left_out_of(answer))


def answered(settings: config.Settings, event: dict[str, object], tell: Tell, expected: str) -> dict[str, Any]:
    """What the function answers to anything but a tick; `expected` is in every such answer. Raises FunctionError,
    SettingsError, StoreError, DocumentError."""
    deployed = wiring.deployed(settings)
    tell("", f"asking the function {settings.deployment} in {deployed.region}")
    answer = deployed.function.ask(event)
    if expected not in answer:
        raise DocumentError(
            f"the answer of the function {settings.deployment} is another one", "upgrade it: certkeeper deploy"
        )
    return answer


@contextmanager
def followed(deployed: wiring.Deployed, tell: Tell) -> Iterator[None]:
    """Tell what the function logs while the block runs, as far as this role may read its log."""
    ended = Event()
    log = deployed.log_since(int(time.time() * 1000))

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            for line in log.new_lines():
                if "doing" in line:
                    tell(str(line.get("name", "")), str(line["doing"]))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=LOOK_EVERY)
