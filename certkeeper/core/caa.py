"""Whether CAA records let a CA issue (RFC 8659, with the account and method parameters of RFC 8657). Pure.

Asked before an order goes to a fallback CA: whoever names one CA in the DNS has often forgotten the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certkeeper.core.errors import AuthorityError

CRITICAL = 128
KNOWN_TAGS = ("issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone")
METHOD = "dns-01"


@dataclass(frozen=True)
class CaaRecord:
    """One CAA record (RFC 8659 section 4.1); `tag` in lower case."""

    flags: int
    tag: str
    value: str


CaaOf = Callable[[str], Sequence[CaaRecord]]


def require(identifier: str, caa: CaaOf, issuers: Sequence[str], account_url: str | None) -> None:
    """Raise AuthorityError, of kind "caa", unless the CA called by any of `issuers` may issue for an identifier.

    The hint is the record to add. `caa` gives the CAA records at a name, none as an empty list; what it raises is
    passed on. A CA that says no issuer domain of its own is not held to anything.
    """
    if not issuers:
        return
    where, records = _climbed(identifier.removeprefix("*."), caa)
    tag = "issuewild" if identifier.startswith("*.") and any(one.tag == "issuewild" for one in records) else "issue"
    unknown = sorted({one.tag for one in records if one.flags & CRITICAL and one.tag not in KNOWN_TAGS})
    if unknown:
        raise AuthorityError(
            f"{identifier}: a critical CAA record at {where} has the tag {unknown[0]}, which forbids every CA to issue",
            "remove it, or its critical flag",
            kind="caa",
        )
    properties = [one.value for one in records if one.tag == tag]
    if not properties or any(_allows(value, issuers, account_url) for value in properties):
        return
    bound = any(_allows(value, issuers, None) for value in properties)
    if bound:
        what = f"the CAA records at {where} allow {issuers[0]} only with another account or another challenge"
        value = f"{issuers[0]}; accounturi={account_url}; validationmethods={METHOD}"
    else:
        what, value = f"the CAA records at {where} do not allow {issuers[0]}", issuers[0]
    raise AuthorityError(f"{identifier}: {what}", f'add the record: {where}. CAA 0 {tag} "{value}"', kind="caa")


def _climbed(name: str, caa: CaaOf) -> tuple[str, Sequence[CaaRecord]]:
    """Section 3: the records of the nearest ancestor that has any.

    The top-level domain is left to the CA: it hardly ever has any, and name servers of one's own know nothing of it.
    """
    labels = name.split(".")
    for cut in range(len(labels) - 1):
        where = ".".join(labels[cut:])
        records = caa(where)
        if records:
            return where, records
    return name, ()


def _allows(value: str, issuers: Sequence[str], account_url: str | None) -> bool:
    """Whether one issue or issuewild property allows it; with `account_url` None whatever its parameters say."""
    issuer, *said = (one.strip() for one in value.split(";"))
    if issuer.lower().rstrip(".") not in [one.lower().rstrip(".") for one in issuers]:
        return False
    if account_url is None:
        return True
    pairs = [(tag.strip().lower(), text.strip()) for tag, _, text in (one.partition("=") for one in said if one)]
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        return False  # RFC 8657 sections 3 and 4: a parameter that stands there twice allows nothing
    methods = parameters.get("validationmethods")
    return parameters.get("accounturi", account_url) == account_url and (
        methods is None or METHOD in [one.strip() for one in methods.split(",")]
    )
