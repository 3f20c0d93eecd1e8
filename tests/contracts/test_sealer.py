"""The contract of Sealer, held by the fake, by KMS and by `sealing = "store"`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from certkeeper.adapters.kms_keys import KmsSealer, delete, state
from certkeeper.adapters.store_keys import StoreSealer
from certkeeper.core.errors import SealingError
from certkeeper.core.model import Sealed
from certkeeper.core.ports import Sealer
from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from tests.contracts.conftest import ClientOf
from tests.fakes import FakeSealer

CONTEXT = {"certkeeper-name": "www"}
SECRET = b"-----BEGIN PRIVATE KEY-----\nvery secret\n"


@pytest.fixture(scope="module")
def kms(client_of: ClientOf) -> Any:
    return client_of("kms")


@pytest.fixture
def kms_key(aws: AwsServer) -> str:
    return aws.create_kms_key("certkeeper")


@pytest.fixture
def kms_sealer(kms: Any, kms_key: str) -> KmsSealer:
    return KmsSealer(kms, "alias/certkeeper")


MAKERS: dict[str, Callable[[pytest.FixtureRequest], Sealer]] = {
    "fake": lambda request: FakeSealer(),
    "KMS": lambda request: request.getfixturevalue("kms_sealer"),
    "store": lambda request: StoreSealer(),
}


@pytest.fixture(params=list(MAKERS))
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return MAKERS[request.param](request)


def test_what_was_sealed_opens_under_the_same_context(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, CONTEXT)

    assert sealer.open(sealed, CONTEXT) == SECRET


def test_the_largest_private_key_fits(sealer: Sealer) -> None:
    rsa_4096 = b"x" * 3272

    assert sealer.open(sealer.seal(rsa_4096, CONTEXT), CONTEXT) == rsa_4096


def test_no_sealed_key_shows_its_bytes_when_it_is_printed(sealer: Sealer) -> None:
    sealed = sealer.seal(SECRET, CONTEXT)

    assert "secret" not in repr(sealed)


@pytest.mark.parametrize("kind", ["fake", "KMS"])
def test_nothing_opens_under_another_context(request: pytest.FixtureRequest, kind: str) -> None:
    sealer = MAKERS[kind](request)
    sealed = sealer.seal(SECRET, CONTEXT)

    with pytest.raises(SealingError):
        sealer.open(sealed, {"certkeeper-name": "api"})


def test_a_key_that_is_being_deleted_already_is_left_at_that(kms: Any, aws: AwsServer) -> None:
    arn = aws.create_kms_key("leaving")

    for _ in range(2):
        delete(kms, arn, "alias/leaving")

        assert state(kms, arn) == "PendingDeletion"
        assert state(kms, "alias/leaving") is None


def test_kms_seals_under_the_key_of_the_settings_and_tells_its_arn(kms_sealer: KmsSealer, kms_key: str) -> None:
    sealed = kms_sealer.seal(SECRET, CONTEXT)

    assert (sealed.sealing, sealed.kms_key_arn) == ("kms", kms_key)
    assert SECRET not in sealed.blob


def test_a_key_is_opened_with_the_one_that_sealed_it_after_the_alias_has_moved_on(
    kms: Any, kms_sealer: KmsSealer, aws: AwsServer
) -> None:
    sealed = kms_sealer.seal(SECRET, CONTEXT)
    aws.create_kms_key("another")

    assert KmsSealer(kms, "alias/another").open(sealed, CONTEXT) == SECRET


def test_store_says_plainly_that_it_does_not_seal() -> None:
    assert StoreSealer().seal(SECRET, CONTEXT) == Sealed("store", SECRET)


@pytest.mark.parametrize(
    ("sealed", "hint"),
    [
        pytest.param(Sealed("store", SECRET), "set sealing", id="sealed by the store"),
        pytest.param(Sealed("kms", SECRET), "set sealing", id="sealed by an unnamed KMS key"),
    ],
)
def test_kms_does_not_open_what_it_did_not_seal(kms_sealer: KmsSealer, sealed: Sealed, hint: str) -> None:
    with pytest.raises(SealingError, match="not sealed by KMS") as caught:
        kms_sealer.open(sealed, CONTEXT)

    assert hint in (caught.value.hint or "")


def test_store_does_not_open_what_kms_sealed() -> None:
    with pytest.raises(SealingError, match="sealed by KMS") as caught:
        StoreSealer().open(Sealed("kms", b"x", "arn:aws:kms:eu-west-1:1:key/k"), CONTEXT)

    assert caught.value.hint == 'set sealing = "kms" again'


REFUSALS = [
    pytest.param("NotFoundException", "correct kms_key", id="no such key"),
    pytest.param("AccessDeniedException", "kms:Encrypt", id="no right"),
    pytest.param("DisabledException", "enable the KMS key", id="disabled"),
    pytest.param("KMSInvalidStateException", "deletion", id="pending deletion"),
    pytest.param("KMSInternalException", "check the KMS key", id="anything else"),
]


@pytest.mark.parametrize(("code", "hint"), REFUSALS)
def test_a_refusal_of_kms_has_a_hint_and_quotes_nothing(
    kms_sealer: KmsSealer, desk: Desk, code: str, hint: str
) -> None:
    refusal = Fault("refuse", "kms", "Encrypt", status=400, code=code, message="you sent: very secret")

    with desk.fault(refusal), pytest.raises(SealingError) as caught:
        kms_sealer.seal(SECRET, CONTEXT)

    assert f"alias/certkeeper: {code}" in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_key_that_was_disabled_is_told_when_opening(kms_sealer: KmsSealer, kms: Any, kms_key: str) -> None:
    sealed = kms_sealer.seal(SECRET, CONTEXT)
    kms.disable_key(KeyId=kms_key)

    with pytest.raises(SealingError, match=r"could not be opened by KMS key arn:.*: DisabledException"):
        kms_sealer.open(sealed, CONTEXT)


def test_a_kms_that_cannot_be_reached_is_a_sealing_error(kms_sealer: KmsSealer, desk: Desk) -> None:
    with desk.fault(Fault("drop", "kms")), pytest.raises(SealingError, match="ConnectionClosedError"):
        kms_sealer.seal(SECRET, CONTEXT)
