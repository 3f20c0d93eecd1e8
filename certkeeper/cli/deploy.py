"""`certkeeper deploy` and `certkeeper destroy`: what changes is shown, approved on a terminal, and followed."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from certkeeper import config, wiring
from certkeeper.cli import remotely, render
from certkeeper.cli.loading import read_settings
from certkeeper.cli.terminal import BAD_NEWS, GOOD, agreed, complain, progress, put, talk
from certkeeper.core import permissions, stacks
from certkeeper.core.decision import Ask
from certkeeper.core.errors import CertkeeperError, FunctionError, NoticeError, SettingsError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.stacks import Change, ChangeSet, Event, StackError
from certkeeper.deployment import package, resource_policies, stack, templates
from certkeeper.deployment.settings_copy import copied
from certkeeper.deployment.templates import Place
from certkeeper.jobs.challenges import challenges
from certkeeper.jobs.tick import Report

LOOK = timedelta(minutes=2)
LOOK_EVERY, LONGEST_WAIT = 3.0, 300.0
"""For the confirmation of an address."""
RIGHTS_TAKE, DENIED = 15.0, "AccessDenied"
"""How long until new rights are known in AWS, as a rule; and what its services' words for it have in common."""
WORDS = {"Add": "make", "Modify": "change", "Remove": "delete"}
Finish = Callable[[Namespace, Report], int]


def run(said: Namespace, finish: Finish) -> int:
    """Deploy, then have the function tick at once; `finish` prints what it did."""
    settings = _with_deployment(read_settings(said))
    text = None if said.store else _copied(said)
    parts = wiring.deployable(settings)
    place = _place(said, settings, parts)
    if said.print:
        template = templates.store_template(place) if said.print == "store" else templates.function_template(place)
        put(templates.text(template))
        return GOOD
    for sentence in permissions.widened(place.rights):
        talk(sentence)
    before = _stored_specs(settings) if text is not None else ()
    leaving = sorted({spec.name for spec in before} - {spec.name for spec in settings.specs})
    if leaving:
        # Somebody may have added them to the stored settings, which these are about to take the place of.
        talk(f"no longer in the settings, so not renewed any more: {', '.join(leaving)}")
    of_secrets = resource_policies.of_secrets(place.rights, before)
    try:
        changed = stack.deploy(_deployer(place, parts, said))
    except (StackError, stack.Declined) as error:
        complain(error.message, error.hint)
        return BAD_NEWS
    except KeyboardInterrupt:
        talk("what was begun in AWS goes on by itself; to follow it, type again: certkeeper deploy")
        raise
    talk(f"the stacks of {place.name} are {'changed' if changed else 'as they should be'}")
    if text is not None and _stored(settings, text):
        talk(f"stored the settings in {settings.store}/{wiring.SETTINGS_PATH}")
    _told_of_subscriptions(place, parts)
    _told_of_adopted(place, parts)
    if not settings.specs:
        talk('there is nothing to renew yet: add a table like [certificates."example.com"], and deploy again')
        return GOOD
    tell = progress(said.verbose)
    status = finish(said, first_run(lambda names: remotely.renewed(settings, names, Ask(), tell), changed=changed))
    # The first run has made them.
    for refused in resource_policies.let_in(parts.secret_policies, of_secrets, talk):
        complain(refused.message, refused.hint)
        status = status or BAD_NEWS
    if (place.email or place.urgent) and sys.stdin.isatty():
        await_confirmation(lambda: parts.unconfirmed(place.topic_arn))
    talk(f"from anywhere: certkeeper --from {settings.store} status")
    return status


def run_destroy(said: Namespace) -> int:
    settings = _with_deployment(read_settings(said))
    parts = wiring.deployable(settings)
    place = _bare_place(settings, parts)
    try:
        _approve_destruction(said, place.name, settings.store)
    except stack.Declined as error:
        complain(error.message, error.hint)
        return BAD_NEWS
    deployer = _deployer(place, parts, said)
    try:
        there = stack.destroy(deployer, place.name)
        talk(f"the stack {place.name} is {'deleted: nothing is renewed any more' if there else 'not there'}")
        if said.delete_certificates:
            _delete_certificates(settings, parts, deployer)
            return GOOD
    except StackError as error:
        complain(error.message, error.hint)
        return BAD_NEWS
    month = "; the KMS key costs $1 a month, the bucket a few cents" if settings.sealing == "kms" else ""
    talk(f"the stack {place.store_stack} remains, with every certificate in {settings.store}{month}")
    talk("instances go on pulling what is stored; to renew again: certkeeper deploy")
    return GOOD


def _with_deployment(settings: config.Settings) -> config.Settings:
    if settings.deployment is None:
        raise SettingsError(
            f"{settings.file} names no deployment",
            'write deployment = "certkeeper" above the first table: the stacks get their names from it',
        )
    return settings


def _copied(said: Namespace) -> str:
    return copied(Path(said.config or os.environ.get("CERTKEEPER_CONFIG") or "certkeeper.toml"))


def _deployer(place: Place, parts: wiring.Deployable, said: Namespace) -> stack.Deployer:
    tell = progress(said.verbose)
    return stack.Deployer(
        place=place,
        stacks=parts.stacks,
        bucket=parts.bucket,
        talk=stack.Talk(
            tell=talk,
            event=lambda event: _told_event(event, tell),
            approve=lambda change_set: _approve(said, change_set),
        ),
        code_sha256=parts.code_sha256,
        kms_key_arn=parts.kms_key_arn,
    )


def _told_event(event: Event, tell: Callable[[str, str], None]) -> None:
    if event.failed:
        complain(f"{event.logical_id}: {event.status}: {event.reason}")
    else:
        tell(event.logical_id, event.status.lower().replace("_", " "))


def _approve(said: Namespace, change_set: ChangeSet) -> bool:
    rows = [(_word(one), one.logical_id, one.kind) for one in change_set.changes]
    table = render.table(("", "RESOURCE", "TYPE"), rows, colour=False)
    sys.stderr.write(f"changes of the stack {change_set.stack}:\n{table}")
    return said.yes or agreed("Go on? yes or no")


def _word(change: Change) -> str:
    if change.replaced:
        return "replace"
    return "let go, kept" if change.kept else WORDS.get(change.action, change.action.lower())


def _approve_destruction(said: Namespace, name: str, store: str) -> None:
    """Raises Declined."""
    if said.delete_certificates:
        what = f"This deletes every certificate in {store} for ever. Type the deployment's name to go on: "
        sys.stderr.write(what)
        sys.stderr.flush()
        if sys.stdin.readline().strip() != name:
            raise stack.Declined("that was not the deployment's name; nothing was deleted", f"its name is {name}")
        return
    question = f"Delete the stack {name}? Certificates stay, and are no longer renewed. yes or no"
    if not said.yes and not agreed(question):
        raise stack.Declined("nothing was deleted, since nobody said yes", "say it with --yes")


def _delete_certificates(settings: config.Settings, parts: wiring.Deployable, deployer: stack.Deployer) -> None:
    for path in parts.certificate_records.list("certificates/") if settings.secrets_prefix else ():
        parts.certificate_records.delete(path)
        talk(f"deleted the secret of {path.removeprefix('certificates/')}")
    stack.delete_store(deployer, parts.delete_key)


def _stored_specs(settings: config.Settings) -> tuple[CertificateSpec, ...]:
    """What the stored settings say, which these are about to take the place of."""
    try:
        return wiring.stored_settings(settings.store, settings.bucket_owner).specs
    except CertkeeperError:
        return ()  # there are none yet, or none that can be read


def _told_of_adopted(place: Place, parts: wiring.Deployable) -> None:
    """What was there before is left alone, so somebody has to know what its policy should say."""
    store = parts.stacks.find(place.store_stack)
    parameters = store.parameters if store is not None else {}
    if parameters.get("AdoptBucket") == "yes":
        wanted = permissions.bucket_policy(place.rights)
        resource_policies.tell_of_lacking(
            f"the bucket {place.bucket}", wanted, parts.bucket.policy, "BucketPolicy", talk
        )
    if arn := parameters.get("AdoptKeyArn"):
        wanted = permissions.key_policy(place.rights)
        resource_policies.tell_of_lacking(
            f"the KMS key {arn}", wanted, lambda: parts.key_policy(arn), "KeyPolicy of Key", talk
        )


def _told_of_subscriptions(place: Place, parts: wiring.Deployable) -> None:
    if not (place.email or place.urgent):
        talk("nobody is told when something fails: set email under [alerts]")
        return
    try:
        waiting = parts.unconfirmed(place.topic_arn)
    except NoticeError as error:
        talk(error.message)
        return
    for address in waiting:
        talk(f"{address} has a mail from AWS with a link to confirm; until then no alarm reaches it")


def first_run(
    ask: Callable[[Sequence[str]], Report], *, changed: bool, wait: Callable[[float], None] = time.sleep
) -> Report:
    """What the function does with these names (none: all), as `ask` tells it.

    What was just changed in IAM is known everywhere in AWS only after some seconds: what is refused for lack of rights
    right after a change is asked for once more. Raises what `ask` raises.
    """
    try:
        report = ask(())
    except FunctionError as error:
        if not changed or DENIED not in error.message:
            raise
        _wait_for_rights(wait)
        return ask(())
    denied = [one.name for one in report.outcomes if DENIED in (one.error or "")]
    if not changed or not denied:
        return report
    _wait_for_rights(wait)
    again = {one.name: one for one in ask(denied).outcomes}
    return replace(report, outcomes=tuple(again.get(one.name, one) for one in report.outcomes))


def _wait_for_rights(wait: Callable[[float], None]) -> None:
    talk(f"AWS may not know the function's new rights everywhere yet; asking it once more in {RIGHTS_TAKE:.0f} s")
    wait(RIGHTS_TAKE)


def await_confirmation(waiting: Callable[[], list[str]], wait: Callable[[float], None] = time.sleep) -> None:
    """Stay until every address is confirmed, a person has enough of it, or it takes too long: all else is done."""
    try:
        for again in range(round(LONGEST_WAIT / LOOK_EVERY)):
            if not (addresses := waiting()):
                if again:
                    talk("confirmed: alarms reach everybody")
                return
            if not again:
                talk(f"waiting for {', '.join(addresses)} to follow the link in AWS's mail; Ctrl-C ends the waiting")
            wait(LOOK_EVERY)
    except KeyboardInterrupt:
        pass
    except NoticeError as error:
        talk(error.message)
        return
    talk("not confirmed yet; certkeeper doctor tells when it is")


def _bare_place(settings: config.Settings, parts: wiring.Deployable) -> Place:
    """Without the challenge names, which only the function's rights depend on."""
    alias = None
    if settings.sealing == "kms" and settings.kms_key is not None:
        alias = settings.kms_key if settings.kms_key.startswith("alias/") else ""
        if not alias and parts.kms_key_arn is None:
            raise SettingsError(
                f"there is no KMS key {settings.kms_key}", "correct kms_key, or name an alias to be made"
            )
    return Place(
        name=settings.deployment or "",
        partition=parts.partition,
        region=parts.region,
        account=parts.account,
        bucket=settings.bucket,
        prefix=settings.prefix,
        kms_alias=alias,
        email=settings.alerts.get("email"),
        urgent=settings.alerts.get("urgent"),
        specs=settings.specs,
        secrets_prefix=settings.secrets_prefix,
    )


def _place(said: Namespace, settings: config.Settings, parts: wiring.Deployable) -> Place:
    with wiring.wired(settings, LOOK) as wired:
        found, failed = challenges(wired.keeper, settings.specs)
    for name, error in failed.items():
        # The others shall not wait for it.
        complain(f"{name}: {error.message}; it gets no new right to write its challenge records", error.hint)
    if failed:
        # A look-up that fails now must not take away what the function needs later.
        found += _rights_of_before(parts, settings.deployment or "")
    target = package.Target(said.python, said.architecture)
    return replace(_bare_place(settings, parts), challenges=found, target=target)


def _rights_of_before(parts: wiring.Deployable, name: str) -> tuple[permissions.ChallengeName, ...]:
    before = parts.stacks.find(name)
    deployed: Any = parts.stacks.template(name) if before is not None and stacks.step(before) == "update" else {}
    renewer = deployed.get("Resources", {}).get("Renewer", {}).get("Properties", {})
    policies = [permissions.presented(one["PolicyDocument"]) for one in renewer.get("Policies", ())]
    return tuple(dict.fromkeys(one for policy in policies for one in policy))


def _stored(settings: config.Settings, text: str) -> bool:
    records = wiring.s3_records(settings)
    before = records.read(wiring.SETTINGS_PATH)
    if before is not None and before.data == text.encode():
        return False
    records.write(wiring.SETTINGS_PATH, text.encode(), before.version if before else None)
    return True
