"""The contract of Records, held by the fake, S3 and Secrets Manager; and what S3 alone can do to us."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.adapters.s3_records import S3Records
from certkeeper.adapters.secretsmanager_records import SecretsManagerRecords
from certkeeper.core.errors import Conflict, StoreError
from certkeeper.core.ports import Records
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Call, Desk, Fault, Phase
from tests.contracts.conftest import BUCKET, ClientOf
from tests.fakes import InMemoryRecords

PATH = "certificates/www"


@dataclass
class Store:
    """Records, how to make one of its objects older, and whether it keeps certificates and nothing else."""

    records: Records
    make_older: Callable[[str, timedelta], None]
    certificates_only: bool = False


@pytest.fixture(scope="module")
def s3(client_of: ClientOf) -> Any:
    return client_of("s3")


@pytest.fixture(scope="module")
def retrying(client_of: ClientOf) -> Any:
    return client_of("s3", attempts=3)


@pytest.fixture
def s3_records(aws: AwsServer, s3: Any) -> S3Records:
    return S3Records(s3, BUCKET, "prod", ACCOUNT)


def in_memory() -> Store:
    records = InMemoryRecords()
    return Store(records, lambda path, by: records.clock.later(by))


def in_secrets_manager(aws: AwsServer, client: Any) -> Store:
    def make_older(path: str, by: timedelta) -> None:
        aws.age_secret(path.replace("certificates/", "prod/"), by.total_seconds())

    return Store(SecretsManagerRecords(client, "prod"), make_older, certificates_only=True)


@pytest.fixture(scope="module")
def secrets_manager(client_of: ClientOf) -> Any:
    return client_of("secretsmanager")


@pytest.fixture(params=["in memory", "S3", "Secrets Manager"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "in memory":
        return in_memory()
    if request.param == "Secrets Manager":
        return in_secrets_manager(request.getfixturevalue("aws"), request.getfixturevalue("secrets_manager"))
    aws, records = request.getfixturevalue("aws"), request.getfixturevalue("s3_records")
    return Store(records, lambda path, by: aws.age(BUCKET, f"prod/{path}", by.total_seconds()))


# The contract.


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.records.read(PATH) is None


def test_what_was_written_is_read_under_the_version_that_writing_gave(store: Store) -> None:
    version = store.records.write(PATH, b"one", None)

    stored = store.records.read(PATH)

    assert stored is not None
    assert (stored.data, stored.version) == (b"one", version)


def test_every_write_gives_another_version(store: Store) -> None:
    first = store.records.write(PATH, b"one", None)
    second = store.records.write(PATH, b"two", first)

    assert first != second


def test_a_write_at_an_old_version_is_a_conflict_and_changes_nothing(store: Store) -> None:
    old = store.records.write(PATH, b"one", None)
    new = store.records.write(PATH, b"two", old)

    with pytest.raises(Conflict):
        store.records.write(PATH, b"three", old)

    stored = store.records.read(PATH)
    assert stored is not None and (stored.data, stored.version) == (b"two", new)


def test_creating_over_what_is_there_is_a_conflict_and_changes_nothing(store: Store) -> None:
    store.records.write(PATH, b"one", None)

    with pytest.raises(Conflict):
        store.records.write(PATH, b"two", None)

    stored = store.records.read(PATH)
    assert stored is not None and stored.data == b"one"


def test_replacing_what_is_gone_is_a_conflict_and_brings_nothing_back(store: Store) -> None:
    version = store.records.write(PATH, b"one", None)
    store.records.delete(PATH)

    with pytest.raises(Conflict):
        store.records.write(PATH, b"two", version)

    assert store.records.read(PATH) is None


def test_deleting_makes_sure_that_nothing_is_there_however_often(store: Store) -> None:
    store.records.write(PATH, b"one", None)

    store.records.delete(PATH)
    store.records.delete(PATH)

    assert store.records.read(PATH) is None
    assert store.records.list("") == {}


def test_a_list_holds_the_paths_under_the_prefix_and_their_versions(store: Store) -> None:
    elsewhere = () if store.certificates_only else ("certificates-of-others/x", "journal/a")
    versions = {
        path: store.records.write(path, path.encode(), None)
        for path in ("certificates/a", "certificates/a.b", "certificates/b", *elsewhere)
    }

    listed = store.records.list("certificates/")

    assert listed == {path: version for path, version in versions.items() if path.startswith("certificates/")}


def test_the_age_is_measured_from_the_last_write(store: Store) -> None:
    store.records.write(PATH, b"one", None)
    store.make_older(PATH, timedelta(hours=1))
    old = store.records.read(PATH)
    assert old is not None

    store.records.write(PATH, b"two", old.version)

    new = store.records.read(PATH)
    assert timedelta(hours=1) <= old.age < timedelta(hours=1, seconds=5)
    assert new is not None and timedelta(0) <= new.age < timedelta(seconds=5)


# S3: prefixes, pages, whose clock.


@pytest.mark.parametrize(("prefix", "key"), [("prod", f"prod/{PATH}"), ("", PATH), ("a/b", f"a/b/{PATH}")])
def test_paths_lie_under_the_stores_prefix(aws: AwsServer, s3: Any, prefix: str, key: str) -> None:
    records = S3Records(s3, BUCKET, prefix, ACCOUNT)

    version = records.write(PATH, b"one", None)

    assert aws.objects(BUCKET) == {key: b"one"}
    assert records.list("certificates/") == {PATH: version}


def test_two_stores_in_one_bucket_do_not_see_each_other(aws: AwsServer, s3: Any) -> None:
    prod, production = S3Records(s3, BUCKET, "prod", ACCOUNT), S3Records(s3, BUCKET, "production", ACCOUNT)
    production.write(PATH, b"one", None)

    assert prod.read(PATH) is None
    assert prod.list("") == {}


def test_a_list_goes_on_over_all_pages(aws: AwsServer, s3_records: S3Records, desk: Desk) -> None:
    for number in range(1005):
        aws.put_object(BUCKET, f"prod/certificates/{number:04}", b"x")
    mark = desk.mark()

    listed = s3_records.list("certificates/")

    assert sorted(listed) == [f"certificates/{number:04}" for number in range(1005)]
    assert len(desk.calls("s3", "ListObjectsV2", since=mark)) == 2


def test_a_list_whose_second_page_fails_is_no_list(aws: AwsServer, s3_records: S3Records, desk: Desk) -> None:
    for number in range(1005):
        aws.put_object(BUCKET, f"prod/certificates/{number:04}", b"x")
    with ExitStack() as later:

        def deny_the_next_page(phase: Phase, call: Call) -> None:
            if (phase, call.operation, call.status) == ("after", "ListObjectsV2", 200):
                later.enter_context(aws.deny("s3", "ListObjectsV2"))

        with desk.watching(deny_the_next_page), pytest.raises(StoreError, match=r"could not list .*AccessDenied"):
            s3_records.list("certificates/")


def test_the_age_is_by_the_stores_clock_and_never_negative(aws: AwsServer, s3_records: S3Records) -> None:
    s3_records.write(PATH, b"one", None)
    aws.age(BUCKET, f"prod/{PATH}", -3600)

    stored = s3_records.read(PATH)

    assert stored is not None and stored.age == timedelta(0)


# S3: doubt. What was done is found out by reading back.


def test_a_write_whose_answer_was_lost_is_done(s3_records: S3Records, desk: Desk) -> None:
    with desk.fault(Fault("lose", "s3", "PutObject", times=1)):
        version = s3_records.write(PATH, b"one", None)

    stored = s3_records.read(PATH)
    assert stored is not None and (stored.data, stored.version) == (b"one", version)


def test_a_retry_that_meets_its_own_success_is_no_conflict(aws: AwsServer, retrying: Any, desk: Desk) -> None:
    records = S3Records(retrying, BUCKET, "prod", ACCOUNT)
    first = records.write(PATH, b"one", None)
    mark = desk.mark()

    with desk.fault(Fault("lose", "s3", "PutObject", times=1)):
        version = records.write(PATH, b"two", first)

    puts = desk.calls("s3", "PutObject", since=mark)
    stored = records.read(PATH)
    assert [put.status for put in puts] == [None, 412]
    assert stored is not None and (stored.data, stored.version) == (b"two", version)


def test_a_lost_answer_after_which_somebody_else_wrote_is_a_conflict(
    aws: AwsServer, s3_records: S3Records, desk: Desk
) -> None:
    version = s3_records.write(PATH, b"one", None)

    def overwrite(phase: Phase, call: Call) -> None:
        if phase == "after" and call.operation == "PutObject":
            aws.put_object(BUCKET, f"prod/{PATH}", b"theirs")

    with desk.watching(overwrite), desk.fault(Fault("lose", "s3", "PutObject", times=1)), pytest.raises(Conflict):
        s3_records.write(PATH, b"two", version)


def test_a_write_that_was_dropped_undone_is_an_error_and_not_a_conflict(s3_records: S3Records, desk: Desk) -> None:
    with desk.fault(Fault("drop", "s3", "PutObject")), pytest.raises(StoreError) as caught:
        s3_records.write(PATH, b"one", None)

    assert not isinstance(caught.value, Conflict)
    assert s3_records.read(PATH) is None


def test_a_race_that_s3_calls_409_is_run_again(s3_records: S3Records, desk: Desk) -> None:
    conflict = Fault("refuse", "s3", "PutObject", times=2, status=409, code="ConditionalRequestConflict")

    with desk.fault(conflict):
        version = s3_records.write(PATH, b"one", None)

    stored = s3_records.read(PATH)
    assert stored is not None and stored.version == version


def test_a_race_that_does_not_end_is_a_store_error(s3_records: S3Records, desk: Desk) -> None:
    conflict = Fault("refuse", "s3", "PutObject", status=409, code="ConditionalRequestConflict")
    mark = desk.mark()

    with desk.fault(conflict), pytest.raises(StoreError, match="ConditionalRequestConflict"):
        s3_records.write(PATH, b"one", None)

    assert len(desk.calls("s3", "PutObject", since=mark)) == 3


def test_a_write_that_cannot_be_read_back_is_in_doubt(s3_records: S3Records, desk: Desk) -> None:
    with (
        desk.fault(Fault("lose", "s3", "PutObject")),
        desk.fault(Fault("refuse", "s3", "GetObject", status=500)),
        pytest.raises(StoreError, match="InternalError"),
    ):
        s3_records.write(PATH, b"one", None)


# S3: it cannot answer. Never None, never a part.

REFUSALS = [
    pytest.param(Fault("refuse", "s3", status=403, code="AccessDenied"), "AccessDenied", "rights", id="403"),
    pytest.param(Fault("refuse", "s3", status=500, code="InternalError"), "InternalError", "next run", id="500"),
    pytest.param(Fault("refuse", "s3", status=503, code="SlowDown"), "SlowDown", "next run", id="503"),
    pytest.param(Fault("refuse", "s3", status=400, code="ExpiredToken"), "ExpiredToken", "sign in", id="expired token"),
    pytest.param(Fault("refuse", "s3", status=404, code="NoSuchBucket"), "NoSuchBucket", "create the bucket", id="404"),
    pytest.param(Fault("drop", "s3"), "ConnectionClosedError", "next run", id="connection closed"),
]


@pytest.mark.parametrize("ask", [
    pytest.param(lambda records: records.read(PATH), id="read"),
    pytest.param(lambda records: records.write(PATH, b"x", None), id="write"),
    pytest.param(lambda records: records.delete(PATH), id="delete"),
    pytest.param(lambda records: records.list("journal/"), id="list"),
])  # fmt: skip
@pytest.mark.parametrize(("fault", "code", "hint"), REFUSALS)
def test_a_store_that_cannot_answer_says_so_with_a_hint(
    s3_records: S3Records, desk: Desk, fault: Fault, code: str, hint: str, ask: Callable[[Records], object]
) -> None:
    with desk.fault(fault), pytest.raises(StoreError) as caught:
        ask(s3_records)

    assert code in caught.value.message and "s3://certkeeper-sandbox/prod/" in caught.value.message
    assert caught.value.hint is not None and hint in caught.value.hint


def test_a_bucket_that_is_not_there_is_not_an_absent_object(aws: AwsServer, s3: Any) -> None:
    records = S3Records(s3, "no-such-bucket", "prod", ACCOUNT)

    with pytest.raises(StoreError, match="NoSuchBucket") as caught:
        records.read(PATH)

    assert (
        caught.value.hint
        == "create the bucket (certkeeper deploy does), or correct its name: store in the settings, or --from"
    )


def test_a_bucket_of_another_account_is_refused(aws: AwsServer, s3: Any) -> None:
    records = S3Records(s3, BUCKET, "prod", "999999999999")

    with pytest.raises(StoreError, match="AccessDenied"):
        records.write(PATH, b"one", None)

    assert aws.objects(BUCKET) == {}


def test_a_store_that_hangs_is_given_up(aws: AwsServer, client_of: ClientOf, desk: Desk) -> None:
    records = S3Records(client_of("s3", patience=0.3), BUCKET, "prod", ACCOUNT)
    begun = time.monotonic()

    with desk.fault(Fault("hang", "s3", "GetObject", seconds=20)), pytest.raises(StoreError) as caught:
        records.read(PATH)

    assert time.monotonic() - begun < 3
    assert "ReadTimeoutError" in caught.value.message
    assert caught.value.hint == "check the network, the Region, and AWS_ENDPOINT_URL if it is set"


def test_a_write_that_may_still_arrive_is_in_doubt_and_not_a_conflict(
    aws: AwsServer, client_of: ClientOf, desk: Desk
) -> None:
    records = S3Records(client_of("s3", patience=0.3), BUCKET, "prod", ACCOUNT)
    arrived = threading.Event()

    def notice(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "PutObject"):
            arrived.set()

    with desk.watching(notice):
        with desk.fault(Fault("delay", "s3", "PutObject", seconds=20)), pytest.raises(StoreError) as caught:
            records.write(PATH, b"one", None)
        arrived.wait(5)

    assert "ReadTimeoutError" in caught.value.message
    assert aws.objects(BUCKET) == {f"prod/{PATH}": b"one"}
