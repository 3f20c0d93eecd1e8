"""Stacks by AWS CloudFormation: change sets, and the events of what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.stacks import Change, ChangeSet, Drift, Event, Stack, StackError

LOOK_EVERY = 0.5
LONGEST_LOOK = 180  # seconds
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
OVERTAKEN = "somebody else is changing it: deploy again, which waits for that and looks anew"
HINTS = {
    "AccessDenied": "the role that deploys lacks rights on CloudFormation (docs/iam.md, Deployer)",
    "InsufficientCapabilitiesException": "this is a defect; please report it",
    "LimitExceededException": "the account has as many stacks as its quota allows",
    # What was proposed is void once another change of the stack has begun.
    "ChangeSetNotFound": OVERTAKEN,
    "InvalidChangeSetStatus": OVERTAKEN,
}


class CloudFormationStacks:
    """The stacks of one account and Region."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, name: str) -> Stack | None:
        try:
            found = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except Refused as error:
            if "does not exist" in str(error):
                return None
            raise _stack_error("asked about", name, error) from None
        return Stack(
            name=found["StackName"],
            arn=found["StackId"],
            status=found["StackStatus"],
            description=found.get("Description", ""),
            parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
            outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
            protected=found.get("EnableTerminationProtection", False),
        )

    def template(self, name: str) -> object:
        try:
            return self._client.get_template(StackName=name)["TemplateBody"]
        except Refused as error:
            raise _stack_error("asked for the template of", name, error) from None

    def propose(
        self, name: str, template: str, parameters: Mapping[str, str], *, new: bool, url: str | None = None
    ) -> ChangeSet | None:
        # Typed loosely: the body or the address, and not both.
        source: dict[str, Any] = {"TemplateURL": url} if url else {"TemplateBody": template}
        try:
            arn = self._client.create_change_set(
                StackName=name,
                ChangeSetName=f"certkeeper-{time.time_ns()}",
                ChangeSetType="CREATE" if new else "UPDATE",
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Tags=[{"Key": "certkeeper", "Value": name}],
                **source,
            )["Id"]
            described = self._described(arn)
            change_set = ChangeSet(arn, name, self._changes(arn))
        except Refused as error:
            raise _stack_error("asked to change", name, error) from None
        if described["Status"] == "CREATE_COMPLETE":
            return change_set
        self.discard(change_set, new=new)
        reason = described.get("StatusReason", "")
        if any(words in reason for words in NO_CHANGES):
            return None
        raise StackError(f"CloudFormation takes no such change of the stack {name}: {reason}")

    def _described(self, arn: str) -> Any:
        while True:
            described = self._client.describe_change_set(ChangeSetName=arn)
            if described["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                return described
            time.sleep(LOOK_EVERY)

    def _changes(self, arn: str) -> tuple[Change, ...]:
        pages = self._client.get_paginator("describe_change_set").paginate(ChangeSetName=arn)
        changes = [one["ResourceChange"] for page in pages for one in page.get("Changes", [])]
        return tuple(
            Change(
                action=one["Action"],
                logical_id=one["LogicalResourceId"],
                kind=one["ResourceType"],
                replaced=one.get("Replacement") == "True",
                kept=one.get("PolicyAction") == "Retain",
            )
            for one in changes
        )

    def execute(self, change_set: ChangeSet) -> None:
        try:
            self._client.execute_change_set(ChangeSetName=change_set.arn)
        except Refused as error:
            raise _stack_error("asked to change", change_set.stack, error) from None

    def discard(self, change_set: ChangeSet, *, new: bool) -> None:
        try:
            self._client.delete_change_set(ChangeSetName=change_set.arn)
            found = self.find(change_set.stack) if new else None
            if found is not None and found.status == "REVIEW_IN_PROGRESS":
                self._client.delete_stack(StackName=change_set.stack)
        except Refused as error:
            raise _stack_error("asked to forget a change of", change_set.stack, error) from None

    def delete(self, name: str) -> None:
        try:
            self._client.delete_stack(StackName=name)
        except Refused as error:
            raise _stack_error("asked to delete", name, error) from None

    def protect(self, name: str, *, on: bool) -> None:
        try:
            self._client.update_termination_protection(StackName=name, EnableTerminationProtection=on)
        except Refused as error:
            raise _stack_error("asked to protect", name, error) from None

    def finish_rollback(self, name: str) -> None:
        try:
            self._client.continue_update_rollback(StackName=name)
        except Refused as error:
            raise _stack_error("asked to undo the last change of", name, error) from None

    def events(self, arn: str) -> tuple[Event, ...]:
        try:
            found = self._client.describe_stack_events(StackName=arn)["StackEvents"]
        except Refused as error:
            raise _stack_error("asked for the events of", arn, error) from None
        return tuple(
            Event(
                event_id=one["EventId"],
                at=one["Timestamp"],
                logical_id=one.get("LogicalResourceId", ""),
                kind=one.get("ResourceType", ""),
                status=one.get("ResourceStatus", ""),
                reason=one.get("ResourceStatusReason", ""),
            )
            for one in reversed(found)
        )


def drifts(client: Any, name: str, wait: Callable[[float], None] = time.sleep) -> tuple[Drift, ...]:
    """What somebody has changed past CloudFormation, as far as it can look, which takes it up to some minutes. It
    changes nothing. Raises StackError.
    """
    try:
        detection = client.detect_stack_drift(StackName=name)["StackDriftDetectionId"]
        for _ in range(LONGEST_LOOK):
            said = client.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
            if said["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                break
            wait(1.0)
        else:
            raise StackError(f"CloudFormation still looks whether the stack {name} was changed", "try again")
        # One page, which has more room than ours have resources.
        found = client.describe_stack_resource_drifts(
            StackName=name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], MaxResults=100
        )["StackResourceDrifts"]
    except Refused as error:
        raise _stack_error("asked what was changed by hand in", name, error) from None
    return tuple(_drift(one) for one in found)


def _drift(said: Any) -> Drift:
    paths = (one["PropertyPath"].strip("/").split("/")[0] for one in said.get("PropertyDifferences", ()))
    return Drift(said["LogicalResourceId"], said["ResourceType"], tuple(dict.fromkeys(paths)))


def _stack_error(what: str, name: str, error: Exception) -> StackError:
    code = code_of(error)
    # Unlike other services' answers, what CloudFormation says of a template quotes nothing that is secret.
    said = f": {error.response['Error']['Message']}" if isinstance(error, ClientError) and code in SAYS_WHY else ""
    otherwise = OVERTAKEN if "_IN_PROGRESS" in said else "check the credentials, the region and the network"
    return StackError(
        f"CloudFormation could not be {what} the stack {name}: {code}{said}", hint_for(error, HINTS, otherwise)
    )


SAYS_WHY = ("ValidationError", "InsufficientCapabilitiesException", "AlreadyExistsException", "TokenAlreadyExists")
