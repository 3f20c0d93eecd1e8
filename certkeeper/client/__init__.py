"""The boot client: fetch a certificate, prove it, install it in one atomic step. It can never cause an issuance."""
