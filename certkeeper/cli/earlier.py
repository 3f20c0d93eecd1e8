"""`history` and `rollback`: what was current before, and making it current again."""

from __future__ import annotations

from argparse import Namespace

from certkeeper import wiring
from certkeeper.cli import remotely, render
from certkeeper.cli.loading import LOOK, read_settings
from certkeeper.cli.terminal import GOOD, interruptible, print_data, progress, talk
from certkeeper.core.document import instant
from certkeeper.core.errors import SettingsError
from certkeeper.jobs.history import history, listed, release, rollback, told


def run_history(said: Namespace) -> int:
    settings = read_settings(said)
    if remotely.is_asked(settings, said):
        found = remotely.answered(settings, {"history": said.name}, progress(verbose=False), "history")
    else:
        with wiring.wired(settings, LOOK) as wired:
            found = listed(said.name, history(wired.keeper, said.name))
    rows, ours = found["history"], {key: found[key] for key in ("name", "history")}
    if not rows:
        raise SettingsError(f"nothing is stored for {said.name}", "see what is: certkeeper status")
    print_data(said, lambda: ours, lambda colour: render.history_text(rows, colour))
    return GOOD


def run_rollback(said: Namespace) -> int:
    settings, tell = read_settings(said), progress(verbose=True)
    if remotely.is_asked(settings, said):
        event: dict[str, object] = {"rollback": said.name, "revision": said.revision, "release": said.release}
        new = remotely.answered(settings, event, tell, "revision")
    else:
        with wiring.wired(settings, LOOK, tell) as wired, interruptible(wired.stop):
            new = told(
                release(wired.keeper, said.name) if said.release else rollback(wired.keeper, said.name, said.revision)
            )
    due = render.minute(instant(new["due"]))
    how = f"renewed from {due} on" if said.release else f"kept until {due}"
    talk(f"{said.name}: {new['serial_number']} is current, as revision {new['revision']}; it is {how}")
    talk("instances take it with their next pull")
    return GOOD
