"""AWS on loopback, asked by who acts as a role: what the gate lets through, and in which words it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.iam import PolicyError
from certkeeper.sandbox.route53 import HostedZones

HOME, AWAY = "123456789012", "210987654321"
ROLE, FOREIGN = f"arn:aws:iam::{HOME}:role/web", f"arn:aws:iam::{AWAY}:role/shop"
BUCKET = "bucket"
Policy = dict[str, Any]


def policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: str | list[str], resource: str = "*", **more: Any) -> Policy:
    return {"Sid": "Allowed", "Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest.fixture(name="zones")
def _zones() -> HostedZones:
    return HostedZones()


@pytest.fixture(name="aws")
def _aws(zones: HostedZones) -> Iterator[AwsServer]:
    with AwsServer(Desk(), zones) as aws:
        aws.create_bucket(BUCKET)
        aws.put_object(BUCKET, "a/there", b"x")
        yield aws


Client = Callable[[str], Any]


@pytest.fixture(name="client")
def _client(aws: AwsServer) -> Client:
    def client(service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=aws.url,
            region_name="eu-west-1",
            aws_access_key_id="ASIAROLE",
            aws_secret_access_key="test",
        )

    return client


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return str(refused.value.response["Error"]["Code"])


def test_who_acts_as_no_role_may_do_everything(client: Client) -> None:
    assert client("s3").get_object(Bucket=BUCKET, Key="a/there")["Body"].read() == b"x"


def test_a_role_reads_what_its_policy_names_and_nothing_else(aws: AwsServer, client: Client) -> None:
    aws.put_object(BUCKET, "b/there", b"x")
    aws.rights.act_as("ASIAROLE", ROLE, policy(allow("s3:GetObject", f"arn:aws:s3:::{BUCKET}/a/*")))
    s3 = client("s3")

    assert s3.get_object(Bucket=BUCKET, Key="a/there")["Body"].read() == b"x"
    assert code(lambda: s3.get_object(Bucket=BUCKET, Key="b/there")) == "AccessDenied"
    assert code(lambda: s3.list_objects_v2(Bucket=BUCKET)) == "AccessDenied"
    assert [one.decision.allowed for one in aws.rights.judged()] == [True, False, False]


def test_s3_tells_what_is_not_there_only_to_who_may_list(aws: AwsServer, client: Client) -> None:
    read = allow("s3:GetObject", f"arn:aws:s3:::{BUCKET}/*")
    aws.rights.act_as("ASIAROLE", ROLE, policy(read))
    before = code(lambda: client("s3").get_object(Bucket=BUCKET, Key="a/missing"))
    aws.rights.act_as("ASIAROLE", ROLE, policy(read, allow("s3:ListBucket", f"arn:aws:s3:::{BUCKET}")))

    assert before == "AccessDenied"
    assert code(lambda: client("s3").get_object(Bucket=BUCKET, Key="a/missing")) == "NoSuchKey"


def test_a_conditional_write_wants_the_right_to_read(aws: AwsServer, client: Client) -> None:
    write = allow("s3:PutObject", f"arn:aws:s3:::{BUCKET}/*")
    aws.rights.act_as("ASIAROLE", ROLE, policy(write))
    etag = client("s3").put_object(Bucket=BUCKET, Key="a/new", Body=b"1", IfNoneMatch="*")["ETag"]

    assert code(lambda: client("s3").put_object(Bucket=BUCKET, Key="a/new", Body=b"2", IfMatch=etag)) == "AccessDenied"


def test_another_accounts_role_needs_the_buckets_word_too(aws: AwsServer, client: Client) -> None:
    read = allow("s3:GetObject", f"arn:aws:s3:::{BUCKET}/*")
    aws.rights.act_as("ASIAROLE", FOREIGN, policy(read))
    before = code(lambda: client("s3").get_object(Bucket=BUCKET, Key="a/there"))
    aws.rights.protect(f"arn:aws:s3:::{BUCKET}", policy({**read, "Principal": {"AWS": FOREIGN}}))

    assert before == "AccessDenied"
    assert client("s3").get_object(Bucket=BUCKET, Key="a/there")["Body"].read() == b"x"


def test_kms_knows_key_and_context_also_by_alias_and_of_a_ciphertext(aws: AwsServer, client: Client) -> None:
    kms_key = aws.create_kms_key("alias/certkeeper")
    only = {"StringEquals": {"kms:EncryptionContext:certkeeper-name": "example.com"}}
    aws.rights.act_as("ASIAROLE", ROLE, policy(allow(["kms:Encrypt", "kms:Decrypt"], kms_key, Condition=only)))
    kms, ours = client("kms"), {"certkeeper-name": "example.com"}

    sealed = kms.encrypt(KeyId="alias/certkeeper", Plaintext=b"x", EncryptionContext=ours)["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=sealed, EncryptionContext=ours)["Plaintext"]

    assert opened == b"x"
    assert code(lambda: kms.encrypt(KeyId=kms_key, Plaintext=b"x")) == "AccessDeniedException"
    other = {"certkeeper-name": "example.net"}
    assert code(lambda: kms.decrypt(CiphertextBlob=sealed, EncryptionContext=other)) == "AccessDeniedException"
    aws.rights.protect(kms_key, policy(allow("kms:PutKeyPolicy", Principal={"AWS": f"arn:aws:iam::{HOME}:root"})))
    assert code(lambda: kms.decrypt(CiphertextBlob=sealed, EncryptionContext=ours)) == "AccessDeniedException"


def test_a_secret_that_is_not_there_has_no_six_characters_in_its_arn(aws: AwsServer, client: Client) -> None:
    exact = f"arn:aws:secretsmanager:eu-west-1:{HOME}:secret:prod/example.com-??????"
    actions = ["secretsmanager:GetSecretValue", "secretsmanager:CreateSecret"]
    aws.rights.act_as("ASIAROLE", ROLE, policy(allow(actions, exact)))
    secrets = client("secretsmanager")

    before = code(lambda: secrets.get_secret_value(SecretId="prod/example.com"))
    secrets.create_secret(Name="prod/example.com", SecretString="x")

    assert before == "AccessDeniedException"
    assert secrets.get_secret_value(SecretId="prod/example.com")["SecretString"] == "x"
    assert code(lambda: secrets.create_secret(Name="prod/example.com-internal", SecretString="x")) == (
        "AccessDeniedException"
    )


def test_a_secret_under_a_kms_key_of_ones_own_wants_that_key_too(aws: AwsServer, client: Client) -> None:
    kms_key = aws.create_kms_key("alias/certkeeper")
    secret = allow(["secretsmanager:GetSecretValue", "secretsmanager:CreateSecret"])
    aws.rights.act_as("ASIAROLE", ROLE, policy(secret))
    secrets = client("secretsmanager")
    create = {"Name": "prod/example.com", "SecretString": "x", "KmsKeyId": kms_key}
    before = code(lambda: secrets.create_secret(**create))
    context = {
        "StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"},
        "StringLike": {"kms:EncryptionContext:SecretARN": f"arn:aws:secretsmanager:eu-west-1:{HOME}:secret:prod/*"},
    }
    through = allow(["kms:GenerateDataKey", "kms:Decrypt"], kms_key, Condition=context)
    aws.rights.act_as("ASIAROLE", ROLE, policy(secret, through))

    secrets.create_secret(**create)

    assert before == "AccessDeniedException"
    assert secrets.get_secret_value(SecretId="prod/example.com")["SecretString"] == "x"


def test_route_53_names_zone_record_type_and_action(aws: AwsServer, client: Client, zones: HostedZones) -> None:
    ours, other = zones.add("example.com"), zones.add("example.net")
    keys = "route53:ChangeResourceRecordSets"
    conditions = {
        "ForAllValues:StringEquals": {
            f"{keys}NormalizedRecordNames": ["_acme-challenge.example.com"],
            f"{keys}RecordTypes": ["TXT"],
            f"{keys}Actions": ["CREATE"],
        }
    }
    statement = allow(keys, f"arn:aws:route53:::hostedzone/{ours}", Condition=conditions)
    aws.rights.act_as("ASIAROLE", ROLE, policy(statement))

    def change(zone: str, name: str, kind: str, value: str) -> Any:
        record_set = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
        batch = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record_set}]}
        return client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)

    assert change(ours, "_ACME-challenge.example.com.", "TXT", '"x"')
    assert code(lambda: change(ours, "_acme-challenge.www.example.com", "TXT", '"x"')) == "AccessDenied"
    assert code(lambda: change(ours, "_acme-challenge.example.com", "A", "192.0.2.1")) == "AccessDenied"
    assert code(lambda: change(other, "_acme-challenge.example.com", "TXT", '"x"')) == "AccessDenied"


def test_assuming_a_role_wants_its_trust_and_the_credentials_then_are_the_roles(aws: AwsServer, client: Client) -> None:
    zone_role = f"arn:aws:iam::{AWAY}:role/zones"
    aws.rights.act_as("ASIAROLE", ROLE, policy(allow("sts:AssumeRole", zone_role)))
    aws.rights.act_as("ASIANOBODY", zone_role, policy(allow("route53:ListHostedZones")))
    assume = {"RoleArn": zone_role, "RoleSessionName": "certkeeper"}
    before = code(lambda: client("sts").assume_role(**assume))
    trust = {"Sid": "Trusted", "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ROLE}}
    aws.rights.protect(zone_role, policy(trust))

    given = client("sts").assume_role(**assume)["Credentials"]

    assert before == "AccessDenied"
    session = boto3.session.Session(given["AccessKeyId"], "test", region_name="eu-west-1")
    assert session.client("route53", endpoint_url=aws.url).list_hosted_zones()["HostedZones"] == []
    assert code(lambda: session.client("s3", endpoint_url=aws.url).list_objects_v2(Bucket=BUCKET)) == "AccessDenied"


def test_a_policy_that_is_not_understood_is_refused_when_it_is_given(aws: AwsServer) -> None:
    odd = allow("s3:GetObject", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})

    with pytest.raises(PolicyError, match="IpAddress is not known here"):
        aws.rights.act_as("ASIAROLE", ROLE, policy(odd))
