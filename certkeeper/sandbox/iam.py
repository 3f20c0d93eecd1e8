"""IAM's decision: identity, resource and key policies with conditions, as far as certkeeper's policies use them.

Whatever it does not know (an operator, an element, a policy variable) raises PolicyError: a guess would be worse than
none. Session policies, boundaries and those of organizations are not known.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]
Context = Mapping[str, Sequence[str]]

ELEMENTS = frozenset(("Sid", "Effect", "Principal", "Action", "Resource", "Condition"))


class PolicyError(Exception):
    """A policy that is none, or says what this evaluator does not know."""


@dataclass(frozen=True)
class Question:
    """May `principal` (the ARN of a role or user) do `action` on `resource`, an ARN or "*"?

    `account` is whose the resource is. `context` are the condition keys that the request has, each with its values;
    aws:PrincipalArn and aws:PrincipalAccount are added.
    """

    principal: str
    action: str
    resource: str
    account: str
    context: Context = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Sequence[str]]:
        """The whole context; the names of condition keys have no letter case."""
        given = {name.lower(): values for name, values in self.context.items()}
        return {"aws:principalarn": (self.principal,), "aws:principalaccount": (account_of(self.principal),), **given}


@dataclass(frozen=True)
class Decision:
    """`why` names the statement that decided, or what is missing."""

    allowed: bool
    why: str


def decide(question: Question, identity: Sequence[Policy], resource_policy: Policy | None = None) -> Decision:
    """As IAM does: an explicit Deny wins; KMS wants its key policy's word in any case; another account wants both.

    A resource policy that names the account leaves it to that account's identity policies. Raises PolicyError.
    """
    by_identity = [one for policy in identity for one in statements(policy) if applies(one, question)]
    by_resource = [
        (one, how)
        for one in (statements(resource_policy) if resource_policy else ())
        if applies(one, question) and (how := named(one, question.principal))
    ]
    for one in (*by_identity, *(one for one, _ in by_resource)):
        if one["Effect"] == "Deny":
            return Decision(allowed=False, why=f"denied by {sid(one)}")
    mine = next((sid(one) for one in by_identity), None)
    theirs = {how: sid(one) for one, how in by_resource}
    at_home = account_of(question.principal) == question.account
    if at_home and "itself" in theirs:
        return Decision(allowed=True, why=theirs["itself"])
    by_both = not at_home or question.action.startswith(("kms:", "sts:AssumeRole"))
    if by_both and not theirs:
        return Decision(allowed=False, why="nothing in the resource's policy allows it")
    return Decision(allowed=mine is not None, why=mine or "nothing in the identity's policies allows it")


def sid(statement: Mapping[str, Any]) -> str:
    return str(statement.get("Sid", "a statement"))


def known(policies: Iterable[Policy]) -> None:
    """Raises PolicyError for whatever in these policies this evaluator does not know."""
    for policy in policies:
        for one in statements(policy):
            for operator, key, wanted in conditions(one):
                holds(operator, key, wanted, {})
            for text in (*several(one["Action"]), *several(one.get("Resource", ()))):
                like("", text)


def statements(policy: Policy) -> list[Mapping[str, Any]]:
    """The statements of a policy. Raises PolicyError for elements that are not known."""
    if policy.get("Version") != "2012-10-17":
        raise PolicyError(f"the policy's version is {policy.get('Version')!r}")
    found: list[Mapping[str, Any]] = list(policy["Statement"])
    for one in found:
        unknown = set(one) - ELEMENTS
        if unknown or one.get("Effect") not in ("Allow", "Deny"):
            raise PolicyError(f"{one.get('Sid')}: {sorted(unknown) or one.get('Effect')} is not known here")
    return found


def applies(statement: Mapping[str, Any], question: Question) -> bool:
    """Whether action, resource and conditions of a statement match; a trust policy has no resource."""
    actions = several(statement["Action"])
    resources = several(statement.get("Resource", "*"))
    return (
        any(like(question.action.lower(), one.lower()) for one in actions)
        and any(like(question.resource, one) for one in resources)
        and all(holds(*one, question.keys) for one in conditions(statement))
    )


def named(statement: Mapping[str, Any], principal: str) -> str:
    """How a resource policy's statement names a principal: "itself", its "account", or not at all ("")."""
    who = statement.get("Principal")
    if who == "*":
        return "itself"
    if not isinstance(who, Mapping) or set(who) - {"AWS", "Service"}:
        raise PolicyError(f"the principal {who!r} is not known here")
    aws = several(who.get("AWS", ()))
    if principal in aws or "*" in aws:
        return "itself"
    root = re.sub(r":[^:]*$", ":root", principal)
    return "account" if root in aws or account_of(principal) in aws else ""


# Conditions


def conditions(statement: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[str]]]:
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            yield operator, key, several(values)


def holds(operator: str, key: str, wanted: Sequence[str], context: Context) -> bool:
    """Whether one condition holds: of several wanted values one is enough. Raises PolicyError."""
    quantifier, _, plain = operator.rpartition(":")
    values = context.get(key.lower())
    if operator == "Null":
        return (values is None) == (wanted[0].lower() == "true")
    if plain not in OPERATORS or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise PolicyError(f"the condition operator {operator} is not known here")
    matches, negated = OPERATORS[plain]
    met = [any(matches(value, one) for one in wanted) != negated for value in values or ()]
    if quantifier == "ForAllValues":
        return all(met)  # true of no values at all: that is IAM's trap
    if quantifier == "ForAnyValue":
        return any(met)
    if values is None:
        return negated
    if len(values) != 1:
        raise PolicyError(f"{key} has several values, and {operator} is for one")
    return met[0]


def like(text: str, pattern: str) -> bool:
    """IAM's * and ?, which match any letter; brackets are nothing special."""
    if "${" in pattern:
        raise PolicyError(f"the policy variable in {pattern} is not known here")
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def arn_like(text: str, pattern: str) -> bool:
    """Each of an ARN's six parts for itself."""
    parts, patterns = text.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(map(like, parts, patterns))


def same(text: str, wanted: str) -> bool:
    return text == wanted


def same_truth(text: str, wanted: str) -> bool:
    return text.lower() == wanted.lower()


# How one value of the request is compared with one of the policy, and whether the result is turned round.
OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (same, False),
    "StringNotEquals": (same, True),
    "StringLike": (like, False),
    "StringNotLike": (like, True),
    "ArnEquals": (arn_like, False),
    "ArnLike": (arn_like, False),
    "ArnNotEquals": (arn_like, True),
    "Bool": (same_truth, False),
}


def several(value: Any) -> Sequence[str]:
    return (value,) if isinstance(value, str) else tuple(value)


def account_of(arn: str) -> str:
    return arn.split(":")[4]
