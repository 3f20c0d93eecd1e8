"""`revoke`: the wish is written down, a run replaces the certificate, and the CA revokes it."""

from __future__ import annotations

from argparse import Namespace

from certkeeper import config, wiring
from certkeeper.cli import remotely
from certkeeper.cli.loading import LOOK, read_settings
from certkeeper.cli.names import renewed
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, confirm, progress, talk
from certkeeper.core.errors import AuthorityError, SealingError, SettingsError
from certkeeper.core.failures import hint_of, sentence
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.revoke import is_done, wish, withdraw, without_replacement


def run(said: Namespace) -> int:
    """Raises SettingsError, StoreError, DocumentError."""
    settings, name = read_settings(said), said.name
    if said.cancel:
        return _cancelled(settings, said)
    wanted = any(spec.name == name for spec in settings.specs)
    what = f"the revision {said.revision}" if said.revision else "the current certificate"
    if not said.revision:
        how = (
            "will be replaced, and then revoked" if wanted else "will be revoked and not replaced: no settings name it"
        )
        talk(f"{name}: {what} {how}")
    confirm(said, f"Revoke {what} of {name}")
    serial_number, reason = _wished(settings, said, wanted=wanted)
    status = renewed(said, name) if wanted else GOOD
    if not _is_done(settings, said):
        again = "certkeeper renew" if wanted else f"certkeeper revoke {name} --reason {reason}"
        how = "the next run goes on" if wanted else "no run goes on by itself"
        complain(f"{name}: {serial_number} is not revoked yet", f"{how}: {again}")
        return BAD_NEWS
    talk(f"{name}: {serial_number} is revoked ({reason})")
    talk("instances take the new one with their next pull" if wanted else f"hint: certkeeper forget {name}")
    return status


def _cancelled(settings: config.Settings, said: Namespace) -> int:
    if said.revision is not None:
        raise SettingsError(
            "--revision says what to revoke, and goes with --reason", f"certkeeper revoke {said.name} --cancel"
        )
    if remotely.is_asked(settings, said):
        event: dict[str, object] = {"revoke": said.name, "cancel": True}
        serial_number = remotely.answered(settings, event, progress(verbose=True), "cancelled")["cancelled"]
    else:
        with wiring.wired(settings, LOOK, progress(verbose=True)) as wired:
            serial_number = withdraw(wired.keeper, said.name).serial_number
    talk(f"{said.name}: {serial_number} will not be revoked")
    return GOOD


def _wished(settings: config.Settings, said: Namespace, *, wanted: bool) -> tuple[str, str]:
    """The serial number of what is to be revoked, and the reason."""
    if remotely.is_asked(settings, said):
        event: dict[str, object] = {"revoke": said.name, "reason": said.reason, "revision": said.revision}
        answer = remotely.answered(settings, event, progress(verbose=True), "serial_number")
        if answer.get("error"):
            complain(answer["error"], answer.get("hint"))
        return answer["serial_number"], answer["reason"]
    with wiring.wired(settings, LOOK, progress(verbose=True)) as wired:
        revocation = wish(wired.keeper, said.name, said.reason, said.revision)
        if not wanted:
            _without_replacement(wired.keeper, said.name)
    return revocation.serial_number, revocation.reason


def _is_done(settings: config.Settings, said: Namespace) -> bool:
    if remotely.is_asked(settings, said):
        return bool(remotely.answered(settings, {"revoke": said.name}, progress(verbose=True), "done")["done"])
    with wiring.wired(settings, LOOK) as wired:
        return is_done(wired.keeper, said.name)


def _without_replacement(keeper: Keeper, name: str) -> None:
    try:
        without_replacement(keeper, name)
    except AuthorityError as error:
        complain(sentence(error), hint_of(error))
    except SealingError as error:
        # As it is where a function is deployed: nobody else opens the account key.
        complain(error.message, "have the function do it: leave out --here")
