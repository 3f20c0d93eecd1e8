"""The sandbox's IAM, rule by rule. That it agrees with another evaluator is in test_permissions_hold.py."""

from __future__ import annotations

from typing import Any

import pytest

from certkeeper.sandbox.iam import PolicyError, Question, decide

HOME, AWAY = "123456789012", "210987654321"
WEB = f"arn:aws:iam::{HOME}:role/web"
SHOP = f"arn:aws:iam::{AWAY}:role/shop"
OBJECT = "arn:aws:s3:::bucket/certificates/example.com"
KMS_KEY = f"arn:aws:kms:eu-west-1:{HOME}:key/1"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: str = "s3:GetObject", resource: str = OBJECT, **more: Any) -> dict[str, Any]:
    return {"Sid": "Allowed", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def ask(principal: str = WEB, action: str = "s3:GetObject", resource: str = OBJECT, **context: Any) -> Question:
    named = {key.replace("__", ":"): (value,) if isinstance(value, str) else value for key, value in context.items()}
    return Question(principal, action, resource, HOME, named)


def allowed(condition: dict[str, Any], **context: Any) -> bool:
    return decide(ask(**context), [policy(allow(Condition=condition))]).allowed


def to(*principals: str) -> dict[str, Any]:
    return {"Principal": {"AWS": list(principals)}}


def test_nothing_is_allowed_that_nobody_allows() -> None:
    assert not decide(ask(), []).allowed
    assert not decide(ask(), [policy(allow("s3:PutObject"))]).allowed
    assert not decide(ask(), [policy(allow(resource=OBJECT + ".evil"))]).allowed
    assert decide(ask(), [policy(allow())]).allowed


def test_a_star_matches_any_text_slashes_too_and_a_question_mark_one_letter() -> None:
    assert decide(ask(), [policy(allow(resource="arn:aws:s3:::bucket/*"))]).allowed
    assert decide(ask(), [policy(allow(resource=OBJECT[:-1] + "?"))]).allowed
    assert not decide(ask(), [policy(allow(resource=OBJECT + "?"))]).allowed
    assert not decide(ask(), [policy(allow(resource="arn:aws:s3:::bucket/[a-z]*"))]).allowed


def test_an_explicit_deny_wins_wherever_it_stands() -> None:
    deny = {"Sid": "No", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}

    assert not decide(ask(), [policy(allow(), deny)]).allowed
    assert not decide(ask(), [policy(allow())], policy({**deny, "Principal": "*"})).allowed
    assert decide(ask(), [policy(allow(), deny)]).why == "denied by No"


def test_at_home_a_resource_policy_that_names_the_role_is_enough_and_one_that_names_the_account_is_not() -> None:
    root = f"arn:aws:iam::{HOME}:root"

    assert decide(ask(), [], policy(allow(**to(WEB)))).allowed
    assert not decide(ask(), [], policy(allow(**to(root)))).allowed
    assert decide(ask(), [policy(allow())], policy(allow(**to(SHOP)))).allowed


@pytest.mark.parametrize("theirs", [SHOP, f"arn:aws:iam::{AWAY}:root", AWAY])
def test_another_account_wants_both(theirs: str) -> None:
    mine, yours = policy(allow()), policy(allow(**to(theirs)))

    assert decide(ask(SHOP), [mine], yours).allowed
    assert not decide(ask(SHOP), [], yours).allowed
    assert not decide(ask(SHOP), [mine]).allowed
    assert not decide(ask(SHOP), [mine], policy(allow(**to(WEB)))).allowed


def test_a_kms_key_wants_its_own_policys_word_at_home_too() -> None:
    decrypt = ask(action="kms:Decrypt", resource=KMS_KEY)
    identity, root = policy(allow("kms:Decrypt", KMS_KEY)), f"arn:aws:iam::{HOME}:root"

    assert not decide(decrypt, [identity], policy(allow("kms:PutKeyPolicy", "*", **to(root)))).allowed
    assert decide(decrypt, [identity], policy(allow("kms:*", "*", **to(root)))).allowed
    assert not decide(decrypt, [], policy(allow("kms:*", "*", **to(root)))).allowed
    assert decide(decrypt, [], policy(allow("kms:Decrypt", "*", **to(WEB)))).allowed


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ({"StringEquals": {"k:x": ["a", "b"]}}, {"k__x": "b"}, {"k__x": "B"}),
        ({"StringEquals": {"K:X": "a"}}, {"k__x": "a"}, {}),
        ({"StringNotEquals": {"k:x": ["a", "b"]}}, {"k__x": "c"}, {"k__x": "a"}),
        ({"StringNotEquals": {"k:x": "a"}}, {}, {"k__x": "a"}),
        ({"StringLike": {"k:x": "_acme-challenge.*"}}, {"k__x": "_acme-challenge.a.b"}, {"k__x": "a"}),
        ({"ArnLike": {"k:x": "arn:aws:iam::1:role/*"}}, {"k__x": "arn:aws:iam::1:role/x"}, {"k__x": "arn:aws:iam::1"}),
        ({"ArnEquals": {"aws:PrincipalArn": WEB}}, {}, {"aws__PrincipalArn": WEB + "2"}),
        ({"StringEquals": {"aws:PrincipalAccount": HOME}}, {}, {"aws__PrincipalAccount": AWAY}),
        ({"Bool": {"k:x": "false"}}, {"k__x": "False"}, {}),
        ({"Null": {"k:x": "false"}}, {"k__x": "a"}, {}),
        ({"Null": {"k:x": "true"}}, {}, {"k__x": "a"}),
        ({"ForAllValues:StringEquals": {"k:x": ["a", "b"]}}, {"k__x": ("a", "b")}, {"k__x": ("a", "c")}),
        ({"ForAnyValue:StringEquals": {"k:x": ["a", "b"]}}, {"k__x": ("a", "c")}, {"k__x": ("c", "d")}),
        ({"ForAnyValue:StringEquals": {"k:x": ["a"]}}, {"k__x": "a"}, {}),
        ({"StringEquals": {"k:x": "a", "k:y": "b"}}, {"k__x": "a", "k__y": "b"}, {"k__x": "a", "k__y": "c"}),
    ],
)
def test_conditions(condition: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]) -> None:
    assert allowed(condition, **yes)
    assert not allowed(condition, **no)


def test_for_all_values_is_true_of_none_which_null_mends() -> None:
    every = {"ForAllValues:StringEquals": {"k:x": ["a"]}}

    assert allowed(every)
    assert not allowed({**every, "Null": {"k:x": "false"}})


@pytest.mark.parametrize(
    "statement",
    [
        allow(Condition={"StringEqualsIfExists": {"k:x": "a"}}),
        allow(Condition={"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}),
        {**allow(), "NotAction": "s3:*"},
        allow(resource="arn:aws:s3:::bucket/${aws:username}"),
        {**allow(), "Effect": "allow"},
    ],
)
def test_what_it_does_not_know_it_refuses_loudly(statement: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        decide(ask(k__x="a"), [policy(statement)])
