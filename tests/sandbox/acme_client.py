"""An ordinary ACME client for the sandbox's own tests: the acme library as it comes, and a record in a real DNS server."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

import dnslib
import dnslib.server
import josepy
from acme import challenges, client, crypto_util, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certkeeper.sandbox.tls import TestTls


class TxtServer:
    """Answers each TXT question with what `records` holds under the name, over TCP on 127.0.0.1."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self._server = dnslib.server.DNSServer(
            self, address="127.0.0.1", port=0, tcp=True, logger=dnslib.server.DNSLogger("-request,-reply,-truncated,-error")
        )
        self._server.start_thread()
        self.address = f"127.0.0.1:{self._server.server.server_address[1]}"

    def resolve(self, request: Any, _: object) -> Any:
        reply = request.reply()
        for text in self.records.get(str(request.q.qname).rstrip("."), []):
            reply.add_answer(dnslib.RR(request.q.qname, dnslib.QTYPE.TXT, rdata=dnslib.TXT(text), ttl=1))
        return reply

    def close(self) -> None:
        self._server.stop()
        self._server.server.server_close()


class Client:
    """One account, made on first use, and orders from beginning to end."""

    def __init__(self, directory_url: str, tls: TestTls, dns: TxtServer | None = None, **registration: Any) -> None:
        self._account_key = josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
        self._net = client.ClientNetwork(
            self._account_key, alg=josepy.ES256, user_agent="certkeeper-tests/1", verify_ssl=str(tls.bundle)
        )
        self._dns = dns
        with self._patience():
            self.directory = client.ClientV2.get_directory(directory_url, self._net)
            self.acme = client.ClientV2(self.directory, self._net)
        self._registration = registration

    def register(self) -> str:
        terms = messages.NewRegistration.from_data(terms_of_service_agreed=True, **self._registration)
        account: str = self.acme.new_account(terms).uri
        return account

    def order(self, *names: str, profile: str | None = "classic") -> Any:
        private_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self.acme.new_order(crypto_util.make_csr(private_key, list(names)), profile=profile)

    def prove(self, order: Any) -> None:
        for authorization in order.authorizations:
            challenge = next(
                each for each in authorization.body.challenges if isinstance(each.chall, challenges.DNS01)
            )
            name = challenge.chall.validation_domain_name(authorization.body.identifier.value)
            if self._dns:
                self._dns.records.setdefault(name, []).append(challenge.chall.validation(self._account_key))
            if authorization.body.status == messages.STATUS_PENDING:
                self.acme.answer_challenge(challenge, challenge.chall.response(self._account_key))

    def finish(self, order: Any) -> str:
        deadline = datetime.datetime.now() + datetime.timedelta(seconds=20)  # noqa: DTZ005 - what the library takes
        chain: str = self.acme.finalize_order(self.acme.poll_authorizations(order, deadline), deadline).fullchain_pem
        return chain

    def obtain(self, *names: str, profile: str | None = "classic") -> str:
        """The chain of a new certificate."""
        order = self.order(*names, profile=profile)
        self.prove(order)
        return self.finish(order)

    def close(self) -> None:
        self._net.session.close()

    @staticmethod
    @contextlib.contextmanager
    def _patience() -> Iterator[None]:
        yield
