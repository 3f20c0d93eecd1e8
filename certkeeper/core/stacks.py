"""CloudFormation stacks as values: what to do about one in a given state, and what its events say. Pure.

The states are those of the CloudFormation API reference, Stack, StackStatus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from certkeeper.core.errors import CertkeeperError

Step = Literal["create", "update", "wait", "delete", "finish the rollback"]
STACK = "AWS::CloudFormation::Stack"


class StackError(CertkeeperError):
    """CloudFormation could not be asked, or could not do what it was asked for."""


@dataclass(frozen=True)
class Stack:
    """A stack as it stands. `arn` names it also when it is gone; `description` is its template's."""

    name: str
    arn: str
    status: str
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    protected: bool = False

    @property
    def busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def gone(self) -> bool:
        return self.status == "DELETE_COMPLETE"

    @property
    def good(self) -> bool:
        """Whether the last operation did what it was meant to do."""
        return self.status.endswith("_COMPLETE") and "ROLLBACK" not in self.status and not self.gone


@dataclass(frozen=True)
class Change:
    """One resource of a change set. `action` is Add, Modify, Remove or another word of CloudFormation's.

    `replaced`: it is made anew under the same name in the template; `kept`: it leaves the stack and stays.
    """

    action: str
    logical_id: str
    kind: str
    replaced: bool = False
    kept: bool = False


@dataclass(frozen=True)
class ChangeSet:
    """What executing it would do."""

    arn: str
    stack: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened to a resource of a stack, or to the stack itself."""

    event_id: str
    at: datetime
    logical_id: str
    kind: str
    status: str
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.status.endswith("_FAILED")


@dataclass(frozen=True)
class Drift:
    """A resource of a stack that is no longer as its template says: gone, or with other values of these properties."""

    logical_id: str
    kind: str
    properties: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.logical_id} ({', '.join(self.properties) or 'gone'})"


class Stacks(Protocol):
    """CloudFormation in one Region. Every method raises StackError."""

    def find(self, name: str) -> Stack | None:
        """The stack of that name, or (by its ARN) one that is gone; None only if there certainly is none."""

    def template(self, name: str) -> object:
        """What its template says, as a plain value."""

    def propose(
        self, name: str, template: str, parameters: Mapping[str, str], *, new: bool, url: str | None = None
    ) -> ChangeSet | None:
        """A change set that can be executed; None, and nothing left behind, if it would change nothing.

        `url` is where the template lies in S3, if it is too large to be sent along.
        """

    def execute(self, change_set: ChangeSet) -> None:
        """Start it; the stack is busy from then on."""

    def discard(self, change_set: ChangeSet, *, new: bool) -> None:
        """Take it back, and with it a stack that it alone has brought into being."""

    def delete(self, name: str) -> None:
        """Start to delete; what the template says must be kept stays."""

    def protect(self, name: str, *, on: bool) -> None:
        """Whether a deletion is refused."""

    def finish_rollback(self, name: str) -> None:
        """Start anew the undoing of a change that got stuck."""

    def events(self, arn: str) -> tuple[Event, ...]:
        """The stack's latest events, the oldest first; a page of them at least."""


def step(stack: Stack | None) -> Step:
    """What must be done next with a stack that shall come to be as its template says."""
    if stack is None or stack.gone or stack.status == "REVIEW_IN_PROGRESS":
        return "create"
    if stack.busy:
        return "wait"
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        return "finish the rollback"
    # Of these nothing was ever good, or nothing shall be any more; CloudFormation only lets them be deleted.
    if stack.status in (
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "CREATE_FAILED",
        "DELETE_FAILED",
        "IMPORT_ROLLBACK_FAILED",
    ):
        return "delete"
    return "update"


def first_failure(events: Iterable[Event]) -> Event | None:
    """The event that made an operation fail; what followed from it ("cancelled") is passed over."""
    failed = [one for one in events if one.failed and "cancelled" not in one.reason.lower()]
    return next((one for one in failed if one.kind != STACK), failed[0] if failed else None)


# Part of what CloudFormation passes on of a service's refusal, and what to do about it.
HINTS = (
    ("explicit deny", "a policy of the organization forbids it: whoever administers it must allow that first"),
    ("is not authorized to perform", "give the role that deploys the right that is named there, and deploy again"),
    ("AccessDenied", "give the role that deploys the right that it lacks (docs/iam.md, Deployer), and deploy again"),
    ("already exists", "something else has that name: delete it, or choose another deployment"),
    ("AlreadyExists", "something else has that name: delete it, or choose another deployment"),
    ("conflicting conditional operation", "S3 has not quite done with the bucket of before: deploy again in a minute"),
    ("BucketNotEmpty", "empty the bucket, or let it be kept"),
    ("LimitExceeded", "the account is at a quota of AWS: have it raised (Service Quotas), and deploy again"),
    ("to assume the role", "a new role takes a moment to be known everywhere: deploy again"),
    ("cannot be assumed", "a new role takes a moment to be known everywhere: deploy again"),
)
OTHERWISE = "mend that, and deploy again; what was there before is still at work"


def hint(reason: str) -> str:
    """What to do about the reason of a failed event."""
    return next((advice for part, advice in HINTS if part in reason), OTHERWISE)
