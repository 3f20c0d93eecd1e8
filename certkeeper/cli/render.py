"""Values to text and JSON. Pure: the same values always look the same."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from certkeeper import __version__
from certkeeper.core.budget import EXACT_SET, FAILED_AUTHORIZATIONS, ORDERS, REGISTERED_DOMAIN
from certkeeper.core.document import instant as from_text
from certkeeper.core.document import written
from certkeeper.core.model import Outcome
from certkeeper.core.report import budget_json
from certkeeper.jobs.status import Status, Survey

COLOURS = {
    "ok": "32", "kept": "32", "renewed": "32", "rehearsed": "32", "keep": "32",
    "due": "33", "waiting": "33", "renew": "33", "wait": "33",
    "retired": "33", "overdue": "31", "expired": "31", "missing": "31", "failing": "31", "failed": "31",
    "unreadable": "31",
}  # fmt: skip


def instant(moment: datetime | None) -> str | None:
    return written(moment) if moment else None


def minute_of(text: str | None) -> str:
    return minute(from_text(text) if text else None)


def minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z" if moment else "-"


def left(not_after: datetime | None, now: datetime) -> str:
    """How long until then, in the largest unit that says something."""
    if not_after is None:
        return "-"
    span = not_after - now
    if abs(span) >= timedelta(days=2):
        return f"{span / timedelta(days=1):.0f} d"
    return f"{span / timedelta(hours=1):.0f} h"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], colour: bool) -> str:
    """Columns as wide as they need; a word of COLOURS is coloured on a terminal."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells = [_coloured(cell, word) for cell, word in zip(cells, row, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _coloured(cell: str, word: str) -> str:
    return f"\x1b[{COLOURS[word]}m{cell}\x1b[0m" if word in COLOURS else cell


def outcomes_text(outcomes: Sequence[Outcome], colour: bool) -> str:
    rows = [(one.name, one.outcome, minute(one.not_after), minute(one.next_attempt), one.reason) for one in outcomes]
    return table(("NAME", "OUTCOME", "EXPIRES", "NEXT", "REASON"), rows, colour)


def accounts_text(accounts: Sequence[dict[str, Any]], colour: bool) -> str:
    rows = [
        (one["ca_directory"], one["account_url"] or "-", "unfinished" if one["rollover_unfinished"] else "-")
        for one in accounts
    ]
    return table(("CA", "ACCOUNT", "ROLLOVER"), rows, colour)


def planned_text(rows: Sequence[Mapping[str, Any]], colour: bool) -> str:
    """`rows` as `jobs.status.planned_json` has them."""
    cells = [
        (one["name"], one["action"], minute_of(one["until"]), budget_text(one["budget"]), one["reason"]) for one in rows
    ]
    text = table(("NAME", "ACTION", "UNTIL", "BUDGET", "REASON"), cells, colour)
    return text + "".join(f"{one['name']}: hint: {one['hint']}\n" for one in rows if one["hint"])


def budget_text(budgets: Mapping[str, Mapping[str, Any]] | None) -> str:
    """What is left of the exact-set limit, and of those others that something was spent of; "-" if none is known.

    `budgets` as `core.report.budget_json` has them.
    """
    shown = [(limit, one) for limit, one in (budgets or {}).items() if limit == EXACT_SET or one["left"] < one["of"]]
    return ", ".join(f"{one['left']} of {one['of']}{_counted(limit, one.get('about'))}" for limit, one in shown) or "-"


def _counted(limit: str, about: str | None) -> str:
    return {
        REGISTERED_DOMAIN: f" below {about}",
        ORDERS: " orders",
        FAILED_AUTHORIZATIONS: f" failures of {about}",
    }.get(limit, "")


def history_text(rows: Sequence[Mapping[str, Any]], colour: bool) -> str:
    """`rows` as `jobs.history.listed` has them."""
    cells = [_history_row(one) for one in rows]
    return table(("REVISION", "SERIAL", "FROM", "EXPIRES", "ISSUER", "STATE"), cells, colour)


def _history_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    word = "pinned" if one["pinned"] else "current" if one["current"] else one["problem"] or "earlier"
    dates = (minute_of(one[key]) for key in ("not_before", "not_after"))
    return (str(one["revision"]), one["serial_number"] or "-", *dates, one["issuer"] or "-", word)


def status_json(survey: Survey) -> dict[str, Any]:
    return {
        "as_of": instant(survey.as_of),
        "versions": {"cli": __version__, "function": survey.versions.get("function")},
        "certificates": [_status_fields(one) for one in survey.statuses],
    }


def _status_fields(one: Status) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": one.name,
        "identifiers": list(one.identifiers),
        "state": one.state,
        "serial_number": one.serial_number,
        "not_before": instant(one.not_before),
        "not_after": instant(one.not_after),
        "renewal_time": instant(one.renewal_time),
        "issuer": one.issuer,
        "profile": one.profile,
        "last_error": one.last_error,
        "hint": one.hint,
        "failures": one.failures,
        "next_attempt": instant(one.next_attempt),
        "waiting": one.waiting,
        "budget": budget_json(one.budget),
        "pinned_since": instant(one.pinned_since),
    }
    if one.served is not None:
        fields["served"] = [
            {"identifier": each.identifier, "serial_number": each.serial_number, "same": each.same, "error": each.error}
            for each in one.served
        ]
    return fields


def status_text(survey: Survey, now: datetime, colour: bool) -> str:
    rows = [
        (
            one.name,
            minute(one.not_after),
            left(one.not_after, now),
            minute(one.renewal_time),
            budget_text(budget_json(one.budget)),
            one.state,
        )
        for one in survey.statuses
    ]
    lines = [table(("NAME", "EXPIRES", "LEFT", "RENEWAL", "BUDGET", "STATE"), rows, colour).rstrip("\n")]
    for one in survey.statuses:
        if one.last_error:
            when = f"next attempt {minute(one.next_attempt)}" if one.next_attempt else "the next when a person asks"
            tries = f" ({one.failures} in a row, {when})" if one.failures else ""
            lines.append(f"{one.name}: {one.last_error}{tries}")
        if one.waiting:
            lines.append(f"{one.name}: {one.waiting}; possible from {minute(one.next_attempt)}")
        if one.hint and (one.last_error or one.waiting):
            lines.append(f"  hint: {one.hint}")
        if one.state == "retired":
            lines.append(f"{one.name}: no longer in the settings, so it is not renewed")
            lines.append(f"  hint: once no instance asks for it: certkeeper forget {one.name}")
        if one.pinned_since:
            lines.append(f"{one.name}: pinned since {minute(one.pinned_since)}, until {minute(one.renewal_time)}")
            lines.append(f"  hint: release it with: certkeeper rollback {one.name} --release")
        for each in one.served or ():
            what = each.error or (
                "serves what is stored" if each.same else "serves another certificate than the stored one"
            )
            lines.append(f"{one.name}: {each.identifier} {what}")
    lines.append(f"as of {minute(survey.as_of)}" if survey.as_of else "as of never: no run has noted anything yet")
    deployed = survey.versions.get("function")
    if deployed is not None and deployed != __version__:
        lines.append(f"this is certkeeper {__version__}, and the function runs {deployed}: certkeeper deploy")
    return "\n".join(lines) + "\n"


def status_html(survey: Survey, now: datetime) -> str:
    """One page without anything from elsewhere."""
    rows = "".join(
        f'<tr class="{one.state}"><td>{html.escape(one.name)}<td>{html.escape(", ".join(one.identifiers))}'
        f"<td>{minute(one.not_after)}<td>{left(one.not_after, now)}<td>{minute(one.renewal_time)}<td>{one.state}"
        f"<td>{html.escape(one.last_error or '')}</tr>\n"
        for one in survey.statuses
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>certkeeper</title>'
        "<style>body{font:15px system-ui;margin:2em}td,th{text-align:left;padding:.3em 1em .3em 0}"
        ".ok{color:#176d17}.due,.retired{color:#8a5a00}"
        ".overdue,.expired,.missing,.failing,.unreadable{color:#b00020;font-weight:600}</style>"
        f"<h1>Certificates</h1><p>as of {minute(survey.as_of)}</p><table>"
        "<tr><th>Name<th>Identifiers<th>Expires<th>Left<th>Renewal<th>State<th>Last error</tr>\n"
        f"{rows}</table></html>\n"
    )
