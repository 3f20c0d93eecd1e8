"""What `certkeeper deploy` and `certkeeper destroy` have in common: the deployment of the settings, and how its stacks
are told of and approved."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable

from certkeeper import config, wiring
from certkeeper.cli import render
from certkeeper.cli.terminal import agreed, complain, progress, talk
from certkeeper.core.errors import SettingsError
from certkeeper.core.stacks import Change, ChangeSet, Event
from certkeeper.deployment import stack
from certkeeper.deployment.templates import Place

WORDS = {"Add": "make", "Modify": "change", "Remove": "delete"}


def with_deployment(settings: config.Settings) -> config.Settings:
    if settings.deployment is None:
        raise SettingsError(
            f"{settings.file} names no deployment",
            'write deployment = "certkeeper" above the first table: the stacks get their names from it',
        )
    return settings


def bare_place(settings: config.Settings, parts: wiring.Deployable) -> Place:
    """Without the challenge names, which only the function's rights depend on."""
    kms_key = settings.kms_key or ""
    return Place(
        name=settings.deployment or "",
        partition=parts.partition,
        region=parts.region,
        account=parts.account,
        bucket=settings.bucket,
        prefix=settings.prefix,
        kms_alias=None if settings.sealing == "store" else kms_key if kms_key.startswith("alias/") else "",
        email=settings.alerts.get("email"),
        urgent=settings.alerts.get("urgent"),
        specs=settings.specs,
        secrets_prefix=settings.secrets_prefix,
    )


def deployer_of(place: Place, parts: wiring.Deployable, said: Namespace) -> stack.Deployer:
    tell = progress(said.verbose)
    return stack.Deployer(
        place=place,
        stacks=parts.stacks,
        bucket=parts.bucket,
        talk=stack.Talk(
            tell=talk,
            event=lambda event: _told_event(event, tell),
            approve=lambda change_set: approved(said, change_set),
        ),
        code_sha256=parts.code_sha256,
        kms_key_arn=parts.kms_key_arn,
    )


def _told_event(event: Event, tell: Callable[[str, str], None]) -> None:
    if event.failed:
        complain(f"{event.logical_id}: {event.status}: {event.reason}")
    else:
        tell(event.logical_id, event.status.lower().replace("_", " "))


def approved(said: Namespace, change_set: ChangeSet) -> bool:
    """Whether somebody agrees to what is shown."""
    region, account = change_set.arn.split(":")[3:5]
    rows = [(_word(one), one.logical_id, one.kind) for one in change_set.changes]
    table = render.table(("", "RESOURCE", "TYPE"), rows, colour=False) if rows else "none of a resource\n"
    sys.stderr.write(f"changes of the stack {change_set.stack}, in account {account} and {region}:\n{table}")
    return said.yes or agreed("Go on? yes or no")


def _word(change: Change) -> str:
    if change.replaced:
        return "replace"
    return "let go, kept" if change.kept else WORDS.get(change.action, change.action.lower())
