"""Pebble proves names over the sandbox's zones and name server, as the demo and the live tests have it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from certkeeper.sandbox import parts
from certkeeper.sandbox.authority import Pebble
from certkeeper.sandbox.calls import Desk
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.route53 import HostedZones
from certkeeper.sandbox.tls import TestTls
from tests.sandbox.acme_client import Client

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(parts.find("pebble") is None, reason="no Pebble on this machine"),
]


class Presented:
    """Stands where the client's own server would: what it is told goes into a hosted zone, under one name."""

    def __init__(self, zones: HostedZones, zone_id: str, name: str) -> None:
        self.records = self
        self._zones, self._zone_id, self._name = zones, zone_id, name
        self._values: list[str] = []

    def setdefault(self, _: str, __: list[str]) -> Presented:
        return self

    def append(self, text: str) -> None:
        self._values.append(text)
        self._zones.put(self._zone_id, self._name, "TXT", *self._values)


def test_apex_and_wildcard_are_proven_over_tcp_where_a_cname_leads() -> None:
    zones, desk, tls = HostedZones(), Desk(), TestTls()
    zones.put(zones.add("z0.test"), "_acme-challenge.z0.test", "CNAME", "z0.validation.test")
    presented: Any = Presented(zones, zones.add("validation.test"), "z0.validation.test")
    with DnsServer(zones, desk) as dns:
        pebble = Pebble(dns.address, tls, nonce_reject=0)
        client = Client(pebble.directory_url, tls, presented)
        try:
            client.register()
            chain = client.obtain("z0.test", "*.z0.test")
        finally:
            client.close()
            pebble.close()
            tls.close()

    leaf = x509.load_pem_x509_certificate(chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == ["*.z0.test", "z0.test"]
    asked = [call for call in desk.calls("dns") if call.operation == "TXT"]
    assert {call.resource for call in asked} == {"_acme-challenge.z0.test"}
    assert {call.context for call in asked} == {(("transport", "tcp"),)}
    assert len(asked) == 6  # three at once for each of two challenges
