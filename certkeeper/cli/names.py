"""`add`, `forget` and `rename`: a name in the settings and in the store, in one step.

The settings come first. Whatever is killed between them and the store is finished by typing the same command again.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta

from certkeeper import wiring
from certkeeper.cli import edits, render
from certkeeper.cli.settings_place import Places, places
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, confirm, interruptible, progress, talk
from certkeeper.core.errors import DocumentError, SettingsError
from certkeeper.jobs.forget import forget, is_stored
from certkeeper.jobs.history import history
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.rename import copied, refuse_what_is_to_be_revoked
from certkeeper.jobs.status import plan

DEADLINE = timedelta(minutes=5)


def run_add(said: Namespace) -> int:
    found = places(said)
    keys = {"identifiers": list(said.identifiers)}
    keys |= {key: value for key, value in (("key_type", said.key_type), ("profile", said.profile)) if value}
    there = [one.naming(said.name) for one in (found.files, found.stored and found.stored.files) if one]
    if found.naming(said.name) and not found.says(said.name, keys):
        where = next(file for file in there if file)
        raise SettingsError(f"there is a certificate called {said.name!r} already", f"change its table in {where}")
    found.add(lambda text, file: edits.with_certificate(text, file, said.name, keys))
    return GOOD if said.no_renew else _renewed(said, found, said.name)


def _renewed(said: Namespace, found: Places, name: str) -> int:
    if found.files is not None and found.settings.deployment is not None:
        talk("the function does not know of it yet")
        talk(f"hint: certkeeper deploy, then: certkeeper renew {name}")
        return GOOD
    from certkeeper.cli.main import main

    where = ["--from", said.store] if said.store else ["--config", said.config] if said.config else []
    return main([*where, "renew", name])


def run_forget(said: Namespace) -> int:
    found, name = places(said), said.name
    with (
        wiring.wired(found.settings, DEADLINE, progress(verbose=True)) as wired,
        interruptible(wired.stop),
    ):
        if not found.naming(name) and not is_stored(wired.keeper, name):
            raise SettingsError(f"there is no certificate called {name!r}", "see which there are: certkeeper status")
        for line in _lost(wired.keeper, name):
            talk(line)
        confirm(said, f"Forget {name}")
        found.edit(name, lambda text, file: edits.without_certificate(text, file, name))
        clean = forget(wired.keeper, name)
    talk(f"{name} is forgotten")
    if not clean:
        complain(f"{name}: its TXT records could not be taken away", "the next run tries again: certkeeper renew")
    return GOOD if clean else BAD_NEWS


def _lost(keeper: Keeper, name: str) -> list[str]:
    """What forgetting a name costs."""
    try:
        kept = history(keeper, name)
    except DocumentError as error:
        return [f"{name}: what is stored cannot be read: {error.message}"]
    held = [one.certificate for one in kept if one.current and one.certificate]
    lines = [
        f"{name}: the certificate {one.chain.serial_number} (until {render.minute(one.chain.validity.not_after)}) "
        "and its private key will be gone; it is not revoked"
        for one in held
    ]
    revocation = keeper.journal.read(name).entry.revocation
    if revocation is not None:
        lines += [
            f"{name}: {revocation.serial_number} was to be revoked ({revocation.reason}), and will not be",
            f"hint: to have it revoked, say no here, and: certkeeper revoke {name} --reason {revocation.reason}",
        ]
    earlier = len(kept) - len(held)
    if earlier:
        lines.append(f"{name}: so will {earlier} earlier one{'s' if earlier > 1 else ''}")
    return [*lines, f"{name}: instances that ask for it keep what they have, and new ones get nothing"]


def run_rename(said: Namespace) -> int:
    found, old, new = places(said), said.name, said.new_name
    begun = not found.naming(old) and found.naming(new)
    if not begun and not found.naming(old):
        raise SettingsError(
            f"the settings name no certificate called {old!r}", "see which there are: certkeeper status"
        )
    if not begun and found.naming(new):
        raise SettingsError(f"there is a certificate called {new!r} already", "choose another name")
    with (
        wiring.wired(found.settings, DEADLINE, progress(verbose=True)) as wired,
        interruptible(wired.stop),
    ):
        if not begun:
            _check(wired.keeper, found, old, new)
            found.edit(old, lambda text, file: edits.renamed(text, file, old, new))
        taken = copied(wired.keeper, old, new)
    talk(f"{old} stays stored, as retired, and is not renewed any more")
    talk(f"hint: let instances ask for {new}, with the right to read it; then: certkeeper forget {old}")
    if taken is not None:
        talk(f"{new}: {taken.chain.serial_number} is held under this name too; nothing was ordered")
        return GOOD
    return _renewed(said, found, new)


def _check(keeper: Keeper, found: Places, old: str, new: str) -> None:
    """Raise SettingsError if the new name is taken in the store, its certificate would cost the reserve, or what has
    the old one is to be revoked.
    """
    refuse_what_is_to_be_revoked(keeper, old)
    if is_stored(keeper, new):
        raise SettingsError(f"something is stored under {new!r}", f"if it is of no use: certkeeper forget {new}")
    (spec,) = (spec for spec in found.settings.specs if spec.name == old)
    scarce = [one for one in plan(keeper, [spec])[0].budget if not one.allows()]
    if spec.sealing != "store" and scarce:
        raise SettingsError(
            f"{new} would be a new certificate, and the CA's limits leave too little for it",
            f"rename it after {render.minute(max(one.possible_from() for one in scarce))}; see: certkeeper plan {old}",
        )
