"""`certkeeper add`, `forget` and `rename` on real parts: settings and store in one step."""

from __future__ import annotations

import json
from collections.abc import Callable

import boto3
import pytest

from certkeeper.sandbox.acme_traffic import AcmeRequest, AcmeResponse
from certkeeper.sandbox.stack import BUCKET, Sandbox
from tests.live.operators import Operator

pytestmark = pytest.mark.live


def certificates_of(operator: Operator) -> dict[str, str]:
    """Name to state, as `status` tells it."""
    said = json.loads(operator.run("status", "--json").data)
    return {one["name"]: one["state"] for one in said["certificates"]}


def comment(operator: Operator) -> str:
    """Put a comment on top of the settings; the whole text."""
    text = f"# ours\n{operator.config.read_text()}# the end\n"
    operator.config.write_text(text)
    return text


def deploy_copy(operator: Operator, text: str) -> None:
    """Have the settings in the store, too."""
    environment = operator.sandbox.aws.environment
    s3 = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id="AKIABYSTANDER0000000",
        aws_secret_access_key="bystander",
    )
    s3.put_object(Bucket=BUCKET, Key=f"{operator.prefix}/settings.toml", Body=text.encode())


def more(operator: Operator, label: str) -> str:
    """Another name of this operator."""
    name = f"{label}.{operator.name}"
    operator.names.append(name)
    operator.identifiers[name] = [name]
    return name


def test_a_certificate_is_added_to_the_settings_and_obtained(operator: Operator) -> None:
    before, name = comment(operator), more(operator, "added")

    said = operator.run("add", name, name)

    assert said.status == 0, said.talk
    assert operator.config.read_text() == f'{before}\n[certificates."{name}"]\nidentifiers = ["{name}"]\n'
    operator.assert_one_good_certificate(name)
    assert operator.certificate() is None
    again = operator.run("add", name, name)
    assert (again.status, operator.issued(name)) == (0, [operator.issued(name)[0]])


def test_what_the_settings_would_not_take_is_not_written(operator: Operator) -> None:
    before = operator.config.read_text()

    faulty = operator.run("add", "x", "localhost")
    double = operator.run("add", operator.name, "other.example.com")

    assert (faulty.status, double.status) == (2, 2)
    assert "'localhost': not a domain name" in faulty.talk
    assert f"there is a certificate called '{operator.name}' already" in double.talk
    assert operator.config.read_text() == before
    assert operator.objects() == {}


def test_a_name_is_forgotten_in_settings_and_store_and_is_not_obtained_again(sandbox: Sandbox) -> None:
    with Operator(sandbox, count=2) as operator:
        text = comment(operator)
        deploy_copy(operator, text)
        assert operator.renew().status == 0
        gone, stays = operator.names

        unconfirmed = operator.run("forget", gone)
        untouched = operator.config.read_text(), operator.certificate(gone)
        said = operator.run("forget", gone, "--yes")

        assert (unconfirmed.status, said.status) == (2, 0)
        assert untouched[0] == text and untouched[1] is not None
        assert "confirm it with --yes" in unconfirmed.talk and "private key will be gone" in unconfirmed.talk
        table = f'[certificates."{gone}"]\nidentifiers = {json.dumps(operator.identifiers[gone])}\n'
        assert operator.config.read_text() == text.replace(table, "")
        assert operator.objects()["settings.toml"].decode() == text.replace(table, "")
        assert {path for path in operator.objects() if gone in path} == {f"journal/{gone}"}
        assert operator.journal(gone).closed
        assert certificates_of(operator) == {stays: "ok"}
        assert set(operator.renew().outcomes) == {stays}
        assert len(operator.issued(gone)) == 1
        unknown = operator.run("forget", gone, "--yes")
        assert (unknown.status, "there is no certificate called" in unknown.talk) == (2, True)


def test_the_settings_in_the_store_alone_are_edited_with_from(sandbox: Sandbox) -> None:
    with Operator(sandbox, count=2) as operator:
        text = operator.config.read_text()
        deploy_copy(operator, text)
        name = more(operator, "added")

        added = operator.run("--from", operator.store, "add", name, name)
        forgotten = operator.run("--from", operator.store, "forget", operator.name, "--yes")

        assert (added.status, forgotten.status) == (0, 0), added.talk + forgotten.talk
        stored = operator.objects()["settings.toml"].decode()
        assert stored.endswith(f'[certificates."{name}"]\nidentifiers = ["{name}"]\n')
        assert operator.name not in stored.replace(name, "")
        assert operator.config.read_text() == text
        operator.assert_one_good_certificate(name)


def test_a_renamed_certificate_is_obtained_anew_and_the_old_one_stays_until_it_is_forgotten(operator: Operator) -> None:
    assert operator.renew().status == 0
    old, new = operator.name, "renamed"
    text = operator.config.read_text()

    said = operator.run("rename", old, new)

    assert said.status == 0, said.talk
    assert operator.config.read_text() == text.replace(f'[certificates."{old}"]', f'[certificates."{new}"]')
    assert certificates_of(operator) == {new: "ok", old: "retired"}
    renamed, before = operator.certificate(new), operator.certificate(old)
    assert renamed is not None and before is not None
    assert operator.opened(renamed.request.private_key, {"certkeeper-name": new})
    assert [before.chain.serial_number, renamed.chain.serial_number] == operator.issued(old)
    assert operator.run("forget", old, "--yes").status == 0
    assert certificates_of(operator) == {new: "ok"}


def test_with_sealing_store_a_renamed_certificate_is_the_same_one(operator: Operator) -> None:
    lines = operator.config.read_text().splitlines(keepends=True)
    text = "".join('sealing = "store"\n' if "sealing" in one else one for one in lines if "kms_key" not in one)
    operator.config.write_text(text)
    assert operator.renew().status == 0

    said = operator.run("rename", operator.name, "renamed")

    assert said.status == 0, said.talk
    renamed = operator.certificate("renamed")
    assert renamed is not None and [renamed.chain.serial_number] == operator.issued()
    assert operator.renew().outcomes["renamed"]["outcome"] == "kept"
    assert len(operator.issued()) == 1


def test_what_is_to_be_revoked_is_not_renamed_and_forget_says_that_it_will_not_be_revoked(operator: Operator) -> None:
    assert operator.renew().status == 0
    text = operator.config.read_text()
    serial = operator.issued()[0]

    def down(request: AcmeRequest, forward: Callable[[], AcmeResponse]) -> AcmeResponse:
        return AcmeResponse.of_problem(503, "serverInternal", "down")

    with operator.proxy.script("newOrder", down):
        wished = operator.run("revoke", operator.name, "--reason", "keyCompromise", "--yes")
    renamed = operator.run("rename", operator.name, "renamed")
    unconfirmed = operator.run("forget", operator.name)

    assert (wished.status, renamed.status, unconfirmed.status) == (1, 2, 2)
    assert f"{serial} is to be revoked first" in renamed.talk
    assert f"{serial} was to be revoked (keyCompromise), and will not be" in unconfirmed.talk
    assert operator.config.read_text() == text
    assert operator.run("revoke", operator.name, "--reason", "keyCompromise", "--yes").status == 0
    assert len(operator.issued()) == 2


def test_a_rename_to_a_name_that_is_taken_is_refused(sandbox: Sandbox) -> None:
    with Operator(sandbox, count=2) as operator:
        text = operator.config.read_text()

        taken = operator.run("rename", *operator.names)
        unknown = operator.run("rename", "nobody", "somebody")

        assert (taken.status, unknown.status) == (2, 2)
        assert operator.config.read_text() == text
