"""The promise of the RightsOfRoles port, by IAM's own simulation on the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from certkeeper.adapters.iam_simulation import SimulatedRights
from certkeeper.core.errors import RightsError
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.iam_simulator import simulate
from certkeeper.sandbox.route53 import HostedZones

ROLE = f"arn:aws:iam::{ACCOUNT}:role/web"
NAME = "_acme-challenge.example.com"
CHANGE = "route53:ChangeResourceRecordSets"


def policy(resource: str, **conditions: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": CHANGE, "Resource": resource, "Condition": conditions}
    return {"Version": "2012-10-17", "Statement": [statement]}


def only(**keys: str) -> dict[str, dict[str, list[str]]]:
    return {"ForAllValues:StringEquals": {f"{CHANGE}{key}": [value] for key, value in keys.items()}}


ZONE = "arn:aws:route53:::hostedzone/Z1"


@pytest.fixture(name="desk")
def _desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.stop()


@pytest.fixture(name="aws")
def _aws(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsServer]:
    with AwsServer(desk, HostedZones()) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        simulate(server)
        yield server


@pytest.mark.parametrize(
    ("given", "may"),
    [
        pytest.param(policy(ZONE), True, id="the whole zone"),
        pytest.param(policy("arn:aws:route53:::hostedzone/*"), True, id="every zone"),
        pytest.param(policy("arn:aws:route53:::hostedzone/Z2"), False, id="another zone"),
        pytest.param(policy(ZONE, **only(RecordTypes="A")), False, id="A records only"),
        pytest.param(policy(ZONE, **only(RecordTypes="TXT")), True, id="TXT records"),
        pytest.param(policy(ZONE, **only(NormalizedRecordNames="www.example.com")), False, id="another name"),
    ],
)
def test_whether_a_role_may_write_challenge_records(aws: AwsServer, given: dict[str, Any], may: bool) -> None:
    aws.rights.act_as("AKIAWEB", ROLE, given)

    rights = SimulatedRights(boto3.client("iam"), "aws", ACCOUNT)

    assert rights.may_write_txt(ROLE, "Z1", [NAME]) is may


def test_one_of_several_names_is_enough(aws: AwsServer) -> None:
    aws.rights.act_as("AKIAWEB", ROLE, policy(ZONE, **only(NormalizedRecordNames=NAME)))

    assert SimulatedRights(boto3.client("iam"), "aws", ACCOUNT).may_write_txt(ROLE, "Z1", ["other", NAME])


def test_what_cannot_be_found_out_raises_with_a_hint(aws: AwsServer, desk: Desk) -> None:
    rights = SimulatedRights(boto3.client("iam"), "aws", ACCOUNT)

    with pytest.raises(RightsError, match="NoSuchEntity") as gone:
        rights.may_write_txt(ROLE, "Z1", [NAME])
    with (
        desk.fault(Fault("refuse", "iam", "SimulatePrincipalPolicy", status=403, code="AccessDenied")),
        pytest.raises(RightsError) as denied,
    ):
        rights.may_write_txt(ROLE, "Z1", [NAME])
    with pytest.raises(RightsError, match="another account"):
        rights.may_write_txt(ROLE.replace(ACCOUNT, "210987654321"), "Z1", [NAME])

    assert gone.value.hint is not None and "readers" in gone.value.hint
    assert denied.value.hint is not None and "iam:SimulatePrincipalPolicy" in denied.value.hint
