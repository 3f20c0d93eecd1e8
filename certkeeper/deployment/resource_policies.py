"""Policies of resources that are no stack's: of secrets, which the function makes, and of what was adopted.

The function may write no policy, so that it lets nobody in; whoever deploys does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from certkeeper.core import permissions
from certkeeper.core.errors import CertkeeperError, StoreError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import Deployment, Policy


class SecretPolicies(Protocol):
    """The resource policies of certificates' secrets, by name. Every method raises StoreError."""

    def read(self, name: str) -> Policy | None:
        """One without statements if it has none; None if there is no such secret."""

    def write(self, name: str, policy: Policy) -> None:
        """One without statements takes it away."""


def of_secrets(deployment: Deployment, before: Sequence[CertificateSpec]) -> dict[str, Policy | None]:
    """By name, the policy for readers of other accounts; None where `before` had such readers and nobody is left.

    Raises SettingsError if such readers could not open the secret whatever its policy says.
    """
    if deployment.secrets_prefix is None:
        return {}
    now = {spec.name: permissions.secret_policy(deployment, spec.name) for spec in deployment.specs}
    foreign = {
        spec.name
        for spec in before
        if any(permissions.account_of(reader) != deployment.account for reader in spec.readers)
    }
    return {name: policy for name, policy in now.items() if policy is not None or name in foreign}


def let_in(
    policies: SecretPolicies, wanted: Mapping[str, Policy | None], tell: Callable[[str], None]
) -> list[StoreError]:
    """Have each secret's policy say what is wanted, beside what others have written into it; what failed."""
    failed: list[StoreError] = []
    for name, policy in wanted.items():
        try:
            _let_in(policies, name, policy, tell)
        except StoreError as error:
            failed.append(error)  # the others shall not wait for it
    return failed


def _let_in(policies: SecretPolicies, name: str, policy: Policy | None, tell: Callable[[str], None]) -> None:
    there = policies.read(name)
    if there is None:
        if policy is not None:
            tell(f"{name}: readers of other accounts need its secret's policy; deploy again once there is a secret")
        return
    new = permissions.beside(policy, there)
    if not permissions.alike(new, there):
        policies.write(name, new)
        tell(f"{name}: its secret's policy lets readers of other accounts in{'' if policy else ' no longer'}")


def tell_of_lacking(
    what: str, wanted: Policy, read: Callable[[], Policy | None], section: str, tell: Callable[[str], None]
) -> None:
    """Tell which statements the policy of something adopted has not got. Raises nothing."""
    look = f"certkeeper deploy --print store shows it, as {section}"
    try:
        lacking = permissions.lacking(wanted, read())
    except CertkeeperError as error:
        tell(f"{error.message}; what it should say: {look}")
        return
    if lacking:
        tell(f"the policy of {what}, which is yours, lacks {', '.join(lacking)} of certkeeper's: {look}")
