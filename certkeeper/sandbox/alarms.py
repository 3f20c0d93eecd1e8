"""CloudWatch's alarms on loopback: evaluated on metrics of the functions' logs, and telling their topic if they may.

The evaluation is that of the CloudWatch user guide, "Alarm evaluation", as far as certkeeper's alarms use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.functions import Point, service_client
from certkeeper.sandbox.processes import SandboxError

STATISTICS: dict[str, Callable[[list[float]], float]] = {"Maximum": max, "Minimum": min, "Sum": sum}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
NO_DATA = {"breaching": True, "notBreaching": False}


class Alarms:
    """The alarms of an AwsServer's account, looked at whenever `evaluate` is called. `states` are their latest."""

    def __init__(self, server: AwsServer) -> None:
        self._cloudwatch, self._sns = service_client(server, "cloudwatch"), service_client(server, "sns")
        self.states: dict[str, str] = {}

    def close(self) -> None:
        self._cloudwatch.close()
        self._sns.close()

    def evaluate(self, points: Sequence[Point], now: datetime) -> list[str]:
        """Look at every alarm as at `now`; the names of those that changed their state, and so told their topic."""
        changed = []
        for alarm in self._cloudwatch.describe_alarms()["MetricAlarms"]:
            name, before = alarm["AlarmName"], self.states.get(alarm["AlarmName"], "INSUFFICIENT_DATA")
            state = state_of(alarm, points, now) or before
            if state == before:
                continue
            changed.append(name)
            self.states[name] = state
            for topic_arn in alarm["AlarmActions" if state == "ALARM" else "OKActions"]:
                self._publish(topic_arn, alarm, state)
        return changed

    def _publish(self, topic_arn: str, alarm: Mapping[str, Any], state: str) -> None:
        attributes = self._sns.get_topic_attributes(TopicArn=topic_arn)["Attributes"]
        if attributes.get("KmsMasterKeyId") == "alias/aws/sns":
            raise SandboxError(f"CloudWatch may not use the key that encrypts {topic_arn}")
        statements = json.loads(attributes["Policy"])["Statement"]
        if not any(
            one["Effect"] == "Allow" and one["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
            for one in statements
        ):
            raise SandboxError(f"CloudWatch may not publish to {topic_arn}")
        said = {
            "AlarmName": alarm["AlarmName"],
            "AlarmDescription": alarm["AlarmDescription"],
            "NewStateValue": state,
        }
        subject = f'{state}: "{alarm["AlarmName"]}"'
        self._sns.publish(TopicArn=topic_arn, Subject=subject, Message=json.dumps(said))


def state_of(alarm: Mapping[str, Any], points: Sequence[Point], now: datetime) -> str | None:
    """ALARM, OK, or None: as before."""
    period, count = timedelta(seconds=alarm["Period"]), alarm["EvaluationPeriods"]
    dimensions = frozenset((one["Name"], one["Value"]) for one in alarm["Dimensions"])
    ours = [
        one
        for one in points
        if (one.namespace, one.name, one.dimensions) == (alarm["Namespace"], alarm["MetricName"], dimensions)
    ]
    breaching: list[bool] = []
    for number in range(count):
        begin, end = now - (number + 1) * period, now - number * period
        values = [one.value for one in ours if begin < one.at <= end]
        if values:
            value = STATISTICS[alarm["Statistic"]](values)
            breaching.append(COMPARISONS[alarm["ComparisonOperator"]](value, alarm["Threshold"]))
        elif alarm["TreatMissingData"] in NO_DATA:
            breaching.append(NO_DATA[alarm["TreatMissingData"]])
    if not breaching:
        return None
    needed = alarm.get("DatapointsToAlarm", count)
    if sum(breaching) >= needed:
        return "ALARM"
    # With periods that say nothing and are ignored, only what is certain changes the state.
    return "OK" if breaching.count(False) > count - needed or len(breaching) == count else None
