"""An operator on a sandbox that others share: a store, credentials and a way to the CA of one's own.

So tests need not start a sandbox each, and their keepers' calls can be told apart while they run side by side.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certkeeper.adapters.acme_authority import AcmeAuthority
from certkeeper.adapters.system_clock import SystemClock
from certkeeper.core import certificates, journal
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account, Certificate, Sealed
from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.calls import Call, Desk, Phase
from certkeeper.sandbox.lambda_python import architecture, find_interpreter, why_not
from certkeeper.sandbox.stack import BUCKET, KMS_KEY, Sandbox
from certkeeper.sandbox.story import STRANGE
from tests.live.keepers import Keeper, Said

numbers = itertools.count(1)
# A function runs as its interpreter runs it or not at all; on CI, where all parts are, a skip is a failure.
NEEDS_THE_RUNTIME = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
TARGET = ("--python", find_interpreter().version, "--architecture", architecture())
# For a module whose tests run on both CAs, but for those marked `pebble` on Caddy's.
BOTH_CAS = pytest.mark.parametrize("sandbox", ["Pebble", "Caddy"], indirect=True, scope="module")
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def clean(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without anything that would lead elsewhere, and `more`."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith(STRANGE)}, **more}


def awaited(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether it comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not (good := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return good


class Operator:
    """Certificates of fresh names, and `certkeeper` commands on them. The store begins empty.

    Attributes: `names`, `identifiers` (of each name), `acme` (the desk of the CA's proxy), `proxy`, `prefix`.
    """

    def __init__(self, sandbox: Sandbox, count: int = 1, *, wildcard: bool = False, proxy: bool = True) -> None:
        number = next(numbers)
        self.sandbox = sandbox
        self.prefix = f"operator-{number}"
        self.names = [f"n{one}.o{number}.example.com" for one in range(1, count + 1)]
        self.identifiers = {name: [name, f"*.{name}"] if wildcard else [name] for name in self.names}
        self.access_key_id = f"AKIAOPERATOR{number:08d}"
        self.acme = Desk()
        self.proxy = AcmeProxy(sandbox.ca.directory_url, self.acme, sandbox.tls) if proxy else sandbox.proxy
        self._folder = tempfile.TemporaryDirectory(prefix="certkeeper-operator-")
        self.config = Path(self._folder.name) / "certkeeper.toml"
        self.settings()

    def __enter__(self) -> Operator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.acme.stop()
        if self.proxy is not self.sandbox.proxy:
            self.proxy.close()
        self._folder.cleanup()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    def settings(self, **other: str) -> str:
        """Write certkeeper.toml, with other values for some of its keys (`store`, `kms_key`, `directory` ...)."""
        values = {
            "store": self.store,
            "kms_key": KMS_KEY,
            "directory": self.proxy.directory_url,
            "ca_bundle": str(self.sandbox.tls.bundle),
            "dns": "",
            "more": "",
            **other,
        }
        quoted = {key: json.dumps(value) for key, value in values.items()}
        lines = [
            f"store = {quoted['store']}",
            'sealing = "kms"',
            f"kms_key = {quoted['kms_key']}",
            "[ca]",
            f"directory = {quoted['directory']}",
            f"ca_bundle = {quoted['ca_bundle']}" if values["ca_bundle"] else "",
            'profile = "tlsserver"' if self.sandbox.ca.has_profiles else "",
            "[dns]",
            f"nameservers = [{json.dumps(self.sandbox.dns.address)}]",
            values["dns"],
        ]
        for name, identifiers in self.identifiers.items():
            lines += [f"[certificates.{json.dumps(name)}]", f"identifiers = {json.dumps(identifiers)}"]
        text = "\n".join([*lines, values["more"]]) + "\n"
        self.config.write_text(text)
        return text

    @property
    def environment(self) -> dict[str, str]:
        """A whole environment: these credentials, this certkeeper.toml, and nothing that leads elsewhere."""
        return clean(
            {
                **self.sandbox.aws.environment,
                "AWS_ACCESS_KEY_ID": self.access_key_id,
                "CERTKEEPER_CONFIG": str(self.config),
            }
        )

    # What it does.

    def start(self, *arguments: str, **environment: str) -> Keeper:
        return Keeper(list(arguments), {**self.environment, **environment})

    def run(self, *arguments: str) -> Said:
        return self.start(*arguments).end()

    def renew(self, *arguments: str) -> Said:
        """`renew --json`; without a NAME it is what the schedule does."""
        return self.run("renew", "--json", *arguments)

    # What was done.

    @contextmanager
    def watching(self, watcher: Callable[[Phase, Call], None]) -> Iterator[None]:
        """Have `watcher` called for this operator's calls alone, to AWS or the CA."""

        def ours(phase: Phase, call: Call) -> None:
            if call.principal == self.access_key_id:
                watcher(phase, call)

        with self.sandbox.desk.watching(ours), self.acme.watching(watcher):
            yield

    def calls(self, service: str = "", operation: str = "", *, since: float = 0.0) -> list[Call]:
        """This operator's calls to AWS and the CA, in the order in which they came. `since` is a monotonic time.

        What the CA refused for its nonce only did nothing, and was asked again: it is left out.
        """
        aws = [call for call in self.sandbox.desk.calls(service, operation) if call.principal == self.access_key_id]
        both = aws + [call for call in self.acme.calls(service, operation) if call.fault != "badNonce"]
        return sorted((call for call in both if call.at >= since), key=lambda call: call.at)

    def issued(self, name: str | None = None) -> list[str]:
        """The serial numbers of what the CA ever issued for a name."""
        identifiers = tuple(sorted(self.identifiers[name or self.name]))
        return [one.serial for one in self.proxy.issued() if one.identifiers == identifiers]

    def object(self, path: str) -> bytes | None:
        return self.sandbox.aws.objects(BUCKET).get(f"{self.prefix}/{path}")

    def put(self, path: str, body: bytes) -> None:
        """Write past the keeper: not counted."""
        self.sandbox.aws.put_object(BUCKET, f"{self.prefix}/{path}", body)

    def objects(self) -> dict[str, bytes]:
        """Everything in the store, by path."""
        start = f"{self.prefix}/"
        found = self.sandbox.aws.objects(BUCKET).items()
        return {key.removeprefix(start): body for key, body in found if key.startswith(start)}

    def certificate(self, name: str | None = None) -> Certificate | None:
        stored = self.object(f"certificates/{name or self.name}")
        return certificates.decode(stored, name or self.name) if stored else None

    def journal(self, name: str | None = None) -> journal.Entry:
        stored = self.object(f"journal/{name or self.name}")
        return journal.decode(stored, name or self.name) if stored else journal.Entry()

    def accounts(self) -> list[dict[str, Any]]:
        """The account objects of this CA."""
        found = [json.loads(body) for path, body in self.objects().items() if path.startswith("accounts/")]
        return [one for one in found if one["ca_directory"] == self.proxy.directory_url]

    def account(self) -> dict[str, Any]:
        (account,) = self.accounts()
        return account

    def age(self, name: str, seconds: float) -> None:
        """Make a name's journal older, as if it had been written that long ago."""
        if self.object(f"journal/{name}") is not None:
            self.sandbox.aws.age(BUCKET, f"{self.prefix}/journal/{name}", seconds)

    def kms(self) -> Any:
        """A client of KMS that nobody counts: it has other credentials."""
        environment = self.sandbox.aws.environment
        return boto3.client(
            "kms",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id="AKIABYSTANDER0000000",
            aws_secret_access_key="bystander",
        )

    def opened(self, sealed: Sealed, context: Mapping[str, str]) -> bytes:
        """The clear private key."""
        answer = self.kms().decrypt(CiphertextBlob=sealed.blob, EncryptionContext=dict(context))
        clear: bytes = answer["Plaintext"]
        return clear

    def opened_account_key(self) -> bytes:
        fields = self.account()
        sealed = Sealed("kms", base64.b64decode(fields["sealed_account_key"]), fields["kms_key_arn"])
        return self.opened(sealed, {"certkeeper-account": fields["ca_directory"]})

    def txt_records(self) -> list[str]:
        """The names of challenge records of ours that still stand in the zone."""
        zone = self.sandbox.zone_ids["example.com"]
        ours = tuple(f"_acme-challenge.{name}." for name in self.names)
        return [one.name for one in self.sandbox.zones.records(zone) if one.type == "TXT" and one.name in ours]

    def assert_one_good_certificate(self, name: str | None = None, issued: int = 1) -> None:
        """Exactly so many certificates were ever issued, the last is stored and whole, and nothing is left over."""
        name = name or self.name
        certificate, entry = self.certificate(name), self.journal(name)

        assert len(self.issued(name)) == issued
        assert certificate is not None
        assert certificate.chain.serial_number == self.issued(name)[-1]
        assert sorted(certificate.chain.identifiers) == sorted(self.identifiers[name])
        assert entry.closed
        assert entry.records == ()
        assert entry.failure is None
        assert self.txt_records() == []
        leaf = x509.load_pem_x509_certificates(certificate.chain.pem.encode())[0]
        clear = self.opened(certificate.request.private_key, {"certkeeper-name": name})
        private_key = serialization.load_pem_private_key(clear, None)
        assert isinstance(private_key, ec.EllipticCurvePrivateKey)
        assert private_key.public_key().public_bytes(*SPKI) == leaf.public_key().public_bytes(*SPKI)
        assert leaf.not_valid_before_utc <= datetime.now(UTC) < leaf.not_valid_after_utc
        assert len(self.accounts()) == 1


def authority_of(operator: Operator) -> tuple[AcmeAuthority, Account]:
    """A way to the CA with the operator's own account."""
    opened = operator.opened_account_key()
    fields = operator.account()

    class Opened:
        def seal(self, clear: bytes, context: object) -> Sealed:
            raise AssertionError

        def open(self, sealed: Sealed, context: object) -> bytes:
            return opened

    clock = SystemClock(timedelta(hours=1))
    authority = AcmeAuthority(fields["ca_directory"], Opened(), clock, ca_bundle=str(operator.sandbox.tls.bundle))
    return authority, Account(fields["ca_directory"], Sealed("store", b"it"), fields["account_url"])


def is_revoked(operator: Operator, certificate: Certificate) -> bool:
    """As the CA has it. Caddy's says so to a revocation for reason 7, which there is not (RFC 5280 section 5.3.1)."""
    ca = operator.sandbox.ca
    if isinstance(ca, Pebble):
        return ca.certificate_status(certificate.chain.serial_number) == "Revoked"
    authority, account = authority_of(operator)
    leaf, end, _ = certificate.chain.pem.partition("-----END CERTIFICATE-----\n")
    with pytest.raises(AuthorityError) as refused:
        authority.revoke(account, leaf + end, 7)
    assert refused.value.kind in ("alreadyRevoked", "badRevocationReason"), refused.value
    return refused.value.kind == "alreadyRevoked"
