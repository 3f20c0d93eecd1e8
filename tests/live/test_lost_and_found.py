"""What still works when something that is stored is lost, and how to come back: the recipes of docs/operating.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from certkeeper.sandbox.stack import BUCKET, KMS_KEY, Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live

SETTLED = 700  # seconds; for ten minutes a store that shows less than was written is not believed


@pytest.fixture(name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    """Who holds one certificate."""
    with Operator(sandbox) as operator:
        assert operator.renew().status == 0
        yield operator


def lose(operator: Operator, path: str) -> None:
    """Delete an object, as somebody with the bucket's console does."""
    assert operator.object(path) is not None
    operator.sandbox.aws.delete_object(BUCKET, f"{operator.prefix}/{path}")


def state(operator: Operator) -> tuple[int, str]:
    said = operator.run("status", "--json")
    (one,) = json.loads(said.data)["certificates"]
    return said.status, one["state"]


def failed(operator: Operator, *more: str) -> dict[str, Any]:
    said = operator.renew(*more)
    assert said.status == 1
    assert said.outcomes[operator.name]["outcome"] == "failed"
    return said.outcomes[operator.name]


def test_a_lost_certificate_is_doubted_for_ten_minutes_and_then_obtained_anew(operator: Operator) -> None:
    lose(operator, f"certificates/{operator.name}")

    assert "older certificate than was written" in failed(operator)["error"]
    assert len(operator.issued()) == 1
    operator.age(operator.name, SETTLED)
    assert operator.renew(operator.name).outcomes[operator.name]["outcome"] == "renewed"
    operator.assert_one_good_certificate(issued=2)


def test_a_certificate_that_was_put_back_is_kept(operator: Operator) -> None:
    before = operator.object(f"certificates/{operator.name}")
    assert before is not None
    lose(operator, f"certificates/{operator.name}")
    operator.put(f"certificates/{operator.name}", before)

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    operator.assert_one_good_certificate()


def test_a_lost_journal_entry_costs_nothing_where_nothing_was_under_way(operator: Operator) -> None:
    lose(operator, f"journal/{operator.name}")

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert state(operator) == (0, "ok")
    operator.assert_one_good_certificate()


def test_a_lost_index_is_bad_news_until_the_next_run_makes_it_anew(operator: Operator) -> None:
    lose(operator, "index")

    assert state(operator) == (1, "missing")
    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert state(operator) == (0, "ok")


def test_a_lost_account_is_replaced_by_another_one_with_the_next_order(operator: Operator) -> None:
    (path,) = (path for path in operator.objects() if path.startswith("accounts/"))
    before = operator.account()["account_url"]
    lose(operator, path)

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert operator.accounts() == []
    assert operator.renew("--force").status == 0
    operator.assert_one_good_certificate(issued=2)
    assert operator.account()["account_url"] != before


def test_an_account_key_that_cannot_be_opened_fails_orders_alone_until_it_is_removed(operator: Operator) -> None:
    (path,) = (path for path in operator.objects() if path.startswith("accounts/"))
    spoilt = {**operator.account(), "sealed_account_key": "bm90aGluZyB0aGF0IEtNUyBoYXMgc2VhbGVk"}
    operator.put(path, json.dumps(spoilt).encode())

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert "could not be opened" in failed(operator, "--force")["error"]
    assert operator.certificate() is not None
    assert len(operator.issued()) == 1

    lose(operator, path)
    assert operator.renew(operator.name, "--force").status == 0
    operator.assert_one_good_certificate(issued=2)


def test_with_the_kms_key_disabled_nothing_is_ordered_and_enabled_again_all_goes_on(operator: Operator) -> None:
    kms = operator.kms()
    kms_key_arn = kms.describe_key(KeyId=KMS_KEY)["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=kms_key_arn)
    try:
        kept = operator.renew()
        told = failed(operator, "--force")
        doctor = operator.run("doctor", "--json")
    finally:
        kms.enable_key(KeyId=kms_key_arn)

    assert kept.outcomes[operator.name]["outcome"] == "kept"
    assert "DisabledException" in told["error"]
    assert told["hint"] == "enable the KMS key again"
    assert "Disabled" in {one["check"]: one["what"] for one in json.loads(doctor.data)["findings"]}["KMS key"]
    assert len(operator.issued()) == 1
    assert operator.renew(operator.name, "--force").status == 0
    operator.assert_one_good_certificate(issued=2)


def test_after_the_kms_key_is_gone_another_one_and_another_account_take_its_place(operator: Operator) -> None:
    kms = operator.kms()
    alias, lost = f"alias/{operator.prefix}", kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=alias, TargetKeyId=lost)
    for path in operator.objects():
        lose(operator, path)
    operator.settings(kms_key=alias)
    assert operator.renew().status == 0
    kms.schedule_key_deletion(KeyId=lost, PendingWindowInDays=7)

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    kms.update_alias(AliasName=alias, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    assert "KMSInvalidStateException" in failed(operator, "--force")["error"]
    (path,) = (path for path in operator.objects() if path.startswith("accounts/"))
    lose(operator, path)

    assert operator.renew(operator.name, "--force").status == 0
    operator.assert_one_good_certificate(issued=3)


def test_a_store_that_was_copied_to_another_place_goes_on_without_an_order(operator: Operator) -> None:
    for path, body in operator.objects().items():
        operator.sandbox.aws.put_object(BUCKET, f"{operator.prefix}-copy/{path}", body)
    operator.prefix = f"{operator.prefix}-copy"
    operator.settings()

    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
    assert state(operator) == (0, "ok")
    operator.assert_one_good_certificate()


def test_a_lost_settings_file_is_read_back_from_the_store(operator: Operator) -> None:
    text = operator.settings(ca_bundle=operator.sandbox.tls.bundle.read_text())
    operator.put("settings.toml", text.encode())
    operator.config.unlink()

    assert operator.run("--from", operator.store, "status").status == 0
    assert operator.run("--from", operator.store, "--config", str(operator.config), "init").status == 0
    assert operator.config.read_text() == text
    assert operator.renew().outcomes[operator.name]["outcome"] == "kept"
