"""Bring the two stacks to what the settings say, from whatever state they are in; and take one away again.

Every step looks first at what is there, so an interrupted deployment is finished by doing it again. Nothing is changed
that has not been shown and approved.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certkeeper.core.errors import CertkeeperError
from certkeeper.core.stacks import ChangeSet, Event, Stack, StackError, Stacks, first_failure, hint, step
from certkeeper.deployment import package, templates
from certkeeper.deployment.templates import Place

LOOK_EVERY = 1.0
CODE = "code"


class Declined(CertkeeperError):  # noqa: N818 - somebody's right
    """Nobody said yes; nothing was changed."""


class Bucket(Protocol):
    """The store's bucket as a deployer sees it. Every method raises StoreError."""

    def region(self) -> str | None: ...

    def sha256(self, path: str) -> str | None: ...

    def put(self, path: str, file: Path) -> None: ...

    def address(self, path: str) -> str: ...

    def empty(self, prefix: str) -> int: ...

    def delete(self) -> bool: ...


@dataclass(frozen=True)
class Talk:
    """How a deployment is told and approved: a sentence, an event of a stack, a change set (True: go on)."""

    tell: Callable[[str], None]
    event: Callable[[Event], None]
    approve: Callable[[ChangeSet], bool]


@dataclass(frozen=True)
class Deployer:
    """What it takes to deploy. `kms_key_arn` finds the ARN of the key that the settings name, None if there is none.

    `code_sha256` is of the zip that a function runs, in hexadecimal, None if there is no such function. `build` makes
    the function's zip at a path; `wait` lets some seconds pass.
    """

    place: Place
    stacks: Stacks
    bucket: Bucket
    talk: Talk
    code_sha256: Callable[[str], str | None]
    kms_key_arn: Callable[[], str | None] = lambda: None
    build: Callable[[package.Target, Path], package.Package] = package.build
    wait: Callable[[float], None] = time.sleep


def deploy(deployer: Deployer) -> bool:
    """Bring both stacks up to date; False if there was nothing to do. Raises Declined, StackError, and others.

    The function's zip is built before anything is changed: where that fails, nothing has happened.
    """
    place = deployer.place
    # Both are rendered, and so held to AWS's limits, before anything is sent.
    store_template, function_template = templates.store_template(place), templates.function_template(place)
    for name in (place.store_stack, place.name):
        _found(deployer, name)
    with tempfile.TemporaryDirectory(prefix="certkeeper-deploy-") as folder:
        zip_path = Path(folder, "function.zip")
        code = _code_in_use(deployer) or _built(deployer, zip_path)
        store, changed_store = _up_to_date(deployer, place.store_stack, store_template, _store_parameters(deployer))
        if not store.protected:
            deployer.stacks.protect(place.store_stack, on=True)
        if zip_path.exists() and deployer.bucket.sha256(code.path) != code.sha256:
            deployer.talk.tell(f"uploading the function's zip, {zip_path.stat().st_size / 1e6:.1f} MB")
            deployer.bucket.put(code.path, zip_path)
    parameters = {"CodeKey": code.path}
    if place.kms_alias is not None:
        parameters["KmsKeyArn"] = store.outputs["KmsKeyArn"]
    _, changed_function = _up_to_date(deployer, place.name, function_template, parameters)
    running = deployer.code_sha256(place.name)
    anew = "certkeeper destroy, and certkeeper deploy, which keep the certificates"
    if running is None:
        raise StackError(f"the function {place.name} is gone, though its stack stands", f"make it anew: {anew}")
    if running != code.sha256:
        raise StackError(
            f"the function {place.name} runs something else than what was built for it",
            f"somebody put it there: find out who may write to the bucket and change the function; then {anew}",
        )
    return changed_store or changed_function


def destroy(deployer: Deployer, name: str) -> bool:
    """Delete one stack; False if there is none. Raises StackError."""
    _found(deployer, deployer.place.store_stack)  # whoever wants the store deleted next hears now that it is not theirs
    stack = _settled(deployer, name)
    if stack is None or stack.gone:
        return False
    _deleted(deployer, stack)
    return True


def delete_store(deployer: Deployer, delete_key: Callable[[str, str], None]) -> None:
    """Delete what the store's stack had made, and all below the store's prefix, for ever; what was adopted stays.

    The stack goes last, since it alone remembers what it had made: what is interrupted is finished by doing it again.
    Raises StackError, StoreError, SealingError.
    """
    place, tell = deployer.place, deployer.talk.tell
    stack = _settled(deployer, place.store_stack)
    parameters = stack.parameters if stack is not None else {}
    if deployer.bucket.region() is not None:
        versions = deployer.bucket.empty(f"{place.prefix}/" if place.prefix else "")
        tell(f"deleted {versions} versions of objects in {place.store}")
        if parameters.get("AdoptBucket") != "no":
            tell(f"the bucket {place.bucket} was there before, and stays")
        elif not deployer.bucket.delete():
            tell(f"the bucket {place.bucket} holds something else, and stays")
    kms_key_arn = stack.outputs.get("KmsKeyArn") if stack is not None else None
    if kms_key_arn and parameters.get("AdoptKeyArn") == "":
        delete_key(kms_key_arn, place.kms_alias or "")
        tell(f"the KMS key {kms_key_arn} will be deleted in 30 days; until then that can be cancelled in KMS")
    if stack is not None and not stack.gone:
        deployer.stacks.protect(place.store_stack, on=False)
        _deleted(deployer, stack)


@dataclass(frozen=True)
class _Code:
    """The function's zip: where it lies in the bucket, named after all that goes into it and what came of that."""

    path: str
    sha256: str


def _code_in_use(deployer: Deployer) -> _Code | None:
    """What the function's stack says that it runs, if that is made of the same parts and lies there unchanged: so the
    same is neither built nor sent twice. A name in the bucket says nothing, since more people may write there than may
    change a stack.
    """
    stack, start = deployer.stacks.find(deployer.place.name), _code_start(deployer.place)
    path = stack.parameters.get("CodeKey", "") if stack is not None and not stack.gone else ""
    if not path.startswith(start) or deployer.bucket.region() is None:
        return None
    sha256 = path.removeprefix(start).removesuffix(".zip")
    return _Code(path, sha256) if deployer.bucket.sha256(path) == sha256 else None


def _built(deployer: Deployer, zip_path: Path) -> _Code:
    deployer.talk.tell("building the function's zip")
    sha256 = deployer.build(deployer.place.target, zip_path).sha256
    return _Code(f"{_code_start(deployer.place)}{sha256}.zip", sha256)


def _code_start(place: Place) -> str:
    parts = package.manifest(package.inputs(place.target))
    return f"{place.prefix}/{CODE}/{hashlib.sha256(parts.encode()).hexdigest()}-".removeprefix("/")


def _store_parameters(deployer: Deployer) -> dict[str, str]:
    """What was made by the stack stays the stack's; what was there before it is adopted, and stays so."""
    place = deployer.place
    before = _settled(deployer, place.store_stack)
    made = before is not None and step(before) == "update"
    said = before.parameters if before is not None and made else {}
    there = deployer.bucket.region() is not None
    parameters = {"AdoptBucket": said.get("AdoptBucket", "yes" if there else "no")}
    if not made and there:
        deployer.talk.tell(f"the bucket {place.bucket} is there already: its settings and its policy are left alone")
    if place.kms_alias is not None:
        # Asked for now: what was under way before may have made the key, or taken it back.
        arn = deployer.kms_key_arn()
        same = arn is None or (before is not None and arn == before.outputs.get("KmsKeyArn"))
        parameters["AdoptKeyArn"] = said.get("AdoptKeyArn", "") if made and same else arn or ""
        if not made and arn:
            deployer.talk.tell(f"the KMS key {arn} is there already: its policy is left alone")
    return parameters


def _up_to_date(
    deployer: Deployer, name: str, template: templates.Template, parameters: Mapping[str, str]
) -> tuple[Stack, bool]:
    """The stack as the template says, and whether anything had to be changed."""
    stack = _settled(deployer, name)
    if stack is not None and step(stack) == "finish the rollback":
        raise _failure(deployer, name, stack)  # it was just tried, and CloudFormation takes no other change
    if stack is not None and step(stack) == "delete":
        deployer.talk.tell(f"the stack {name} is {stack.status}, which can only be deleted and made anew")
        _deleted(deployer, stack)
        stack = None
    new = step(stack) == "create"
    if stack is not None and not new and stack.parameters == parameters and _same(deployer, name, template):
        return stack, False
    change_set = _proposed(deployer, name, template, parameters, new=new)
    if change_set is not None:
        _approved(deployer, change_set, new=new)
        proposed = deployer.stacks.find(name)
        if proposed is not None:
            stack = _after(deployer, proposed, lambda: deployer.stacks.execute(change_set))
    if stack is None or (change_set is not None and not stack.good):
        raise _failure(deployer, name, stack)
    return stack, change_set is not None


def _same(deployer: Deployer, name: str, template: templates.Template) -> bool:
    """Whether this is what is deployed: one look, where a change set takes many seconds to say so."""
    wanted: object = json.loads(templates.text(template))
    return wanted == deployer.stacks.template(name)


def _proposed(
    deployer: Deployer, name: str, template: templates.Template, parameters: Mapping[str, str], *, new: bool
) -> ChangeSet | None:
    text = templates.text(template)
    url = None
    if len(text.encode()) > templates.LARGEST_INLINE:
        url = _uploaded(deployer, name, text)
    return deployer.stacks.propose(name, text, parameters, new=new, url=url)


def _uploaded(deployer: Deployer, name: str, text: str) -> str:
    if deployer.bucket.region() is None:
        what = f"the template of {name} has {len(text.encode()):,} bytes, and the first one must do without a bucket"
        raise StackError(what, f"deploy with fewer certificates first, or make the bucket {deployer.place.bucket}")
    path = f"{deployer.place.prefix}/{CODE}/{name}.json".removeprefix("/")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        file.write(text)
        file.flush()
        deployer.bucket.put(path, Path(file.name))
    return deployer.bucket.address(path)


def _approved(deployer: Deployer, change_set: ChangeSet, *, new: bool) -> None:
    approved = False
    try:
        approved = deployer.talk.approve(change_set)
    finally:
        # Also when whoever was asked pressed Ctrl-C.
        if not approved:
            deployer.stacks.discard(change_set, new=new)
    if not approved:
        raise Declined(f"the stack {change_set.stack} was not changed, since nobody said yes", "say it with --yes")


def _found(deployer: Deployer, name: str) -> Stack | None:
    """The stack of that name, if it is this deployment's. Raises StackError if it is somebody else's."""
    stack, store = deployer.stacks.find(name), deployer.place.store
    if stack is None or stack.status == "REVIEW_IN_PROGRESS":
        return stack  # nothing was made yet
    hint = "choose another deployment, which the stacks get their names from, or correct store"
    if not stack.description.startswith(templates.OURS):
        raise StackError(f"the stack {name} is none of certkeeper's", hint)
    if stack.outputs.get("Store", store) != store:
        raise StackError(f"the stack {name} is for {stack.outputs['Store']}, and these settings for {store}", hint)
    return stack


def _settled(deployer: Deployer, name: str) -> Stack | None:
    """The stack once nothing happens to it any more; what happens meanwhile is told."""
    stack = _found(deployer, name)
    if stack is not None and stack.status == "UPDATE_ROLLBACK_FAILED":
        return _after(deployer, stack, lambda: deployer.stacks.finish_rollback(name))
    if stack is None or not stack.busy:
        return stack
    events = deployer.stacks.events(stack.arn)
    latest = {one.event_id for one in _of_latest(events, name)}
    return _followed(deployer, stack, {one.event_id for one in events} - latest)


def _after(deployer: Deployer, stack: Stack, start: Callable[[], None]) -> Stack:
    """The stack once what `start` asks for has ended; what happens meanwhile is told."""
    before = {one.event_id for one in deployer.stacks.events(stack.arn)}
    start()
    return _followed(deployer, stack, before)


def _followed(deployer: Deployer, stack: Stack, told: set[str]) -> Stack:
    begun = False
    while True:
        # First the state, then the events: so none of this operation's is missed.
        found = deployer.stacks.find(stack.arn) or stack
        for event in deployer.stacks.events(stack.arn):
            if event.event_id not in told:
                told.add(event.event_id)
                deployer.talk.event(event)
                # Until then CloudFormation may go on showing the state of before.
                begun = begun or event.logical_id == stack.name
        if begun and not found.busy:
            return found
        deployer.wait(LOOK_EVERY)


def _of_latest(events: tuple[Event, ...], name: str) -> tuple[Event, ...]:
    """The events of the latest operation: from when somebody last asked for something on."""
    starts = [
        place for place, one in enumerate(events) if one.logical_id == name and one.reason.startswith("User Initiated")
    ]
    return events[starts[-1] :] if starts else events


def _deleted(deployer: Deployer, stack: Stack) -> None:
    left = _after(deployer, stack, lambda: deployer.stacks.delete(stack.name))
    if not left.gone:
        raise _failure(deployer, stack.name, left)


def _failure(deployer: Deployer, name: str, stack: Stack | None) -> StackError:
    """What went wrong first, in the service's own words, and what became of the stack."""
    status = stack.status if stack is not None else "gone"
    first = first_failure(_of_latest(deployer.stacks.events(stack.arn), name)) if stack is not None else None
    if first is None:
        return StackError(f"the stack {name} is {status}", "its events say more: look at it in the console")
    return StackError(
        f"the stack {name} is {status}: {first.logical_id} ({first.kind}): {first.reason}", hint(first.reason)
    )
