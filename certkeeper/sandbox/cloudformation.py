"""CloudFormation on loopback: change sets, events, rollbacks, retained resources, and every resource really there.

moto answers CREATE_COMPLETE for any template and makes only some of it. Here an unknown type, property or intrinsic
function is refused, each resource is made by its service's API with the caller's credentials, and what fails is undone
as CloudFormation does it. Operations run in a thread, so a caller sees them in progress.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.aws_calls import AwsRequest, refusal
from certkeeper.sandbox.cloudformation_types import TYPES, Clients, Made
from certkeeper.sandbox.loopback import Response

LARGEST_INLINE = 51_200
NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
_SUBSTITUTED = re.compile(r"\$\{([^!}][^}]*)\}")
_RETAINED = ("Retain", "RetainExceptOnCreate")


class Refused(Exception):  # noqa: N818 - the request is, nothing failed
    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.message, self.code = message, code


@dataclass
class Resource:
    """A resource of a stack that is there."""

    type: str
    made: Made
    properties: dict[str, Any]
    definition: dict[str, Any]


@dataclass
class ChangeSet:
    name: str
    arn: str
    template: str
    parameters: dict[str, str]
    changes: list[dict[str, Any]]
    status: str = "CREATE_COMPLETE"
    reason: str = ""


@dataclass
class Stack:
    name: str
    arn: str
    status: str
    template: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    drifts: list[dict[str, Any]] = field(default_factory=list)
    protected: bool = False
    reason: str = ""
    description: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


class CloudFormation:
    """Answers an AwsServer's requests to CloudFormation until close()."""

    def __init__(self, server: AwsServer) -> None:
        self._server = server
        self._lock = threading.RLock()
        self.stacks: dict[str, Stack] = {}
        self.deleted: list[Stack] = []
        self._threads: list[threading.Thread] = []
        self._session = boto3.session.Session()
        self._made_clients: dict[tuple[str, str], Any] = {}
        server.serve("cloudformation", self.answer)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        for thread in self._threads:
            thread.join(30)

    def close(self) -> None:
        self.settle()
        for client in self._made_clients.values():
            client.close()

    def answer(self, seen: AwsRequest) -> Response:
        form = dict(parse_qsl(seen.request.body.decode(), keep_blank_values=True))
        operation = getattr(self, f"_{seen.operation}", None)
        if operation is None:
            return refusal(seen, 400, "InvalidAction", f"the sandbox's CloudFormation has no {seen.operation}")
        clients = self._clients(seen.principal)
        try:
            with self._lock:
                result = operation(form, clients)
        except Refused as error:
            return refusal(seen, 400, error.code, error.message)
        inner = f"<{seen.operation}Result>{_xml(result or {})}</{seen.operation}Result>"
        whole = f'<{seen.operation}Response xmlns="{NAMESPACE}">{inner}</{seen.operation}Response>'
        return Response(200, [("Content-Type", "text/xml")], whole.encode())

    def _clients(self, principal: str) -> Clients:
        def client(service: str) -> Any:
            if (service, principal) not in self._made_clients:
                self._made_clients[service, principal] = self._session.client(
                    service,  # type: ignore[call-overload] # any service
                    endpoint_url=self._server.url,
                    region_name=self._server.region,
                    aws_access_key_id=principal,
                    aws_secret_access_key="sandbox",  # noqa: S106 - there is no other
                    # What fails, fails at once: retries are the caller's, who starts the operation again.
                    config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
                )
            return self._made_clients[service, principal]

        return client

    # Operations.

    def _CreateChangeSet(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        name, kind = form["StackName"], form.get("ChangeSetType", "UPDATE")
        stack = self.stacks.get(name)
        if kind == "CREATE" and stack is not None and stack.status != "REVIEW_IN_PROGRESS":
            raise Refused(f"Stack [{name}] already exists and cannot be created again with the changeSet.")
        if kind == "UPDATE" and stack is None:
            raise Refused(f"Stack [{name}] does not exist")
        if kind == "UPDATE" and stack is not None and not _changeable(stack.status):
            raise Refused(f"Stack:{stack.arn} is in {stack.status} state and can not be updated.")
        text = self._template_text(form, aws)
        parameters = _parameters(form, stack)
        template = _checked(text, parameters, form)
        stack = stack or Stack(name, self._arn("stack", name), "REVIEW_IN_PROGRESS")
        changes = list(_changes(template, parameters, stack.resources, self._intrinsics(stack, parameters)))
        if name not in self.stacks:
            self.stacks[name] = stack
            self._event(stack, name, "AWS::CloudFormation::Stack", "REVIEW_IN_PROGRESS")
        change_set = ChangeSet(
            form["ChangeSetName"], self._arn("changeSet", form["ChangeSetName"]), text, parameters, changes
        )
        # Of a new stack too: whether CloudFormation takes one of nothing its documentation does not say.
        if not changes:
            change_set.status = "FAILED"
            change_set.reason = (
                "The submitted information didn't contain changes. Submit different information to create a change set."
            )
        stack.change_sets[change_set.arn] = change_set
        return {"Id": change_set.arn, "StackId": stack.arn}

    def _CreateStack(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        """What the console does with a template and its parameters."""
        if form["StackName"] in self.stacks:
            raise Refused(f"Stack [{form['StackName']}] already exists", "AlreadyExistsException")
        proposed = self._CreateChangeSet({**form, "ChangeSetType": "CREATE", "ChangeSetName": "create"}, aws)
        self._ExecuteChangeSet({"ChangeSetName": proposed["Id"]}, aws)
        self.stacks[form["StackName"]].protected = form.get("EnableTerminationProtection") == "true"
        return {"StackId": proposed["StackId"]}

    def _DescribeChangeSet(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        stack, change_set = self._change_set(form)
        return {
            "ChangeSetName": change_set.name,
            "ChangeSetId": change_set.arn,
            "StackId": stack.arn,
            "StackName": stack.name,
            "Status": change_set.status,
            "StatusReason": change_set.reason or None,
            "ExecutionStatus": "AVAILABLE" if change_set.status == "CREATE_COMPLETE" else "UNAVAILABLE",
            "Changes": [{"Type": "Resource", "ResourceChange": one} for one in change_set.changes],
        }

    def _DeleteChangeSet(self, form: Mapping[str, str], aws: Clients) -> None:
        stack, change_set = self._change_set(form)
        del stack.change_sets[change_set.arn]

    def _ExecuteChangeSet(self, form: Mapping[str, str], aws: Clients) -> None:
        stack, change_set = self._change_set(form)
        if change_set.status != "CREATE_COMPLETE":
            raise Refused(f"ChangeSet [{change_set.arn}] cannot be executed in its current status")
        kind = "CREATE" if stack.status == "REVIEW_IN_PROGRESS" else "UPDATE"
        stack.change_sets.clear()
        stack.status = f"{kind}_IN_PROGRESS"
        stack.description = json.loads(change_set.template).get("Description")
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.status, "User Initiated")
        self._start(lambda: self._execute(stack, change_set, kind, aws))

    def _ContinueUpdateRollback(self, form: Mapping[str, str], aws: Clients) -> None:
        stack = self._stack(form)
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise Refused(f"Stack [{stack.arn}] is in {stack.status} state and can not continue rollback")
        self._status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self._start(lambda: self._roll_back(stack, aws))

    def _DescribeStacks(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        stack = self._stack(form)
        return {
            "Stacks": [
                {
                    "StackId": stack.arn,
                    "StackName": stack.name,
                    "StackStatus": stack.status,
                    "StackStatusReason": stack.reason or None,
                    "Description": stack.description,
                    "CreationTime": stack.created.isoformat(),
                    "EnableTerminationProtection": stack.protected,
                    "Parameters": [
                        {"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()
                    ],
                    "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in stack.outputs.items()],
                }
            ]
        }

    def _DescribeStackEvents(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        return {"StackEvents": list(reversed(self._stack(form).events))}

    def _GetTemplate(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        return {"TemplateBody": self._stack(form).template}

    def _DetectStackDrift(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        stack = self._stack(form)
        stack.drifts = [_drift(stack, name, one, aws) for name, one in stack.resources.items()]
        return {"StackDriftDetectionId": stack.arn}

    def _DescribeStackDriftDetectionStatus(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        return {
            "StackId": form["StackDriftDetectionId"],
            "StackDriftDetectionId": form["StackDriftDetectionId"],
            "DetectionStatus": "DETECTION_COMPLETE",
            "Timestamp": datetime.now(UTC).isoformat(),
        }

    def _DescribeStackResourceDrifts(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        wanted = {value for key, value in form.items() if key.startswith("StackResourceDriftStatusFilters.")}
        found = [one for one in self._stack(form).drifts if one["StackResourceDriftStatus"] in wanted]
        return {"StackResourceDrifts": found}

    def _UpdateTerminationProtection(self, form: Mapping[str, str], aws: Clients) -> dict[str, Any]:
        stack = self._stack(form)
        stack.protected = form["EnableTerminationProtection"] == "true"
        return {"StackId": stack.arn}

    def _DeleteStack(self, form: Mapping[str, str], aws: Clients) -> None:
        stack = self.stacks.get(_name(form))
        if stack is None:
            return
        if stack.protected:
            raise Refused(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        stack.status = "DELETE_IN_PROGRESS"
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.status, "User Initiated")
        self._start(lambda: self._delete(stack, aws))

    # In the thread of an operation.

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="cloudformation", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _execute(self, stack: Stack, change_set: ChangeSet, kind: str, aws: Clients) -> None:
        template, parameters = json.loads(change_set.template), change_set.parameters
        before = (stack.template, stack.parameters)
        stack.parameters = parameters
        failed = self._applied(stack, template, parameters, aws, kind)
        if failed is None:
            self._cleaned(stack, template, parameters, aws)
            stack.template = change_set.template
            self._finished(stack, f"{kind}_COMPLETE", template)
            return
        stack.reason = f"The following resource(s) failed to {kind.lower()}: [{failed}]."
        if kind == "CREATE":
            self._status(stack, "ROLLBACK_IN_PROGRESS", stack.reason)
            for logical_id in reversed(list(stack.resources)):
                resource = stack.resources[logical_id]
                # What was just made holds nothing yet: RetainExceptOnCreate means this.
                if resource.definition.get("DeletionPolicy") != "Retain":
                    self._removed(stack, logical_id, resource, aws)
            self._status(stack, "ROLLBACK_COMPLETE")
            return
        self._status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", stack.reason)
        stack.parameters = before[1]
        self._roll_back(stack, aws)

    def _roll_back(self, stack: Stack, aws: Clients) -> None:
        old = json.loads(stack.template)
        again = self._applied(stack, old, stack.parameters, aws, "UPDATE")
        if again is None:
            self._cleaned(stack, old, stack.parameters, aws)
        self._status(stack, "UPDATE_ROLLBACK_FAILED" if again else "UPDATE_ROLLBACK_COMPLETE")

    def _applied(
        self, stack: Stack, template: dict[str, Any], parameters: dict[str, str], aws: Clients, kind: str
    ) -> str | None:
        """Make or change what the template says, in the order of its references; the first that failed."""
        for logical_id in _ordered(template):
            definition = template["Resources"][logical_id]
            intrinsics = self._intrinsics(stack, parameters)
            if not intrinsics.holds(definition.get("Condition"), template):
                continue
            properties = intrinsics.resolved(definition["Properties"], template)
            resource = stack.resources.get(logical_id)
            if resource and resource.properties == properties:
                continue
            verb = "UPDATE" if resource and not _replaced(resource, properties) else "CREATE"
            try:
                self._event(stack, logical_id, definition["Type"], f"{verb}_IN_PROGRESS")
                self._made(stack, logical_id, definition, properties, aws)
            except (ClientError, BotoCoreError) as error:
                self._event(stack, logical_id, definition["Type"], f"{verb}_FAILED", _reason(error, definition))
                return logical_id
            self._event(stack, logical_id, definition["Type"], f"{verb}_COMPLETE")
        return None

    def _made(
        self, stack: Stack, logical_id: str, definition: dict[str, Any], properties: dict[str, Any], aws: Clients
    ) -> None:
        kind, resource = TYPES[definition["Type"]], stack.resources.get(logical_id)
        if resource and not _replaced(resource, properties):
            kind.change(aws, resource.made, resource.properties, properties)
            made = resource.made
        else:
            suffix = uuid.uuid4().hex[:12].upper()
            made = kind.make(aws, properties, f"{stack.name}-{logical_id}-{suffix}")
            if resource and resource.definition.get("UpdateReplacePolicy") not in _RETAINED:
                with suppress(ClientError):
                    kind.remove(aws, resource.made, resource.properties)
        stack.resources[logical_id] = Resource(definition["Type"], made, properties, definition)

    def _cleaned(self, stack: Stack, template: dict[str, Any], parameters: dict[str, str], aws: Clients) -> None:
        """Take away what the template no longer has."""
        intrinsics = self._intrinsics(stack, parameters)
        for logical_id in reversed(list(stack.resources)):
            definition = template["Resources"].get(logical_id)
            if definition is None or not intrinsics.holds(definition.get("Condition"), template):
                self._removed(stack, logical_id, stack.resources[logical_id], aws, retain=True)

    def _removed(
        self, stack: Stack, logical_id: str, resource: Resource, aws: Clients, *, retain: bool = False
    ) -> bool:
        if retain and resource.definition.get("DeletionPolicy") in _RETAINED:
            self._event(stack, logical_id, resource.type, "DELETE_SKIPPED")
        else:
            self._event(stack, logical_id, resource.type, "DELETE_IN_PROGRESS")
            try:
                TYPES[resource.type].remove(aws, resource.made, resource.properties)
            except (ClientError, BotoCoreError) as error:
                if not _is_gone(error):
                    self._event(stack, logical_id, resource.type, "DELETE_FAILED", _reason(error, resource.definition))
                    return False
            self._event(stack, logical_id, resource.type, "DELETE_COMPLETE")
        del stack.resources[logical_id]
        return True

    def _delete(self, stack: Stack, aws: Clients) -> None:
        failed = [
            logical_id
            for logical_id in reversed(list(stack.resources))
            if not self._removed(stack, logical_id, stack.resources[logical_id], aws, retain=True)
        ]
        if failed:
            self._status(stack, "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}].")
            return
        self._status(stack, "DELETE_COMPLETE")
        with self._lock:
            self.deleted.append(self.stacks.pop(stack.name))

    def _finished(self, stack: Stack, status: str, template: dict[str, Any]) -> None:
        intrinsics = self._intrinsics(stack, stack.parameters)
        stack.outputs = {
            key: intrinsics.resolved(one["Value"], template) for key, one in template.get("Outputs", {}).items()
        }
        self._status(stack, status)

    # Small parts.

    def _status(self, stack: Stack, status: str, reason: str = "") -> None:
        with self._lock:
            stack.reason = reason
            self._event(stack, stack.name, "AWS::CloudFormation::Stack", status, reason)
            # Last, since whoever waits for it goes on at once.
            stack.status = status

    def _event(self, stack: Stack, logical_id: str, kind: str, status: str, reason: str = "") -> None:
        resource = stack.resources.get(logical_id)
        with self._lock:
            stack.events.append(
                {
                    "StackId": stack.arn,
                    "StackName": stack.name,
                    "EventId": uuid.uuid4().hex,
                    "LogicalResourceId": logical_id,
                    "PhysicalResourceId": resource.made.reference if resource else stack.arn,
                    "ResourceType": kind,
                    "Timestamp": datetime.now(UTC).isoformat(),
                    "ResourceStatus": status,
                    "ResourceStatusReason": reason or None,
                }
            )

    def _stack(self, form: Mapping[str, str]) -> Stack:
        name = _name(form)
        found = [stack for stack in (*self.stacks.values(), *self.deleted) if form.get("StackName") == stack.arn]
        if name in self.stacks:
            return self.stacks[name]
        if found:
            return found[0]
        raise Refused(f"Stack with id {name} does not exist")

    def _change_set(self, form: Mapping[str, str]) -> tuple[Stack, ChangeSet]:
        for stack in self.stacks.values():
            for change_set in stack.change_sets.values():
                if form["ChangeSetName"] in (change_set.name, change_set.arn):
                    return stack, change_set
        raise Refused(f"ChangeSet [{form['ChangeSetName']}] does not exist", "ChangeSetNotFound")

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:cloudformation:{self._server.region}:{ACCOUNT}:{kind}/{name}/{uuid.uuid4()}"

    def _template_text(self, form: Mapping[str, str], aws: Clients) -> str:
        if "TemplateURL" not in form:
            text = form["TemplateBody"]
            if len(text.encode()) > LARGEST_INLINE:
                raise Refused(f"'templateBody' failed to satisfy constraint: length <= {LARGEST_INLINE}")
            return text
        bucket, _, object_key = unquote(urlsplit(form["TemplateURL"]).path).lstrip("/").partition("/")
        try:
            return str(aws("s3").get_object(Bucket=bucket, Key=object_key)["Body"].read().decode())
        except ClientError as error:
            raise Refused(f"S3 error: {error.response['Error']['Code']}") from None

    def _intrinsics(self, stack: Stack, parameters: Mapping[str, str]) -> Intrinsics:
        pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Region": self._server.region,
            "AWS::Partition": "aws",
            "AWS::StackName": stack.name,
            "AWS::StackId": stack.arn,
        }
        return Intrinsics({**pseudo, **parameters}, stack.resources)


@dataclass(frozen=True)
class Intrinsics:
    """What Ref, Fn::GetAtt and the like come to. What is not there yet stays as it is written."""

    values: Mapping[str, str]
    resources: Mapping[str, Resource]

    def resolved(self, value: Any, template: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self.resolved(one, template) for one in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), *_ = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument, template)
        return {key: self.resolved(one, template) for key, one in value.items()}

    def _function(self, name: str, argument: Any, template: Mapping[str, Any]) -> Any:
        if name == "Ref":
            return self._reference(argument)
        if name == "Fn::GetAtt":
            resource = self.resources.get(argument[0])
            return resource.made.attributes[argument[1]] if resource else {name: argument}
        if name == "Fn::Sub" and isinstance(argument, str):
            return _SUBSTITUTED.sub(lambda found: str(self._named(found[1])), argument)
        if name == "Fn::If":
            chosen = argument[1] if self.holds(argument[0], template) else argument[2]
            return self.resolved(chosen, template)
        if name == "Fn::Equals":
            first, second = (self.resolved(one, template) for one in argument)
            return first == second
        raise Refused(f"the sandbox's CloudFormation has no {name}")

    def _reference(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        resource = self.resources.get(name)
        return resource.made.reference if resource else {"Ref": name}

    def _named(self, name: str) -> Any:
        return self._reference(name) if "." not in name else self._function("Fn::GetAtt", name.split(".", 1), {})

    def holds(self, condition: str | None, template: Mapping[str, Any]) -> bool:
        return condition is None or bool(self.resolved(template["Conditions"][condition], template))


def _changeable(status: str) -> bool:
    return status.endswith("_COMPLETE") and status not in ("ROLLBACK_COMPLETE", "DELETE_COMPLETE")


def _name(form: Mapping[str, str]) -> str:
    named = form.get("StackName", "")
    return named.split("/")[1] if named.startswith("arn:") else named


def _parameters(form: Mapping[str, str], stack: Stack | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for field_name, key in form.items():
        if field_name.startswith("Parameters.member.") and field_name.endswith(".ParameterKey"):
            start = field_name.removesuffix("ParameterKey")
            if form.get(f"{start}UsePreviousValue") == "true" and stack is not None:
                found[key] = stack.parameters[key]
            else:
                found[key] = form[f"{start}ParameterValue"]
    return found


def _checked(text: str, parameters: dict[str, str], form: Mapping[str, str]) -> dict[str, Any]:
    """The template, with defaults put among the parameters. Raises Refused for what is not known here."""
    try:
        template: dict[str, Any] = json.loads(text)
    except ValueError:
        raise Refused("Template format error: JSON not well-formed.") from None
    declared = template.get("Parameters", {})
    unknown = set(parameters) - set(declared)
    if unknown:
        raise Refused(f"Parameters: [{', '.join(sorted(unknown))}] do not exist in the template")
    for key, one in declared.items():
        if "Default" in one:
            parameters.setdefault(key, one["Default"])
        if key not in parameters:
            raise Refused(f"Parameters: [{key}] must have values")
        if parameters[key] not in one.get("AllowedValues", [parameters[key]]):
            raise Refused(f"Parameter {key} must be one of AllowedValues")
    for logical_id, definition in template["Resources"].items():
        _check_resource(logical_id, definition, set(form.values()))
    _ordered(template)
    return template


def _check_resource(logical_id: str, definition: Mapping[str, Any], capabilities: set[str]) -> None:
    kind, properties = TYPES.get(definition["Type"]), definition["Properties"]
    if kind is None:
        raise Refused(f"Template format error: Unrecognized resource types: [{definition['Type']}]")
    strange = set(properties) - kind.properties
    if strange:
        raise Refused(f"the sandbox does not know {', '.join(sorted(strange))} of {logical_id}")
    if definition["Type"].startswith("AWS::IAM::"):
        needed = "CAPABILITY_NAMED_IAM" if "RoleName" in properties else "CAPABILITY_IAM"
        if not capabilities & {needed, "CAPABILITY_NAMED_IAM"}:
            raise Refused(f"Requires capabilities : [{needed}]", "InsufficientCapabilitiesException")


def _references(value: Any) -> Iterator[str]:
    """The names that a value refers to."""
    if isinstance(value, list):
        for one in value:
            yield from _references(one)
    elif isinstance(value, dict):
        for name, argument in value.items():
            if name == "Ref":
                yield argument
            elif name == "Fn::GetAtt":
                yield argument[0]
            elif name == "Fn::Sub":
                yield from (found.split(".")[0] for found in _SUBSTITUTED.findall(argument))
            else:
                yield from _references(argument)


def _ordered(template: Mapping[str, Any]) -> list[str]:
    """The resources, each after those that it refers to."""
    resources, done = template["Resources"], []
    declared = {*template.get("Parameters", {}), *resources}

    def visit(logical_id: str, above: tuple[str, ...]) -> None:
        if logical_id in above:
            raise Refused(f"Circular dependency between resources: [{', '.join(above)}]")
        if logical_id in done:
            return
        definition = resources[logical_id]
        needs = definition.get("DependsOn", [])
        for name in (*_references(definition["Properties"]), *([needs] if isinstance(needs, str) else needs)):
            if name in resources:
                visit(name, (*above, logical_id))
            elif name not in declared and not name.startswith("AWS::"):
                raise Refused(f"Template format error: Unresolved resource dependencies [{name}]")
        done.append(logical_id)

    for logical_id in resources:
        visit(logical_id, ())
    return done


def _changes(
    template: dict[str, Any], parameters: dict[str, str], before: Mapping[str, Resource], intrinsics: Intrinsics
) -> Iterator[dict[str, Any]]:
    there = {
        logical_id: definition
        for logical_id, definition in template["Resources"].items()
        if intrinsics.holds(definition.get("Condition"), template)
    }
    for logical_id, definition in there.items():
        resource = before.get(logical_id)
        properties = intrinsics.resolved(definition["Properties"], template)
        if resource is None:
            yield _change("Add", logical_id, definition["Type"])
        elif properties != resource.properties:
            replaced = str(_replaced(resource, properties))
            yield _change("Modify", logical_id, definition["Type"], resource, Replacement=replaced)
    for logical_id, resource in before.items():
        if logical_id not in there:
            kept = resource.definition.get("DeletionPolicy") in _RETAINED
            more = {"PolicyAction": "Retain" if kept else "Delete"}
            yield _change("Remove", logical_id, resource.type, resource, **more)


def _change(action: str, logical_id: str, kind: str, resource: Resource | None = None, **more: str) -> dict[str, Any]:
    change = {"Action": action, "LogicalResourceId": logical_id, "ResourceType": kind, **more}
    return {**change, "PhysicalResourceId": resource.made.reference} if resource else change


def _drift(stack: Stack, logical_id: str, resource: Resource, aws: Clients) -> dict[str, Any]:
    """How a resource is, compared with how it was made."""
    look = TYPES[resource.type].look
    there = look(aws, resource.made) if look else {}
    differences = [
        {"PropertyPath": f"/{key}", "ExpectedValue": str(resource.properties[key]), "ActualValue": str(value),
         "DifferenceType": "NOT_EQUAL"}
        for key, value in (there or {}).items()
        if key in resource.properties and resource.properties[key] != value
    ]  # fmt: skip
    status = "DELETED" if there is None else "MODIFIED" if differences else "IN_SYNC" if look else "NOT_CHECKED"
    return {
        "StackId": stack.arn,
        "LogicalResourceId": logical_id,
        "PhysicalResourceId": resource.made.reference,
        "ResourceType": resource.type,
        "StackResourceDriftStatus": status,
        "PropertyDifferences": differences,
        "Timestamp": datetime.now(UTC).isoformat(),
    }


def _replaced(resource: Resource, properties: Mapping[str, Any]) -> bool:
    fixed = TYPES[resource.type].fixed
    return any(resource.properties.get(name) != properties.get(name) for name in fixed)


def _is_gone(error: ClientError | BotoCoreError) -> bool:
    """Whether there was nothing to delete: a delete handler says NotFound, and CloudFormation is content with that."""
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    return any(word in code for word in ("NotFound", "NoSuch", "NonExistent", "DoesNotExist"))


def _reason(error: ClientError | BotoCoreError, definition: Mapping[str, Any]) -> str:
    """In the words in which CloudFormation passes on what a service said."""
    if not isinstance(error, ClientError):
        return f"Internal Failure ({type(error).__name__})"
    said, service = error.response["Error"], definition["Type"].split("::")[1]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    code = said["Code"].removesuffix("Exception").removesuffix("Error")
    return (
        f'Resource handler returned message: "{said["Message"]} (Service: {service}, Status Code: {status}, '
        f'Request ID: 0)" (RequestToken: 0, HandlerErrorCode: {code})'
    )


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{key}>{_xml(one)}</{key}>" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return "".join(f"<member>{_xml(one)}</member>" for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))
