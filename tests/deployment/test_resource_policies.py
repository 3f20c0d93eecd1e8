"""Policies of secrets and of what was adopted: what is attached, what is left to others, and what is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from certkeeper.adapters.secretsmanager_records import SecretPolicies
from certkeeper.core import permissions
from certkeeper.core.errors import SettingsError, StoreError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import Deployment, Policy
from certkeeper.deployment import resource_policies
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.functions import service_client
from certkeeper.sandbox.route53 import HostedZones

SHOP, WEB = "arn:aws:iam::210987654321:role/shop", f"arn:aws:iam::{ACCOUNT}:role/web"
SHARED = CertificateSpec("www", ("example.com",), "https://ca.test/directory", readers=(WEB, SHOP))
OWN = CertificateSpec("api", ("api.example.com",), "https://ca.test/directory", readers=(WEB,))
DEPLOYMENT = Deployment(
    account=ACCOUNT,
    region="eu-west-1",
    bucket="bucket",
    prefix="prod",
    renewer_role=f"arn:aws:iam::{ACCOUNT}:role/renewer",
    specs=(SHARED, OWN),
    kms_key=f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1",
    secrets_prefix="prod",
)
NONE: Policy = {"Version": "2012-10-17", "Statement": []}
AUDIT = {
    "Sid": "Audit",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "secretsmanager:*",
    "Resource": "*",
    "Condition": {"StringEquals": {"aws:PrincipalArn": [WEB + "2", WEB + "1"]}},
}


@dataclass
class FakePolicies:
    """By name; a name that is not there has no secret."""

    policies: dict[str, Policy]
    written: list[str] = field(default_factory=list)
    refused: str = ""

    def read(self, name: str) -> Policy | None:
        if name == self.refused:
            raise StoreError(f"{name} is refused")
        return self.policies.get(name)

    def write(self, name: str, policy: Policy) -> None:
        self.written.append(name)
        self.policies[name] = policy


@pytest.fixture
def told() -> list[str]:
    return []


def test_a_secret_lets_in_its_readers_of_other_accounts_and_is_left_alone_then(told: list[str]) -> None:
    policies, wanted = FakePolicies({"www": NONE, "api": NONE}), resource_policies.of_secrets(DEPLOYMENT, ())

    for _ in range(2):
        resource_policies.let_in(policies, wanted, told.append)

    assert policies.policies == {"www": permissions.secret_policy(DEPLOYMENT, "www"), "api": NONE}
    assert policies.written == ["www"]
    assert told == ["www: its secret's policy lets readers of other accounts in"]


def test_a_reader_that_is_named_no_longer_is_let_in_no_longer_and_what_others_wrote_stays(told: list[str]) -> None:
    both = permissions.beside(permissions.secret_policy(DEPLOYMENT, "www"), {**NONE, "Statement": [AUDIT]})
    policies, now = FakePolicies({"www": both}), replace(DEPLOYMENT, specs=(replace(SHARED, readers=(WEB,)), OWN))

    resource_policies.let_in(policies, resource_policies.of_secrets(now, (SHARED, OWN)), told.append)

    assert policies.policies == {"www": {**NONE, "Statement": [AUDIT]}}
    assert told == ["www: its secret's policy lets readers of other accounts in no longer"]


def test_a_secret_that_is_not_there_yet_is_told(told: list[str]) -> None:
    policies = FakePolicies({})

    resource_policies.let_in(policies, resource_policies.of_secrets(DEPLOYMENT, ()), told.append)

    assert policies.written == []
    assert "deploy again once there is a secret" in told[0]


def test_a_single_statement_of_others_stays_beside_ours(told: list[str]) -> None:
    policies, wanted = FakePolicies({"www": {**NONE, "Statement": AUDIT}}), resource_policies.of_secrets(DEPLOYMENT, ())
    assert wanted["www"] is not None

    for _ in range(2):
        resource_policies.let_in(policies, wanted, told.append)

    assert policies.policies["www"]["Statement"] == [AUDIT, *wanted["www"]["Statement"]]
    assert policies.written == ["www"]


def test_a_secret_that_is_refused_holds_up_no_other(told: list[str]) -> None:
    policies = FakePolicies({"www": NONE, "shop": NONE}, refused="www")
    both = replace(DEPLOYMENT, specs=(SHARED, replace(SHARED, name="shop")))

    failed = resource_policies.let_in(policies, resource_policies.of_secrets(both, ()), told.append)

    assert [one.message for one in failed] == ["www is refused"]
    assert policies.written == ["shop"]


def test_nothing_is_looked_at_where_nobody_of_another_account_reads() -> None:
    assert resource_policies.of_secrets(replace(DEPLOYMENT, specs=(OWN,)), (OWN,)) == {}
    assert resource_policies.of_secrets(replace(DEPLOYMENT, secrets_prefix=None), (SHARED,)) == {}


def test_readers_that_could_never_open_it_are_told_before_anything_is_done() -> None:
    with pytest.raises(SettingsError, match="cannot read secrets of account"):
        resource_policies.of_secrets(replace(DEPLOYMENT, kms_key=None), ())


def test_at_secrets_manager_a_policy_is_read_put_and_taken_away() -> None:
    desk = Desk()
    with AwsServer(desk, HostedZones()) as server:
        client = service_client(server, "secretsmanager")
        arn = client.create_secret(Name="prod/www", SecretString="a certificate")["ARN"]
        policies, wanted = SecretPolicies(client, "prod"), permissions.secret_policy(DEPLOYMENT, "www")
        assert wanted is not None

        before = policies.read("www"), policies.read("api")
        policies.write("www", wanted)
        shared = policies.read("www"), server.rights.resource_policy(arn)
        policies.write("www", NONE)
        with server.deny("secretsmanager", "GetResourcePolicy"), pytest.raises(StoreError, match="AccessDenied"):
            policies.read("www")

        assert before == (NONE, None)
        assert shared == (wanted, wanted)
        assert (policies.read("www"), server.rights.resource_policy(arn)) == (NONE, NONE)
        client.close()
    desk.stop()


# What was adopted.


def lacking(wanted: Policy, there: Policy | None) -> list[str]:
    told: list[str] = []
    resource_policies.tell_of_lacking("the bucket", wanted, lambda: there, "BucketPolicy", told.append)
    return told


def test_what_an_adopted_policy_has_not_got_is_told_by_its_statements() -> None:
    wanted = permissions.bucket_policy(replace(DEPLOYMENT, secrets_prefix=None))
    tls = wanted["Statement"][0]

    (nothing,), (one,) = lacking(wanted, None), lacking(wanted, {**NONE, "Statement": [{**tls, "Sid": "Mine"}]})

    assert "lacks TlsOnly, ReadCertificates1 of certkeeper's" in nothing
    assert "certkeeper deploy --print store shows it, as BucketPolicy" in nothing
    assert "lacks ReadCertificates1 of" in one


def test_however_aws_writes_it_what_is_there_is_not_told() -> None:
    wanted = permissions.bucket_policy(replace(DEPLOYMENT, secrets_prefix=None))
    tls, shared = wanted["Statement"]
    turned: dict[str, Any] = {**shared, "Action": ["s3:GetObject"]}

    there = {**NONE, "Statement": [AUDIT, turned, {**tls, "Resource": tls["Resource"][::-1]}]}

    assert lacking(wanted, there) == []


def test_however_people_write_it_what_is_there_is_not_told() -> None:
    tls = permissions.bucket_policy(replace(DEPLOYMENT, secrets_prefix=None))["Statement"][0]
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}

    alone = {**NONE, "Statement": {**tls, "Condition": {"Bool": {"aws:SecureTransport": False}}}}

    assert lacking({**NONE, "Statement": [tls]}, alone) == []


def test_a_policy_that_cannot_be_looked_at_stops_nothing() -> None:
    def refused() -> Policy | None:
        raise StoreError("the bucket could not be asked for its policy: AccessDenied")

    told: list[str] = []
    resource_policies.tell_of_lacking("the bucket", NONE, refused, "BucketPolicy", told.append)

    assert "AccessDenied; what it should say: certkeeper deploy --print store" in told[0]
