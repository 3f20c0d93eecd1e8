"""What would keep certificates from being renewed, looked for before it does. Changes nothing.

Checked for every name: hosted zone, delegation, and CAA for each of its CAs; for every CA: its directory; and the
surroundings that a door has looked up: the clock, the KMS key, the deployed settings, subscriptions, and what the
readers' roles may write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from certkeeper.core import caa, zones
from certkeeper.core import index as indexes
from certkeeper.core.budget import Ledger
from certkeeper.core.decision import host
from certkeeper.core.errors import AuthorityError, CertkeeperError
from certkeeper.core.model import CertificateSpec, HostedZone
from certkeeper.core.ports import RightsOfRoles
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.run import Run

GOOD, WARNING, BAD, UNKNOWN = "good", "warning", "bad", "unknown"
LISTED = 5
LARGEST_SKEW = timedelta(minutes=5)
"""ACME and AWS's signatures take a clock that is off by a few minutes."""


@dataclass(frozen=True)
class Finding:
    """`check` is what was looked at, `about` the name or the thing; `result` is good, warning, bad or unknown."""

    check: str
    about: str
    result: str
    what: str
    hint: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What only a door can look up; each raises a CertkeeperError if it cannot be told. None where it does not apply.

    `skew` is how far this machine's clock is ahead of S3's, None if there is no bucket; `kms_key` is the key's state in
    KMS's words, `kms_key_arn` its ARN, None if there is no such key; `unconfirmed` lists the addresses of alarms that
    have not been confirmed; `drifted` is whether the deployed settings are others than these; `stacks` are those of the
    deployment by name, each with what somebody has changed in it by hand.
    """

    skew: Callable[[], timedelta | None]
    kms_key: Callable[[], str | None] | None = None
    kms_key_arn: Callable[[], str | None] | None = None
    unconfirmed: Callable[[], Sequence[str]] | None = None
    drifted: Callable[[], bool] | None = None
    stacks: Mapping[str, Callable[[], Sequence[object]]] = field(default_factory=dict)
    rights: RightsOfRoles | None = None


@dataclass
class _Seen:
    """The hosted zones that the names lie in, by id."""

    zones: dict[str, HostedZone] = field(default_factory=dict)
    challenge_names: dict[str, set[str]] = field(default_factory=dict)


def diagnose(keeper: Keeper, specs: Sequence[CertificateSpec], surroundings: Surroundings) -> tuple[Finding, ...]:
    """Every check once, the good ones too. Raises nothing but programming errors."""
    run, seen = Run(keeper, Ledger()), _Seen()
    findings = [_of_clock(surroundings.skew)]
    findings += _of_surroundings(surroundings)
    if surroundings.kms_key_arn is not None:
        findings += _of_seals(keeper, specs, surroundings.kms_key_arn)
    issuers, first = {}, {spec.ca for spec in specs}
    for directory in dict.fromkeys((*(spec.ca for spec in specs), *(ca for spec in specs for ca in spec.cas))):
        finding, issuers[directory] = _of_ca(keeper, directory)
        findings.append(finding if directory in first else _of_fallback(finding))
    for spec in specs:
        findings.append(_of_zone(run, spec, seen))
        findings.append(_of_caa(keeper, spec, issuers[spec.ca]))
        findings += [_of_fallback(_of_caa(keeper, spec.at(one.ca), issuers[one.ca])) for one in spec.fallbacks]
    findings += [_of_delegation(keeper, zone) for zone in seen.zones.values()]
    if surroundings.rights is not None:
        findings += _of_readers(specs, seen, surroundings.rights)
    return tuple(findings)


def _of_clock(skew_of: Callable[[], timedelta | None]) -> Finding:
    try:
        skew = skew_of()
    except CertkeeperError as error:
        return Finding("clock", "this machine", UNKNOWN, error.message, error.hint)
    if skew is None:
        return Finding("store", "the bucket", BAD, "is not there", "certkeeper deploy makes it; or correct store")
    seconds = round(skew.total_seconds())
    if abs(skew) <= LARGEST_SKEW:
        return Finding("clock", "this machine", GOOD, f"within {max(abs(seconds), 1)} s of AWS's")
    way = "ahead of" if seconds > 0 else "behind"
    return Finding("clock", "this machine", BAD, f"{abs(seconds)} s {way} AWS's", "set it by NTP")


def _of_surroundings(around: Surroundings) -> list[Finding]:
    findings = []
    if around.kms_key is not None:
        findings.append(_told("KMS key", "sealing", around.kms_key, _kms_key))
    if around.drifted is not None:
        findings.append(_told("settings", "the deployed ones", around.drifted, _drift))
    for name, changed in around.stacks.items():
        findings.append(_told("stack", name, changed, _by_hand))
    if around.unconfirmed is not None:
        findings.append(_told("alarms", "subscriptions", around.unconfirmed, _subscriptions))
    return findings


def _kms_key(state: object) -> tuple[str, str, str | None]:
    if state == "Enabled":
        return GOOD, "enabled", None
    if state is None:
        return BAD, "there is no such key", "certkeeper deploy makes the one of an alias; or correct kms_key"
    return BAD, f"is {state}", "enable it, or cancel its deletion: what it has sealed cannot be opened otherwise"


def _of_seals(keeper: Keeper, specs: Sequence[CertificateSpec], kms_key_arn: Callable[[], str | None]) -> list[Finding]:
    """What another key than that of the settings has sealed, which only that one opens."""
    try:
        ours, (index, _) = kms_key_arn(), indexes.read(keeper.records)
        cas = dict.fromkeys(ca for spec in specs for ca in spec.cas)
        accounts = {ca: account for ca in cas if (account := keeper.accounts.read(ca)[0]) is not None}
    except CertkeeperError as error:
        return [Finding("sealing", "what is stored", UNKNOWN, error.message, error.hint)]
    sealed = {f"the account at {host(ca)}": account.private_key.kms_key_arn for ca, account in accounts.items()}
    for spec in specs:
        facts = index.facts.get(spec.name)
        sealed[spec.name] = facts.held.kms_key_arn if facts and facts.held else None
    others = dict.fromkeys(arn for arn in sealed.values() if arn not in (None, ours))
    if ours is None or not others:
        return [Finding("sealing", "what is stored", GOOD, "is sealed by it")] if ours else []
    hint = (
        "keep that key, and the rights on it, until nothing of it is left: certkeeper account rollover for accounts; "
        "for certificates the next renewal, or certkeeper renew NAME --force"
    )
    return [
        Finding("sealing", str(other), WARNING, f"not that of the settings, has sealed {_listed(what)}", hint)
        for other in others
        if (what := [one for one, arn in sealed.items() if arn == other])
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _drift(drifted: object) -> tuple[str, str, str | None]:
    if drifted:
        return WARNING, "are not these", "certkeeper deploy stores these; certkeeper --from ... shows those"
    return GOOD, "are these", None


def _by_hand(changed: object) -> tuple[str, str, str | None]:
    if isinstance(changed, Sequence) and changed:
        hint = "set it back; or make all but the store anew: certkeeper destroy, then certkeeper deploy"
        return WARNING, f"changed by hand: {', '.join(str(one) for one in changed)}", hint
    return GOOD, "is as deployed, as far as CloudFormation looks", None


def _subscriptions(waiting: object) -> tuple[str, str, str | None]:
    addresses = ", ".join(str(one) for one in waiting) if isinstance(waiting, (list, tuple)) else ""
    if addresses:
        return BAD, f"not confirmed: {addresses}", "follow the link in AWS's mail; until then no alarm arrives"
    return GOOD, "all confirmed", None


def _told(
    check: str, about: str, look: Callable[[], object], judge: Callable[[object], tuple[str, str, str | None]]
) -> Finding:
    try:
        return Finding(check, about, *judge(look()))
    except CertkeeperError as error:
        return Finding(check, about, UNKNOWN, error.message, error.hint)


def _of_ca(keeper: Keeper, directory: str) -> tuple[Finding, Sequence[str] | None]:
    try:
        issuers = keeper.authorities[directory].issuer_domains()
    except CertkeeperError as error:
        return Finding("CA", directory, BAD, error.message, error.hint), None
    return Finding("CA", directory, GOOD, f"answers, as {', '.join(issuers) or 'a CA without a CAA name'}"), issuers


def _of_zone(run: Run, spec: CertificateSpec, seen: _Seen) -> Finding:
    found = []
    try:
        for name in dict.fromkeys(zones.challenge_name(one) for one in spec.identifiers):
            target = zones.follow(name, run.keeper.lookup.cname)
            zone = run.zone_of(target, spec.hosted_zone_id)
            seen.zones[zone.zone] = zone
            seen.challenge_names.setdefault(zone.zone, set()).add(target)
            found.append(f"{target} in {zone.zone}")
    except CertkeeperError as error:
        return Finding("hosted zone", spec.name, BAD, error.message, error.hint)
    return Finding("hosted zone", spec.name, GOOD, ", ".join(found))


def _of_caa(keeper: Keeper, spec: CertificateSpec, issuers: Sequence[str] | None) -> Finding:
    if issuers is None:
        return Finding("CAA", spec.name, UNKNOWN, f"{host(spec.ca)} cannot be asked what it calls itself")
    try:
        account, _ = keeper.accounts.read(spec.ca)
        for identifier in spec.identifiers:
            caa.require(identifier, keeper.lookup.caa, issuers, account.url if account else None)
    except CertkeeperError as error:
        result = BAD if isinstance(error, AuthorityError) else UNKNOWN
        return Finding("CAA", spec.name, result, error.message, error.hint)
    return Finding("CAA", spec.name, GOOD, f"lets {host(spec.ca)} issue")


def _of_fallback(finding: Finding) -> Finding:
    """What keeps only a fallback CA from issuing keeps nothing from being renewed, today."""
    return replace(finding, result=WARNING) if finding.result == BAD else finding


def _of_delegation(keeper: Keeper, zone: HostedZone) -> Finding:
    try:
        ours, live = keeper.zones.name_servers(zone), keeper.lookup.delegation(zone.name)
    except CertkeeperError as error:
        return Finding("delegation", zone.name, UNKNOWN, error.message, error.hint)
    if ours & live:
        return Finding("delegation", zone.name, GOOD, f"the world asks hosted zone {zone.zone}")
    asked = ", ".join(sorted(live)) or "nobody"
    hint = f"have the registrar name {', '.join(sorted(ours))}"
    return Finding("delegation", zone.name, BAD, f"the world asks {asked}, not hosted zone {zone.zone}", hint)


def _of_readers(specs: Sequence[CertificateSpec], seen: _Seen, rights: RightsOfRoles) -> list[Finding]:
    readers = list(dict.fromkeys(reader for spec in specs for reader in spec.readers if ":role/" in reader))
    return [_of_reader(reader, seen, rights) for reader in readers]


def _of_reader(reader: str, seen: _Seen, rights: RightsOfRoles) -> Finding:
    """An instance that can write challenge records can have certificates issued to itself, whatever it may not read."""
    try:
        writable = sorted(
            seen.zones[zone].name
            for zone, names in seen.challenge_names.items()
            if not seen.zones[zone].role_arn and rights.may_write_txt(reader, zone, sorted(names))
        )
    except CertkeeperError as error:
        return Finding("reader", reader, UNKNOWN, error.message, error.hint)
    if not writable:
        return Finding("reader", reader, GOOD, "cannot write challenge records")
    what = f"can write challenge records in {', '.join(writable)}, so it can have certificates issued to itself"
    return Finding(
        "reader", reader, WARNING, what, "limit its route53:ChangeResourceRecordSets to the A record it needs"
    )
