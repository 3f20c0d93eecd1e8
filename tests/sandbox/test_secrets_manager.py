"""The sandbox's Secrets Manager refuses what AWS refuses and moto does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.route53 import HostedZones

NAME = "prod/www"
Call = Callable[[Any], object]


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with AwsServer(Desk(), HostedZones()) as running:
        yield running


@pytest.fixture(scope="module")
def client_of(server: AwsServer) -> Iterator[Callable[[str], Any]]:
    made: list[Any] = []

    def client(service: str) -> Any:
        keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "test"}
        session: Any = boto3.session.Session()
        made.append(session.client(service, endpoint_url=server.url, region_name=server.region, **keys))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def secrets(server: AwsServer, client_of: Callable[[str], Any]) -> Any:
    server.reset()
    return client_of("secretsmanager")


def refused(call: Call, client: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(client)
    return caught.value.response["Error"]["Code"]


def versions(secrets: Any) -> tuple[str, str]:
    """A secret whose first value is current, and whose second one was only put."""
    first = secrets.create_secret(Name=NAME, SecretString="one")["VersionId"]
    second = secrets.put_secret_value(SecretId=NAME, SecretString="two", VersionStages=["next"])["VersionId"]
    return first, second


def current(secrets: Any) -> str:
    return str(secrets.get_secret_value(SecretId=NAME)["SecretString"])


def labels(secrets: Any) -> dict[str, set[str]]:
    described = secrets.describe_secret(SecretId=NAME)["VersionIdsToStages"]
    return {version: set(attached) for version, attached in described.items()}


@pytest.mark.parametrize("call", [
    pytest.param(lambda secrets: secrets.create_secret(Name="a", SecretString="x" * 65537), id="create"),
    pytest.param(lambda secrets: secrets.create_secret(Name="a", SecretBinary=b"x" * 65537), id="create, binary"),
    pytest.param(lambda secrets: secrets.put_secret_value(SecretId=NAME, SecretString="x" * 65537), id="put"),
    pytest.param(lambda secrets: secrets.put_secret_value(SecretId=NAME, SecretString="é" * 32769), id="put, UTF-8"),
])  # fmt: skip
def test_a_value_above_64_kib_is_refused(secrets: Any, call: Call) -> None:
    versions(secrets)

    assert refused(call, secrets) == "InvalidParameterException"


def test_a_value_that_is_only_put_is_not_current(secrets: Any) -> None:
    versions(secrets)

    assert current(secrets) == "one"


def test_a_label_moves_from_the_version_that_is_named(secrets: Any) -> None:
    first, second = versions(secrets)

    secrets.update_secret_version_stage(
        SecretId=NAME, VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first
    )

    assert current(secrets) == "two"
    assert labels(secrets) == {first: {"AWSPREVIOUS"}, second: {"AWSCURRENT", "next"}}


@pytest.mark.parametrize(
    ("move", "code"),
    [
        (lambda first, second: {"MoveToVersionId": second}, "InvalidParameterException"),
        (
            lambda first, second: {"MoveToVersionId": second, "RemoveFromVersionId": second},
            "InvalidParameterException",
        ),
        (lambda first, second: {"RemoveFromVersionId": first}, "InvalidParameterException"),
        (
            lambda first, second: {"MoveToVersionId": "v" * 36, "RemoveFromVersionId": first},
            "ResourceNotFoundException",
        ),
        (
            lambda first, second: {"MoveToVersionId": second, "RemoveFromVersionId": "v" * 36},
            "ResourceNotFoundException",
        ),
    ],
    ids=["from nowhere", "from the wrong version", "to nowhere", "to no version", "from no version"],
)
def test_a_label_that_cannot_move_so_stays(secrets: Any, move: Callable[[str, str], dict[str, str]], code: str) -> None:
    first, second = versions(secrets)
    before = labels(secrets)

    def call(secrets: Any) -> object:
        return secrets.update_secret_version_stage(SecretId=NAME, VersionStage="AWSCURRENT", **move(first, second))

    assert refused(call, secrets) == code
    assert labels(secrets) == before


def test_a_put_after_a_move_takes_the_label_from_where_it_is_and_leaves_those_of_others(secrets: Any) -> None:
    first, second = versions(secrets)
    secrets.update_secret_version_stage(
        SecretId=NAME, VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first
    )

    third = secrets.put_secret_value(SecretId=NAME, SecretString="three")["VersionId"]

    assert labels(secrets) == {first: set(), second: {"AWSPREVIOUS", "next"}, third: {"AWSCURRENT"}}


def test_a_label_can_be_taken_away(secrets: Any) -> None:
    first, second = versions(secrets)

    secrets.update_secret_version_stage(SecretId=NAME, VersionStage="next", RemoveFromVersionId=second)

    assert labels(secrets) == {first: {"AWSCURRENT"}, second: set()}


def test_a_secret_has_at_most_twenty_labels(secrets: Any) -> None:
    secrets.create_secret(Name=NAME, SecretString="one")
    for number in range(19):
        secrets.put_secret_value(SecretId=NAME, SecretString=f"{number}", VersionStages=[f"label-{number}"])

    def put(label: str) -> Call:
        return lambda secrets: secrets.put_secret_value(SecretId=NAME, SecretString="x", VersionStages=[label])

    assert refused(put("one-more"), secrets) == "LimitExceededException"
    put("label-3")(secrets)


@pytest.mark.parametrize("call", [
    pytest.param(lambda secrets: secrets.get_secret_value(SecretId=NAME), id="get"),
    pytest.param(lambda secrets: secrets.put_secret_value(SecretId=NAME, SecretString="x"), id="put"),
    pytest.param(lambda secrets: secrets.update_secret(SecretId=NAME, SecretString="x"), id="update"),
    pytest.param(lambda secrets: secrets.create_secret(Name=NAME, SecretString="x"), id="create"),
    pytest.param(
        lambda secrets: secrets.update_secret_version_stage(SecretId=NAME, VersionStage="next"), id="move"
    ),
])  # fmt: skip
def test_a_secret_that_is_marked_for_deletion_takes_nothing_and_gives_nothing(secrets: Any, call: Call) -> None:
    versions(secrets)
    secrets.delete_secret(SecretId=NAME)

    assert refused(call, secrets) == "InvalidRequestException"
    assert secrets.describe_secret(SecretId=NAME)["DeletedDate"]
    secrets.restore_secret(SecretId=NAME)
    assert current(secrets) == "one"


def test_a_disabled_kms_key_neither_encrypts_nor_decrypts(
    server: AwsServer, secrets: Any, client_of: Callable[[str], Any]
) -> None:
    kms_key = server.create_kms_key("secrets")
    secrets.create_secret(Name=NAME, SecretString="one", KmsKeyId="alias/secrets")
    kms = client_of("kms")
    kms.disable_key(KeyId=kms_key)

    assert refused(lambda secrets: secrets.get_secret_value(SecretId=NAME), secrets) == "DecryptionFailure"
    put = refused(lambda secrets: secrets.put_secret_value(SecretId=NAME, SecretString="x"), secrets)
    create = refused(lambda secrets: secrets.create_secret(Name="a", SecretString="x", KmsKeyId=kms_key), secrets)
    assert (put, create) == ("EncryptionFailure", "EncryptionFailure")
    kms.enable_key(KeyId=kms_key)
    assert current(secrets) == "one"


def test_age_goes_back(server: AwsServer, secrets: Any) -> None:
    secrets.create_secret(Name=NAME, SecretString="one")
    before = secrets.get_secret_value(SecretId=NAME)["CreatedDate"]

    server.age_secret(NAME, 3600)

    assert (before - secrets.get_secret_value(SecretId=NAME)["CreatedDate"]).total_seconds() == 3600
