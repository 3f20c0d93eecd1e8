"""The policies as values; what they allow and deny is in tests/sandbox/test_permissions_hold.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from certkeeper.core import permissions
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import ChallengeName, Deployment

CA = "https://ca.test/directory"
KMS_KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
WEB, SHOP = "arn:aws:iam::123456789012:role/web", "arn:aws:iam::210987654321:role/shop"
DEPLOYMENT = Deployment(
    account="123456789012",
    region="eu-west-1",
    bucket="certkeeper-123456789012-eu-west-1",
    prefix="prod",
    renewer_role="arn:aws:iam::123456789012:role/certkeeper-renewer",
    specs=(CertificateSpec("example.com", ("example.com", "*.example.com"), CA, readers=(WEB, SHOP)),),
    challenges=(ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.com"),),
    kms_key=KMS_KEY,
    function="certkeeper",
)


def with_names(count: int, zones: int = 1, stem: str = "_acme-challenge") -> Deployment:
    challenges = tuple(
        ChallengeName(f"Z{number % zones:020}", f"{stem}.n{number}.example.com") for number in range(count)
    )
    return replace(DEPLOYMENT, challenges=challenges)


def statement(policy: permissions.Policy, sid: str) -> dict[str, Any]:
    (found,) = [one for one in policy["Statement"] if one["Sid"] == sid]
    return dict(found)


def test_a_key_that_only_cloudformation_knows_stays_as_it_is() -> None:
    policy = permissions.renewer(replace(DEPLOYMENT, kms_key={"Ref": "KmsKeyArn"}))

    assert statement(policy, "SealPrivateKeys")["Resource"] == {"Ref": "KmsKeyArn"}
    json.dumps(policy)


def test_without_a_kms_key_nothing_speaks_of_kms() -> None:
    deployment = replace(DEPLOYMENT, kms_key=None)

    assert "kms:" not in json.dumps([permissions.renewer(deployment), permissions.reader(deployment, ["example.com"])])


@pytest.mark.parametrize(
    "deployment",
    [
        pytest.param(DEPLOYMENT, id="one name"),
        pytest.param(with_names(3, 2), id="several zones"),
        pytest.param(with_names(91, 91), id="more zones than are listed"),
        pytest.param(with_names(300, 2), id="more names than are listed"),
        pytest.param(replace(DEPLOYMENT, challenges=()), id="none"),
        pytest.param(replace(DEPLOYMENT, challenges=(ChallengeName("Z1", "a+b.example.com"),)), id="unusual letters"),
        pytest.param(
            replace(
                DEPLOYMENT,
                challenges=(
                    ChallengeName("Z1", "_acme-challenge.example.com", twins=("Z1", "Z2")),
                    ChallengeName("", "_acme-challenge.example.net", "arn:aws:iam::210987654321:role/dns"),
                    ChallengeName("", "_acme-challenge.example.org", "arn:aws:iam::310987654321:role/dns"),
                ),
            ),
            id="twins and other accounts",
        ),
    ],
)
def test_what_a_policy_lets_present_can_be_read_off_it_and_asked_for_again(deployment: Deployment) -> None:
    policy = permissions.renewer(deployment)

    again = permissions.renewer(replace(deployment, challenges=permissions.presented(policy)))

    assert again == policy


def test_up_to_ninety_zones_are_listed_and_more_are_any_zone_with_the_names_still_exact() -> None:
    few, many = with_names(40, 40), with_names(91, 91)

    assert permissions.widened(few) == ()
    assert len(statement(permissions.renewer(few), "ReadRecordSets")["Resource"]) == 40
    assert statement(permissions.renewer(many), "ReadRecordSets")["Resource"] == "arn:aws:route53:::hostedzone/*"
    assert "_acme-challenge.n90.example.com" in json.dumps(permissions.renewer(many))
    assert len(permissions.widened(many)) == 1


def test_names_that_do_not_fit_become_a_pattern_in_the_zones_that_are_still_listed() -> None:
    policy = permissions.renewer(with_names(2000, 3))

    presents = statement(policy, "PresentChallengeRecords")
    assert len(presents["Resource"]) == 3
    assert presents["Condition"]["ForAllValues:StringLike"] == {
        "route53:ChangeResourceRecordSetsNormalizedRecordNames": ["_acme-challenge.*"]
    }
    assert permissions.size(policy) <= permissions.ROLE_INLINE


def test_a_renewer_that_no_pattern_makes_small_enough_is_refused_with_a_hint() -> None:
    with pytest.raises(
        SettingsError, match=r"renewer's policy would have [\d,]+ characters, and AWS takes 10,240"
    ) as e:
        permissions.renewer(with_names(2000, 3, stem="acme"))

    assert e.value.hint == "split the certificates over several deployments"


def test_a_key_policy_that_kms_would_not_take_is_refused_with_a_hint() -> None:
    specs = tuple(
        CertificateSpec(f"n{number}.example.com", (f"n{number}.example.com",), CA, readers=(f"{WEB}{number}",))
        for number in range(200)
    )

    with pytest.raises(SettingsError, match="KMS key's policy") as refused:
        permissions.key_policy(replace(DEPLOYMENT, specs=specs))

    assert "share their readers" in str(refused.value.hint)


def test_names_of_the_same_readers_share_a_statement() -> None:
    specs = tuple(CertificateSpec(f"n{n}.example.com", (f"n{n}.example.com",), CA, readers=(WEB,)) for n in range(600))

    policy = permissions.key_policy(replace(DEPLOYMENT, specs=specs))

    assert [one["Sid"] for one in policy["Statement"]][-1] == "OpenOwnPrivateKeys1"


def test_readers_of_all_of_too_many_names_are_let_in_to_any_name_which_is_told() -> None:
    specs = tuple(CertificateSpec(f"n{n}.example.com", (f"n{n}.example.com",), CA, readers=(WEB,)) for n in range(3000))
    all_alike, one_differs = replace(DEPLOYMENT, specs=specs), (*specs[1:], replace(specs[0], readers=(SHOP,)))

    opened = statement(permissions.key_policy(all_alike), "OpenOwnPrivateKeys1")

    assert opened["Condition"]["StringLike"] == {"kms:EncryptionContext:certkeeper-name": "*"}
    assert "3000 are too many to list" in permissions.widened(all_alike)[0]
    with pytest.raises(SettingsError, match="KMS key's policy"):
        permissions.key_policy(replace(DEPLOYMENT, specs=one_differs))


def test_record_names_are_normalised_as_route_53_does() -> None:
    assert permissions.normalised("_Acme-Challenge.Example.COM.") == "_acme-challenge.example.com"
    assert permissions.normalised("*.example.com") == "\\052.example.com"


def test_a_prefix_that_a_policy_would_take_for_a_pattern_is_refused() -> None:
    with pytest.raises(SettingsError, match="which a policy takes for any text"):
        replace(DEPLOYMENT, prefix="pr*d")


def test_zones_of_one_name_can_be_told_apart() -> None:
    twins = ChallengeName("ZB", "_acme-challenge.example.com", twins=("ZA", "ZB"))

    policy = permissions.renewer(replace(DEPLOYMENT, challenges=(twins,)))

    apart = statement(policy, "TellTwinsApart")
    assert apart["Action"] == "route53:GetHostedZone"
    assert apart["Resource"] == ["arn:aws:route53:::hostedzone/ZA", "arn:aws:route53:::hostedzone/ZB"]
    assert statement(policy, "ReadRecordSets")["Resource"] == "arn:aws:route53:::hostedzone/ZB"
