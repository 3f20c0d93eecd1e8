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
from certkeeper.core.errors import CertkeeperError, SettingsError
from certkeeper.core.report import outcomes_json
from certkeeper.jobs.tick import Report, tick


class TickError(Exception):
    """The tick could not run."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """What Lambda calls."""
    deadline = timedelta(milliseconds=context.get_remaining_time_in_millis())
    try:
        report = _ticked(event, deadline)
    except CertkeeperError as error:
        # "from None": what is behind a StoreError may quote a request.
        raise TickError(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    if report.trouble is not None:
        log({"error": report.trouble.message, "hint": report.trouble.hint})
    answer = outcomes_json(report.outcomes)
    for outcome in answer["outcomes"]:
        log(outcome)
    if report.trouble is not None and all(one.outcome == "failed" for one in report.outcomes):
        raise TickError(f"{report.trouble.message}; {report.trouble.hint}")
    return answer


def _ticked(event: Any, deadline: timedelta) -> Report:
    store = os.environ.get("CERTKEEPER_STORE")
    if not store:
        raise SettingsError("the function does not know its store", "set CERTKEEPER_STORE to s3://bucket/prefix")
    settings = wiring.stored_settings(store)
    event = event if isinstance(event, dict) else {}
    names = event.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError("the event's names are not a list of names", 'like {"names": ["example.com"]}')
    unknown = sorted(set(names) - {spec.name for spec in settings.specs})
    if unknown:
        raise SettingsError(
            f"the stored settings name no certificate called {', '.join(unknown)}",
            "put the settings that do into the store",
        )
    specs = tuple(spec for spec in settings.specs if not names or spec.name in names)
    with wiring.wired(settings, deadline, lambda name, doing: log({"name": name, "doing": doing})) as wired:
        return tick(wired.keeper, specs, Ask(by_name=bool(names), force=bool(event.get("force"))))


def log(fields: dict[str, Any]) -> None:
    """One JSON object a line; print, since Lambda's logging would wrap it."""
    print(json.dumps(fields), flush=True)  # noqa: T201 - the function's log
