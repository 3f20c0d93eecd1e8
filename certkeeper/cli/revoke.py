"""`revoke`: the wish is written down, a run replaces the certificate, and the CA revokes it."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta

from certkeeper import wiring
from certkeeper.cli.loading import read_settings
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, confirm, progress, talk
from certkeeper.core.errors import AuthorityError, SealingError
from certkeeper.core.failures import hint_of, sentence
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.revoke import is_done, wish, without_replacement

LOOK = timedelta(minutes=2)


def run(said: Namespace) -> int:
    """Raises SettingsError, StoreError, DocumentError."""
    settings, name = read_settings(said), said.name
    wanted = any(spec.name == name for spec in settings.specs)
    what = f"the revision {said.revision}" if said.revision else "the current certificate"
    if not said.revision:
        how = (
            "will be replaced, and then revoked" if wanted else "will be revoked and not replaced: no settings name it"
        )
        talk(f"{name}: {what} {how}")
    confirm(said, f"Revoke {what} of {name}")
    with wiring.wired(settings, LOOK, progress(verbose=True)) as wired:
        revocation = wish(wired.keeper, name, said.reason, said.revision)
        if not wanted:
            _without_replacement(wired.keeper, name)
    status = _renewed(said, name) if wanted else GOOD
    with wiring.wired(settings, LOOK) as wired:
        done = is_done(wired.keeper, name)
    if not done:
        again = "certkeeper renew" if wanted else f"certkeeper revoke {name} --reason {revocation.reason}"
        how = "the next run goes on" if wanted else "no run goes on by itself"
        complain(f"{name}: {revocation.serial_number} is not revoked yet", f"{how}: {again}")
        return BAD_NEWS
    talk(f"{name}: {revocation.serial_number} is revoked ({revocation.reason})")
    talk("instances take the new one with their next pull" if wanted else f"hint: certkeeper forget {name}")
    return status


def _without_replacement(keeper: Keeper, name: str) -> None:
    try:
        without_replacement(keeper, name)
    except AuthorityError as error:
        complain(sentence(error), hint_of(error))
    except SealingError as error:
        # As it is where a function is deployed: nobody else opens the account key.
        complain(error.message, f"have the function do it: name {name} in the settings again, then the same command")


def _renewed(said: Namespace, name: str) -> int:
    from certkeeper.cli.main import main

    where = ["--from", said.store] if said.store else ["--config", said.config] if said.config else []
    return main([*where, "renew", name])
