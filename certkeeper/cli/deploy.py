"""`certkeeper deploy`: what changes is shown, approved on a terminal, and followed."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

from certkeeper import config, wiring
from certkeeper.cli import remotely
from certkeeper.cli.after_deploying import await_confirmation, first_run
from certkeeper.cli.deployments import bare_place, deployer_of, with_deployment
from certkeeper.cli.loading import LOOK, read_settings, settings_path
from certkeeper.cli.terminal import BAD_NEWS, GOOD, complain, progress, put, talk
from certkeeper.core import permissions, stacks
from certkeeper.core.decision import Ask
from certkeeper.core.errors import CertkeeperError, NoticeError, SettingsError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.stacks import StackError
from certkeeper.deployment import package, resource_policies, stack, templates
from certkeeper.deployment.settings_copy import copied
from certkeeper.deployment.templates import Place
from certkeeper.jobs.challenges import challenges
from certkeeper.jobs.tick import Report

Finish = Callable[[Namespace, Report], int]


def run(said: Namespace, finish: Finish) -> int:
    """Deploy, then have the function tick at once; `finish` prints what it did."""
    settings = with_deployment(read_settings(said))
    text = None if said.store else copied(settings_path(said))
    parts = wiring.deployable(settings)
    place = _place(said, settings, parts)
    if said.print:
        template = templates.store_template(place) if said.print == "store" else templates.function_template(place)
        put(templates.text(template))
        return GOOD
    for sentence in permissions.widened(place.rights):
        talk(sentence)
    before = _told_of_what_leaves(settings) if text is not None else ()
    of_secrets = resource_policies.of_secrets(place.rights, before)
    try:
        changed = stack.deploy(deployer_of(place, parts, said))
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


def _place(said: Namespace, settings: config.Settings, parts: wiring.Deployable) -> Place:
    place = bare_place(settings, parts)
    if place.kms_alias == "" and parts.kms_key_arn() is None:
        raise SettingsError(f"there is no KMS key {settings.kms_key}", "correct kms_key, or name an alias to be made")
    with wiring.wired(settings, LOOK) as wired:
        found, failed = challenges(wired.keeper, settings.specs)
    for name, error in failed.items():
        # The others shall not wait for it.
        complain(f"{name}: {error.message}; it gets no new right to write its challenge records", error.hint)
    if failed:
        # A look-up that fails now must not take away what the function needs later.
        found += _rights_of_before(parts, place.name)
    target = package.Target(said.python, said.architecture)
    return replace(place, challenges=found, target=target)


def _rights_of_before(parts: wiring.Deployable, name: str) -> tuple[permissions.ChallengeName, ...]:
    before = parts.stacks.find(name)
    deployed = parts.stacks.template(name) if before is not None and stacks.step(before) == "update" else None
    if not isinstance(deployed, dict):
        return ()  # nor is it where somebody has written it in YAML
    renewer = deployed.get("Resources", {}).get("Renewer", {}).get("Properties", {})
    policies = [permissions.presented(one["PolicyDocument"]) for one in renewer.get("Policies", ())]
    return tuple(dict.fromkeys(one for policy in policies for one in policy))


def _told_of_what_leaves(settings: config.Settings) -> tuple[CertificateSpec, ...]:
    """The certificates of the stored settings, which these are about to take the place of."""
    try:
        before = wiring.stored_settings(settings.store, settings.bucket_owner)
    except CertkeeperError:
        return ()  # there are none yet, or none that can be read
    if before.deployment not in (None, settings.deployment):
        talk(
            f"the stored settings are of the deployment {before.deployment}; if it is still there, it goes on by these"
        )
        talk(f'hint: to take it away: certkeeper destroy, by settings with deployment = "{before.deployment}"')
    leaving = sorted({spec.name for spec in before.specs} - {spec.name for spec in settings.specs})
    if leaving:
        # Somebody may have added them there.
        talk(f"no longer in the settings, so not renewed any more: {', '.join(leaving)}")
    return before.specs


def _stored(settings: config.Settings, text: str) -> bool:
    records = wiring.s3_records(settings)
    before = records.read(wiring.SETTINGS_PATH)
    if before is not None and before.data == text.encode():
        return False
    records.write(wiring.SETTINGS_PATH, text.encode(), before.version if before else None)
    return True


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
