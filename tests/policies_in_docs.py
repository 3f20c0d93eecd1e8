"""The policies that docs/iam.md shows, as core/permissions says them for one example."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from certkeeper.core import permissions
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import ChallengeName, Deployment, Policy

HOME, AWAY, REGION = "123456789012", "210987654321", "eu-west-1"
ZONE = "Z0123456789ABCDEFGHIJ"
DEPLOYMENT = Deployment(
    account=HOME,
    region=REGION,
    bucket="certkeeper-123456789012-eu-west-1",
    prefix="prod",
    renewer_role=f"arn:aws:iam::{HOME}:role/certkeeper-eu-west-1-renewer",
    specs=(
        CertificateSpec(
            "example.com",
            ("example.com", "*.example.com"),
            "https://ca.example/directory",
            readers=(f"arn:aws:iam::{HOME}:role/web", f"arn:aws:iam::{AWAY}:role/shop"),
        ),
    ),
    challenges=(ChallengeName(ZONE, "_acme-challenge.example.com"),),
    kms_key=f"arn:aws:kms:{REGION}:{HOME}:key/11111111-2222-3333-4444-555555555555",
    function="certkeeper",
    notices_topic=f"arn:aws:sns:{REGION}:{HOME}:certkeeper-notices",
    failures_queue=f"arn:aws:sqs:{REGION}:{HOME}:certkeeper-undelivered",
)
SECRETS = replace(DEPLOYMENT, secrets_prefix="prod")
ELSEWHERE = ChallengeName("Z9876543210ABCDEFGHIJ", "_acme-challenge.example.org", f"arn:aws:iam::{AWAY}:role/dns")
_POLICY = re.compile(r"<!-- policy: (?P<kind>[a-z ]+) -->\n.*?<!-- end of policy -->", re.DOTALL)


def zone_role(*challenges: ChallengeName) -> Policy:
    """Of a role of another account: what the renewer has in zones of its own."""
    at_home = replace(DEPLOYMENT, challenges=tuple(replace(one, role_arn="") for one in challenges))
    policy = permissions.renewer(at_home)
    return {**policy, "Statement": [one for one in policy["Statement"] if str(one["Action"]).startswith("route53:")]}


def zone_role_trust(renewer_role: str) -> Policy:
    """Of the same role: whom it lets in."""
    statement = {
        "Sid": "LetTheRenewerIn",
        "Effect": "Allow",
        "Principal": {"AWS": ":".join([*renewer_role.split(":")[:5], "root"])},
        "Action": "sts:AssumeRole",
        "Condition": {"ArnEquals": {"aws:PrincipalArn": renewer_role}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def added(policy: Policy, to: Policy) -> list[dict[str, Any]]:
    """The statements that one policy has and another has not."""
    return [one for one in policy["Statement"] if one not in to["Statement"]]


def shown() -> dict[str, Any]:
    renewer, key = permissions.renewer(DEPLOYMENT), permissions.key_policy(DEPLOYMENT)
    elsewhere = replace(DEPLOYMENT, challenges=(*DEPLOYMENT.challenges, ELSEWHERE))
    return {
        "renewer": renewer,
        "renewer with secrets": added(permissions.renewer(SECRETS), renewer),
        "renewer with zones elsewhere": added(permissions.renewer(elsewhere), renewer),
        "role of a zone elsewhere": zone_role(ELSEWHERE),
        "trust of a zone elsewhere": zone_role_trust(DEPLOYMENT.renewer_role),
        "instance": permissions.reader(DEPLOYMENT, ["example.com"]),
        "instance with secrets": permissions.reader(SECRETS, ["example.com"]),
        "secret": permissions.secret_policy(SECRETS, "example.com"),
        "operator": permissions.operator(DEPLOYMENT),
        "bucket": permissions.bucket_policy(DEPLOYMENT),
        "key": key,
        "key with secrets": added(permissions.key_policy(SECRETS), key),
    }


def with_policies(text: str) -> str:
    """The page with every policy in it as it is today. Raises KeyError for one that is not known."""
    policies = shown()

    def policy(found: re.Match[str]) -> str:
        printed = json.dumps(policies[found["kind"]], indent=2)
        return f"<!-- policy: {found['kind']} -->\n```json\n{printed}\n```\n<!-- end of policy -->"

    return _POLICY.sub(policy, text)


def kinds(text: str) -> list[str]:
    return [found["kind"] for found in _POLICY.finditer(text)]
