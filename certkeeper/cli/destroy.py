"""`certkeeper destroy`: what runs goes; what is kept goes only for whoever types the deployment's name."""

from __future__ import annotations

import sys
from argparse import Namespace

from certkeeper import config, wiring
from certkeeper.cli.deployments import bare_place, deployer_of, with_deployment
from certkeeper.cli.loading import read_settings
from certkeeper.cli.terminal import BAD_NEWS, GOOD, agreed, complain, talk
from certkeeper.core.stacks import StackError
from certkeeper.deployment import stack
from certkeeper.deployment.templates import Place


def run(said: Namespace) -> int:
    settings = with_deployment(read_settings(said))
    parts = wiring.deployable(settings)
    place = bare_place(settings, parts)
    try:
        _approve_destruction(said, place)
    except stack.Declined as error:
        complain(error.message, error.hint)
        return BAD_NEWS
    deployer = deployer_of(place, parts, said)
    try:
        there = stack.destroy(deployer, place.name)
        gone = f"not there, in account {place.account} and {place.region}"
        talk(f"the stack {place.name} is {'deleted: nothing is renewed any more' if there else gone}")
        if said.delete_certificates:
            _delete_certificates(settings, parts, deployer)
            return GOOD
        kept = parts.stacks.find(place.store_stack)
    except StackError as error:
        complain(error.message, error.hint)
        return BAD_NEWS
    if kept is None:
        return GOOD
    month = (
        "the KMS key costs $1 a month, the bucket a few cents" if settings.sealing == "kms" else "a few cents a month"
    )
    if settings.secrets_prefix is not None:
        month += f"; the certificates' secrets below {settings.secrets_prefix} remain too, each $0.40 a month"
    talk(f"the stack {place.store_stack} remains, with all that lies in {settings.store}: {month}")
    talk("instances go on pulling what is stored; to renew again: certkeeper deploy")
    return GOOD


def _approve_destruction(said: Namespace, place: Place) -> None:
    """Raises Declined."""
    name, where = place.name, f"in account {place.account} and {place.region}"
    if said.delete_certificates:
        what = (
            f"This deletes every certificate in {place.store}, {where}, for ever. Type the deployment's name to go on: "
        )
        sys.stderr.write(what)
        sys.stderr.flush()
        if sys.stdin.readline().strip() != name:
            raise stack.Declined("that was not the deployment's name; nothing was deleted", f"its name is {name}")
        return
    question = f"Delete the stack {name}, {where}? Certificates stay, and are no longer renewed. yes or no"
    if not said.yes and not agreed(question):
        raise stack.Declined("nothing was deleted, since nobody said yes", "say it with --yes")


def _delete_certificates(settings: config.Settings, parts: wiring.Deployable, deployer: stack.Deployer) -> None:
    for path in parts.certificate_records.list("certificates/") if settings.secrets_prefix else ():
        parts.certificate_records.delete(path)
        talk(f"deleted the secret of {path.removeprefix('certificates/')}")
    stack.delete_store(deployer, parts.delete_key)
