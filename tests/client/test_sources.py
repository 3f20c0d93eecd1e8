"""Certificates from Secrets Manager, credentials of containers, where AWS is, and what is said when it is far."""

from __future__ import annotations

from pathlib import Path

import pytest

from certkeeper.client.aws import Aws, _endpoint
from certkeeper.client.wire import Answer
from certkeeper.core.errors import SettingsError
from tests.client.certificates import document, issue
from tests.client.conftest import Instance
from tests.client.loopback_aws import CONTAINER_TOKEN, SESSION_TOKEN, Reply, Seen

SECRETS = ("--from", "secretsmanager:prod/web")


def keep(instance: Instance, **changes: str) -> str:
    pair = issue("example.com")
    instance.aws.secrets["prod/web/example.com"] = document(pair, **changes)
    return pair.serial_number


# ---- Secrets Manager


def test_a_certificate_comes_from_secrets_manager_and_is_unchanged_by_its_version(instance: Instance) -> None:
    serial_number = keep(instance)
    first = instance.pull(*SECRETS, *instance.reload)
    before, asked = instance.everything(), len(instance.aws.requests)

    again = instance.pull(*SECRETS, *instance.reload)

    assert (first.code, again.code) == (0, 0), first.err
    assert again.out.startswith(f"example.com unchanged {serial_number}")
    assert [seen.headers["x-amz-target"] for seen in instance.aws.requests[asked:]] == ["secretsmanager.GetSecretValue"]
    assert instance.everything() == before
    assert instance.reloads == [serial_number]


def test_a_new_version_of_the_secret_replaces_the_old_one(instance: Instance) -> None:
    serial_numbers = []
    for _ in range(2):
        serial_numbers.append(keep(instance))
        assert instance.pull(*SECRETS, *instance.reload).code == 0

    assert instance.reloads == serial_numbers


def test_a_pair_from_s3_is_the_last_good_one_when_secrets_manager_fails(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.pull()

    run = instance.pull(*SECRETS)

    assert run.code == 0
    assert run.out.split()[1] == "kept"
    assert "the secret prod/web/example.com: ResourceNotFoundException" in run.err


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "UnrecognizedClientException"])
def test_a_secret_that_is_not_there_or_not_allowed_is_waited_for(instance: Instance, code: str) -> None:
    keep(instance)

    def late(seen: Seen) -> Reply | None:
        return (400, {}, f'{{"__type": "{code}"}}'.encode()) if len(instance.aws.requests) < 2 else None

    instance.aws.interfere = late

    run = instance.pull(*SECRETS, "--wait", "20")

    assert run.code == 0
    assert run.err.count("not yet") == 1


def test_a_secret_marked_for_deletion_is_not_waited_for(instance: Instance) -> None:
    instance.aws.interfere = lambda seen: (400, {}, b'{"__type": "InvalidRequestException"}')

    run = instance.pull(*SECRETS, "--wait", "20")

    assert run.code == 1
    assert "InvalidRequestException" in run.err


@pytest.mark.parametrize(
    "answer", [b"{}", b"[]", b'{"SecretString": 5, "VersionId": "x"}', b'{"SecretBinary": "QQ=="}']
)
def test_a_secret_that_holds_something_else_is_one_error(instance: Instance, answer: bytes) -> None:
    instance.aws.interfere = lambda seen: (200, {}, answer)

    run = instance.pull(*SECRETS)

    assert run.code == 1
    assert "unexpected" not in run.err


# ---- credentials of containers


def container(instance: Instance, **more: str) -> None:
    instance.environment = instance.aws.environment(role=True) | {"AWS_REGION": "eu-west-1"} | more
    instance.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1"
    instance.aws.session_token = SESSION_TOKEN
    instance.store(issue("example.com"))


def test_a_pods_credentials_come_by_its_token_file(instance: Instance) -> None:
    (instance.folder / "token").write_text(CONTAINER_TOKEN + "\n")
    container(
        instance,
        AWS_CONTAINER_CREDENTIALS_FULL_URI=instance.aws.url + "/container/v1?x=y",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(instance.folder / "token"),
    )

    run = instance.pull()

    assert run.code == 0, run.err


def test_a_tasks_credentials_come_by_its_token(instance: Instance) -> None:
    uri = instance.aws.url + "/container/v2"
    container(instance, AWS_CONTAINER_CREDENTIALS_FULL_URI=uri, AWS_CONTAINER_AUTHORIZATION_TOKEN=CONTAINER_TOKEN)

    assert instance.pull().code == 0


def test_a_relative_uri_is_asked_of_ecs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Recording(Aws):
        def _patiently(self, url: str, *_: object) -> Answer:
            asked.append(url)
            raise SettingsError("stop")

    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")
    with pytest.raises(SettingsError, match="stop"):
        Recording("eu-west-1", "", print)._container_role()

    assert asked == ["http://169.254.170.2"]


@pytest.mark.parametrize(
    "uri", ["http://evil.example/x", "http://127.0.0.1.evil.example/", "http://10.0.0.1/", "ftp://localhost/x", "x"]
)
def test_a_containers_token_goes_to_no_stranger(instance: Instance, uri: str) -> None:
    container(instance, AWS_CONTAINER_CREDENTIALS_FULL_URI=uri, AWS_CONTAINER_AUTHORIZATION_TOKEN=CONTAINER_TOKEN)

    run = instance.pull()

    assert run.code == 2
    assert CONTAINER_TOKEN not in run.err
    assert instance.aws.requests == []


def test_a_refused_container_token_is_not_yet(instance: Instance) -> None:
    container(instance, AWS_CONTAINER_CREDENTIALS_FULL_URI=instance.aws.url + "/container/v2")

    run = instance.pull()

    assert run.code == 1
    assert "the container's credentials: HTTP 401" in run.err


# ---- where AWS is


@pytest.mark.parametrize(
    ("service", "region", "settings", "host"),
    [
        ("kms", "eu-west-1", "", "kms.eu-west-1.amazonaws.com"),
        ("kms", "eu-west-1", "DUALSTACK", "kms.eu-west-1.api.aws"),
        ("kms", "us-gov-west-1", "FIPS", "kms-fips.us-gov-west-1.amazonaws.com"),
        ("kms", "us-east-1", "FIPS DUALSTACK", "kms-fips.us-east-1.api.aws"),
        ("kms", "cn-north-1", "DUALSTACK", "kms.cn-north-1.api.amazonwebservices.com.cn"),
        ("kms", "eusc-de-east-1", "", "kms.eusc-de-east-1.amazonaws.eu"),
        ("secretsmanager", "cn-northwest-1", "", "secretsmanager.cn-northwest-1.amazonaws.com.cn"),
        ("secretsmanager", "us-gov-east-1", "FIPS", "secretsmanager-fips.us-gov-east-1.amazonaws.com"),
        ("s3", "eu-west-1", "DUALSTACK", "s3.dualstack.eu-west-1.amazonaws.com"),
        ("s3", "us-east-1", "FIPS", "s3-fips.us-east-1.amazonaws.com"),
        ("s3", "us-gov-west-1", "FIPS DUALSTACK", "s3-fips.dualstack.us-gov-west-1.amazonaws.com"),
        ("s3", "cn-north-1", "DUALSTACK", "s3.dualstack.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_host_names_are_those_of_the_partition(
    service: str, region: str, settings: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ("", "_S3", "_KMS", "_SECRETS_MANAGER"):
        monkeypatch.delenv(f"AWS_ENDPOINT_URL{one}", raising=False)
    for one in ("FIPS", "DUALSTACK"):
        monkeypatch.setenv(f"AWS_USE_{one}_ENDPOINT", str(one in settings).lower())

    assert _endpoint(service, region) == f"https://{host}"


@pytest.mark.parametrize(
    ("region", "service"),
    [(r, s) for r in ("eu-west-1", "us-gov-west-1", "cn-north-1") for s in ("s3", "kms", "secretsmanager")],
)
@pytest.mark.parametrize("dual", [True, False])
def test_host_names_are_those_of_botocore(
    region: str, service: str, dual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import botocore.session
    from botocore.config import Config

    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", str(dual).lower())
    config = Config(use_dualstack_endpoint=dual)
    client = botocore.session.Session().create_client(
        service, region_name=region, config=config, aws_access_key_id="a", aws_secret_access_key="b"
    )

    assert _endpoint(service, region) == client.meta.endpoint_url


def test_kms_out_of_reach_names_the_private_subnet(instance: Instance) -> None:
    instance.store(issue("example.com"))
    instance.environment["AWS_ENDPOINT_URL_KMS"] = "http://127.0.0.1:1"

    run = instance.pull()

    assert run.code == 1
    assert "hint: in a private subnet kms needs a VPC endpoint (com.amazonaws.eu-west-1.kms) or a NAT" in run.err


def test_metadata_by_ipv6_is_asked_for_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Recording(Aws):
        def _patiently(self, url: str, *_: object) -> Answer:
            asked.append(url)
            raise SettingsError("stop")

    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")
    with pytest.raises(SettingsError):
        Recording("", "", print)._instance_role()

    assert asked == ["http://[fd00:ec2::254]"]


def test_a_name_that_could_not_be_fetched_leaves_no_folder(instance: Instance) -> None:
    instance.store(issue("a.test"), "a.test")
    instance.pull(name="a.test")

    instance.pull(name="b.test")

    assert [path.name for path in (instance.into / "archive").iterdir()] == ["a.test"]
    assert [path.name for path in Path(instance.into).glob(".*")] == [".certkeeper-lock"]
