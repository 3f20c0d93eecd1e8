"""What Secrets Manager alone can do to us; the contract that it shares with the others is in test_records."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper import config, wiring
from certkeeper.adapters.secretsmanager_records import SecretsManagerRecords
from certkeeper.core.certificates import Certificates
from certkeeper.core.errors import Conflict, DocumentError, SettingsError, StoreError
from certkeeper.core.ports import Records
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.calls import Call, Desk, Fault, Phase
from tests.contracts.conftest import BUCKET, ClientOf
from tests.fakes import WWW, Fate, Killed, World, killed

PATH = "certificates/www"
NAME = "prod/www"
WRITES = ("CreateSecret", "PutSecretValue", "UpdateSecretVersionStage")


@pytest.fixture(scope="module")
def client(client_of: ClientOf) -> Any:
    return client_of("secretsmanager")


@pytest.fixture(scope="module")
def retrying(client_of: ClientOf) -> Any:
    return client_of("secretsmanager", attempts=3)


@pytest.fixture
def records(aws: AwsServer, client: Any) -> SecretsManagerRecords:
    return SecretsManagerRecords(client, "prod")


def data_of(records: Records) -> bytes | None:
    stored = records.read(PATH)
    return stored.data if stored else None


def stages(client: Any) -> dict[str, set[str]]:
    """The staging labels of each value."""
    labels = client.describe_secret(SecretId=NAME)["VersionIdsToStages"]
    return {
        client.get_secret_value(SecretId=NAME, VersionId=version)["SecretString"]: set(of_version)
        for version, of_version in labels.items()
    }


class Fated:
    """A client whose calls are a fate's to decide about."""

    def __init__(self, client: Any, fate: Fate) -> None:
        self._client = client
        self._fate = fate

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        real = getattr(self._client, operation)
        return lambda *args, **parameters: self._fate.call(lambda: real(*args, **parameters))


# What a write does.


def test_a_new_secret_is_created_whole_by_one_call_and_marked_as_ours(
    records: SecretsManagerRecords, client: Any, desk: Desk
) -> None:
    mark = desk.mark()

    version = records.write(PATH, b"one", None)

    assert version == hashlib.sha256(b"one").hexdigest()
    assert [call.operation for call in desk.calls("secretsmanager", since=mark)] == ["CreateSecret"]
    secret = client.describe_secret(SecretId=NAME)
    assert secret["Tags"] == [{"Key": "certkeeper", "Value": "certificate"}]
    assert "KmsKeyId" not in secret
    assert stages(client) == {"one": {"AWSCURRENT"}}


def test_a_later_value_is_put_aside_and_then_moved_to_the_front(
    records: SecretsManagerRecords, client: Any, desk: Desk
) -> None:
    first = records.write(PATH, b"one", None)
    mark = desk.mark()
    aside: dict[str, list[str]] = {}

    def look(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("before", "UpdateSecretVersionStage"):
            aside.update(client.describe_secret(SecretId=NAME)["VersionIdsToStages"])

    with desk.watching(look):
        second = records.write(PATH, b"two", first)

    writes = [call.operation for call in desk.calls("secretsmanager", since=mark) if call.operation in WRITES]
    assert writes == ["PutSecretValue", "UpdateSecretVersionStage"]
    assert aside == {first: ["AWSCURRENT"], second: ["certkeeper"]}
    assert stages(client) == {"one": {"AWSPREVIOUS"}, "two": {"AWSCURRENT", "certkeeper"}}


def test_who_asks_for_no_version_gets_the_current_one(records: SecretsManagerRecords, client: Any) -> None:
    records.write(PATH, b"two", records.write(PATH, b"one", None))

    assert client.get_secret_value(SecretId=NAME)["SecretString"] == "two"


def test_labels_of_others_stay_where_they_are(records: SecretsManagerRecords, client: Any) -> None:
    first = records.write(PATH, b"one", None)
    client.update_secret_version_stage(SecretId=NAME, VersionStage="blue", MoveToVersionId=first)

    records.write(PATH, b"two", first)

    assert stages(client)["one"] == {"AWSPREVIOUS", "blue"}


def test_a_key_of_ones_own_encrypts_new_secrets(aws: AwsServer, client: Any) -> None:
    kms_key = aws.create_kms_key("certkeeper")

    SecretsManagerRecords(client, "prod", kms_key).write(PATH, b"one", None)

    assert client.describe_secret(SecretId=NAME)["KmsKeyId"] == kms_key


def test_only_certificates_are_kept_here(records: SecretsManagerRecords) -> None:
    with pytest.raises(ValueError, match="certificates and nothing else"):
        records.read("journal/www")


# Races.


def test_of_sixteen_writers_at_one_version_one_wins(aws: AwsServer, client: Any) -> None:
    assert_one_winner(client, SecretsManagerRecords(client, "prod").write(PATH, b"one", None))


def test_of_sixteen_creators_one_wins(aws: AwsServer, client: Any) -> None:
    assert_one_winner(client, None)


def assert_one_winner(client: Any, version: str | None) -> None:
    records = SecretsManagerRecords(client, "prod")

    def write(number: int) -> bytes | None:
        data = f"of writer {number}".encode()
        try:
            records.write(PATH, data, version)
        except Conflict:
            return None
        return data

    with ThreadPoolExecutor(16) as threads:
        won = [data for data in threads.map(write, range(16)) if data is not None]

    assert len(won) == 1
    assert data_of(records) == won[0]


# Lost answers.


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_whose_answer_was_lost_is_done_when_it_is_sent_again(
    aws: AwsServer, retrying: Any, desk: Desk, operation: str
) -> None:
    records = SecretsManagerRecords(retrying, "prod")
    version = None if operation == "CreateSecret" else records.write(PATH, b"one", None)

    with desk.fault(Fault("lose", "secretsmanager", operation, times=1)):
        new = records.write(PATH, b"two", version)

    stored = records.read(PATH)
    assert stored is not None and (stored.data, stored.version) == (b"two", new)


@pytest.mark.parametrize("operation", ["CreateSecret", "UpdateSecretVersionStage"])
def test_a_last_call_whose_answer_was_lost_is_found_out_by_reading_back(
    records: SecretsManagerRecords, desk: Desk, operation: str
) -> None:
    version = None if operation == "CreateSecret" else records.write(PATH, b"one", None)

    with desk.fault(Fault("lose", "secretsmanager", operation)):
        new = records.write(PATH, b"two", version)

    stored = records.read(PATH)
    assert stored is not None and (stored.data, stored.version) == (b"two", new)


def test_a_put_whose_answer_was_lost_for_good_leaves_the_old_value_and_is_no_conflict(
    records: SecretsManagerRecords, desk: Desk
) -> None:
    version = records.write(PATH, b"one", None)

    with desk.fault(Fault("lose", "secretsmanager", "PutSecretValue")), pytest.raises(StoreError, match="Connection"):
        records.write(PATH, b"two", version)

    assert data_of(records) == b"one"


def test_a_lost_answer_after_which_somebody_else_wrote_is_a_conflict(
    records: SecretsManagerRecords, client: Any, desk: Desk
) -> None:
    version = records.write(PATH, b"one", None)
    others: list[str] = []

    def overwrite(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "UpdateSecretVersionStage") and not others:
            others.append("theirs")
            client.put_secret_value(SecretId=NAME, SecretString="theirs")

    lost = Fault("lose", "secretsmanager", "UpdateSecretVersionStage", times=1)
    with desk.watching(overwrite), desk.fault(lost), pytest.raises(Conflict):
        records.write(PATH, b"two", version)

    assert data_of(records) == b"theirs"


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_that_cannot_be_read_back_is_in_doubt(
    records: SecretsManagerRecords, desk: Desk, operation: str
) -> None:
    version = None if operation == "CreateSecret" else records.write(PATH, b"one", None)

    with (
        desk.fault(Fault("lose", "secretsmanager", operation)),
        desk.fault(Fault("refuse", "secretsmanager", "GetSecretValue", status=500, code="InternalServiceError")),
        pytest.raises(StoreError, match="could not read the secret prod/www: InternalServiceError"),
    ):
        records.write(PATH, b"two", version)


# Killed and paused at every call.

MOMENTS = range(1, 4)


def test_the_moments_cover_both_kinds_of_write(aws: AwsServer, client: Any) -> None:
    fate = Fate(99, after=False, happening=killed)
    records = SecretsManagerRecords(Fated(client, fate), "prod")

    version = records.write(PATH, b"one", None)
    created = fate.calls
    records.write(PATH, b"two", version)

    assert (created, fate.calls - created) == (1, 2)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_anywhere_the_next_reader_has_the_old_or_the_new_value_whole_and_the_next_write_succeeds(
    records: SecretsManagerRecords, client: Any, moment: int, after: bool, there: bool
) -> None:
    old = b"old" if there else None
    version = records.write(PATH, b"old", None) if there else None
    fate = Fate(moment, after, killed)
    with suppress(Killed):
        SecretsManagerRecords(Fated(client, fate), "prod").write(PATH, b"new", version)

    found = records.read(PATH)

    last = 2 if there else 1
    done = moment > last or (moment == last and after)
    assert (found.data if found else None) == (b"new" if done else old)
    records.write(PATH, b"next", found.version if found else None)
    assert data_of(records) == b"next"


def test_killed_between_put_and_move_again_and_again_uses_up_no_labels(
    records: SecretsManagerRecords, client: Any
) -> None:
    version = records.write(PATH, b"old", None)
    for number in range(25):
        with suppress(Killed):
            dying = SecretsManagerRecords(Fated(client, Fate(1, True, killed)), "prod")
            dying.write(PATH, f"new {number}".encode(), version)
    assert data_of(records) == b"old"

    records.write(PATH, b"next", version)

    assert data_of(records) == b"next"
    assert {label for labels in stages(client).values() for label in labels} == {
        "AWSCURRENT", "AWSPREVIOUS", "certkeeper"
    }  # fmt: skip


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", [1, 2])
def test_paused_anywhere_while_another_writes_one_of_the_two_wins_and_the_other_is_told(
    records: SecretsManagerRecords, client: Any, moment: int, after: bool, there: bool
) -> None:
    version = records.write(PATH, b"old", None) if there else None
    told = []

    def write(writer: Records, data: bytes) -> None:
        try:
            writer.write(PATH, data, version)
            told.append(data)
        except Conflict:
            pass

    fate = Fate(moment, after, lambda: write(records, b"another"))

    write(SecretsManagerRecords(Fated(client, fate), "prod"), b"paused")

    assert told == [data_of(records)]


def keeper_of(world: World, client: Any) -> Keeper:
    return replace(world.keeper(), certificate_records=SecretsManagerRecords(client, "prod"))


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_keeper_killed_at_any_call_to_secrets_manager_still_costs_one_certificate(
    aws: AwsServer, client: Any, after: bool, held: bool
) -> None:
    for moment in range(1, 20):
        aws.reset()
        world, fate = World(), Fate(moment, after, killed)
        if held:
            tick(keeper_of(world, client), [WWW])
            world.clock.later(timedelta(days=61))
        with suppress(Killed):
            tick(keeper_of(world, Fated(client, fate)), [WWW])
        world.clock.later(timedelta(minutes=30))

        (outcome,) = tick(keeper_of(world, client), [WWW]).outcomes

        certificate, _ = Certificates(SecretsManagerRecords(client, "prod")).read("www")
        issued = len(world.authority.issued)
        assert outcome.outcome in ("renewed", "kept")
        assert certificate is not None and certificate.chain.serial_number == f"{issued:04x}"
        assert issued == (2 if held else 1)
        assert world.keeper().journal.read("www").entry.closed
        if not fate.came:
            break
    assert 3 < moment < 19


# What is certainly not there, and what is not.


def test_a_secret_without_a_current_value_is_not_none(records: SecretsManagerRecords, client: Any) -> None:
    client.create_secret(Name=NAME)

    with pytest.raises(StoreError, match="has no value under AWSCURRENT") as caught:
        records.read(PATH)

    assert "nothing was ordered" in (caught.value.hint or "")


def test_none_is_asked_for_twice(records: SecretsManagerRecords, desk: Desk) -> None:
    mark = desk.mark()

    assert records.read(PATH) is None

    operations = [call.operation for call in desk.calls("secretsmanager", since=mark)]
    assert operations == ["GetSecretValue", "DescribeSecret"]


def test_a_secret_that_appears_between_the_two_questions_is_not_none(
    records: SecretsManagerRecords, client: Any, desk: Desk
) -> None:
    def create(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "GetSecretValue"):
            client.create_secret(Name=NAME, SecretString="theirs")

    with desk.watching(create), pytest.raises(StoreError, match="ResourceNotFoundException"):
        records.read(PATH)


@pytest.mark.parametrize("denied", ["GetSecretValue", "DescribeSecret"])
def test_a_secret_that_may_not_be_asked_for_is_not_none(
    aws: AwsServer, records: SecretsManagerRecords, denied: str
) -> None:
    with aws.deny("secretsmanager", denied), pytest.raises(StoreError, match="AccessDeniedException") as caught:
        records.read(PATH)

    assert "lacks rights" in (caught.value.hint or "")


ASKS = [
    pytest.param(lambda records, version: records.read(PATH), id="read"),
    pytest.param(lambda records, version: records.write(PATH, b"new", version), id="replace"),
    pytest.param(lambda records, version: records.write(PATH, b"new", None), id="create"),
]


@pytest.mark.parametrize("ask", ASKS)
def test_a_secret_that_is_marked_for_deletion_is_an_error_until_it_is_restored(
    records: SecretsManagerRecords, client: Any, ask: Callable[[Records, str], object]
) -> None:
    version = records.write(PATH, b"one", None)
    client.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)

    with pytest.raises(StoreError, match="the secret prod/www is marked for deletion") as caught:
        ask(records, version)

    assert caught.value.hint == "restore it: aws secretsmanager restore-secret --secret-id prod/www"
    client.restore_secret(SecretId=NAME)
    assert data_of(records) == b"one"


def test_a_secret_that_is_marked_for_deletion_can_be_deleted_for_good(
    records: SecretsManagerRecords, client: Any
) -> None:
    records.write(PATH, b"one", None)
    client.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)

    records.delete(PATH)

    assert records.read(PATH) is None


def test_a_deleted_certificate_can_be_written_anew_at_once(records: SecretsManagerRecords) -> None:
    records.write(PATH, b"one", None)
    records.delete(PATH)

    records.write(PATH, b"two", None)

    assert data_of(records) == b"two"


def test_a_secret_of_another_program_under_our_name_is_neither_taken_nor_overwritten(
    records: SecretsManagerRecords, client: Any
) -> None:
    client.create_secret(Name=NAME, SecretBinary=b"password")

    with pytest.raises(DocumentError):
        Certificates(records).read("www")
    with pytest.raises(Conflict):
        records.write(PATH, b"ours", None)

    assert client.get_secret_value(SecretId=NAME)["SecretBinary"] == b"password"


# Sizes, keys, refusals.


def test_the_largest_secret_fits(records: SecretsManagerRecords) -> None:
    version = records.write(PATH, b"x" * 65536, None)

    records.write(PATH, b"y" * 65536, version)

    assert data_of(records) == b"y" * 65536


def test_a_certificate_that_is_too_large_is_refused_before_anything_is_sent(
    records: SecretsManagerRecords, desk: Desk
) -> None:
    mark = desk.mark()

    with pytest.raises(StoreError, match="has 65537 bytes, and a secret takes 65536") as caught:
        records.write(PATH, b"x" * 65537, None)

    assert "split" in (caught.value.hint or "")
    assert desk.calls(since=mark) == []


@pytest.mark.parametrize("state", ["disabled", "pending deletion"])
@pytest.mark.parametrize("ask", ASKS[:2])
def test_a_kms_key_that_does_not_work_is_an_error_with_a_hint(
    aws: AwsServer, client: Any, client_of: ClientOf, ask: Callable[[Records, str], object], state: str
) -> None:
    kms_key = aws.create_kms_key("certkeeper")
    records = SecretsManagerRecords(client, "prod", kms_key)
    version = records.write(PATH, b"one", None)
    kms = client_of("kms")
    if state == "disabled":
        kms.disable_key(KeyId=kms_key)
    else:
        kms.schedule_key_deletion(KeyId=kms_key)

    with pytest.raises(StoreError, match="DecryptionFailure") as caught:
        ask(records, version)

    assert "KMS key" in (caught.value.hint or "")
    kms.cancel_key_deletion(KeyId=kms_key)
    kms.enable_key(KeyId=kms_key)
    assert data_of(records) == b"one"


def test_a_kms_key_that_is_not_there_encrypts_nothing(aws: AwsServer, client: Any) -> None:
    records = SecretsManagerRecords(client, "prod", "alias/nowhere")

    with pytest.raises(StoreError, match="could not write the secret prod/www: EncryptionFailure"):
        records.write(PATH, b"one", None)

    assert records.read(PATH) is None


REFUSALS = [
    pytest.param(Fault("refuse", "secretsmanager", code="AccessDenied", status=400), "AccessDeniedException", "rights"),
    pytest.param(Fault("refuse", "secretsmanager", code="InternalServiceError"), "InternalServiceError", "next run"),
    pytest.param(Fault("refuse", "secretsmanager", code="ThrottlingException", status=400), "Throttling", "next run"),
    pytest.param(Fault("drop", "secretsmanager"), "ConnectionClosedError", "next run"),
]


@pytest.mark.parametrize("ask", [
    pytest.param(lambda records: records.read(PATH), id="read"),
    pytest.param(lambda records: records.write(PATH, b"x", None), id="create"),
    pytest.param(lambda records: records.write(PATH, b"x", "v" * 36), id="replace"),
    pytest.param(lambda records: records.delete(PATH), id="delete"),
    pytest.param(lambda records: records.list("certificates/"), id="list"),
])  # fmt: skip
@pytest.mark.parametrize(("fault", "code", "hint"), REFUSALS)
def test_a_store_that_cannot_answer_says_so_with_a_hint(
    records: SecretsManagerRecords, desk: Desk, fault: Fault, code: str, hint: str, ask: Callable[[Records], object]
) -> None:
    with desk.fault(fault), pytest.raises(StoreError) as caught:
        ask(records)

    assert code in caught.value.message and "the secret prod/" in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("denied", WRITES)
def test_a_right_that_is_missing_for_a_write_changes_nothing_for_readers(
    aws: AwsServer, records: SecretsManagerRecords, denied: str
) -> None:
    version = None if denied == "CreateSecret" else records.write(PATH, b"one", None)
    before = data_of(records)

    with aws.deny("secretsmanager", denied), pytest.raises(StoreError, match="AccessDeniedException"):
        records.write(PATH, b"two", version)

    assert data_of(records) == before
    records.write(PATH, b"two", version)
    assert data_of(records) == b"two"


# Lists.


def test_a_list_goes_on_over_all_pages(records: SecretsManagerRecords, desk: Desk) -> None:
    versions = {f"certificates/{number:03}": "" for number in range(105)}
    for path in versions:
        versions[path] = records.write(path, path.encode(), None)
    mark = desk.mark()

    assert records.list("certificates/") == versions
    assert len(desk.calls("secretsmanager", "ListSecrets", since=mark)) == 2


def test_a_list_whose_second_page_fails_is_no_list(records: SecretsManagerRecords, desk: Desk) -> None:
    for number in range(105):
        records.write(f"certificates/{number:03}", b"x%d" % number, None)
    pages = itertools.count(1)
    refusal = Fault("refuse", "secretsmanager", "ListSecrets", times=0, code="InternalServiceError")

    def refuse_the_next(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "ListSecrets") and next(pages) == 1:
            refusal.times = None

    with desk.fault(refusal), desk.watching(refuse_the_next), pytest.raises(StoreError, match="could not list"):
        records.list("certificates/")


class LooseFilters:
    """A client whose ListSecrets filters nothing, as loosely as AWS may."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._client, operation)

    def get_paginator(self, operation: str) -> Any:
        paginator = self._client.get_paginator(operation)
        return type("Loose", (), {"paginate": staticmethod(lambda **_: paginator.paginate())})


def test_secrets_that_are_not_ours_are_not_listed_whatever_the_filters_let_through(
    records: SecretsManagerRecords, client: Any
) -> None:
    ours = [{"Key": "certkeeper", "Value": "certificate"}]
    version = records.write(PATH, b"one", None)
    for name, tags in [
        ("prod/database", []),
        ("production/www", ours),
        ("PROD/www", ours),
        ("prod/team/www", ours),
        ("prod/UPPER", ours),
        ("other/prod/www", ours),
        ("api", ours),
    ]:
        client.create_secret(Name=name, SecretString="x", Tags=tags)

    assert SecretsManagerRecords(LooseFilters(client), "prod").list("") == {PATH: version}
    assert records.list("") == {PATH: version}


def test_a_list_tells_the_current_version_and_not_one_that_was_only_put(
    records: SecretsManagerRecords, client: Any
) -> None:
    version = records.write(PATH, b"one", None)
    with suppress(Killed):
        SecretsManagerRecords(Fated(client, Fate(1, True, killed)), "prod").write(PATH, b"two", version)

    assert records.list("certificates/") == {PATH: version}
    new = records.write(PATH, b"three", version)
    assert records.list("certificates/") == {PATH: new}


def test_a_secret_that_is_marked_for_deletion_is_not_listed(records: SecretsManagerRecords, client: Any) -> None:
    records.write(PATH, b"one", None)
    client.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)

    assert records.list("certificates/") == {}


# Wired.

SETTINGS = f"""
store = "s3://{BUCKET}/prod"
sealing = "kms"
kms_key = "alias/certkeeper"
certificates_in = "secretsmanager:prod"
bucket_owner = "{{owner}}"
[certificates.www]
identifiers = ["example.com"]
readers = ["arn:aws:iam::{{reader}}:role/web"]
"""


@pytest.fixture
def environment(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AwsServer:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return aws


@contextmanager
def wired_keeper(owner: str = ACCOUNT, reader: str = ACCOUNT) -> Iterator[Keeper]:
    settings = config.parse(SETTINGS.format(owner=owner, reader=reader), "certkeeper.toml")
    with wiring.wired(settings, timedelta(minutes=1)) as wired:
        yield wired.keeper


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_certificates_go_to_secrets_manager_in_the_bucket_s_region_and_all_else_to_the_store(
    environment: AwsServer, client: Any, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with wired_keeper() as keeper:
        keeper.certificate_records.write(PATH, b"one", None)
        keeper.records.write("journal/www", b"entry", None)

    assert client.get_secret_value(SecretId=NAME)["SecretString"] == "one"
    assert environment.objects(BUCKET) == {"prod/journal/www": b"entry"}


@pytest.mark.parametrize(("reader", "encrypted"), [(ACCOUNT, False), ("222222222222", True)])
def test_the_settings_kms_key_encrypts_secrets_that_another_account_shall_read(
    environment: AwsServer, client: Any, reader: str, encrypted: bool
) -> None:
    environment.create_kms_key("certkeeper")
    with wired_keeper(reader=reader) as keeper:
        keeper.certificate_records.write(PATH, b"one", None)

    assert ("KmsKeyId" in client.describe_secret(SecretId=NAME)) is encrypted


def test_another_account_s_secrets_are_not_an_empty_store(environment: AwsServer) -> None:
    with wired_keeper(owner="222222222222") as keeper, pytest.raises(SettingsError, match="are of account") as caught:
        keeper.certificate_records.read(PATH)

    assert caught.value.hint == "use credentials of account 222222222222"


def test_a_bucket_whose_region_is_not_known_is_an_error(environment: AwsServer) -> None:
    with (
        environment.deny("s3", "HeadBucket"),
        wired_keeper() as keeper,
        pytest.raises(StoreError, match="in which region") as caught,
    ):
        keeper.certificate_records.read(PATH)

    assert "s3:ListBucket" in (caught.value.hint or "")
