from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.aws_calls import AwsRequest
from certkeeper.sandbox.calls import Call, Desk, Fault
from certkeeper.sandbox.loopback import Response
from certkeeper.sandbox.route53 import HostedZones

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

BUCKET = "certkeeper-sandbox"
PATH = "prod/certificates/www"
CONTEXT = {"certkeeper-name": "www"}


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[AwsServer]:
    with AwsServer(desk, HostedZones()) as running:
        yield running


@pytest.fixture
def aws(server: AwsServer) -> AwsServer:
    server.reset()
    server.create_bucket(BUCKET)
    return server


def client_of(server: AwsServer, service: str, attempts: int = 1) -> Any:
    return boto3.session.Session().client(
        service,  # type: ignore[call-overload] # any service
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )


@pytest.fixture(scope="module")
def s3(server: AwsServer) -> Iterator[S3Client]:
    client = client_of(server, "s3")
    yield client
    client.close()


@pytest.fixture(scope="module")
def retrying(server: AwsServer) -> Iterator[S3Client]:
    client = client_of(server, "s3", attempts=3)
    yield client
    client.close()


@pytest.fixture(scope="module")
def kms(server: AwsServer) -> Iterator[KMSClient]:
    client = client_of(server, "kms")
    yield client
    client.close()


def refusal_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call()
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


# S3


def test_create_if_none_match_has_one_winner(aws: AwsServer, s3: S3Client) -> None:
    start = threading.Barrier(12)

    def put(number: int) -> str:
        start.wait()
        try:
            s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "won"

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(put, range(12)))

    assert sorted(outcomes) == ["PreconditionFailed"] * 11 + ["won"]
    assert aws.objects(BUCKET) == {PATH: b"%d" % outcomes.index("won")}


def test_compare_and_swap_by_etag_has_one_winner(aws: AwsServer, s3: S3Client) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"first")["ETag"]
    start = threading.Barrier(8)

    def swap(number: int) -> str:
        start.wait()
        try:
            s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"%d" % number, IfMatch=etag)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "won"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(swap, range(8)))

    assert sorted(outcomes) == ["PreconditionFailed"] * 7 + ["won"]
    assert aws.objects(BUCKET)[PATH] == b"%d" % outcomes.index("won")


def test_no_two_requests_are_in_moto_at_once(aws: AwsServer, s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    moto, inside, most = aws._moto, [0], [0]

    def counting(environment: Any, start_response: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        try:
            return moto(environment, start_response)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(aws, "_moto", counting)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: s3.put_object(Bucket=BUCKET, Key=str(number), Body=b"x"), range(8)))

    assert most == [1]


def test_conditions_on_what_is_not_there(aws: AwsServer, s3: S3Client) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")["ETag"]

    assert refusal_of(lambda: s3.put_object(Bucket=BUCKET, Key="absent", Body=b"y", IfMatch=etag)) == ("NoSuchKey", 404)
    assert refusal_of(lambda: s3.delete_object(Bucket=BUCKET, Key=PATH, IfMatch='"other"')) == (
        "PreconditionFailed",
        412,
    )
    s3.delete_object(Bucket=BUCKET, Key=PATH, IfMatch=etag)
    assert aws.objects(BUCKET) == {}
    assert refusal_of(lambda: s3.get_object(Bucket=BUCKET, Key=PATH)) == ("NoSuchKey", 404)


def test_an_answer_carries_date_last_modified_and_etag(aws: AwsServer, s3: S3Client) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")["ETag"]
    aws.age(BUCKET, PATH, 3600)

    answer = s3.get_object(Bucket=BUCKET, Key=PATH)
    answer["Body"].close()

    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    age = parsedate_to_datetime(headers["date"]) - parsedate_to_datetime(headers["last-modified"])
    assert 3600 <= age.total_seconds() <= 3602
    assert headers["etag"] == answer["ETag"] == etag
    assert s3.head_object(Bucket=BUCKET, Key=PATH)["ContentLength"] == 1


def test_a_bucket_that_is_not_there_and_one_that_is_another_accounts(aws: AwsServer, s3: S3Client) -> None:
    s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x", ExpectedBucketOwner=ACCOUNT)

    assert refusal_of(lambda: s3.get_object(Bucket="no-such-bucket", Key=PATH)) == ("NoSuchBucket", 404)
    assert refusal_of(lambda: s3.get_object(Bucket=BUCKET, Key=PATH, ExpectedBucketOwner="111122223333")) == (
        "AccessDenied",
        403,
    )
    assert refusal_of(
        lambda: s3.put_object(Bucket=BUCKET, Key="other", Body=b"x", ExpectedBucketOwner="111122223333")
    ) == ("AccessDenied", 403)
    assert list(aws.objects(BUCKET)) == [PATH]


def test_listing_gives_keys_and_etags_in_pages(aws: AwsServer, s3: S3Client) -> None:
    for number in range(5):
        aws.put_object(BUCKET, f"prod/certificates/{number}", b"x")

    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="prod/", PaginationConfig={"PageSize": 2})
    )

    assert len(pages) == 3
    assert [item["Key"][-1:] for page in pages for item in page["Contents"]] == list("01234")
    assert all(item["ETag"] for page in pages for item in page["Contents"])


def test_unusual_keys_and_bodies_come_back_as_they_were(aws: AwsServer, s3: S3Client) -> None:
    body = bytes(range(256)) * 1000

    s3.put_object(Bucket=BUCKET, Key="a b/*+%2F&?ü", Body=body, ContentType="application/json", Metadata={"x": "y"})

    assert aws.objects(BUCKET) == {"a b/*+%2F&?ü": body}
    answer = s3.get_object(Bucket=BUCKET, Key="a b/*+%2F&?ü")
    assert (answer["Body"].read(), answer["ContentType"], answer["Metadata"]) == (body, "application/json", {"x": "y"})


def test_a_versioned_bucket_keeps_earlier_versions(aws: AwsServer, s3: S3Client) -> None:
    aws.create_bucket("versioned-bucket", versioned=True)
    first = s3.put_object(Bucket="versioned-bucket", Key="a", Body=b"1")["VersionId"]
    s3.put_object(Bucket="versioned-bucket", Key="a", Body=b"2")
    s3.delete_object(Bucket="versioned-bucket", Key="a")

    assert aws.objects("versioned-bucket") == {}
    assert s3.get_object(Bucket="versioned-bucket", Key="a", VersionId=first)["Body"].read() == b"1"


def test_operations_and_resources_are_told_apart(aws: AwsServer, s3: S3Client, desk: Desk) -> None:
    before = desk.mark()
    s3.create_bucket(Bucket="another-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.head_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")
    s3.get_object(Bucket=BUCKET, Key=PATH)["Body"].close()
    s3.head_object(Bucket=BUCKET, Key=PATH)
    s3.list_objects_v2(Bucket=BUCKET, Prefix="prod/")
    s3.delete_object(Bucket=BUCKET, Key=PATH)
    s3.get_bucket_versioning(Bucket=BUCKET)
    s3.list_buckets()

    assert [(call.operation, call.resource) for call in desk.calls("s3", since=before)] == [
        ("CreateBucket", "another-bucket"),
        ("HeadBucket", BUCKET),
        ("PutObject", f"{BUCKET}/{PATH}"),
        ("GetObject", f"{BUCKET}/{PATH}"),
        ("HeadObject", f"{BUCKET}/{PATH}"),
        ("ListObjectsV2", BUCKET),
        ("DeleteObject", f"{BUCKET}/{PATH}"),
        ("GetBucketVersioning", BUCKET),
        ("ListBuckets", ""),
    ]
    assert {call.principal for call in desk.calls("s3", since=before)} == {"AKIATEST"}


def test_an_unsigned_request_is_read_as_s3(aws: AwsServer, desk: Desk) -> None:
    aws.put_object(BUCKET, PATH, b"x")
    connection = http.client.HTTPConnection("127.0.0.1", aws.port, timeout=5)
    before = desk.mark()
    try:
        connection.request("GET", f"/{BUCKET}/{PATH}")
        connection.getresponse().read()
    finally:
        connection.close()

    (call,) = desk.calls(since=before)
    assert (call.service, call.operation, call.principal) == ("s3", "GetObject", "")


# Faults


def test_a_lost_answer_turns_our_own_success_into_a_failed_precondition(
    aws: AwsServer, retrying: S3Client, desk: Desk
) -> None:
    before = desk.mark()
    with desk.fault(Fault("lose", "s3", "PutObject", times=1)):
        code = refusal_of(lambda: retrying.put_object(Bucket=BUCKET, Key=PATH, Body=b"mine", IfNoneMatch="*"))

    assert code == ("PreconditionFailed", 412)
    assert aws.objects(BUCKET) == {PATH: b"mine"}
    assert [(call.status, call.fault) for call in desk.calls("s3", since=before)] == [
        (None, "lose"),
        (412, "PreconditionFailed"),
    ]


def test_a_dropped_request_has_no_effect_and_no_answer(aws: AwsServer, s3: S3Client, desk: Desk) -> None:
    with desk.fault(Fault("drop", "s3")), pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")

    assert aws.objects(BUCKET) == {}


def test_a_conflict_is_injected_on_one_key_only(aws: AwsServer, s3: S3Client, desk: Desk) -> None:
    conflict = Fault("refuse", "s3", "PutObject", "certificates/", status=409, code="ConditionalRequestConflict")
    with desk.fault(conflict):
        assert refusal_of(lambda: s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")) == (
            "ConditionalRequestConflict",
            409,
        )
        s3.put_object(Bucket=BUCKET, Key="prod/journal/www", Body=b"x")

    assert list(aws.objects(BUCKET)) == ["prod/journal/www"]


def test_a_slow_down_passes_when_the_sdk_tries_again(aws: AwsServer, retrying: S3Client, desk: Desk) -> None:
    with desk.fault(Fault("refuse", "s3", times=1, status=503, code="SlowDown")):
        retrying.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")

    assert aws.objects(BUCKET) == {PATH: b"x"}


def test_a_hanging_call_holds_up_no_other_and_ends_with_the_fault(aws: AwsServer, s3: S3Client, desk: Desk) -> None:
    aws.put_object(BUCKET, PATH, b"x")
    with ThreadPoolExecutor(1) as pool:
        with desk.fault(Fault("hang", "s3", "PutObject", times=1, seconds=60)) as fault:
            hanging = pool.submit(s3.put_object, Bucket=BUCKET, Key=PATH, Body=b"y")
            while fault.times:
                time.sleep(0.01)
            assert s3.get_object(Bucket=BUCKET, Key=PATH)["Body"].read() == b"x"
            assert not hanging.done()
        with pytest.raises(ConnectionClosedError):
            hanging.result(5)

    assert aws.objects(BUCKET) == {PATH: b"x"}


def test_a_refused_head_has_a_status_and_no_body(aws: AwsServer, s3: S3Client) -> None:
    with aws.deny("s3", "HeadBucket"):
        assert refusal_of(lambda: s3.head_bucket(Bucket=BUCKET)) == ("403", 403)
    s3.head_bucket(Bucket=BUCKET)


def test_denials_speak_each_services_language(aws: AwsServer, s3: S3Client, kms: KMSClient) -> None:
    sts = client_of(aws, "sts")
    functions = client_of(aws, "lambda")
    with aws.deny("s3", "GetObject", PATH), aws.deny("kms"), aws.deny("sts"), aws.deny("lambda", "Invoke"):
        assert refusal_of(lambda: s3.get_object(Bucket=BUCKET, Key=PATH)) == ("AccessDenied", 403)
        assert refusal_of(lambda: kms.describe_key(KeyId="alias/x")) == ("AccessDeniedException", 400)
        assert refusal_of(sts.get_caller_identity) == ("AccessDenied", 403)
        assert refusal_of(lambda: functions.invoke(FunctionName="renewer")) == ("AccessDeniedException", 403)
    sts.get_caller_identity()
    sts.close()
    functions.close()


def test_a_watcher_sees_a_write_before_and_after_it_takes_effect(aws: AwsServer, s3: S3Client, desk: Desk) -> None:
    seen: list[tuple[str, str, dict[str, bytes]]] = []

    def watch(phase: str, call: Call) -> None:
        seen.append((phase, call.operation, aws.objects(BUCKET)))

    with desk.watching(watch):
        s3.put_object(Bucket=BUCKET, Key=PATH, Body=b"x")

    assert seen == [("before", "PutObject", {}), ("after", "PutObject", {PATH: b"x"})]


# KMS


def seal(kms: KMSClient, plaintext: bytes = b"private", key: str = "alias/certkeeper") -> bytes:
    return kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=CONTEXT)["CiphertextBlob"]


def test_what_is_sealed_opens_under_the_same_context_only(aws: AwsServer, kms: KMSClient) -> None:
    arn = aws.create_kms_key("certkeeper")
    blob = seal(kms)

    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)

    assert (opened["Plaintext"], opened["KeyId"]) == (b"private", arn)
    for context in ({}, {"certkeeper-name": "other"}):
        assert refusal_of(partial(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)) == (
            "InvalidCiphertextException",
            400,
        )


def test_4096_bytes_are_sealed_and_one_more_is_not(aws: AwsServer, kms: KMSClient) -> None:
    aws.create_kms_key("alias/certkeeper")
    seal(kms, b"x" * 4096)

    assert refusal_of(lambda: seal(kms, b"x" * 4097)) == ("ValidationException", 400)


def test_a_key_that_is_disabled_or_to_be_deleted_does_not_work(aws: AwsServer, kms: KMSClient) -> None:
    arn = aws.create_kms_key("certkeeper")
    blob = seal(kms)

    kms.disable_key(KeyId=arn)
    assert refusal_of(lambda: seal(kms)) == ("DisabledException", 400)
    assert refusal_of(lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)) == ("DisabledException", 400)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert refusal_of(lambda: seal(kms, key=arn)) == ("KMSInvalidStateException", 400)
    assert refusal_of(lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)) == (
        "KMSInvalidStateException",
        400,
    )
    kms.cancel_key_deletion(KeyId=arn)
    kms.enable_key(KeyId=arn)
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"private"


def test_a_wrong_key_and_an_unknown_key_have_their_own_names(aws: AwsServer, kms: KMSClient) -> None:
    aws.create_kms_key("certkeeper")
    other = aws.create_kms_key("other")
    blob = seal(kms)

    assert refusal_of(lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)) == (
        "IncorrectKeyException",
        400,
    )
    assert refusal_of(lambda: seal(kms, key="alias/unknown")) == ("NotFoundException", 400)


def test_kms_calls_tell_their_key_and_context(aws: AwsServer, kms: KMSClient, desk: Desk) -> None:
    arn = aws.create_kms_key("certkeeper")
    before = desk.mark()
    kms.decrypt(CiphertextBlob=seal(kms), EncryptionContext=CONTEXT)

    assert [(call.operation, call.resource, call.context) for call in desk.calls("kms", since=before)] == [
        ("Encrypt", "alias/certkeeper", (("certkeeper-name", "www"),)),
        ("Decrypt", arn, (("certkeeper-name", "www"),)),
    ]


# The server


def test_other_services_are_moto_s_or_a_handler_of_ones_own(aws: AwsServer, desk: Desk) -> None:
    heard: list[tuple[str, str, bytes]] = []

    def invoke(seen: AwsRequest) -> Response:
        heard.append((seen.operation, seen.resource, seen.request.body))
        return Response(200, [("Content-Type", "application/json")], b'{"done": true}')

    aws.serve("lambda", invoke)
    secrets, functions = client_of(aws, "secretsmanager"), client_of(aws, "lambda")
    secrets.create_secret(Name="prod/www", SecretString="document")
    before = desk.mark()

    answer = functions.invoke(FunctionName="renewer", Payload=b"{}")

    assert secrets.get_secret_value(SecretId="prod/www")["SecretString"] == "document"
    assert answer["Payload"].read() == b'{"done": true}'
    assert heard == [("Invoke", "renewer", b"{}")]
    assert [(call.service, call.operation, call.resource) for call in desk.calls(since=before)] == [
        ("lambda", "Invoke", "renewer"),
        ("secretsmanager", "GetSecretValue", "prod/www"),
    ]
    secrets.close()
    functions.close()


def test_a_program_finds_this_aws_by_its_environment(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")

    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [BUCKET]
    client.close()


def test_a_reset_forgets_buckets_and_keys(aws: AwsServer, s3: S3Client, kms: KMSClient) -> None:
    aws.create_kms_key("certkeeper")
    aws.put_object(BUCKET, PATH, b"x")

    aws.reset()

    assert s3.list_buckets()["Buckets"] == []
    assert refusal_of(lambda: seal(kms)) == ("NotFoundException", 400)


def test_what_moto_cannot_do_is_an_error_that_says_so(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("gap")

    monkeypatch.setattr(aws, "_moto", fail)
    secrets = client_of(aws, "secretsmanager")

    with pytest.raises(ClientError, match=r"InternalFailure.*moto cannot do this: KeyError\('gap'\)"):
        secrets.list_secrets()

    secrets.close()


def test_there_can_be_only_one_at_a_time(aws: AwsServer) -> None:
    with pytest.raises(RuntimeError, match="close the other"):
        AwsServer(Desk(), HostedZones())


def test_two_regions_have_keys_of_their_own(aws: AwsServer, kms: KMSClient) -> None:
    arn = aws.create_kms_key("elsewhere", region="us-east-1")

    assert ":us-east-1:" in arn
    assert refusal_of(lambda: seal(kms, key="alias/elsewhere")) == ("NotFoundException", 400)
