"""The whole local stack in one value: AWS with Route 53, DNS that serves those zones, a CA behind a counting proxy,
instance metadata, and a settings file that points at all of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from certkeeper.sandbox.acme_proxy import AcmeProxy
from certkeeper.sandbox.authority import Caddy, Pebble, authority
from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.imds import InstanceMetadata
from certkeeper.sandbox.route53 import HostedZones
from certkeeper.sandbox.tls import TestTls

BUCKET = "certkeeper-123456789012-eu-west-1"
STORE = f"s3://{BUCKET}/prod"
KMS_KEY = "alias/certkeeper"
ZONES = ("example.com", "example.net")


class Sandbox:
    """Everything, running until close(). With `caddy` the CA is Caddy's; with `pebble` it has to be Pebble, with these
    settings of its class.

    Attributes: `desk` (counts and faults), `zones`, `dns`, `aws`, `imds`, `ca`, `proxy`, `tls`, `folder`.
    """

    def __init__(self, zones: Sequence[str] = ZONES, *, caddy: bool = False, **pebble: Any) -> None:
        with ExitStack() as starting:
            self.folder = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="certkeeper-sandbox-")))
            self.desk = Desk()
            self.tls = TestTls()
            starting.callback(self.tls.close)
            self.zones = HostedZones()
            self.zone_ids = {name: self.zones.add(name) for name in zones}
            self.aws = starting.enter_context(AwsServer(self.desk, self.zones))
            self.aws.create_bucket(BUCKET)
            self.kms_key_arn = self.aws.create_kms_key(KMS_KEY)
            self.dns = DnsServer(self.zones, self.desk)
            starting.callback(self.dns.close)
            self.imds = InstanceMetadata(self.desk)
            starting.callback(self.imds.close)
            self.ca: Pebble | Caddy
            if pebble:
                self.ca = Pebble(self.dns.address, self.tls, **pebble)
            else:
                self.ca = (Caddy if caddy else authority)(self.dns.address, self.tls)
            starting.callback(self.ca.close)
            self.proxy = AcmeProxy(self.ca.directory_url, self.desk, self.tls)
            starting.callback(self.proxy.close)
            # First of all, so that nothing that hangs on purpose holds up the rest.
            starting.callback(self.desk.stop)
            self._running = starting.pop_all()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and remove the folder; closing twice is no mistake."""
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """For whoever operates: AWS tools and certkeeper find the sandbox by it, and nothing else."""
        return {**self.aws.environment, "CERTKEEPER_CONFIG": str(self.folder / "certkeeper.toml")}

    @property
    def instance_environment(self) -> dict[str, str]:
        """For an instance: no credentials, only where IMDS and AWS are."""
        return {"AWS_ENDPOINT_URL": self.aws.url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url}

    @property
    def roots(self) -> Path:
        """A file of the CA's roots, as they are now."""
        path = self.folder / "ca-roots.pem"
        path.write_text(self.ca.roots_pem())
        return path

    def settings(
        self,
        certificates: Mapping[str, Sequence[str]],
        *,
        sealing: str = "kms",
        profile: str = "tlsserver",
        more: str = "",
    ) -> Path:
        """Write certkeeper.toml for these certificates (name to identifiers) and say where it is."""
        path = self.folder / "certkeeper.toml"
        lines = [
            f"store = {json.dumps(STORE)}",
            f'sealing = "{sealing}"',
            f'kms_key = "{KMS_KEY}"' if sealing == "kms" else "",
            "[ca]",
            f"directory = {json.dumps(self.proxy.directory_url)}",
            f"ca_bundle = {json.dumps(str(self.tls.bundle))}",
            f"profile = {json.dumps(profile)}" if self.ca.has_profiles else "",
            "[dns]",
            f"nameservers = [{json.dumps(self.dns.address)}]",
        ]
        for name, identifiers in certificates.items():
            lines += [f"[certificates.{json.dumps(name)}]", f"identifiers = {json.dumps(list(identifiers))}"]
        path.write_text("\n".join([*lines, more]) + "\n")
        return path
