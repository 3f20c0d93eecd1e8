"""The schedule's door: settings, wiring, tick, one log line per outcome, and the gauges.

Environment: CERTKEEPER_STORE, like s3://bucket/prefix (the settings lie in the store); CERTKEEPER_DEPLOYMENT, the
dimension of the gauges; CERTKEEPER_TOPIC, the ARN of the topic for notices, if there is one.

Event: {"names": ["example.com"], "force": false, "spend_reserve": false}, all optional; {"staging": true} rehearses;
{"plan": ["example.com"]} only tells what would be done; {"alert": "test"} sends a trial notice, {"account": "show",
"directories": [...]} is `certkeeper account`; {"rollback": NAME, "revision": 7, "release": false}, {"revoke": NAME,
"reason": "superseded", "revision": 7}, {"history": NAME} and {"rename": OLD, "to": NEW} are commands of the same name.
A revocation is finished by a tick; without a reason it tells whether it is, and with "cancel" takes it back. A name is
renamed once the stored settings, which are not ours to change, have the new one; before that it is only told whether it
can be. "restarts" is our own: how often a tick that ran out of time has started itself.

It raises only if what was asked for could not run; a name that failed is an outcome. Whoever asks for names, be it for
`[]`, all of them, is answered with every outcome, as far as Lambda takes so much; a run that nobody waits for with
their number.
"""

from __future__ import annotations

import gc
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from certkeeper import __version__, wiring
from certkeeper.config import Settings
from certkeeper.core import gauges
from certkeeper.core.decision import Ask
from certkeeper.core.document import is_name
from certkeeper.core.errors import AuthorityError, CertkeeperError, FunctionError, SettingsError
from certkeeper.core.failures import hint_of, sentence
from certkeeper.core.model import REASONS, CertificateSpec
from certkeeper.core.report import accounts_json, outcome_json, outcomes_json, shortened
from certkeeper.jobs.history import history, listed, release, rollback, told
from certkeeper.jobs.rehearsal import rehearse
from certkeeper.jobs.rename import copied, refuse
from certkeeper.jobs.revoke import is_done, wish, withdraw, without_replacement
from certkeeper.jobs.rollover import VERBS
from certkeeper.jobs.status import plan, planned_json
from certkeeper.jobs.tick import Report, tick
from certkeeper.jobs.watch import tried, watch

MOST_RESTARTS = 10
"""Lambda stops a function that calls itself about 16 times (recursive loop detection)."""
SPARE = timedelta(seconds=50)
"""Of the function's time, for what comes after the deadline, beside what the clock keeps back of that: Route 53 may be
slow to take the records away, and Lambda does not wait."""


class TickError(Exception):
    """The tick could not run."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """What Lambda calls."""
    left = timedelta(milliseconds=context.get_remaining_time_in_millis())
    deadline = max(left - SPARE, left / 2)
    # With thousands of names the search for cycles takes as long as the work, and finds next to nothing.
    gc.disable()
    try:
        event = _meant(event)
        for word, answer in COMMANDS.items():
            if word in event:
                return {**answer(event, deadline), "version": __version__}
        return _attended(event, deadline)
    except CertkeeperError as error:
        # "from None": what is behind a StoreError may quote a request.
        raise TickError(f"{error.message}; {error.hint}" if error.hint else error.message) from None
    finally:
        gc.enable()


def _attended(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    aws = wiring.new_aws()
    settings = wiring.stored_settings(_store(), aws=aws)
    names, specs = _chosen(event["names"] if event.get("names") is not None else [], settings)
    ask = Ask(by_name=bool(names), force=_flag(event, "force"), spend_reserve=_flag(event, "spend_reserve"))
    if _flag(event, "staging"):
        return _rehearsed(settings.rehearsal(names), deadline)
    waited_for = "names" in event and "restarts" not in event
    tell = lambda name, doing: log({"name": name, "doing": doing})  # noqa: E731 - shorter than a function
    with wiring.wired(settings, deadline, tell, door="function", aws=aws) as wired:
        report = tick(wired.keeper, specs, ask, waited_for=waited_for)
        _log(report)
        if report.trouble is not None and _counted(report).keys() <= {"failed"}:
            # Before the gauges: a run that did nothing must not count as one that ended well.
            raise TickError(f"{report.trouble.message}; {report.trouble.hint}")
        _watched(wired.keeper.records, report, settings)
    _goes_on(report, event, ask)
    return _answered(report, waited_for=waited_for)


def _answered(report: Report, *, waited_for: bool) -> dict[str, Any]:
    said = shortened(outcomes_json(report.outcomes)) if waited_for else {"outcomes": _counted(report)}
    return {**said, "version": __version__}


def _chosen(names: object, settings: Settings) -> tuple[list[str], tuple[CertificateSpec, ...]]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError("the event's names are not a list of names", 'like {"names": ["example.com"]}')
    unknown = sorted(set(names) - {spec.name for spec in settings.specs})
    if unknown:
        raise SettingsError(
            f"the stored settings name no certificate called {', '.join(unknown)}",
            "put the settings that do into the store: certkeeper deploy",
        )
    return names, tuple(spec for spec in settings.specs if not names or spec.name in names)


def _flag(event: dict[str, Any], word: str) -> bool:
    """Nothing that only looks like yes is one: what is forced, or released, cannot be taken back."""
    said = event.get(word)
    if not isinstance(said, bool | None):
        raise SettingsError(f"the event's {word} is neither true nor false", f'like {{"{word}": true}}')
    return bool(said)


def _plan(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    settings = wiring.stored_settings(_store())
    _, specs = _chosen(event["plan"], settings)
    with wiring.wired(settings, deadline) as wired:
        return shortened(planned_json(plan(wired.keeper, specs), datetime.now(UTC)), "plan", "action")


def _account(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    what, directories = event["account"], event.get("directories")
    known = isinstance(what, str) and what in VERBS
    if not known or not isinstance(directories, list) or not all(isinstance(one, str) for one in directories):
        raise SettingsError("the event asks nothing that is known of accounts", "is the function's version the same?")
    tell = lambda name, doing: log({"name": name, "doing": doing})  # noqa: E731 - shorter than a function
    with wiring.wired(wiring.stored_settings(_store()), deadline, tell) as wired:
        answer = accounts_json([VERBS[what](wired.keeper, one) for one in directories])
    log({"account": what, **answer})
    return answer


def _rollback(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    name, revision = _name_and_revision(event, "rollback")
    with wiring.wired(wiring.stored_settings(_store()), deadline) as wired:
        new = release(wired.keeper, name) if _flag(event, "release") else rollback(wired.keeper, name, revision)
    answer = told(new)
    log({"rollback": name, **answer})
    return answer


def _revoke(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    name, revision = _name_and_revision(event, "revoke")
    reason, cancel = event.get("reason"), _flag(event, "cancel")
    if reason not in (None, *REASONS):
        raise SettingsError(f"{reason!r} is no reason to revoke", f"one of {', '.join(REASONS)}")
    settings = wiring.stored_settings(_store())
    answer: dict[str, Any] = {}
    with wiring.wired(settings, deadline) as wired:
        if cancel:
            answer["cancelled"] = withdraw(wired.keeper, name).serial_number
        elif reason is not None:
            revocation = wish(wired.keeper, name, reason, revision)
            answer = {"serial_number": revocation.serial_number, "reason": revocation.reason}
            if all(spec.name != name for spec in settings.specs):
                try:
                    without_replacement(wired.keeper, name)
                except AuthorityError as error:
                    # The wish is written down, which whoever asked should hear as well.
                    answer |= {"error": sentence(error), "hint": hint_of(error)}
        answer["done"] = is_done(wired.keeper, name)
    log({"revoke": name, **answer})
    return answer


def _history(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    name = _name(event, "history")
    with wiring.wired(wiring.stored_settings(_store()), deadline) as wired:
        return listed(name, history(wired.keeper, name))


def _rename(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    old, new = _name(event, "rename"), _name(event, "to")
    settings = wiring.stored_settings(_store())
    wanted = {spec.name: spec for spec in settings.specs}
    if (old in wanted) == (new in wanted):
        which = "both of" if old in wanted else "neither of"
        raise SettingsError(
            f"the stored settings name {which} {old} and {new}", "certkeeper deploy stores others; --here does without"
        )
    with wiring.wired(settings, deadline) as wired:
        if old in wanted:
            refuse(wired.keeper, wanted[old], new)
            return {"renamed": False, "serial_number": None}
        taken = copied(wired.keeper, old, new)
    answer = {"renamed": True, "serial_number": taken.chain.serial_number if taken else None}
    log({"rename": old, "to": new, **answer})
    return answer


def _name(event: dict[str, Any], word: str) -> str:
    name = event.get(word)
    if not isinstance(name, str) or not is_name(name):
        raise SettingsError(f"the event names no certificate: {word}")
    return name


def _name_and_revision(event: dict[str, Any], word: str) -> tuple[str, int | None]:
    name, revision = event[word], event.get("revision")
    if not isinstance(name, str) or not is_name(name) or not isinstance(revision, int | None):
        raise SettingsError(f"the event names no certificate and revision to {word}")
    return name, revision


def _alert(event: dict[str, Any], deadline: timedelta) -> dict[str, Any]:
    if event["alert"] != "test":
        raise SettingsError("the event asks for an alert that is no trial", 'like {"alert": "test"}')
    topic = os.environ.get("CERTKEEPER_TOPIC")
    if not topic:
        raise SettingsError("this deployment has no topic for notices", "certkeeper deploy makes one")
    sent = tried(wiring.notices(topic), _store(), datetime.now(UTC))
    log({"alert": sent.subject})
    return {"alert": sent.subject}


COMMANDS = {
    "alert": _alert,
    "plan": _plan,
    "account": _account,
    "rollback": _rollback,
    "revoke": _revoke,
    "history": _history,
    "rename": _rename,
}
DETAILS = {
    "names", "force", "spend_reserve", "staging", "restarts", "directories", "revision", "release", "reason", "cancel",
    "to",
}  # fmt: skip


def _meant(event: Any) -> dict[str, Any]:
    """What is asked for. Who asks for something that only a later version knows must not get a tick. EventBridge's own
    events may come, since somebody else's rule may start the function: they ask for a tick, whatever they hold.
    """
    if event is None or (isinstance(event, dict) and "detail-type" in event):
        return {}
    if not isinstance(event, dict):
        raise SettingsError("the event is no JSON object", 'like {"names": ["example.com"]}')
    strange = set(event) - set(COMMANDS) - DETAILS
    if strange:
        raise SettingsError(
            f"the event asks for {', '.join(sorted(strange))}, which this version of the function does not know",
            "upgrade it: certkeeper deploy",
        )
    return event


def _rehearsed(settings: Settings, deadline: timedelta) -> dict[str, Any]:
    """Nothing is watched, and nothing goes on by itself: a rehearsal says nothing of what is kept."""
    with wiring.wired(settings, deadline, lambda name, doing: log({"name": name, "doing": doing})) as wired:
        report = rehearse(wired.keeper, settings.specs)
    _log(report)
    return _answered(report, waited_for=True)


def _log(report: Report) -> None:
    if report.trouble is not None:
        log({"error": report.trouble.message, "hint": report.trouble.hint})
    for outcome in report.outcomes:
        if outcome.outcome != "kept":
            log(outcome_json(outcome))
    log({"tick": "ended", "outcomes": _counted(report), "version": __version__})


def _counted(report: Report) -> dict[str, int]:
    counts = dict(report.left_out)
    for one in report.outcomes:
        counts[one.outcome] = counts.get(one.outcome, 0) + 1
    return counts


def _watched(records: Any, report: Report, settings: Settings) -> None:
    now = datetime.now(UTC)
    failed = [one.name for one in report.outcomes if one.outcome == "failed"]
    if report.trouble is None:
        topic = os.environ.get("CERTKEEPER_TOPIC")
        notices = wiring.notices(topic) if topic else None
        watched = watch(records, report.index, settings.specs, now, settings.store, notices, settings.limits(), failed)
        if watched.trouble is not None:
            log({"error": watched.trouble.message, "hint": watched.trouble.hint})
        counted = watched.gauges
    else:
        # Nobody could say that all is well.
        counted = gauges.Gauges(failing=max(len(failed), 1), urgent=None)
    log(gauges.metrics_line(counted, os.environ.get("CERTKEEPER_DEPLOYMENT", "certkeeper"), now))


def _goes_on(report: Report, event: dict[str, Any], ask: Ask) -> None:
    """Start the next run at once if this one has run out of time, as long as each gets something done."""
    unfinished = [one.name for one in report.outcomes if one.unfinished]
    if not unfinished:
        return
    restarts = event.get("restarts", 0)
    restarts = restarts if isinstance(restarts, int) and restarts >= 0 else MOST_RESTARTS
    progress = any(one.outcome == "renewed" for one in report.outcomes)
    if not progress or restarts >= MOST_RESTARTS:
        why = "nothing was renewed" if not progress else f"it has started itself {restarts} times already"
        log({"unfinished": len(unfinished), "restarted": False, "reason": f"{why}; the schedule goes on"})
        return
    again: dict[str, object] = {"restarts": restarts + 1}
    if ask.by_name or ask.force or ask.spend_reserve:
        # Nothing else remembers what a person has asked for.
        again |= {"names": unfinished, "force": ask.force, "spend_reserve": ask.spend_reserve}
    try:
        wiring.function(os.environ["AWS_LAMBDA_FUNCTION_NAME"]).start(again)
    except FunctionError as error:
        log({"unfinished": len(unfinished), "restarted": False, "reason": error.message, "hint": error.hint})
        return
    log({"unfinished": len(unfinished), "restarted": True, "restarts": restarts + 1})


def _store() -> str:
    store = os.environ.get("CERTKEEPER_STORE")
    if not store:
        raise SettingsError("the function does not know its store", "set CERTKEEPER_STORE to s3://bucket/prefix")
    return store


def log(fields: dict[str, Any]) -> None:
    """One JSON object a line; print, since Lambda's logging would wrap it, and CloudWatch not see the gauges. At one
    stroke: between a line and its end another thread's may come, and Lambda takes both for one.
    """
    print(f"{json.dumps(fields)}\n", end="", flush=True)  # noqa: T201 - the function's log
