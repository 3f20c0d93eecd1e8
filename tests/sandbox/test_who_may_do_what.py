"""Every row of the table as this evaluator decides it, and as two tools of others see the same policies."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from certkeeper.core import permissions
from certkeeper.sandbox import parts
from certkeeper.sandbox.iam import Policy, decide
from tests.policies_in_docs import zone_role
from tests.sandbox.who_may_do_what import (
    KMS_KEY,
    LOOKS,
    RENEWER,
    ROWS,
    S3,
    SECRETS,
    WEB,
    ZONE_ROLE,
    Row,
    identity,
    resource_policy,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
SIMULATOR, LINTER = ROOT / ".parts/policy-simulator", ROOT / ".parts/policy-linter/bin/python"
HOW = "scripts/get-policy-checkers"
HERE = Path(__file__).parent


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_everybody_may_do_their_work_and_nothing_else(row: Row) -> None:
    own, of_resource = identity(row.deployment, row.who), resource_policy(row.deployment, row.resource)

    assert decide(row.question, [own], of_resource).allowed == row.allowed


@pytest.mark.live
@pytest.mark.skipif(not (SIMULATOR / "node_modules").is_dir() or not parts.find("node"), reason=HOW)
def test_an_evaluator_of_others_decides_every_row_the_same_way() -> None:
    simulations = json.dumps([simulation(row) for row in ROWS])
    script = [str(parts.find("node")), str(HERE / "simulate.mjs"), str(SIMULATOR)]

    done = subprocess.run(script, input=simulations, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    said = [one["allowed"] for one in json.loads(done.stdout)]
    assert [str(row) for row, allowed in zip(ROWS, said, strict=True) if row.allowed != allowed] == []


def simulation(row: Row) -> dict[str, Any]:
    question, of_resource = row.question, resource_policy(row.deployment, row.resource)
    # It forgets kms:EncryptionContext:ANYTHING, so the names of those keys become names that it keeps.
    told = {
        "request": {
            "principal": row.who,
            "action": row.action,
            "resource": {"resource": row.resource, "accountId": question.account},
            "contextVariables": {
                "aws:PrincipalArn": row.who,
                **{key: one_or_all(key, values) for key, values in question.context.items()},
            },
        },
        "identityPolicies": [{"name": "own", "policy": identity(row.deployment, row.who)}],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        **({"resourcePolicy": of_resource} if of_resource else {}),
    }
    renamed: dict[str, Any] = json.loads(
        re.sub(r'"kms:EncryptionContext:([\w-]+)":', r'"aws:PrincipalTag/\1":', json.dumps(told))
    )
    return renamed


def one_or_all(key: str, values: Sequence[str]) -> str | list[str]:
    several = key.startswith("route53:") or key == "kms:EncryptionContextKeys"
    return list(values) if several else values[0]


@pytest.mark.live
@pytest.mark.skipif(not LINTER.exists(), reason=HOW)
def test_a_linter_of_others_finds_nothing_but_that_a_key_policy_and_a_secrets_policy_speak_of_themselves() -> None:
    elsewhere = zone_role(*(one for one in S3.challenges if one.role_arn))
    policies: dict[str, Policy] = {f"zones at {ZONE_ROLE}": elsewhere}
    for where, deployment in (("S3", S3), ("Secrets Manager", SECRETS)):
        policies |= {f"{who} {where}": identity(deployment, who) for who in (RENEWER, WEB, LOOKS)}
        policies |= {f"bucket {where}": permissions.bucket_policy(deployment)}
        policies |= {f"key {where}": permissions.key_policy(deployment)}
    secret = permissions.secret_policy(SECRETS, "example.com")
    assert secret is not None

    done = subprocess.run(
        [str(LINTER), "-W", "ignore", str(HERE / "lint_policies.py")],
        input=json.dumps({**policies, "key secret": secret}),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = [(where, issue) for where, issue, _ in json.loads(done.stdout)]
    assert [one for one in found if not (one[0].startswith("key ") and one[1] == "RESOURCE_STAR")] == []
    assert found, "it looked at the key's policy at least"


def test_what_has_no_key_of_its_own_is_denied_by_the_keys_policy_alone() -> None:
    """A reader whose own policy says everything gets no more out of the key than its names."""
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    rows = [row for row in ROWS if row.who == WEB and row.resource == KMS_KEY]

    assert len(rows) > 4
    for row in rows:
        decision = decide(row.question, [everything], permissions.key_policy(row.deployment))
        assert decision.allowed == row.allowed, str(row)
