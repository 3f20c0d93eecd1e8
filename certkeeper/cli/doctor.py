"""`certkeeper doctor`: what would keep certificates from being renewed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from certkeeper import config, wiring
from certkeeper.cli import render
from certkeeper.cli.loading import LOOK, chosen, read_settings, settings_path
from certkeeper.cli.terminal import BAD_NEWS, GOOD, print_data, progress
from certkeeper.core.errors import StoreError
from certkeeper.jobs.diagnose import BAD, Finding, diagnose


def run(said: Namespace) -> int:
    settings = read_settings(said)
    specs = chosen(settings, said.names)
    around = wiring.surroundings(settings, None if said.store else lambda: _drifted(said, settings))
    with wiring.wired(settings, LOOK, progress(verbose=False)) as wired:
        findings = diagnose(wired.keeper, specs, around)
    print_data(said, lambda: findings_json(findings), lambda colour: findings_text(findings, colour))
    return BAD_NEWS if any(one.result == BAD for one in findings) else GOOD


def _drifted(said: Namespace, settings: config.Settings) -> bool:
    from certkeeper.deployment.settings_copy import copied

    stored = wiring.s3_records(settings).read(wiring.SETTINGS_PATH)
    if stored is None:
        raise StoreError(f"there are no settings in {settings.store}", "certkeeper deploy stores them")
    return stored.data != copied(settings_path(said)).encode()


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "findings": [
            {"check": one.check, "about": one.about, "result": one.result, "what": one.what, "hint": one.hint}
            for one in findings
        ]
    }


def findings_text(findings: Sequence[Finding], colour: bool) -> str:
    rows = [(one.result, one.check, one.about, one.what) for one in findings]
    table = render.table(("RESULT", "CHECK", "ABOUT", "WHAT"), rows, colour)
    hints = "".join(f"{one.check}, {one.about}:\n  hint: {one.hint}\n" for one in findings if one.hint)
    return table + hints
