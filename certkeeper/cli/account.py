"""`account`: the ACME account at a CA, and a new account key."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from certkeeper import config, wiring
from certkeeper.cli import remotely, render
from certkeeper.cli.loading import LOOK, read_settings
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, print_data, progress, talk
from certkeeper.core.errors import AuthorityError, SettingsError
from certkeeper.core.failures import hint_of
from certkeeper.core.report import accounts_json
from certkeeper.jobs.rollover import VERBS


def run(said: Namespace) -> int:
    settings = read_settings(said)
    directories = _directories(settings, said.ca, only_first=said.what != "show")
    tell = progress(said.verbose)
    if remotely.is_asked(settings, said):
        answer = remotely.answered(settings, {"account": said.what, "directories": directories}, tell, "accounts")
    else:
        with wiring.wired(settings, LOOK, tell) as wired:
            try:
                answer = accounts_json([VERBS[said.what](wired.keeper, one) for one in directories])
            except AuthorityError as error:
                complain(error.message, hint_of(error))
                return BAD_NEWS
    found: list[dict[str, Any]] = answer["accounts"]
    print_data(said, lambda: answer, lambda colour: render.accounts_text(found, colour))
    if said.what == "rollover":
        talk("the account has a new key; the old one opens nothing")
    return GOOD


def _directories(settings: config.Settings, ca: str | None, *, only_first: bool) -> list[str]:
    known = [one.directory for one in settings.authorities()]
    if ca is None:
        return known[:1] if only_first else known
    directory = config.DIRECTORIES.get(ca, ca)
    if directory not in known:
        raise SettingsError(f"{ca} is no CA of these settings", f"they have {', '.join(known)}")
    return [directory]
