"""An ordinary ACME client for the sandbox's own tests: the acme library as it comes, and a real DNS server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dnslib
import dnslib.server
import requests
from acme import challenges, client, crypto_util, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import json_util, jwa, jwk

from certkeeper.sandbox.tls import TestTls


class TxtServer:
    """Answers each TXT question with what `records` holds under the name, over TCP (Pebble) and UDP (Caddy)."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        logger = dnslib.server.DNSLogger("-request,-reply,-truncated,-error")
        with_tcp = dnslib.server.DNSServer(self, address="127.0.0.1", port=0, tcp=True, logger=logger)
        port = with_tcp.server.server_address[1]
        self._servers = [with_tcp, dnslib.server.DNSServer(self, address="127.0.0.1", port=port, logger=logger)]
        for server in self._servers:
            server.start_thread()
        self.address = f"127.0.0.1:{port}"

    def resolve(self, request: Any, _: object) -> Any:
        reply = request.reply()
        for text in self.records.get(str(request.q.qname).rstrip("."), []):
            reply.add_answer(dnslib.RR(request.q.qname, dnslib.QTYPE.TXT, rdata=dnslib.TXT(text), ttl=1))
        return reply

    def close(self) -> None:
        for server in self._servers:
            server.stop()
            server.server.server_close()


class Client:
    """One account, made on first use, and orders from beginning to end."""

    def __init__(self, directory_url: str, tls: TestTls, dns: TxtServer | None = None, **registration: Any) -> None:
        self._account_key = jwk.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
        self._net = client.ClientNetwork(
            self._account_key,
            alg=jwa.ES256,
            user_agent="certkeeper-tests/1",
            verify_ssl=str(tls.bundle),  # type: ignore[arg-type] # requests takes a path as well
        )
        self._dns = dns
        self._net.session.hooks["response"].append(self._remember)
        self.directory = client.ClientV2.get_directory(directory_url, self._net)
        self.acme = client.ClientV2(self.directory, self._net)
        self._registration = registration

    def register(self) -> str:
        self._net.account = None  # else the library signs with the old account
        terms = messages.NewRegistration.from_data(terms_of_service_agreed=True, **self._registration)
        self.account = self.acme.new_account(terms)
        account_url: str = self.account.uri
        return account_url

    def register_bound(self, kid: str, mac_key: str) -> str:
        binding = messages.ExternalAccountBinding.from_data(
            self._account_key.public_key(), kid, mac_key, self.directory, "HS256"
        )
        self._registration = {"external_account_binding": binding}
        return self.register()

    def renewal_information(self, leaf_pem: str) -> str:
        answer: requests.Response = self._net.get(
            f"{self.directory['renewalInfo']}/{certificate_identifier(leaf_pem)}", content_type="*"
        )
        return answer.text

    def revoke(self, chain_pem: str) -> None:
        self.acme.revoke(x509.load_pem_x509_certificate(chain_pem.encode()), 0)

    def order(self, *names: str, profile: str | None = "classic") -> Any:
        private_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self.acme.new_order(crypto_util.make_csr(private_key, list(names)), profile=profile)

    def prove(self, order: Any, text: str | None = None) -> None:
        """Present what each authorization wants (or `text`) and say so to the CA."""
        for authorization in order.authorizations:
            challenge = next(each for each in authorization.body.challenges if isinstance(each.chall, challenges.DNS01))
            name = challenge.chall.validation_domain_name(authorization.body.identifier.value)
            if self._dns:
                self._dns.records.setdefault(name, []).append(text or challenge.chall.validation(self._account_key))
            if authorization.body.status == messages.STATUS_PENDING:
                self.acme.answer_challenge(challenge, challenge.chall.response(self._account_key))

    def finish(self, order: Any) -> str:
        """Wait for the authorizations, finalize and download; sleeps far less than the library does."""
        for authorization in order.authorizations:
            _awaited(lambda: self.acme.poll(authorization)[0].body, "pending")  # noqa: B023 - awaited at once
        self.acme.begin_finalization(order)
        done = _awaited(lambda: messages.Order.from_json(self.post_as_get(order.uri).json()), "processing")
        chain: str = self.post_as_get(done.certificate).text
        return chain

    def post_as_get(self, url: str) -> Any:
        return self.acme._post_as_get(url)

    def order_replacing(self, leaf_pem: str, *names: str) -> Any:
        """The answer to a newOrder that replaces a certificate (RFC 9773), which the library cannot ask for."""
        message = _Replacement(
            identifiers=[messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in names],
            profile="classic",
            replaces=certificate_identifier(leaf_pem),
        )
        return self.acme._post(self.directory["newOrder"], message)

    def obtain(self, *names: str, profile: str | None = "classic") -> str:
        """The chain of a new certificate."""
        order = self.order(*names, profile=profile)
        self.prove(order)
        return self.finish(order)

    def _remember(self, response: requests.Response, **_: Any) -> None:
        self.last_response = response

    def close(self) -> None:
        self._net.session.close()


class _Replacement(messages.NewOrder):
    replaces: str = json_util.field("replaces")


def certificate_identifier(leaf_pem: str) -> str:
    certificate = x509.load_pem_x509_certificate(leaf_pem.encode())
    path: str = client._renewal_info_path_component(certificate)
    return path


def serial_of(chain_pem: str) -> str:
    return f"{x509.load_pem_x509_certificate(chain_pem.encode()).serial_number:x}"


def _awaited(ask: Callable[[], Any], while_status: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = ask()
        if answer.status.name != while_status:
            assert answer.status.name == "valid", answer
            return answer
        time.sleep(0.02)
    raise TimeoutError(while_status)
