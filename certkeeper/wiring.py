"""From settings to a keeper: the only place that knows the adapters. They are imported when they are needed, so
that `status` starts without the ACME stack.
"""

from __future__ import annotations

import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, cast

from certkeeper import config
from certkeeper.core.errors import SettingsError
from certkeeper.core.journal import STORE
from certkeeper.core.permissions import Deployment
from certkeeper.core.ports import CertificateAuthority, Clock, Notices, Records, Sealer
from certkeeper.jobs.diagnose import Surroundings
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.status import Served, Survey

if TYPE_CHECKING:
    from certkeeper.adapters.aws_clients import Aws
    from certkeeper.adapters.cloudformation_stacks import CloudFormationStacks
    from certkeeper.adapters.function_log import FunctionLog
    from certkeeper.adapters.lambda_function import LambdaFunction
    from certkeeper.adapters.s3_bucket import S3Bucket
    from certkeeper.adapters.secretsmanager_records import SecretPolicies
    from certkeeper.adapters.system_clock import SystemClock
    from certkeeper.adapters.threads import Threads

SETTINGS_PATH = "settings.toml"
SIDE_BY_SIDE = 20
AFTER_DEADLINE = timedelta(minutes=1)
FUNCTION_SECONDS = 910  # a little more than the function may take


@dataclass(frozen=True)
class Wired:
    """A keeper and what its door needs besides: `stop` lets its deadline come now."""

    keeper: Keeper
    stop: Callable[[], None]


@contextmanager
def wired(
    settings: config.Settings,
    deadline: timedelta,
    tell: Callable[[str, str], None] = lambda name, doing: None,
    door: str = "cli",
    aws: Aws | None = None,
) -> Iterator[Wired]:
    """A keeper over real parts. `deadline` is how long it may work from now. Raises SettingsError, StoreError."""
    from certkeeper.adapters.system_clock import SystemClock
    from certkeeper.adapters.threads import Threads

    clock = SystemClock(deadline)
    with closing(Threads(SIDE_BY_SIDE)) as threads, _bundle_on_disk(settings) as on_disk:
        keeper = _keeper(on_disk, clock, threads, deadline, tell, aws or new_aws())
        yield Wired(replace(keeper, door=door), clock.stop)


def _keeper(
    settings: config.Settings,
    clock: SystemClock,
    threads: Threads,
    deadline: timedelta,
    tell: Callable[[str, str], None],
    aws: Aws,
) -> Keeper:
    records = s3_records(settings, aws)
    sealer = deferred(lambda: _sealer(settings, aws))
    lookup = deferred(lambda: _lookup(settings))
    return Keeper(
        records=records,
        certificate_records=deferred(lambda: _secrets(settings, aws)) if settings.secrets_prefix else records,
        authorities=Authorities(settings, sealer, clock),
        keys=deferred(lambda: _keys(sealer)),
        chains=deferred(_chains),
        renewal_information=deferred(lambda: _renewal_information(settings)),
        challenge_records=deferred(lambda: _challenge_records(settings, aws, lookup, clock, threads)),
        zones=deferred(lambda: _zones(aws)),
        lookup=lookup,
        clock=clock,
        side_by_side=threads,
        holder=secrets.token_hex(8),
        term=deadline + AFTER_DEADLINE,
        kept_in=f"secretsmanager:{settings.secrets_prefix}" if settings.secrets_prefix else STORE,
        zone_places=settings.zone_places,
        limits=settings.limits(),
        tell=tell,
    )


@contextmanager
def _bundle_on_disk(settings: config.Settings) -> Iterator[config.Settings]:
    """The settings, with roots that stand in them as PEM put into a file, which is what TLS libraries want."""
    with ExitStack() as kept:
        first, *fallback_cas = (_with_bundle_on_disk(one, kept) for one in (settings.ca, *settings.fallback_cas))
        yield replace(settings, ca=first, fallback_cas=tuple(fallback_cas))


def _with_bundle_on_disk(ca: config.CaSettings, kept: ExitStack) -> config.CaSettings:
    if ca.ca_bundle is None or not ca.ca_bundle.lstrip().startswith("-----BEGIN"):
        return ca
    path = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="certkeeper-")), "ca-bundle.pem")
    path.write_text(ca.ca_bundle)
    return replace(ca, ca_bundle=str(path))


def s3_records(settings: config.Settings, aws: Aws | None = None) -> Records:
    """The store of the settings. Raises SettingsError, StoreError."""
    return _records_at(settings.bucket, settings.prefix, settings.bucket_owner, aws or new_aws())


def records_of(store: str, bucket_owner: str | None = None, aws: Aws | None = None) -> Records:
    """The store at `s3://bucket/prefix`. Raises SettingsError, StoreError."""
    bucket, prefix = config.store_url(store)
    return _records_at(bucket, prefix, bucket_owner, aws or new_aws())


def stored_settings(store: str, bucket_owner: str | None = None, aws: Aws | None = None) -> config.Settings:
    """The settings that lie in the store itself. Raises SettingsError, StoreError."""
    text, file = stored_text(store, bucket_owner, aws), f"{store}/{SETTINGS_PATH}"
    settings = config.parse(text, file)
    # Only a look at the text: with thousands of names, parsing it once more would take as long as all else.
    if "include" in text and re.search(r"^\s*include\s*=", text, re.MULTILINE) and "include" in config.tables(text):
        raise SettingsError(f"{file} includes other files, which are not in the store", "put everything into one file")
    return settings


def stored_text(store: str, bucket_owner: str | None = None, aws: Aws | None = None) -> str:
    """The text of the settings that lie in the store. Raises SettingsError, StoreError."""
    stored = records_of(store, bucket_owner, aws).read(SETTINGS_PATH)
    if stored is None:
        raise SettingsError(f"there are no settings in {store}", "check the bucket and the prefix")
    return stored.data.decode("utf-8", "replace")


def described(settings: config.Settings) -> Deployment:
    """What the readers' policies are about; who writes is left out. Raises SettingsError, StoreError, SealingError."""
    aws = new_aws()
    account = settings.bucket_owner or aws.account()
    kms_key = settings.kms_key if settings.sealing == "kms" else None
    if kms_key is not None and ":key/" not in kms_key:
        from certkeeper.adapters.kms_keys import find_arn

        kms_key = find_arn(aws.client("kms", _region_of_key(kms_key) or _region_of_deployment(settings, aws)), kms_key)
        if kms_key is None:
            what = f"there is no KMS key {settings.kms_key}"
            raise SettingsError(what, "correct kms_key or AWS_REGION, or make the key: certkeeper deploy")
    return Deployment(
        account=account,
        region=aws.region_of(settings.bucket, account) if settings.secrets_prefix is not None else "",
        bucket=settings.bucket,
        prefix=settings.prefix,
        renewer_role="",
        specs=settings.specs,
        partition=aws.client("s3").meta.partition,
        kms_key=kms_key,
        secrets_prefix=settings.secrets_prefix,
    )


def pulling_environment() -> dict[str, str]:
    """What the boot client needs to use the same credentials as every AWS tool here. Raises SettingsError."""
    return new_aws().environment()


def probed(survey: Survey, address: str, tell: Callable[[str, str], None]) -> Survey:
    """The survey, with what servers serve for each identifier that is not a wildcard: at `address` ("HOST:PORT"),
    or, if that is empty, at the identifier itself, port 443. Raises SettingsError for an address that is none.
    """
    from certkeeper.adapters.threads import Threads

    host, _, port = address.rpartition(":")
    if address and not (host and port.isdecimal() and int(port) < 65536):
        raise SettingsError(f"{address!r} is not an address", "write it as HOST:PORT; a NAME stands before --probe")
    ended = Event()

    def served(identifier: str, stored: str | None) -> Served:
        if ended.is_set():
            return Served(identifier, None, same=False)
        tell(identifier, "asking what is served")
        return _served(identifier, host.strip("[]") or identifier, int(port or 443), stored)

    asked = [[name for name in one.identifiers if not name.startswith("*.")] for one in survey.statuses]
    tasks = [
        partial(served, name, one.serial_number)
        for one, names in zip(survey.statuses, asked, strict=True)
        for name in names
    ]
    with closing(Threads(SIDE_BY_SIDE)) as threads:
        try:
            answers = iter(threads(tasks))
        finally:
            ended.set()  # on Ctrl-C nobody shall wait for those that have not been asked yet
    statuses = [
        replace(one, served=tuple(islice(answers, len(names))))
        for one, names in zip(survey.statuses, asked, strict=True)
    ]
    return replace(survey, statuses=tuple(statuses))


def _served(identifier: str, host: str, port: int, stored: str | None) -> Served:
    from certkeeper.adapters.tls_probe import served_serial

    try:
        serial = served_serial(host, port, identifier)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        return Served(identifier, None, same=False, error=f"cannot be asked: {why}")
    return Served(identifier, serial, same=serial == stored)


class Authorities(Mapping[str, CertificateAuthority]):
    """The CAs by directory URL, each made when first asked for."""

    def __init__(self, settings: config.Settings, sealer: Sealer, clock: Clock) -> None:
        self._settings = {ca.directory: ca for ca in settings.authorities()}
        self._sealer = sealer
        self._clock = clock
        self._made: dict[str, CertificateAuthority] = {}
        self._lock = Lock()

    def __getitem__(self, directory: str) -> CertificateAuthority:
        from certkeeper.adapters.acme_authority import AcmeAuthority

        with self._lock:
            if directory not in self._made:
                ca = self._settings[directory]
                self._made[directory] = AcmeAuthority(
                    ca.directory,
                    self._sealer,
                    self._clock,
                    contact=ca.contact,
                    ca_bundle=ca.ca_bundle,
                    eab_kid=ca.eab_kid,
                    eab_hmac_key=ca.eab_hmac_key,
                )
            return self._made[directory]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


def deferred(make: Callable[[], Any]) -> Any:
    """A stand-in that makes the real thing when it is first used."""
    return _Deferred(make)


class _Deferred:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: Any = None

    def __getattr__(self, attribute: str) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, attribute)


def new_aws() -> Aws:
    """AWS as this process is configured for it. Making one takes a good part of a short run, so a door makes one."""
    # Of pyOpenSSL botocore wants nothing but the standard library's SSLContext, which it takes from there otherwise;
    # and with it all of cryptography would be loaded, which a run that renews nothing has no use for.
    sys.modules.setdefault("urllib3.contrib.pyopenssl", cast("Any", None))
    from certkeeper.adapters.aws_clients import Aws

    return Aws()


def whereabouts(settings: config.Settings, owner: str) -> tuple[str, str]:
    """The region of the bucket, and the account that S3 says it belongs to: `owner`, or if that is "" ours. Raises
    SettingsError, StoreError.
    """
    aws = new_aws()
    owner = owner or aws.account()
    return aws.region_of(settings.bucket, owner), owner


def _records_at(bucket: str, prefix: str, owner: str | None, aws: Aws) -> Records:
    from certkeeper.adapters.s3_records import S3Records

    return S3Records(aws.client("s3"), bucket, prefix, owner or aws.account())


def _secrets(settings: config.Settings, aws: Aws) -> Records:
    """In the account and the region of the bucket: elsewhere every certificate would look as if it were not there."""
    from certkeeper.adapters.secretsmanager_records import SecretsManagerRecords

    account = aws.account()
    owner = settings.bucket_owner or account
    if account != owner:
        raise SettingsError(
            f"these credentials are of account {account}, and certificates are kept in account {owner}'s secrets",
            f"use credentials of account {owner}",
        )
    # The account's default key opens a secret to that account only.
    foreign = any(f"::{account}:" not in reader for spec in settings.specs for reader in spec.readers)
    client = aws.client("secretsmanager", aws.region_of(settings.bucket, owner))
    return SecretsManagerRecords(client, settings.secrets_prefix or "", settings.kms_key if foreign else None)


def notices(topic_arn: str) -> Notices:
    """The topic that people have subscribed to."""
    from certkeeper.adapters.sns_notices import SnsNotices

    return SnsNotices(new_aws().client("sns", topic_arn.split(":")[3]), topic_arn)


def function(name: str, region: str | None = None) -> LambdaFunction:
    """The deployed function. It is asked once: a second ask could start a second tick."""
    from certkeeper.adapters.lambda_function import LambdaFunction

    return LambdaFunction(new_aws().client("lambda", region, patience=FUNCTION_SECONDS, tries=1), name)


@dataclass(frozen=True)
class Deployed:
    """The function of a deployment, and where it lies: in the region of its bucket."""

    function: LambdaFunction
    region: str
    log_since: Callable[[int], FunctionLog]


def deployed(settings: config.Settings) -> Deployed:
    """Raises SettingsError, StoreError."""
    from certkeeper.adapters.function_log import FunctionLog

    name = settings.deployment
    if name is None:
        raise SettingsError(
            "these settings name no deployment", 'write deployment = "certkeeper" into them, then: certkeeper deploy'
        )
    aws = new_aws()
    region = aws.region_of(settings.bucket, settings.bucket_owner or aws.account())
    return Deployed(
        function(name, region),
        region,
        lambda since: FunctionLog(aws.client("logs", region), f"/aws/lambda/{name}", since),
    )


@dataclass(frozen=True)
class Deployable:
    """Where a deployment of the settings lies, and what it takes to make it.

    `kms_key_arn` finds None where there is no such key yet; `unconfirmed` lists the addresses that a topic's mails do
    not reach yet; `code_sha256` is of the zip that a function runs, `key_policy` of a KMS key, by its ARN.
    """

    account: str
    partition: str
    region: str
    kms_key_arn: Callable[[], str | None]
    stacks: CloudFormationStacks
    bucket: S3Bucket
    unconfirmed: Callable[[str], list[str]]
    delete_key: Callable[[str, str], None]
    certificate_records: Records
    code_sha256: Callable[[str], str | None]
    key_policy: Callable[[str], dict[str, Any]]
    secret_policies: SecretPolicies


def deployable(settings: config.Settings) -> Deployable:
    """Raises SettingsError, StoreError."""
    from certkeeper.adapters.cloudformation_stacks import CloudFormationStacks
    from certkeeper.adapters.kms_keys import delete, find_arn, policy
    from certkeeper.adapters.s3_bucket import S3Bucket
    from certkeeper.adapters.secretsmanager_records import SecretPolicies
    from certkeeper.adapters.sns_notices import unconfirmed

    aws = new_aws()
    account = aws.account()
    if settings.bucket_owner not in (None, account):
        raise SettingsError(
            f"these credentials are of account {account}, and the bucket belongs to account {settings.bucket_owner}",
            f"deploy with credentials of account {settings.bucket_owner}",
        )
    bucket = S3Bucket(aws.client("s3"), settings.bucket, account)
    # What is deployed lies where the bucket lies, or is made.
    region = bucket.region() or aws.client("s3").meta.region_name
    kms_key = settings.kms_key if settings.sealing == "kms" else None
    kms = aws.client("kms", _region_of_key(kms_key or "") or region)
    records = _records_at(settings.bucket, settings.prefix, account, aws)
    return Deployable(
        account=account,
        partition=aws.client("s3").meta.partition,
        region=region,
        kms_key_arn=lambda: find_arn(kms, kms_key) if kms_key else None,
        stacks=CloudFormationStacks(aws.client("cloudformation", region)),
        bucket=S3Bucket(aws.client("s3", region), settings.bucket, account),
        unconfirmed=lambda topic_arn: unconfirmed(aws.client("sns", region), topic_arn),
        delete_key=lambda arn, alias: delete(kms, arn, alias),
        certificate_records=deferred(lambda: _secrets(settings, aws)) if settings.secrets_prefix else records,
        code_sha256=lambda name: function(name, region).code_sha256(),
        key_policy=lambda arn: policy(kms, arn),
        secret_policies=deferred(
            lambda: SecretPolicies(aws.client("secretsmanager", region), settings.secrets_prefix or "")
        ),
    )


def here() -> tuple[str, str]:
    """Account and region that AWS is configured for. Raises SettingsError, StoreError."""
    aws = new_aws()
    return aws.account(), aws.client("s3").meta.region_name


def surroundings(settings: config.Settings, drifted: Callable[[], bool] | None) -> Surroundings:
    """What `doctor` looks at besides; nothing is asked before it is. Raises SettingsError."""
    from certkeeper.adapters.cloudformation_stacks import drifts
    from certkeeper.adapters.iam_simulation import SimulatedRights
    from certkeeper.adapters.kms_keys import find_arn, state
    from certkeeper.adapters.s3_bucket import S3Bucket
    from certkeeper.adapters.sns_notices import unconfirmed

    aws = new_aws()
    s3 = aws.client("s3")
    deployed = settings.deployment is not None
    stacks = (f"{settings.deployment}-store", f"{settings.deployment}") if deployed else ()

    def waiting() -> list[str]:
        account = aws.account()
        region = aws.region_of(settings.bucket, settings.bucket_owner or account)
        topic = f"arn:{s3.meta.partition}:sns:{region}:{account}:{settings.deployment}-notices"
        return unconfirmed(aws.client("sns", region), topic)

    kms_key = settings.kms_key or ""

    def kms() -> Any:
        return aws.client("kms", _region_of_key(kms_key) or _region_of_deployment(settings, aws))

    def changed(stack: str) -> Sequence[object]:
        return drifts(aws.client("cloudformation", _region_of_deployment(settings, aws)), stack)

    return Surroundings(
        skew=lambda: S3Bucket(s3, settings.bucket, settings.bucket_owner or aws.account()).skew(),
        kms_key=(lambda: state(kms(), kms_key)) if kms_key else None,
        kms_key_arn=(lambda: find_arn(kms(), kms_key)) if kms_key else None,
        unconfirmed=waiting if deployed and settings.alerts else None,
        drifted=drifted if deployed else None,
        stacks={name: partial(changed, name) for name in stacks},
        rights=deferred(lambda: SimulatedRights(aws.client("iam"), s3.meta.partition, aws.account())),
    )


def _sealer(settings: config.Settings, aws: Aws) -> Sealer:
    if settings.sealing == "store" or settings.kms_key is None:
        from certkeeper.adapters.store_keys import StoreSealer

        return StoreSealer()
    from certkeeper.adapters.kms_keys import KmsSealer

    return KmsSealer(aws.client("kms", _region_of_key(settings.kms_key)), settings.kms_key)


def _region_of_key(kms_key: str) -> str | None:
    return kms_key.split(":")[3] if kms_key.startswith("arn:") else None


def _region_of_deployment(settings: config.Settings, aws: Aws) -> str | None:
    """Where the function looks for an alias, be the Region of whoever asks another one; None without a deployment."""
    if settings.deployment is None:
        return None
    return aws.region_of(settings.bucket, settings.bucket_owner or aws.account())


def _keys(sealer: Sealer) -> Any:
    from certkeeper.adapters.x509 import PrivateKeys

    return PrivateKeys(sealer)


def _chains() -> Any:
    from certkeeper.adapters.x509 import Chains

    return Chains()


def _renewal_information(settings: config.Settings) -> Any:
    from certkeeper.adapters.renewal_information import HttpRenewalInformation

    return HttpRenewalInformation({ca.directory: ca.ca_bundle for ca in settings.authorities() if ca.ca_bundle})


def _lookup(settings: config.Settings) -> Any:
    from certkeeper.adapters.dns_lookup import Dns

    return Dns(settings.nameservers)


def _zones(aws: Aws) -> Any:
    from certkeeper.adapters.route53_zones import Route53Zones

    return Route53Zones(aws.route53)


def _challenge_records(settings: config.Settings, aws: Aws, lookup: Any, clock: SystemClock, threads: Any) -> Any:
    from certkeeper.adapters.route53_zones import Route53ChallengeRecords

    return Route53ChallengeRecords(aws.route53, lookup, clock, threads, settings.propagation_timeout)
