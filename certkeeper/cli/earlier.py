"""`history` and `rollback`: what was current before, and making it current again."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta

from certkeeper import wiring
from certkeeper.cli import render
from certkeeper.cli.loading import read_settings
from certkeeper.cli.terminal import GOOD, interruptible, print_data, progress, talk
from certkeeper.core.certificates import held
from certkeeper.core.decision import due_time
from certkeeper.core.errors import SettingsError
from certkeeper.jobs.history import history, release, rollback

LOOK = timedelta(minutes=2)


def run_history(said: Namespace) -> int:
    with wiring.wired(read_settings(said), LOOK) as wired:
        found = history(wired.keeper, said.name)
    if not found:
        raise SettingsError(f"nothing is stored for {said.name}", "see what is: certkeeper status")
    print_data(said, lambda: render.history_json(said.name, found), lambda colour: render.history_text(found, colour))
    return GOOD


def run_rollback(said: Namespace) -> int:
    settings = read_settings(said)
    with wiring.wired(settings, LOOK, progress(verbose=True)) as wired, interruptible(wired.stop):
        new = release(wired.keeper, said.name) if said.release else rollback(wired.keeper, said.name, said.revision)
    facts = held(new)
    assert facts is not None  # noqa: S101 - of a certificate there always are
    talk(
        f"{said.name}: {new.chain.serial_number} is current, as revision {new.revision}; it is "
        + (
            f"renewed from {render.minute(due_time(facts))} on"
            if said.release
            else f"kept until {render.minute(due_time(facts))}"
        )
    )
    talk("instances take it with their next pull")
    return GOOD
