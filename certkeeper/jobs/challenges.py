"""Where each certificate's challenge records will stand: what the renewer needs the right to write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from certkeeper.core import zones
from certkeeper.core.budget import Ledger
from certkeeper.core.errors import CertkeeperError
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import ChallengeName
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.run import Run


def challenges(
    keeper: Keeper, specs: Sequence[CertificateSpec]
) -> tuple[tuple[ChallengeName, ...], dict[str, CertkeeperError]]:
    """The challenge names of all identifiers, and by certificate's name why some could not be found. Raises nothing."""
    run = Run(keeper, Ledger())
    found: set[ChallengeName] = set()
    failed: dict[str, CertkeeperError] = {}
    for spec, result in zip(specs, keeper.side_by_side([partial(_of_one, run, spec) for spec in specs]), strict=True):
        if isinstance(result, CertkeeperError):
            failed[spec.name] = result
        else:
            found |= result
    return tuple(sorted(found, key=lambda one: (one.zone, one.name, one.role_arn))), failed


def _of_one(run: Run, spec: CertificateSpec) -> set[ChallengeName] | CertkeeperError:
    try:
        return {_place(run, spec, name) for name in {zones.challenge_name(one) for one in spec.identifiers}}
    except CertkeeperError as error:
        return error


def _place(run: Run, spec: CertificateSpec, name: str) -> ChallengeName:
    name = zones.follow(name, run.keeper.lookup.cname)
    place = zones.place_of(name, run.keeper.zone_places)
    if place.role_arn:
        # That role lets only the renewer in; which zone it is, its own policy says.
        return ChallengeName("", name, place.role_arn)
    twins = [zone.zone for zone in run.zones_of(name, spec.hosted_zone_id)]
    zone = run.zone_of(name, spec.hosted_zone_id).zone
    return ChallengeName(zone, name, twins=tuple(sorted(twins)) if len(twins) > 1 else ())
