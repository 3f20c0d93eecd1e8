"""`add`, `forget` and `rename`: a name in the settings and in the store, in one step.

The settings come first, in the store before a file. Whatever is killed on the way is finished by typing the same
command again.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from certkeeper import wiring
from certkeeper.cli import edits, remotely, render
from certkeeper.cli.loading import where
from certkeeper.cli.settings_place import Places, places
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, confirm, interruptible, progress, talk
from certkeeper.core.errors import DocumentError, SettingsError, StoreError
from certkeeper.jobs.forget import forget, is_stored
from certkeeper.jobs.history import history
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.rename import copied, refuse

DEADLINE = timedelta(minutes=5)


def run_add(said: Namespace) -> int:
    found = places(said)
    keys = {"identifiers": list(said.identifiers)}
    keys |= {key: value for key, value in (("key_type", said.key_type), ("profile", said.profile)) if value}
    there = [one.naming(said.name) for one in (found.files, found.stored and found.stored.files) if one]
    if found.naming(said.name) and not found.says(said.name, keys):
        file = next(file for file in there if file)
        raise SettingsError(f"there is a certificate called {said.name!r} already", f"change its table in {file}")
    with _telling_who_may():
        found.add(lambda text, file: edits.with_certificate(text, file, said.name, keys))
    if found.settings.deployment is not None:
        talk("the function has no right to prove it yet")
        talk(f"hint: {' '.join(['certkeeper', *where(said), 'deploy'])} gives it that, and has it obtained")
        return GOOD
    return GOOD if said.no_renew else renewed(said, said.name)


def renewed(said: Namespace, name: str) -> int:
    """`certkeeper renew NAME` by the same settings; its exit status."""
    from certkeeper.cli.main import main

    here = ["--here"] if getattr(said, "here", False) else []
    return main([*where(said), "renew", name, *here])


def run_forget(said: Namespace) -> int:
    found, name = places(said), said.name
    with (
        _telling_who_may("no function does this: it cannot delete certificates"),
        wiring.wired(found.settings, DEADLINE, progress(verbose=True)) as wired,
    ):
        if not found.naming(name) and not is_stored(wired.keeper, name):
            raise SettingsError(f"there is no certificate called {name!r}", "see which there are: certkeeper status")
        for line in _lost(wired.keeper, name):
            talk(line)
        confirm(said, f"Forget {name}")
        with interruptible(wired.stop):
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
    begun = (not found.naming(old) and found.naming(new)) or found.is_being_renamed(old, new)
    if not begun and not found.naming(old):
        raise SettingsError(
            f"the settings name no certificate called {old!r}", "see which there are: certkeeper status"
        )
    if not begun and found.naming(new):
        raise SettingsError(f"there is a certificate called {new!r} already", "choose another name")
    if not begun:
        _refuse(said, found)
    if found.naming(old):
        with _telling_who_may():
            found.edit(old, lambda text, file: edits.renamed(text, file, old, new))
    taken = _copied(said, found)
    talk(f"{old} stays stored, as retired, and is not renewed any more")
    talk(f"hint: let instances ask for {new}, with the right to read it; then: certkeeper forget {old}")
    if taken is not None:
        talk(f"{new}: {taken} is held under this name too; nothing was ordered")
        return GOOD
    return renewed(said, new)


def _refuse(said: Namespace, found: Places) -> None:
    """Raise SettingsError, or FunctionError if it is the function that says so, if it must not be renamed so."""
    if remotely.is_asked(found.settings, said):
        _asked(said, found)
        return
    (spec,) = (spec for spec in found.settings.specs if spec.name == said.name)
    with wiring.wired(found.settings, DEADLINE, progress(verbose=True)) as wired:
        refuse(wired.keeper, spec, said.new_name)


def _copied(said: Namespace, found: Places) -> str | None:
    """The serial number of what is held under both names now; None if it must be obtained anew."""
    if remotely.is_asked(found.settings, said):
        serial_number: str | None = _asked(said, found)["serial_number"]
        return serial_number
    with (
        wiring.wired(found.settings, DEADLINE, progress(verbose=True)) as wired,
        interruptible(wired.stop),
    ):
        taken = copied(wired.keeper, said.name, said.new_name)
    return taken.chain.serial_number if taken else None


def _asked(said: Namespace, found: Places) -> dict[str, Any]:
    event: dict[str, object] = {"rename": said.name, "to": said.new_name}
    return remotely.answered(found.settings, event, progress(verbose=True), "renamed")


@contextmanager
def _telling_who_may(also: str = "") -> Iterator[None]:
    """Name the role that may, where this one may not."""
    try:
        yield
    except StoreError as error:
        if "AccessDenied" not in error.message:
            raise
        why = f"; {also}" if also else ""
        raise StoreError(error.message, f"it takes the rights of a deployer: docs/iam.md, Deployer{why}") from None
