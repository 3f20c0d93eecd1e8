"""The schedule's door: settings, wiring, tick, one log line per outcome.

Environment: CERTKEEPER_STORE, like s3://bucket/prefix; the settings lie in the store. The event may name certificates:
{"names": ["example.com"], "force": false}. It raises only if the tick itself could not run; a name that failed is
an outcome.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from certkeeper import wiring
from certkeeper.core.decision import Ask
from certkeeper.core.errors import CertkeeperError
from certkeeper.core.report import outcomes_json
from certkeeper.jobs.tick import tick


class TickError(Exception):
    """The tick could not run."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """What Lambda calls."""
    try:
        settings = wiring.stored_settings(os.environ["CERTKEEPER_STORE"])
    except CertkeeperError as error:
        # "from None": what is behind a StoreError may quote a request.
        raise TickError(f"{error.message}; {error.hint}") from None
    names = event.get("names") or []
    specs = tuple(spec for spec in settings.specs if not names or spec.name in names)
    deadline = timedelta(milliseconds=context.get_remaining_time_in_millis())
    with wiring.wired(settings, deadline, lambda name, doing: log({"name": name, "doing": doing})) as wired:
        report = tick(wired.keeper, specs, Ask(by_name=bool(names), force=bool(event.get("force"))))
    answer = outcomes_json(report.outcomes)
    for outcome in answer["outcomes"]:
        log(outcome)
    if report.trouble is not None and all(one.outcome == "failed" for one in report.outcomes):
        raise TickError(f"{report.trouble.message}; {report.trouble.hint}")
    return answer


def log(fields: dict[str, Any]) -> None:
    """One JSON object a line; print, since Lambda's logging would wrap it."""
    print(json.dumps(fields), flush=True)  # noqa: T201
