"""The setting that says where certificates are kept."""

from __future__ import annotations

import pytest

from certkeeper import config

SETTINGS = 'store = "s3://bucket/prod"\nsealing = "store"\n'
TABLE = '[certificates."example.com"]\nidentifiers = ["example.com"]\n'


@pytest.mark.parametrize("prefix", ["prod", "certkeeper/eu-west-1", "A_b+c=d.e@f"])
def test_a_prefix_of_secrets_is_read(prefix: str) -> None:
    settings = config.parse(f'{SETTINGS}certificates_in = "secretsmanager:{prefix}"\n{TABLE}', "certkeeper.toml")

    assert settings.secrets_prefix == prefix


def test_without_it_certificates_are_kept_in_the_store() -> None:
    assert config.parse(SETTINGS + TABLE, "certkeeper.toml").secrets_prefix is None


@pytest.mark.parametrize("value", [
    '""', '"prod"', '"secretsmanager:"', '"secretsmanager:/prod"', '"secretsmanager:prod/"', '"secretsmanager:a//b"',
    '"secretsmanager:pröd"', '"secretsmanager:!prod"', '"secretsmanager:prod\\n"', f'"secretsmanager:{"x" * 401}"',
    '"s3://bucket/prod"', "1", '["secretsmanager:prod"]',
])  # fmt: skip
def test_what_is_no_prefix_of_secrets_is_a_fault_with_a_hint(value: str) -> None:
    with pytest.raises(config.Faults) as caught:
        config.parse(f"{SETTINGS}certificates_in = {value}\n{TABLE}", "certkeeper.toml")

    (fault,) = caught.value.faults
    assert fault.key == "certificates_in"
    assert 'like "secretsmanager:prod"' in (fault.hint or "")


@pytest.mark.parametrize("table", [TABLE, ""], ids=["with certificates", "alone"])
def test_who_writes_certificates_instead_is_told_the_right_key(table: str) -> None:
    with pytest.raises(config.Faults) as caught:
        config.parse(f'{SETTINGS}certificates = "secretsmanager:prod"\n{table}', "certkeeper.toml")

    assert 'write certificates_in = "secretsmanager:PREFIX"' in (caught.value.faults[0].hint or "")
