"""The settings: what is taken, and every fault with its file, its key and what to do."""

from __future__ import annotations

import random
import re
from datetime import timedelta
from pathlib import Path

import pytest
from publicsuffixlist import PSLFILE, PublicSuffixList

from certkeeper import config
from certkeeper.config import CaSettings, Fault, Faults, Settings, identifier, parse, read, registered_domain, store_url
from certkeeper.core.budget import Limit, Limits
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec, FallbackCa, ZonePlace

LEAST = 'store = "s3://bucket/prod"\nsealing = "store"\n'
WWW = '[certificates."example.com"]\nidentifiers = ["example.com", "*.example.com"]\n'
FULL = """\
store        = "s3://certkeeper-123456789012-eu-west-1/prod"
bucket_owner = "123456789012"
sealing      = "kms"
kms_key      = "alias/certkeeper"
deployment   = "certkeeper"

[ca]
directory = "letsencrypt-staging"
contact   = "ops@example.com"
profile   = "tlsserver"
eab_kid   = "kid"
eab_hmac_key = "hmac"

[alerts]
email  = "ops@example.com"
urgent = "pager@example.com"

[dns]
nameservers = ["127.0.0.1:5353", "2001:db8::1"]
propagation_timeout = 30

[defaults]
readers = ["arn:aws:iam::123456789012:role/web"]
key_type = "ecdsa-p384"

[certificates."example.com"]
identifiers = ["example.com", "*.example.com"]

[certificates.api]
identifiers = ["api.example.net"]
key_type = "rsa-4096"
ca = "https://ca.example.net/directory"
hosted_zone_id = "/hostedzone/Z0123456789ABC"
readers = []
reuse_private_key = true
"""


def faults_of(text: str, included: dict[str, str] | None = None) -> list[Fault]:
    with pytest.raises(Faults) as caught:
        parse(text, "certkeeper.toml", included)
    return list(caught.value.faults)


def certificate(settings: Settings, name: str) -> CertificateSpec:
    (spec,) = (one for one in settings.specs if one.name == name)
    return spec


# What is taken.


def test_the_least_settings() -> None:
    settings = parse(LEAST, "certkeeper.toml")

    assert (settings.bucket, settings.prefix, settings.store) == ("bucket", "prod", "s3://bucket/prod")
    assert settings.ca == CaSettings("https://acme-v02.api.letsencrypt.org/directory")
    assert (settings.kms_key, settings.deployment, settings.specs) == (None, None, ())
    assert settings.propagation_timeout == 120


def test_all_settings() -> None:
    settings = parse(FULL, "certkeeper.toml")

    assert (settings.sealing, settings.kms_key, settings.bucket_owner) == ("kms", "alias/certkeeper", "123456789012")
    assert settings.ca.directory == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert (settings.ca.contact, settings.ca.eab_kid, settings.ca.eab_hmac_key) == ("ops@example.com", "kid", "hmac")
    assert settings.alerts == {"email": "ops@example.com", "urgent": "pager@example.com"}
    assert (settings.nameservers, settings.propagation_timeout) == (("127.0.0.1:5353", "2001:db8::1"), 30.0)


def test_a_certificate_takes_the_defaults_it_does_not_set_itself() -> None:
    settings = parse(FULL, "certkeeper.toml")

    www, api = certificate(settings, "example.com"), certificate(settings, "api")
    assert (www.key_type, www.profile, www.readers) == (
        "ecdsa-p384", "tlsserver", ("arn:aws:iam::123456789012:role/web",),
    )  # fmt: skip
    assert (api.key_type, api.readers, api.reuse_private_key) == ("rsa-4096", (), True)
    assert (api.hosted_zone_id, api.ca) == ("Z0123456789ABC", "https://ca.example.net/directory")


ROLE = "arn:aws:iam::210987654321:role/certkeeper-dns"


def test_zones_of_other_accounts() -> None:
    settings = parse(
        f'{LEAST}[dns.zones."example.com"]\nrole_arn = "{ROLE}"\nhosted_zone_id = "/hostedzone/Z0123456789ABC"\n'
        '[dns.zones."bücher.example"]\nhosted_zone_id = "Z1"\n',
        "certkeeper.toml",
    )

    assert settings.zone_places == (
        ZonePlace("example.com", ROLE, "Z0123456789ABC"),
        ZonePlace("xn--bcher-kva.example", "", "Z1"),
    )


@pytest.mark.parametrize(
    ("text", "key", "what", "hint"),
    [
        pytest.param('[dns]\nzones = "Z1"', "dns.zones", "must be a table", "[dns.zones.", id="no table"),
        pytest.param('[dns.zones."a.test"]', 'dns.zones."a.test"', "names no zone", "role_arn", id="nothing said"),
        pytest.param('[dns.zones.a.test]\nrole_arn = "x"', "dns.zones.a.test", "quotes", '"a.test"', id="unquoted"),
        pytest.param('[dns.zones."*.a.test"]\nhosted_zone_id = "Z1"', 'dns.zones."*.a.test"', "no wildcard",
                     '[dns.zones."a.test"]', id="wildcard"),
        pytest.param('[dns.zones.test]\nhosted_zone_id = "Z1"', 'dns.zones."test"', "not a domain name", "", id="tld"),
        pytest.param('[dns.zones."a.test"]\nrole = "x"', 'dns.zones."a.test".role', "unknown key", "role_arn",
                     id="unknown key"),
        pytest.param('[dns.zones."a.test"]\nrole_arn = "web"', 'dns.zones."a.test".role_arn', "ARN of a role", "",
                     id="no role"),
        pytest.param('[dns.zones."a.test"]\nhosted_zone_id = "a.test"', 'dns.zones."a.test".hosted_zone_id',
                     "hosted zone's id", "", id="no id"),
    ],
)  # fmt: skip
def test_a_fault_in_a_zones_place_is_told(text: str, key: str, what: str, hint: str) -> None:
    (fault,) = faults_of(f"{LEAST}{text}\n")

    assert fault.key == key
    assert what in fault.what
    assert hint in (fault.hint or "")


def test_a_profile_of_the_ca_is_not_asked_of_another_ca() -> None:
    assert certificate(parse(FULL, "certkeeper.toml"), "api").profile is None


def test_every_ca_that_a_certificate_comes_from_is_set_up() -> None:
    authorities = parse(FULL, "certkeeper.toml").authorities()

    assert [one.directory for one in authorities] == [
        "https://acme-staging-v02.api.letsencrypt.org/directory",
        "https://ca.example.net/directory",
    ]
    assert authorities[1].eab_kid is None  # what one CA gave is of no use at another


FALLBACKS = """
[ca]
directory = "letsencrypt"
profile = "tlsserver"

[fallback_ca.google]
directory = "https://ca.example.net/directory"
profile = "short"
eab_kid = "kid"
eab_hmac_key = "hmac"

[fallback_ca.other]
directory = "https://other.example.net/directory"

[certificates.www]
identifiers = ["example.com"]

[certificates.api]
identifiers = ["api.example.com"]
ca = "https://ca.example.net/directory"
"""


def test_every_certificate_falls_over_to_the_fallback_cas_in_their_order_with_their_own_profiles() -> None:
    settings = parse(LEAST + FALLBACKS, "certkeeper.toml")

    www = certificate(settings, "www")
    assert www.profile == "tlsserver"
    assert www.fallbacks == (
        FallbackCa("https://ca.example.net/directory", "short"),
        FallbackCa("https://other.example.net/directory", None),
    )
    assert [one.directory for one in settings.authorities()] == list(www.cas)
    assert settings.authorities()[1].eab_kid == "kid"


def test_a_certificate_that_names_its_ca_falls_over_to_no_other_and_takes_that_cas_profile() -> None:
    api = certificate(parse(LEAST + FALLBACKS, "certkeeper.toml"), "api")

    assert (api.ca, api.profile, api.fallbacks) == ("https://ca.example.net/directory", "short", ())


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        pytest.param("[fallback_ca]\ndirectory = 'x'", "fallback_ca", "must be tables", id="no name"),
        pytest.param("[fallback_ca.x]\ncontact = 'a@b.example'", "fallback_ca.x.directory", "missing", id="none"),
        pytest.param(
            "[fallback_ca.x]\ndirectory = 'letsencrypt'", "fallback_ca.x.directory", "another CA", id="the first itself"
        ),
        pytest.param(
            "[fallback_ca.x]\ndirectory = 'letsencrypt-staging'",
            "fallback_ca.x.directory",
            "does not stand in",
            id="staging for a real one",
        ),
        pytest.param(
            "[fallback_ca.x]\ndirectory = 'https://ca.example/d'\ncolour = 'red'",
            "fallback_ca.x.colour",
            "unknown key",
            id="an unknown key",
        ),
        pytest.param(
            "[fallback_ca.x]\ndirectory = 'https://ca.example/d'\neab_kid = 'kid'",
            "fallback_ca.x.eab_kid",
            "go together",
            id="half a binding",
        ),
    ],
)
def test_a_fallback_ca_that_cannot_be(text: str, key: str, what: str) -> None:
    (fault,) = faults_of(f"{LEAST}\n{text}\n")

    assert fault.key == key
    assert what in fault.what


def test_more_names_than_a_fallback_ca_takes_is_a_fault() -> None:
    names = [f"n{number}.example.com" for number in range(26)]
    text = (
        '[ca]\ndirectory = "https://ca.example.net/directory"\n'
        '[fallback_ca.le]\ndirectory = "letsencrypt"\nprofile = "shortlived"\n'
        f"[certificates.www]\nidentifiers = {names}\n"
    )

    (fault,) = faults_of(f"{LEAST}\n{text}")

    assert "the profile shortlived takes 25" in fault.what


def test_a_rehearsal_is_at_lets_encrypts_staging_directory_with_no_credentials_of_the_real_one() -> None:
    text = '[ca]\nprofile = "tlsserver"\neab_kid = "kid"\neab_hmac_key = "hmac"\n'
    settings = parse(f'{LEAST}\n{text}[certificates.www]\nidentifiers = ["example.com"]\n', "certkeeper.toml")

    rehearsal = settings.rehearsal()

    staging = rehearsal.authorities()[1]
    assert [(one.ca, one.profile, one.fallbacks) for one in rehearsal.specs] == [(staging.directory, "tlsserver", ())]
    assert staging.directory == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert (staging.eab_kid, staging.eab_hmac_key) == (None, None)


def test_a_rehearsal_is_of_the_named_certificates_alone_each_at_the_staging_directory_of_its_ca() -> None:
    text = FALLBACKS.replace('eab_kid = "kid"', 'staging_directory = "https://staging.example.net/directory"').replace(
        'eab_hmac_key = "hmac"', ""
    )
    settings = parse(LEAST + text, "certkeeper.toml")

    assert [one.ca for one in settings.rehearsal(["api"]).specs] == ["https://staging.example.net/directory"]
    assert len(settings.rehearsal().specs) == 2


def test_a_ca_that_is_for_staging_rehearses_itself() -> None:
    text = '[ca]\ndirectory = "letsencrypt-staging"\n[certificates.www]\nidentifiers = ["example.com"]\n'

    rehearsal = parse(f"{LEAST}\n{text}", "certkeeper.toml").rehearsal()

    assert [one.ca for one in rehearsal.specs] == [one.directory for one in rehearsal.authorities()]


def test_a_ca_without_a_known_staging_directory_cannot_be_rehearsed_at() -> None:
    settings = parse(LEAST + FALLBACKS, "certkeeper.toml")

    with pytest.raises(SettingsError, match="no staging directory is known of the CA https://ca") as caught:
        settings.rehearsal(["api"])

    assert caught.value.hint == "name one: staging_directory, beside directory"


def test_certificates_come_in_the_order_of_the_file() -> None:
    assert [spec.name for spec in parse(FULL, "certkeeper.toml").specs] == ["example.com", "api"]


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/prod", "bucket", "prod"),
        ("s3://bucket/prod/", "bucket", "prod"),
        ("s3://my.bucket-1/a/b", "my.bucket-1", "a/b"),
    ],
)
def test_stores(url: str, bucket: str, prefix: str) -> None:
    assert store_url(url) == (bucket, prefix)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        (" example.com ", "example.com"),
        ("*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_identifiers_are_written_as_people_do_and_kept_as_a_labels(written: str, kept: str) -> None:
    assert identifier(written) == kept


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("localhost", "not a domain name"),
        ("*", "not a domain name"),
        ("*.com", "not a domain name"),
        ("a.*.example.com", "not a domain name"),
        ("*.*.example.com", "not a domain name"),
        ("www*.example.com", "not a domain name"),
        ("-a.example.com", "not a domain name"),
        ("a_b.example.com", "not a domain name"),
        ("a..example.com", "not a domain name"),
        ("a b.example.com", "not a domain name"),
        ("https://example.com", "not a domain name"),
        ("example.com:443", "not a domain name"),
        ("", "not a domain name"),
        (f"{'a' * 64}.example.com", "not a domain name"),
        (".".join(["a" * 60] * 5), "not a domain name"),
        ("192.0.2.1", "IP address"),
        ("2001:db8::1", "IP address"),
        ("[2001:db8::1]", "IP address"),
        ("ex\u2028ample.com", "not a domain name"),
    ],
)
def test_what_is_no_identifier(written: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        identifier(written)


# Faults.

DOTTED = "[certificates.example.com]\nidentifiers = ['example.com']\n"
MANY = ", ".join(f'"n{number}.example.com"' for number in range(101))
TWENTY_SIX = ", ".join(f'"n{number}.example.com"' for number in range(26))

FAULTS = [
    pytest.param("store = bare", "", "not TOML", "quotes", id="not TOML"),
    pytest.param('sealing = "store"', "store", "missing", "s3://bucket/prefix", id="no store"),
    pytest.param('store = 7\nsealing = "store"', "store", "7 is not text", "s3://", id="a store that is a number"),
    pytest.param('store = "bucket"\nsealing = "store"', "store", "'bucket' is not a store", "s3://", id="no URL"),
    pytest.param('store = "s3://B/x"\nsealing = "store"', "store", "not a store", "s3://", id="no bucket's name"),
    pytest.param('store = "s3://bucket//x"\nsealing = "store"', "store", "not a store", "s3://", id="an empty part"),
    pytest.param('store = "s3://bucket"', "sealing", "missing", "about $1 a month", id="no sealing"),
    pytest.param('store = "s3://bucket"\nsealing = "gpg"', "sealing", "'gpg' is neither", "kms", id="no such sealing"),
    pytest.param('store = "s3://bucket"\nsealing = "kms"', "kms_key", "missing", "alias/certkeeper", id="no KMS key"),
    pytest.param(LEAST + 'kms_key = "alias/x"', "kms_key", "no use", "remove it", id="a KMS key of no use"),
    pytest.param(LEAST + 'stroe = "x"', "stroe", "unknown key", "did you mean store?", id="a key misspelt"),
    pytest.param(LEAST + 'zzz = "x"', "zzz", "unknown key", "known here: store", id="a key that nobody knows"),
    pytest.param(LEAST + 'bucket_owner = "12"', "bucket_owner", "12 digits", None, id="no account id"),
    pytest.param(LEAST + 'deployment = "a b"', "deployment", "a stack's name", None, id="no stack's name"),
    pytest.param(LEAST + 'ca = "letsencrypt"', "ca", "must be a table", "[ca]", id="a CA that is no table"),
    pytest.param(LEAST + '[ca]\ndirectory = "lets"', "ca.directory", "'lets' is no CA", "letsencrypt", id="no such CA"),
    pytest.param(LEAST + '[ca]\ndirectory = "http://ca.test/d"', "ca.directory", "is no CA", "https", id="no TLS"),
    pytest.param(LEAST + '[ca]\ncontact = "me"', "ca.contact", "e-mail", None, id="no address"),
    pytest.param(LEAST + '[ca]\ncontact = "mailto:a@b.c,d@e.f"', "ca.contact", "e-mail", None, id="two addresses"),
    pytest.param(LEAST + '[ca]\nca_bundle = "none.pem"', "ca.ca_bundle", "no file none.pem", "relative", id="no file"),
    pytest.param(LEAST + '[ca]\neab_kid = "x"', "ca.eab_kid", "go together", None, id="half a binding"),
    pytest.param(LEAST + '[ca]\nprofil = "x"', "ca.profil", "unknown key", "did you mean profile?", id="a CA's key"),
    pytest.param(LEAST + '[alerts]\nemail = "x"', "alerts.email", "e-mail", None, id="an alert to nobody"),
    pytest.param(LEAST + '[dns]\nnameservers = ["ns1.test"]', "dns.nameservers", "not an address", "192.0.2.53",
                 id="a name server by name"),
    pytest.param(LEAST + '[dns]\nnameservers = "192.0.2.53:0"', "dns.nameservers", "not an address", None,
                 id="port zero"),
    pytest.param(LEAST + '[dns]\nnameservers = [7]', "dns.nameservers", "7 is not an address", None, id="a number"),
    pytest.param(LEAST + "[dns]\npropagation_timeout = 0", "dns.propagation_timeout", "up to 600", None, id="no time"),
    pytest.param(LEAST + "[dns]\npropagation_timeout = 601", "dns.propagation_timeout", "up to 600", None, id="an age"),
    pytest.param(LEAST + "[dns]\npropagation_timeout = true", "dns.propagation_timeout", "True", None, id="true"),
    pytest.param(LEAST + "[defaults]\nidentifiers = []", "defaults.identifiers", "unknown key", "known here",
                 id="identifiers as a default"),
    pytest.param(LEAST + DOTTED, "certificates.example.com", "needs quotes", 'write [certificates."example.com"]',
                 id="an unquoted name"),
    pytest.param(LEAST + DOTTED.replace("example.com]", "www.example.co.uk]"), "certificates.www.example.co.uk",
                 "needs quotes", 'write [certificates."www.example.co.uk"]', id="an unquoted name of four labels"),
    pytest.param(LEAST + DOTTED.replace("example.com]", "example.ca]"), "certificates.example.ca", "needs quotes",
                 'write [certificates."example.ca"]', id="an unquoted name that ends like a key"),
    pytest.param(LEAST + 'certificates = "secretsmanager:prod"', "certificates", "not a table", "certificates_in",
                 id="text"),
    pytest.param(LEAST + "[certificates]\nwww = 7", 'certificates."www"', "must be a table", "[certificates.",
                 id="a certificate that is a number"),
    pytest.param(LEAST + WWW.replace('"example.com"]', '"Example"]', 1), 'certificates."Example"', "not a name",
                 "lower-case", id="a name in upper case"),
    pytest.param(LEAST + '[certificates."*.example.com"]\nidentifiers = ["*.example.com"]',
                 'certificates."*.example.com"', "not a name", "lower-case", id="a wildcard as a name"),
    pytest.param(LEAST + "[certificates.www]", 'certificates."www".identifiers', "missing", "list", id="none"),
    pytest.param(LEAST + "[certificates.www]\nidentifiers = []", 'certificates."www".identifiers', "missing", "list",
                 id="an empty list"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = "a.test"', 'certificates."www".identifiers',
                 "must be a list", '["example.com"', id="text for a list"),
    pytest.param(LEAST + "[certificates.www]\nidentifiers = " + "[" * 3000 + "]" * 3000, "", "too deep", "four",
                 id="lists in lists"),
    pytest.param(LEAST + "[certificates.www]\nidentifiers" + ".a" * 3000 + " = 1", "", "too deep", "four",
                 id="tables in tables"),
    pytest.param(LEAST + "[certificates.www]\nidentifiers = [7]", 'certificates."www".identifiers', "7 is not text",
                 None, id="a number for a name"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = ["x"]', 'certificates."www".identifiers',
                 "'x': not a domain name", None, id="no domain name"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = ["10.0.0.1"]', 'certificates."www".identifiers',
                 "IP address", None, id="an IP address"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = ["a.test", "A.test."]', 'certificates."www".identifiers',
                 "twice", "remove one", id="twice"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = ["bü.test", "xn--b-eha.test"]',
                 'certificates."www".identifiers', "twice", "remove one", id="twice, in two spellings"),
    pytest.param(LEAST + '[certificates.www]\nidentifiers = ["*.a.test", "b.a.test"]',
                 'certificates."www".identifiers', "covered by *.a.test", "refuse both", id="covered by a wildcard"),
    pytest.param(LEAST + f"[certificates.www]\nidentifiers = [{MANY}]", 'certificates."www".identifiers',
                 "101 names", "split", id="more than a certificate takes"),
    pytest.param(LEAST + f'[certificates.www]\nprofile = "tlsserver"\nidentifiers = [{TWENTY_SIX}]',
                 'certificates."www".identifiers', "26 names, and the profile tlsserver takes 25", "split",
                 id="more than the profile takes"),
    pytest.param(LEAST + WWW + 'key_type = "dsa"', 'certificates."example.com".key_type', "'dsa' is no key type",
                 "ecdsa-p256, ecdsa-p384, rsa-2048", id="no such key type"),
    pytest.param(LEAST + WWW + 'readers = "x"', 'certificates."example.com".readers', "must be a list", None,
                 id="a reader that is no list"),
    pytest.param(LEAST + WWW + 'readers = ["web"]', 'certificates."example.com".readers', "'web' is not a role",
                 "arn:aws:iam", id="a reader that is no ARN"),
    pytest.param(LEAST + WWW + 'readers = ["arn:aws:iam::123456789012:role/*"]',
                 'certificates."example.com".readers', "is not a role", None, id="every role"),
    pytest.param(LEAST + WWW + 'hosted_zone_id = "example.com"', 'certificates."example.com".hosted_zone_id',
                 "hosted zone's id", None, id="a zone by name"),
    pytest.param(LEAST + WWW + 'reuse_private_key = "yes"', 'certificates."example.com".reuse_private_key',
                 "neither true nor false", None, id="yes"),
    pytest.param(LEAST + WWW + 'keytype = "x"', 'certificates."example.com".keytype', "unknown key", "key_type?",
                 id="a certificate's key misspelt"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "what", "hint"), FAULTS)
def test_a_fault_has_a_file_a_key_and_what_to_do(text: str, key: str, what: str, hint: str | None) -> None:
    (fault,) = faults_of(text)

    assert (fault.file, fault.key) == ("certkeeper.toml", key)
    assert what in fault.what
    assert hint is None or hint in (fault.hint or "")
    assert str(fault).startswith("certkeeper.toml: ")


def test_all_faults_are_told_at_once() -> None:
    text = 'stor = "x"\n[ca]\ncontact = "me"\n[dns]\npropagation_timeout = 0\n' + WWW + 'key_type = "dsa"\n'

    faults = faults_of(text)

    assert {fault.key for fault in faults} == {
        "stor", "store", "sealing", "ca.contact", "dns.propagation_timeout", 'certificates."example.com".key_type',
    }  # fmt: skip


def test_all_faults_of_one_list_are_told_at_once() -> None:
    faults = faults_of(LEAST + '[certificates.www]\nidentifiers = ["x", "10.0.0.1", "a.test", "a.test"]')

    assert len(faults) == 3


@pytest.mark.parametrize("value", ['"very hush" # twice\neab_kid = ""', '["very hush"]', "{ a = 'very hush' }"])
def test_a_secret_that_is_wrong_is_not_shown(value: str) -> None:
    faults = faults_of(LEAST + f"[ca]\neab_hmac_key = {value}\n")

    assert faults
    assert all("hush" not in f"{fault} {fault.hint}" for fault in faults)


def test_a_secret_that_is_right_is_not_shown_either() -> None:
    settings = parse(FULL.replace('"hmac"', '"very hush"'), "certkeeper.toml")

    assert settings.ca.eab_hmac_key == "very hush"
    assert "hush" not in repr(settings)


# Files.


def test_included_files_add_certificates(tmp_path: Path) -> None:
    (tmp_path / "customers").mkdir()
    (tmp_path / "certkeeper.toml").write_text('include = ["customers/*.toml"]\n' + LEAST + WWW)
    (tmp_path / "customers" / "b.toml").write_text('[certificates.b]\nidentifiers = ["b.test"]\n')
    (tmp_path / "customers" / "a.toml").write_text('[certificates.a]\nidentifiers = ["ä.test"]\n', encoding="utf-8")

    settings = read(tmp_path / "certkeeper.toml")

    assert [spec.name for spec in settings.specs] == ["example.com", "a", "b"]
    assert certificate(settings, "a").identifiers == ("xn--4ca.test",)


INCLUDED = [
    pytest.param('store = "s3://x"', "store", "unknown key", id="anything but certificates"),
    pytest.param("[certificates.www]", 'certificates."www".identifiers', "missing", id="a faulty certificate"),
    pytest.param(WWW, 'certificates."example.com"', "stands in two files", id="a name of the first file"),
    pytest.param(DOTTED, "certificates.example.com", "needs quotes", id="an unquoted name"),
    pytest.param("x = bare", "", "not TOML", id="not TOML"),
]


@pytest.mark.parametrize(("text", "key", "what"), INCLUDED)
def test_a_fault_in_an_included_file_names_that_file(text: str, key: str, what: str) -> None:
    (fault,) = faults_of(LEAST + WWW, {"customers/a.toml": text})

    assert (fault.file, fault.key) == ("customers/a.toml", key)
    assert what in fault.what


def test_the_defaults_hold_in_included_files_too() -> None:
    included = {"a.toml": '[certificates.a]\nidentifiers = ["a.test"]\n'}

    settings = parse(LEAST + '[defaults]\nkey_type = "rsa-2048"\n', "certkeeper.toml", included)

    assert certificate(settings, "a").key_type == "rsa-2048"


@pytest.mark.parametrize(
    ("include", "what"),
    [
        pytest.param('"customers/*.toml"', "is not a list", id="no list"),
        pytest.param('["/etc/*.toml"]', "is not a pattern", id="not relative"),
        pytest.param('[""]', "is not a pattern", id="nothing"),
        pytest.param('["none/*.toml"]', "no file matches 'none/*.toml' in /", id="no file"),
    ],
)
def test_an_include_that_includes_nothing_is_a_fault(tmp_path: Path, include: str, what: str) -> None:
    (tmp_path / "certkeeper.toml").write_text(f"include = {include}\n{LEAST}")

    with pytest.raises(Faults) as caught:
        read(tmp_path / "certkeeper.toml")

    (fault,) = caught.value.faults
    assert (fault.file, fault.key) == (str(tmp_path / "certkeeper.toml"), "include")
    assert what in fault.what and fault.hint


def test_a_bundle_is_found_beside_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text("x")
    (tmp_path / "certkeeper.toml").write_text(LEAST + '[ca]\nca_bundle = "roots.pem"\n')

    assert read(tmp_path / "certkeeper.toml").ca.ca_bundle == str(tmp_path / "roots.pem")


@pytest.mark.parametrize("key", ["ca", "fallback_ca.x"])
@pytest.mark.parametrize(
    ("written", "plain"),
    [
        pytest.param("https://CA.Example/Dir", "https://ca.example/Dir", id="upper case in the host"),
        pytest.param("HTTPS://ca.example/d", "https://ca.example/d", id="upper case in the scheme"),
        pytest.param("https://ca.example:443/d", "https://ca.example/d", id="the usual port"),
        pytest.param("https://ca.example./d", "https://ca.example/d", id="a dot after the host"),
        pytest.param("https://ca.example", "https://ca.example/", id="no path"),
        pytest.param("https://ca.example/d?", "https://ca.example/d", id="an empty query"),
        pytest.param("https://ca.example/d?a=b#c", "https://ca.example/d?a=b", id="a fragment"),
        pytest.param("https://me@ca.example/d", "https://ca.example/d", id="a user"),
        pytest.param("https://b\u00fccher.example/d", "https://xn--bcher-kva.example/d", id="an IDN"),
    ],
)
def test_a_directory_in_another_spelling_would_be_another_ca(key: str, written: str, plain: str) -> None:
    (fault,) = faults_of(f'{LEAST}[{key}]\ndirectory = "{written}"\n')

    assert fault.key == f"{key}.directory"
    assert fault.hint == f'write directory = "{plain}"'


@pytest.mark.parametrize("url", ["https://ca.example:14000/dir", "https://[::1]:14000/dir", "https://ca.example/a:b/"])
def test_a_directory_in_plain_spelling_is_taken(url: str) -> None:
    assert parse(f'{LEAST}[ca]\ndirectory = "{url}"\n', "certkeeper.toml").ca.directory == url


@pytest.mark.parametrize(
    "url",
    ["https:///d", "https://:443/d", "https://ca.example:x/d", "https://[::1/d", "https://ca.example/a/../d",
     "https://\u2603\u0301.example/d"],
)  # fmt: skip
def test_a_directory_that_is_no_url_is_no_ca(url: str) -> None:
    (fault,) = faults_of(f'{LEAST}[ca]\ndirectory = "{url}"\n')

    assert "is no CA" in fault.what


def test_a_file_whose_lists_lie_in_lists_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "certkeeper.toml"
    path.write_text(f"{LEAST}include = {'[' * 3000}{']' * 3000}\n")

    with pytest.raises(Faults, match="too deep"):
        read(path)


def test_a_missing_file_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no ") as caught:
        read(tmp_path / "certkeeper.toml")

    assert (
        caught.value.hint == "write one with: certkeeper init; or say where the settings are, with --config or --from"
    )


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "certkeeper.toml").write_bytes(b"# \xe4\n")

    with pytest.raises(SettingsError, match="not UTF-8"):
        read(tmp_path / "certkeeper.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read(tmp_path)


# The examples in the hints are ones that work.

EXAMPLES = [
    pytest.param('sealing = "store"', "", id="store"),
    pytest.param('store = "s3://bucket/prod"\nsealing = "kms"', "", id="kms_key"),
    pytest.param(LEAST, "[certificates.www]", id="identifiers"),
]


@pytest.mark.parametrize(("before", "after"), EXAMPLES)
def test_the_line_that_a_hint_writes_out_mends_the_fault(before: str, after: str) -> None:
    (fault,) = faults_of(f"{before}\n{after}\n")

    (line,) = re.findall(r"\w+ = (?:\"[^\"]*\"|\[[^]]*\])$", fault.hint or "")

    table = f"{after}\n{line}" if after else f"{line}\n{before}"
    assert parse(table if not after else f"{before}\n{table}", "certkeeper.toml").bucket == "bucket"


# The CA's limits, and what they count by.


@pytest.mark.parametrize(
    ("identifier", "domain"),
    [
        ("example.com", "example.com"),
        ("*.a.b.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("www.site.github.io", "site.github.io"),
        ("github.io", "github.io"),
        ("www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("host.of.internal", "of.internal"),
    ],
)
def test_a_registered_domain_is_one_label_below_a_public_suffix(identifier: str, domain: str) -> None:
    assert registered_domain(identifier) == domain


def test_to_read_only_what_concerns_a_top_level_domain_finds_the_same_as_the_whole_list() -> None:
    listed = (line.split(" ")[0] for line in Path(PSLFILE).read_text("utf-8").splitlines() if not line.startswith("//"))
    suffixes = [one.lstrip("*.!").encode("idna").decode() for one in listed if one.strip()]
    assert len(suffixes) > 9000
    whole = PublicSuffixList()

    names = [f"{below}{suffix}" for suffix in suffixes for below in ("", "a.", "www.a.")]
    assert [registered_domain(name) for name in names] == [whole.privatesuffix(name) or name for name in names]


def test_a_certificate_knows_the_registered_domains_of_its_identifiers() -> None:
    text = '[certificates.www]\nidentifiers = ["b.example.net", "a.b.example.com", "*.example.com"]\n'

    assert certificate(parse(LEAST + text, "certkeeper.toml"), "www").registered_domains == (
        "example.com",
        "example.net",
    )


def test_limits_are_those_that_are_known_with_what_the_settings_say_instead() -> None:
    text = '[ca.limits]\nexact_set = "10/7d"\norders = "none"\n'
    other = '[ca]\ndirectory = "https://ca.test/directory"\n[ca.limits]\nfailed_authorizations = "3/2h"\n'

    (known,) = parse(LEAST + text, "certkeeper.toml").limits().values()
    unknown = parse(LEAST + other, "certkeeper.toml").limits()

    assert known == Limits(
        Limit(10, timedelta(days=7)), Limit(50, timedelta(days=7)), None, Limit(5, timedelta(hours=1))
    )
    assert unknown == {"https://ca.test/directory": Limits(failed_authorizations=Limit(3, timedelta(hours=2)))}
    assert parse(LEAST, "certkeeper.toml").limits() == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exact_set", '"5"'),
        ("exact_set", '"0/7d"'),
        ("exact_set", "5"),
        ("exact_set", '"5/8d"'),
        ("orders", '"300/25h"'),
        ("orders", '"300/3m"'),
    ],
)
def test_a_limit_that_is_none_is_told_with_its_place_and_its_form(key: str, value: str) -> None:
    (fault,) = faults_of(f"{LEAST}[ca.limits]\n{key} = {value}\n")

    assert fault.key == f"ca.limits.{key}"
    assert fault.what.endswith("is not a limit") and "5/7d" in (fault.hint or "")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param('[ca]\nlimits = "5/7d"\n', "ca.limits", id="no table"),
        pytest.param('[ca.limits]\nexactset = "5/7d"\n', "ca.limits.exactset", id="unknown"),
        pytest.param(
            '[fallback_ca.x]\ndirectory = "https://x.test/d"\n[fallback_ca.x.limits]\norders = 3\n',
            "fallback_ca.x.limits.orders",
            id="of a fallback CA",
        ),
    ],
)
def test_faults_in_limits_name_their_place(text: str, key: str) -> None:
    (fault,) = faults_of(LEAST + text)

    assert fault.key == key


# Of many names most are read in a shorter way, which must come to the same.


def kept_or_told(text: str) -> str:
    try:
        return identifier(text)
    except ValueError as error:
        return f"told: {error}"


def test_an_identifier_that_needs_no_change_is_the_same_as_one_that_does() -> None:
    rng = random.Random(7)
    pieces = ["a", "b1", "1", "2.3.4.5", "-", ".", ".", ".", "*.", "com", "x" * 63, "y" * 64, "_", "A", "é", ":", " "]
    written = ["".join(rng.choices(pieces, k=rng.randint(1, 7))) for _ in range(20_000)]
    written += ["a." * number + "com" for number in range(110, 130)]

    differing = [text for text in written if kept_or_told(text) != kept_or_told(f" {text}")]

    assert differing == []
    assert sum(not kept_or_told(text).startswith("told") for text in written) > 500


@pytest.mark.parametrize(
    "defaults",
    [
        "",
        'readers = ["arn:aws:iam::123456789012:role/web"]',
        'key_type = "rsa-2048"\nprofile = "shortlived"',
        'ca = "letsencrypt-staging"\npreferred_chain = "YE"\nhosted_zone_id = "Z0123456789ABC"',
        "reuse_private_key = true",
    ],
)
def test_a_name_without_options_is_read_the_same_whatever_stands_before_it(defaults: str) -> None:
    head = LEAST + '[fallback_ca.other]\ndirectory = "https://other.example/directory"\n[defaults]\n' + defaults + "\n"
    tables = [
        f'[certificates."n{number}.example.com"]\nidentifiers = ["n{number}.example.com"]\n' for number in range(3)
    ]
    odd = '[certificates."odd.example.com"]\nidentifiers = ["odd.example.com"]\nkey_type = "rsa-4096"\nreaders = []\n'

    together = parse(head + tables[0] + odd + tables[1] + tables[2], "certkeeper.toml")

    for number, table in enumerate(tables):
        (alone,) = parse(head + table, "certkeeper.toml").specs
        assert certificate(together, f"n{number}.example.com") == alone


@pytest.mark.parametrize("names", [0, 3])
def test_a_fault_in_the_defaults_is_told_once_where_it_stands(names: int) -> None:
    text = LEAST + '[defaults]\nkey_type = "rsa-1024"\n' + "".join(
        f'[certificates.n{number}]\nidentifiers = ["n{number}.example.com"]\n' for number in range(names)
    )  # fmt: skip

    assert [fault.key for fault in faults_of(text)] == ["defaults.key_type"]


EVERYWHERE = [
    *(("", key) for key in config.TOP),
    *(("[ca]", key) for key in config.CA),
    *(('[fallback_ca.other]\ndirectory = "https://ca.example/directory"', key) for key in config.CA[1:]),
    *(("[alerts]", key) for key in config.ALERTS),
    *(("[dns]", key) for key in config.DNS),
    *(('[dns.zones."example.com"]', key) for key in config.ZONE),
    *(("[defaults]", key) for key in config.DEFAULTS),
    *(("[certificates.www]", key) for key in config.CERTIFICATE),
    ("[ca.limits]", "orders"),
]
WRONG = ["1", "true", '""', "[1]", "{ a = 1 }", "nan", "1979-05-27", '"\\u0000"', "[[]]"]


@pytest.mark.parametrize(("table", "key"), EVERYWHERE)
def test_every_fault_says_what_to_write_instead(table: str, key: str) -> None:
    least = {"store": 'store = "s3://bucket/prod"', "sealing": 'sealing = "store"'}
    head = "\n".join(line for name, line in least.items() if table or name != key)
    faults: list[Fault] = []

    for value in WRONG:
        try:
            parse(f"{head}\n{table}\n{key} = {value}\n", "certkeeper.toml")
        except Faults as error:
            faults += error.faults

    assert faults or key == "include"
    assert [str(fault) for fault in faults if not fault.hint] == []


def test_too_many_identifiers_are_a_fault_of_a_name_without_options_too() -> None:
    many = ", ".join(f'"n{number}.example.com"' for number in range(26))
    text = LEAST + f'[ca]\nprofile = "tlsserver"\n{WWW}[certificates.many]\nidentifiers = [{many}]\n'

    assert [fault.key for fault in faults_of(text)] == ['certificates."many".identifiers']
