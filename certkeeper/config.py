"""The settings: `certkeeper.toml` to checked values. All faults are told at once, before anything is touched."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import idna
import tomli
from publicsuffixlist import PSLFILE, PublicSuffixList

from certkeeper.core.budget import LIMIT_NAMES, REMEMBERED, Limit, Limits, limits_of
from certkeeper.core.decision import is_staging
from certkeeper.core.document import is_name
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import KEY_TYPES, CertificateSpec, FallbackCa, ZonePlace

DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
STAGING_OF = {DIRECTORIES["letsencrypt"]: DIRECTORIES["letsencrypt-staging"]}
# Let's Encrypt's profiles: most identifiers in one certificate. What is not listed takes 100.
MOST_IDENTIFIERS = {"tlsserver": 25, "shortlived": 25}
FEWEST_IDENTIFIERS = min(MOST_IDENTIFIERS.values())
LONGEST_PROPAGATION = 600
LONGEST_NAME = 253 - len("_acme-challenge.")
LIKE_ROLE = "arn:aws:iam::123456789012:role/web"
LIKE_NAMES = 'list the DNS names: identifiers = ["example.com", "*.example.com"]'
LONGEST_PREFIX = 400  # a secret's name has 512 letters at most, and ends in a certificate's name

TOP = ("store", "bucket_owner", "certificates_in", "sealing", "kms_key", "deployment", "include", "ca",
       "fallback_ca", "alerts", "dns", "defaults", "certificates")  # fmt: skip
CA = ("directory", "contact", "ca_bundle", "profile", "eab_kid", "eab_hmac_key", "staging_directory", "limits")
CERTIFICATE = ("identifiers", "key_type", "ca", "profile", "hosted_zone_id", "preferred_chain", "readers",
               "reuse_private_key")  # fmt: skip
DEFAULTS = tuple(key for key in CERTIFICATE if key != "identifiers")
ALERTS = ("email", "urgent")
DNS = ("nameservers", "propagation_timeout", "zones")
ZONE = ("role_arn", "hosted_zone_id")

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_STORE = re.compile(rf"s3://({_BUCKET})(?:/([A-Za-z0-9!_.*'()/-]*[A-Za-z0-9!_.*'()-]))?/?")
_SECRETS = re.compile(r"secretsmanager:([\w+=.@-]+(?:/[\w+=.@-]+)*)", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_USUAL = re.compile(rf"(?:\*\.)?(?:{_LABEL.pattern}\.)+[a-z]{{2,63}}")
"""What is an identifier already: without colons, and with a last label of letters, it is no IP address."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(?:role|user)/[\w+=,.@/-]+|arn:aws[a-z-]*:iam::\d{12}:root")
_ASSUMABLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_ZONE = re.compile(r"(?:/hostedzone/)?(Z[A-Z0-9]{1,31})")
_KMS_KEY = re.compile(r"(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:)?(?:alias/[\w/-]+|(?:key/)?[\w-]{8,64})")
_LIMIT = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,2})([hd])")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_MAIL = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the settings."""

    file: str
    key: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.what}" if self.key else f"{self.file}: {self.what}"


class Faults(SettingsError):  # noqa: N818 - several
    """Everything wrong with the settings."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults), faults[0].hint)
        self.faults = tuple(faults)


@dataclass(frozen=True)
class CaSettings:
    """One CA; `ca_bundle` is a path to PEM roots for the TLS of its directory, or the PEM itself.

    `limits` are set if the settings name any.
    """

    directory: str
    contact: str | None = None
    ca_bundle: str | None = None
    profile: str | None = None
    eab_kid: str | None = None
    eab_hmac_key: str | None = field(default=None, repr=False)
    limits: Limits | None = None
    staging_directory: str | None = None


@dataclass(frozen=True)
class Settings:
    """All of `certkeeper.toml`. `secrets_prefix` is set if certificates are kept in Secrets Manager."""

    file: str
    bucket: str
    prefix: str
    sealing: str
    kms_key: str | None
    bucket_owner: str | None
    deployment: str | None
    ca: CaSettings
    alerts: Mapping[str, str]
    nameservers: tuple[str, ...]
    propagation_timeout: float
    specs: tuple[CertificateSpec, ...]
    secrets_prefix: str | None = None
    zone_places: tuple[ZonePlace, ...] = ()
    fallback_cas: tuple[CaSettings, ...] = ()

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def rehearsal(self, names: Sequence[str] = ()) -> Settings:
        """These settings with the named certificates (all, if none is named) at their CAs' staging directories.

        Raises SettingsError if a CA has none.
        """
        cas = {one.directory: one for one in self.authorities()}
        chosen = [spec for spec in self.specs if not names or spec.name in names]
        at = {spec.ca: _staging_of(cas[spec.ca]) for spec in chosen}
        specs = tuple(replace(spec.at(spec.ca), ca=at[spec.ca].directory, preferred_chain=None) for spec in chosen)
        staging = {one.directory: one for one in at.values() if one.directory != self.ca.directory}
        return replace(self, specs=specs, fallback_cas=tuple(staging.values()))

    def authorities(self) -> tuple[CaSettings, ...]:
        """Every CA that a certificate may come from."""
        named = (self.ca, *self.fallback_cas)
        others = sorted({spec.ca for spec in self.specs} - {one.directory for one in named})
        return (*named, *(CaSettings(one, self.ca.contact, self.ca.ca_bundle) for one in others))

    def limits(self) -> Mapping[str, Limits]:
        """The CAs' limits where these settings name some, by directory URL."""
        return {ca.directory: ca.limits for ca in self.authorities() if ca.limits is not None}


def _staging_of(ca: CaSettings) -> CaSettings:
    if is_staging(ca.directory):
        return ca
    directory = ca.staging_directory or STAGING_OF.get(ca.directory)
    if directory is None:
        raise SettingsError(
            f"no staging directory is known of the CA {ca.directory}", "name one: staging_directory, beside directory"
        )
    return CaSettings(directory, ca.contact, ca.ca_bundle, ca.profile)


def read(path: Path) -> Settings:
    """The settings in a file and the files it includes. Raises SettingsError (Faults)."""
    (file, text), *included = texts(path).items()
    return parse(text, file, dict(included))


def texts(path: Path) -> dict[str, str]:
    """The text of a settings file, and after it of the files it includes, as they are on disk. Raises SettingsError."""
    text = _text(path)
    included: dict[str, str] = {}
    try:
        patterns = _patterns(text, str(path))
    except RecursionError:
        raise _too_deep(str(path)) from None
    for pattern in patterns:
        found = sorted(path.parent.glob(pattern))
        if not found:
            what = f"no file matches {pattern!r} in {path.parent.resolve()}"
            raise Faults([Fault(str(path), "include", what, "correct the pattern or remove it")])
        included |= {str(one): _text(one) for one in found}
    return {str(path): text, **included}


def tables(text: str) -> dict[str, Any]:
    """What a TOML text says, by the one parser of all of ours: two could disagree. Raises ValueError."""
    return tomli.loads(text)


def _patterns(text: str, file: str) -> list[str]:
    try:
        patterns = tables(text).get("include", [])
    except ValueError:
        return []  # parse() says it better
    hint = 'a list of patterns that count from this file: include = ["customers/*.toml"]'
    if not isinstance(patterns, list):
        raise Faults([Fault(file, "include", f"{patterns!r} is not a list", hint)])
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern or Path(pattern).is_absolute():
            raise Faults([Fault(file, "include", f"{pattern!r} is not a pattern", hint)])
    return patterns


def parse(text: str, file: str, included: Mapping[str, str] | None = None) -> Settings:
    """The settings from their text. Raises Faults."""
    reader = _Reader(file)
    try:
        return reader.settings(text, included or {})
    except RecursionError:
        raise _too_deep(reader.file) from None


def _too_deep(file: str) -> Faults:
    return Faults([Fault(file, "", "lists or tables lie in one another too deep", "no setting lies deeper than four")])


def store_url(text: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`. Raises SettingsError."""
    found = _STORE.fullmatch(text)
    if not found or "//" in text.removeprefix("s3://"):
        raise SettingsError(f"{text!r} is not a store", "write it as s3://bucket/prefix")
    return found.group(1), found.group(2) or ""


def identifier(text: str) -> str:
    """A DNS name or wildcard as an A-label in lower case (RFC 5890). Raises ValueError, with a sentence."""
    if len(text) <= LONGEST_NAME and _USUAL.fullmatch(text):
        return text
    text = text.strip().removesuffix(".")
    name = text.removeprefix("*.")
    if _is_ip_address(name.strip("[]")):
        raise ValueError("an IP address cannot be certified by dns-01")
    try:
        name = name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"not a domain name: {error}") from None
    labels = name.split(".")
    if len(labels) < 2 or len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a domain name")
    if text.startswith("*."):
        name = "*." + name
    return name


def registered_domain(identifier: str) -> str:
    """One label below the public suffix, as CAs count certificates; a public suffix itself stands for itself."""
    name = identifier.removeprefix("*.")
    return _public_suffixes(name.rpartition(".")[2]).privatesuffix(name) or name


@cache
def _public_suffixes(top: str) -> PublicSuffixList:
    """The suffixes below one top-level domain. To read all of them takes longer than the settings do."""
    return PublicSuffixList(_suffixes_by_top().get(_IDN if top.startswith(_IDN) else top, []))


_IDN = "xn--"
"""Stands for all top-level domains that are not written in ASCII, as most of the list's are not here."""


@cache
def _suffixes_by_top() -> Mapping[str, list[str]]:
    suffixes: dict[str, list[str]] = {}
    # The list that the wheel holds: nothing is fetched.
    for line in Path(PSLFILE).read_text("utf-8").splitlines():
        suffix = line.partition(" ")[0].rstrip()
        if suffix and not suffix.startswith("//"):
            top = suffix.rpartition(".")[2]
            suffixes.setdefault(top if top.isascii() else _IDN, []).append(suffix)
    return suffixes


ELSEWHERE = 'to keep them in Secrets Manager write certificates_in = "secretsmanager:PREFIX"'


class _Reader:
    """Collects faults while it reads, so that all can be told at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.sealing = "kms"
        self.usual: dict[str, Any] | None = None
        """The options of certificates that have none of their own, once they are known to be good: of thousands of
        names, most are such."""

    def fault(self, key: str, what: str, hint: str | None = None) -> None:
        self.faults.append(Fault(self.file, key, what, hint))

    def settings(self, text: str, included: Mapping[str, str]) -> Settings:
        said = self._toml(text)
        if self.faults:
            raise Faults(self.faults)
        self._known(said, TOP, "")
        bucket, prefix = self._store(said)
        sealing, kms_key = self._sealing(said)
        self.sealing = sealing
        ca = self._ca(self._table(said, "ca", CA), "ca.")
        fallback_cas = self._fallback_cas(said, ca)
        dns = self._table(said, "dns", DNS)
        alerts = self._table(said, "alerts", ALERTS)
        for key in alerts:
            self._text(alerts, key, "alerts.", _MAIL, "an e-mail address", "ops@example.com")
        specs = self._certificates(said, included, ca, fallback_cas)
        settings = Settings(
            file=self.file,
            bucket=bucket,
            prefix=prefix,
            sealing=sealing,
            kms_key=kms_key,
            bucket_owner=self._text(said, "bucket_owner", "", _ACCOUNT, "an account id of 12 digits", "123456789012"),
            deployment=self._text(said, "deployment", "", _STACK, "a stack's name", "certkeeper"),
            ca=ca,
            alerts={key: str(value) for key, value in alerts.items()},
            nameservers=self._nameservers(dns),
            propagation_timeout=self._seconds(dns),
            specs=specs,
            secrets_prefix=self._secrets_prefix(said),
            zone_places=self._zone_places(dns),
            fallback_cas=fallback_cas,
        )
        if self.faults:
            raise Faults(self.faults)
        return settings

    def _toml(self, text: str) -> dict[str, Any]:
        try:
            return tables(text)
        except ValueError as error:
            hint = "every value that is not a number, true or false stands in quotes"
            if re.search(r"^\s*certificates\s*=", text, re.MULTILINE):
                hint = f"certificates can only be a table; {ELSEWHERE}"
            self.fault("", f"not TOML: {error}", hint)
            return {}

    def _known(self, said: Mapping[str, Any], keys: tuple[str, ...], place: str) -> None:
        for key in said:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(keys)}"
                self.fault(f"{place}{key}", "unknown key", hint)

    def _table(self, said: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> dict[str, Any]:
        table = said.get(key, {})
        if not isinstance(table, dict):
            self.fault(key, "must be a table", f"write [{key}] on a line of its own")
            return {}
        self._known(table, keys, f"{key}.")
        return {name: value for name, value in table.items() if name in keys}

    def _text(
        self,
        said: Mapping[str, Any],
        key: str,
        place: str,
        form: re.Pattern[str] | None = None,
        what: str = "text",
        example: str = "",
    ) -> str | None:
        value = said.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or (form is not None and not form.fullmatch(value)):
            shown = "its value" if key == "eab_hmac_key" else repr(value)
            like = f', like {key} = "{example}"' if example else ""
            self.fault(f"{place}{key}", f"{shown} is not {what}", f"text in quotes{like}; or leave it away")
            return None
        return value

    def _store(self, said: Mapping[str, Any]) -> tuple[str, str]:
        store = said.get("store")
        if not isinstance(store, str):
            what = "missing" if store is None else f"{store!r} is not text"
            self.fault("store", what, 'say where certificates are kept: store = "s3://bucket/prefix"')
            return "", ""
        try:
            return store_url(store)
        except SettingsError as error:
            self.fault("store", error.message, error.hint)
            return "", ""

    def _secrets_prefix(self, said: Mapping[str, Any]) -> str | None:
        value = said.get("certificates_in")
        if value is None:
            return None
        place = _SECRETS.fullmatch(value) if isinstance(value, str) else None
        if place is None or len(place[1]) > LONGEST_PREFIX:
            self.fault(
                "certificates_in",
                f"{value!r} is not a place for certificates",
                'write it as "secretsmanager:PREFIX", like "secretsmanager:prod"; without it they are in the store',
            )
            return None
        return place[1]

    def _sealing(self, said: Mapping[str, Any]) -> tuple[str, str | None]:
        sealing, kms_key = said.get("sealing"), self._text(said, "kms_key", "")
        if sealing not in ("kms", "store"):
            self.fault(
                "sealing",
                "missing" if sealing is None else f"{sealing!r} is neither kms nor store",
                '"kms" seals private keys with a KMS key (about $1 a month), "store" leaves them to the bucket',
            )
            return "kms", kms_key
        if kms_key is not None and not _KMS_KEY.fullmatch(kms_key):
            self.fault(
                "kms_key", f"{kms_key!r} is not a KMS key", 'like "alias/certkeeper", a key id, or the ARN of one'
            )
        if sealing == "kms" and kms_key is None:
            self.fault("kms_key", "missing", 'with sealing = "kms" name the key: kms_key = "alias/certkeeper"')
        if sealing == "store" and kms_key is not None:
            self.fault("kms_key", 'has no use with sealing = "store"', 'remove it, or set sealing = "kms"')
        return sealing, kms_key

    def _fallback_cas(self, said: Mapping[str, Any], first: CaSettings) -> tuple[CaSettings, ...]:
        tables = said.get("fallback_ca", {})
        if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
            self.fault("fallback_ca", "must be tables with a name each", "like [fallback_ca.google]")
            return ()
        found: list[CaSettings] = []
        for name, table in tables.items():
            place = f"fallback_ca.{name}."
            self._known(table, CA, place)
            if "directory" not in table:
                self.fault(f"{place}directory", "missing", "which CA is it? directory = an https directory URL")
                continue
            one = self._ca(table, place)
            if one.directory in [first.directory, *(other.directory for other in found)]:
                self.fault(f"{place}directory", "is the directory of another CA of these settings", "remove one")
            elif is_staging(one.directory) and not is_staging(first.directory):
                self.fault(
                    f"{place}directory",
                    "a staging CA does not stand in for a real one",
                    "its certificates are for tests",
                )
            else:
                found.append(one)
        return tuple(found)

    def _ca(self, table: Mapping[str, Any], place: str) -> CaSettings:
        kid = self._text(table, "eab_kid", place)
        hmac_key = self._text(table, "eab_hmac_key", place, what="the key")
        if (kid is None) != (hmac_key is None):
            self.fault(f"{place}eab_kid", "eab_kid and eab_hmac_key go together", "the CA gives both, or wants neither")
        bundle = self._text(table, "ca_bundle", place)
        if bundle is not None and not bundle.lstrip().startswith("-----BEGIN CERTIFICATE-----"):
            path = Path(self.file).parent / bundle
            bundle = str(path)
            if not path.is_file():
                self.fault(
                    f"{place}ca_bundle",
                    f"there is no file {path}",
                    "relative paths count from the settings file; the PEM itself may stand there too",
                )
        directory = self._directory(table, "directory", place) or DIRECTORIES["letsencrypt"]
        return CaSettings(
            directory=directory,
            contact=self._text(table, "contact", place, _MAIL, "an e-mail address", "ops@example.com"),
            ca_bundle=bundle,
            profile=self._text(table, "profile", place),
            eab_kid=kid,
            eab_hmac_key=hmac_key,
            limits=self._limits(table, place, directory),
            staging_directory=self._directory(table, "staging_directory", place),
        )

    def _limits(self, said: Mapping[str, Any], place: str, directory: str) -> Limits | None:
        """What the settings say instead of what is known of this CA."""
        if "limits" not in said:
            return None
        if not isinstance(said["limits"], dict):
            self.fault(f"{place}limits", "must be a table", f"write [{place}limits] on a line of its own")
            return None
        self._known(said["limits"], LIMIT_NAMES, f"{place}limits.")
        given = {key: value for key, value in said["limits"].items() if key in LIMIT_NAMES}
        return replace(
            limits_of(directory), **{key: self._limit(f"{place}limits.{key}", key, given[key]) for key in given}
        )

    def _limit(self, place: str, key: str, value: object) -> Limit | None:
        if value == "none":
            return None
        longest = REMEMBERED[key]
        found = _LIMIT.fullmatch(value) if isinstance(value, str) else None
        period = timedelta(**{{"h": "hours", "d": "days"}[found[3]]: int(found[2])}) if found else longest
        if not found or period > longest:
            hint = f'so many in so many hours or days, like "5/7d" or "300/3h", or "none"; here up to {longest.days}d'
            self.fault(place, f"{value!r} is not a limit", hint)
            return None
        return Limit(int(found[1]), period)

    def _directory(self, said: Mapping[str, Any], key: str, place: str) -> str | None:
        value = self._text(said, key, place)
        if value is None or value in DIRECTORIES:
            return DIRECTORIES.get(value or "")
        plain = _plain(value)
        if plain is None:
            self.fault(f"{place}{key}", f"{value!r} is no CA", f"one of {', '.join(DIRECTORIES)}, or an https URL")
            return None
        if plain != value:
            what = f"{value!r} is not the plain way to write it, and in another way the same CA would be another one"
            self.fault(f"{place}{key}", what, f'write {key} = "{plain}"')
        return plain

    def _nameservers(self, dns: Mapping[str, Any]) -> tuple[str, ...]:
        servers = dns.get("nameservers", [])
        good = []
        for server in servers if isinstance(servers, list) else [servers]:
            if isinstance(server, str) and _is_address(server):
                good.append(server)
            else:
                self.fault("dns.nameservers", f"{server!r} is not an address", 'like "192.0.2.53" or "127.0.0.1:5353"')
        return tuple(good)

    def _seconds(self, dns: Mapping[str, Any]) -> float:
        value = dns.get("propagation_timeout", 120)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LONGEST_PROPAGATION:
            self.fault(
                "dns.propagation_timeout",
                f"{value!r} is not a number of seconds up to {LONGEST_PROPAGATION}",
                "like 120",
            )
            return 120
        return float(value)

    def _zone_places(self, dns: Mapping[str, Any]) -> tuple[ZonePlace, ...]:
        tables = dns.get("zones", {})
        if not isinstance(tables, dict):
            self.fault("dns.zones", "must be a table", 'name each domain: [dns.zones."example.com"]')
            return ()
        places = []
        for name, table in tables.items():
            key = f'dns.zones."{name}"'
            if not isinstance(table, dict) or not table:
                self.fault(key, "names no zone", f"write [{key}], and below it role_arn, hosted_zone_id or both")
                continue
            dotted = _dotted(name, table)
            for one in dotted:
                self.fault(f"dns.zones.{one}", "a name with dots needs quotes", f'write [dns.zones."{one}"]')
            if dotted:
                continue
            try:
                domain = identifier(name)
            except ValueError as error:
                self.fault(key, str(error), 'write it like [dns.zones."example.com"]')
                continue
            if domain.startswith("*."):
                self.fault(key, "a zone is no wildcard", f'write [dns.zones."{domain[2:]}"]')
            self._known(table, ZONE, f"{key}.")
            zone = self._text(table, "hosted_zone_id", f"{key}.", _ZONE, "a hosted zone's id", "Z0123456789ABC")
            role = self._text(table, "role_arn", f"{key}.", _ASSUMABLE, "the ARN of a role", LIKE_ROLE)
            places.append(ZonePlace(domain, role or "", zone.removeprefix("/hostedzone/") if zone else None))
        return tuple(places)

    # Certificates.

    def _certificates(
        self,
        said: Mapping[str, Any],
        included: Mapping[str, str],
        ca: CaSettings,
        fallback_cas: tuple[CaSettings, ...],
    ) -> tuple[CertificateSpec, ...]:
        defaults = self._defaults(said, (ca, *fallback_cas))
        specs: dict[str, CertificateSpec] = {}
        for file, table in self._certificate_tables(said, included):
            self.file, ours = file, self.file
            for name, fields in table.items():
                if name in specs:
                    self.fault(f'certificates."{name}"', "stands in two files", "keep one of them")
                spec = self._spec(name, fields, defaults, (ca, *fallback_cas))
                if spec is not None:
                    specs[name] = spec
            self.file = ours
        return tuple(specs.values())

    def _defaults(self, said: Mapping[str, Any], cas: tuple[CaSettings, ...]) -> dict[str, Any]:
        """None of them if any is wrong: that is told here once, and not for each certificate."""
        faults = len(self.faults)
        defaults = self._table(said, "defaults", DEFAULTS)
        self._options(defaults, "defaults", cas)
        return defaults if len(self.faults) == faults else {}

    def _certificate_tables(
        self, said: Mapping[str, Any], included: Mapping[str, str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        yield self.file, self._certificate_table(said)
        ours = self.file
        for file, text in included.items():
            self.file = file
            more = self._toml(text)
            self._known(more, ("certificates",), "")
            table = self._certificate_table(more)
            self.file = ours
            yield file, table

    def _certificate_table(self, said: Mapping[str, Any]) -> dict[str, Any]:
        table = said.get("certificates", {})
        if not isinstance(table, dict):
            self.fault(
                "certificates",
                f"{table!r} is not a table",
                ELSEWHERE if isinstance(table, str) else 'name each certificate: [certificates."example.com"]',
            )
            return {}
        return table

    def _spec(
        self, name: str, said: Any, defaults: Mapping[str, Any], cas: tuple[CaSettings, ...]
    ) -> CertificateSpec | None:
        key = f'certificates."{name}"'
        if not isinstance(said, dict):
            self.fault(key, "must be a table", f"write [{key}] on a line of its own")
            return None
        usual = len(said) == 1 and isinstance(said.get("identifiers"), list)
        dotted = [] if usual else _dotted(name, said)
        for one in dotted:
            self.fault(f"certificates.{one}", "a name with dots needs quotes", f'write [certificates."{one}"]')
        if dotted:
            return None
        if not is_name(name):
            self.fault(key, "not a name for a certificate", "lower-case letters, digits, dots, dashes, underscores; "
                       "up to 64, the first a letter or digit")  # fmt: skip
        if not usual:
            self._known(said, CERTIFICATE, f"{key}.")
        identifiers = self._identifiers(said, key)
        options = self.usual if usual else None
        if options is None:
            faults = len(self.faults)
            options = self._options({**defaults, **said}, key, cas)
            if usual and len(self.faults) == faults:
                self.usual = options
        if len(identifiers) > FEWEST_IDENTIFIERS:
            self._require_few(len(identifiers), key, options)
        return CertificateSpec(name=name, identifiers=identifiers, **options)

    def _options(self, merged: Mapping[str, Any], key: str, cas: tuple[CaSettings, ...]) -> dict[str, Any]:
        """All of a certificate but its name and identifiers."""
        directory = self._directory(merged, "ca", f"{key}.") or cas[0].directory
        profile = self._text(merged, "profile", f"{key}.")
        zone = self._text(merged, "hosted_zone_id", f"{key}.", _ZONE, "a hosted zone's id", "Z0123456789ABC")
        reuse = merged.get("reuse_private_key", False)
        if not isinstance(reuse, bool):
            self.fault(f"{key}.reuse_private_key", f"{reuse!r} is neither true nor false", "write it without quotes")
        return {
            "ca": directory,
            "key_type": self._key_type(merged, key),
            "profile": profile or next((one.profile for one in cas if one.directory == directory), None),
            "hosted_zone_id": zone.removeprefix("/hostedzone/") if zone else None,
            "preferred_chain": self._text(merged, "preferred_chain", f"{key}."),
            "readers": self._readers(merged, key),
            "reuse_private_key": bool(reuse),
            "sealing": self.sealing,
            # Who names a CA for one certificate wants that one.
            "fallbacks": () if "ca" in merged else tuple(FallbackCa(one.directory, one.profile) for one in cas[1:]),
            "registered_domain": registered_domain,
        }

    def _key_type(self, said: Mapping[str, Any], key: str) -> str:
        value = said.get("key_type", KEY_TYPES[0])
        if value not in KEY_TYPES:
            self.fault(f"{key}.key_type", f"{value!r} is no key type", f"one of {', '.join(KEY_TYPES)}")
            return KEY_TYPES[0]
        return str(value)

    def _readers(self, said: Mapping[str, Any], key: str) -> tuple[str, ...]:
        readers = said.get("readers", [])
        if not isinstance(readers, list):
            self.fault(f"{key}.readers", "must be a list", f'like readers = ["{LIKE_ROLE}"]')
            return ()
        for one in readers:
            if not isinstance(one, str) or not _ROLE.fullmatch(one):
                self.fault(f"{key}.readers", f"{one!r} is not a role", f'like "{LIKE_ROLE}"')
        return tuple(str(one) for one in readers)

    def _identifiers(self, said: Mapping[str, Any], key: str) -> tuple[str, ...]:
        place, listed = f"{key}.identifiers", said.get("identifiers")
        if not isinstance(listed, list) or not listed:
            what = "must be a list" if listed and not isinstance(listed, list) else "missing"
            self.fault(place, what, LIKE_NAMES)
            return ()
        found: list[str] = []
        for one in listed:
            try:
                name = identifier(one) if isinstance(one, str) else None
            except ValueError as error:
                self.fault(place, f"{one!r}: {error}", LIKE_NAMES)
                continue
            if name is None:
                self.fault(place, f"{one!r} is not text", LIKE_NAMES)
            elif name in found:
                self.fault(place, f"{one!r} stands there twice", "remove one")
            else:
                found.append(name)
        wildcards = [name for name in found if name.startswith("*.")]
        for name in found if wildcards else ():
            covering = f"*.{name.split('.', 1)[1]}"
            if covering in wildcards and name not in wildcards:
                self.fault(place, f"{name} is covered by {covering}", "remove it; CAs refuse both together")
        return tuple(found)

    def _require_few(self, count: int, key: str, options: Mapping[str, Any]) -> None:
        narrowest = min((FallbackCa(options["ca"], options["profile"]), *options["fallbacks"]), key=_most_identifiers)
        most = _most_identifiers(narrowest)
        if count > most:
            taker = f"the profile {narrowest.profile}" if most < 100 else "a certificate"
            what = f"{count} names, and {taker} takes {most}"
            self.fault(f"{key}.identifiers", what, "split them over several certificates")


def _plain(url: str) -> str | None:
    """A directory's URL as everybody writes it (RFC 3986 section 6.2): a CA is known by it; None if it is none."""
    if not re.fullmatch(r"https://[^\s/?#]+\S*", url, re.IGNORECASE):
        return None
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
        host = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except ValueError:
        return None
    if not host or {".", ".."} & set(parts.path.split("/")):
        return None
    place = f"[{host}]" if ":" in host else host
    return urlunsplit(
        ("https", place if port in (None, 443) else f"{place}:{port}", parts.path or "/", parts.query, "")
    )


def _most_identifiers(ca: FallbackCa) -> int:
    return MOST_IDENTIFIERS.get(ca.profile or "", 100) if ca.ca in DIRECTORIES.values() else 100


def _dotted(name: str, said: Mapping[str, Any]) -> list[str]:
    """The dotted names that unquoted headers like `[certificates.example.com]` have torn into tables."""
    if not said or not all(isinstance(one, dict) for one in said.values()):
        return []  # no key of a certificate takes a table, not even `ca`, which is a top-level domain too
    return [
        dotted for inner, fields in said.items() for dotted in _dotted(f"{name}.{inner}", fields) or [f"{name}.{inner}"]
    ]


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_address(server: str) -> bool:
    address, _, port = server.partition(":") if server.count(":") < 2 else server.strip("[").partition("]")
    port = port.lstrip(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not port or (port.isdecimal() and 0 < int(port) < 65536)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        hint = "write one with: certkeeper init; or say where the settings are, with --config or --from"
        raise SettingsError(f"there is no {path}", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{path} cannot be read: {what}", "give a TOML file that you may read") from None
