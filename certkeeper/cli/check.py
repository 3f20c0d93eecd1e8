"""`check`: the status for a monitoring system. Whatever keeps it from judging is UNKNOWN, and is said on stdout too."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

from certkeeper import wiring
from certkeeper.cli.loading import known_names, read_settings
from certkeeper.cli.terminal import put
from certkeeper.core.errors import CertkeeperError
from certkeeper.jobs import status as statuses
from certkeeper.jobs.check import Checked, check, unknown


def run(said: Namespace) -> int:
    try:
        checked = _checked(said)
    except CertkeeperError as error:
        checked = unknown(f"{error.message}; {error.hint}" if error.hint else error.message)
    put(checked.line + "\n")
    return checked.code


def _checked(said: Namespace) -> Checked:
    if said.warn < said.critical:
        return unknown("--warn must not be less than --critical")
    settings = read_settings(said)
    now = datetime.now(UTC)
    survey = statuses.status(wiring.s3_records(settings), settings.specs, now, limits=settings.limits())
    known_names(said.names, {one.name: one.identifiers for one in survey.statuses})
    return check(survey.of(said.names), now, said.warn, said.critical)
