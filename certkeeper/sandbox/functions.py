"""Lambda on loopback: the functions of an AwsServer really run, from their own zip and under the rights of their role.

moto only keeps what it is told of a function. Here an invocation runs the deployed zip; its log goes to CloudWatch
Logs, what the log says in embedded metric format becomes metrics, a failed asynchronous run goes to its destination,
and schedules fire when they are told to.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from moto.backends import get_backend

from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.aws_calls import AwsRequest, refusal
from certkeeper.sandbox.lambda_python import find_interpreter
from certkeeper.sandbox.lambda_runtime import Invocation, LambdaFunction
from certkeeper.sandbox.loopback import Response
from certkeeper.sandbox.processes import SandboxError


@dataclass(frozen=True)
class Point:
    """One value of a metric, as the log told it."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]
    at: datetime
    value: float


class Functions:
    """Answers invocations until close(). `points` are the metrics of all logs, in order.

    `late_rights` is how many runs still have the earlier policies of a role after each change of them, since IAM tells
    all of AWS only after some seconds; a new role's were none.
    """

    def __init__(self, server: AwsServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._running: dict[str, tuple[object, LambdaFunction]] = {}
        self._threads: list[threading.Thread] = []
        self._ending = ExitStack()
        self._folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="certkeeper-functions-")))
        self._known_policies: dict[str, tuple[list[Any], int]] = {}
        self.points: list[Point] = []
        self.late_rights = 0
        server.serve("lambda", self._answer)

    def close(self) -> None:
        """End every process, once what runs has ended."""
        for thread in self._threads:
            thread.join(120)
        for _, function in self._running.values():
            function.close()
        self._ending.close()

    def fire(self, schedule: str) -> Invocation | None:
        """What EventBridge Scheduler does at the hour. What cannot be delivered goes to the dead-letter queue: None."""
        found = get_backend("scheduler")[ACCOUNT][self._server.region].get_schedule("default", schedule)
        target = found.target
        name = target["Arn"].rpartition(":")[2]
        refused = self._refused_to(target["RoleArn"], "lambda:InvokeFunction", target["Arn"])
        if refused or self._function(name) is None:
            self._send(target["DeadLetterConfig"]["Arn"], {"error": refused or "ResourceNotFoundException"})
            return None
        return self._run_asynchronously(name, json.loads(target.get("Input", "{}")))

    def invoke(self, name: str, event: object) -> Invocation:
        """Run it once and wait. Raises SandboxError if it cannot run here."""
        with self._lock:
            function = self._started(name)
        spec = self._function(name)
        invocation = function.invoke(event, timeout=spec.timeout)
        # moto forgets LoggingConfig; ours names the group that Lambda takes anyway.
        self._log(f"/aws/lambda/{name}", invocation)
        return invocation

    # The API.

    def _answer(self, seen: AwsRequest) -> Response | None:
        if seen.operation != "Invoke":
            return None
        name = seen.resource.rpartition(":")[2]
        if self._function(name) is None:
            return refusal(seen, 404, "ResourceNotFoundException", f"Function not found: {seen.resource}")
        event = json.loads(seen.request.body or b"{}")
        if seen.request.headers.get("x-amz-invocation-type", "") == "Event":
            self._start(lambda: self._run_asynchronously(name, event))
            return Response(202)
        invocation = self.invoke(name, event)
        if invocation.error is None:
            return Response(200, [("Content-Type", "application/json")], json.dumps(invocation.payload).encode())
        said = {"errorType": invocation.error.kind, "errorMessage": invocation.error.message}
        return Response(200, [("X-Amz-Function-Error", "Unhandled")], json.dumps(said).encode())

    def _start(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, name="lambda-event", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_asynchronously(self, name: str, event: object) -> Invocation:
        configs = [one.config for one in self._function(name).event_invoke_config]
        config = configs[-1] if configs else {}
        for _ in range(1 + config.get("MaximumRetryAttempts", 2)):
            invocation = self.invoke(name, event)
            if invocation.error is None:
                return invocation
        failed = config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        if failed and invocation.error is not None:
            self._send(failed, {"requestPayload": event, "responsePayload": {"errorMessage": invocation.error.message}})
        return invocation

    # What runs.

    def _function(self, name: str) -> Any:
        functions = get_backend("lambda")[ACCOUNT][self._server.region].list_functions()
        return next((one for one in functions if one.function_name == name), None)

    def _started(self, name: str) -> LambdaFunction:
        spec = self._function(name)
        access_key_id = self._acting_as(name, spec.role)
        as_deployed = (spec.code_sha_256, spec.handler, spec.environment_vars, spec.run_time, spec.memory_size)
        before = self._running.get(name)
        if before is not None:
            if before[0] == as_deployed:
                return before[1]
            before[1].close()
        interpreter = find_interpreter()
        if spec.run_time != f"python{interpreter.version}":
            raise SandboxError(f"the function wants {spec.run_time}, and here is Python {interpreter.version}")
        zip_path = self._folder / f"{name}.zip"
        zip_path.write_bytes(spec.code_bytes)
        environment = {
            **spec.environment_vars,
            "AWS_ENDPOINT_URL": self._server.url,
            "AWS_ACCESS_KEY_ID": access_key_id,
        }
        function = LambdaFunction(
            zip_path, interpreter, environment, name=name, region=self._server.region, memory=spec.memory_size
        )
        self._running[name] = (as_deployed, function)
        return function

    def _acting_as(self, name: str, role_arn: str) -> str:
        """Credentials that may do what the role's policies say, once that is known."""
        access_key_id = f"ASIA{name.upper()}"
        before, runs = self._known_policies.get(role_arn, ([], 0))
        now = _policies(role_arn)
        late = now != before and runs < self.late_rights
        self._known_policies[role_arn] = (before, runs + 1) if late else (now, 0)
        self._server.rights.act_as(access_key_id, role_arn, *(before if late else now))
        return access_key_id

    def _refused_to(self, role_arn: str, action: str, resource: str) -> str:
        """Why a role may not do something, "" if it may."""
        if role_arn.rpartition("/")[2] not in _roles():
            return f"the role {role_arn} is not there"
        statements = [one for policy in _policies(role_arn) for one in policy["Statement"]]
        allowed = any(one["Action"] == action and one["Resource"] == resource for one in statements)
        return "" if allowed else f"{role_arn} is not authorized to perform: {action}"

    # Where it goes.

    def _send(self, queue_arn: str, message: Mapping[str, object]) -> None:
        sqs = service_client(self._server, "sqs")
        url = sqs.get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))

    def _log(self, group: str, invocation: Invocation) -> None:
        now = datetime.now(UTC)
        events = [{"timestamp": int(now.timestamp() * 1000), "message": line} for line in invocation.log_lines if line]
        logs = service_client(self._server, "logs")
        if events and logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            logs.create_log_stream(logGroupName=group, logStreamName=invocation.request_id)
            logs.put_log_events(logGroupName=group, logStreamName=invocation.request_id, logEvents=events)
        for line in invocation.log_lines:
            self.points += measured(line)


def service_client(server: AwsServer, service: str) -> Any:
    """A client of one of AWS's services for another, which no role's policies bind."""
    return boto3.session.Session().client(
        service,  # type: ignore[call-overload] # any service
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id="AKIASANDBOXSERVICES0",
        aws_secret_access_key="sandbox",  # noqa: S106 - there is no other
    )


def measured(line: str) -> list[Point]:
    """The metrics in a line of a log (CloudWatch Logs, embedded metric format specification); of others none."""
    try:
        said = json.loads(line)
    except ValueError:
        return []
    meta = said.get("_aws") if isinstance(said, dict) else None
    if not isinstance(meta, dict):
        return []
    at = datetime.fromtimestamp(meta["Timestamp"] / 1000, UTC)
    return [
        Point(
            directive["Namespace"],
            metric["Name"],
            frozenset((key, said[key]) for key in keys),
            at,
            said[metric["Name"]],
        )
        for directive in meta["CloudWatchMetrics"]
        for keys in directive["Dimensions"]
        for metric in directive["Metrics"]
    ]


def _roles() -> dict[str, Any]:
    return {role.name: role for role in get_backend("iam")[ACCOUNT]["aws"].roles.values()}


def _policies(role_arn: str) -> list[Any]:
    """The inline policies of a role."""
    role = _roles()[role_arn.rpartition("/")[2]]
    return [json.loads(one) if isinstance(one, str) else one for one in role.policies.values()]
