"""The command line of certkeeper-pull. Read by hand: importing argparse costs more than all of it."""

from __future__ import annotations

import os

from certkeeper.client.sigv4 import is_region
from certkeeper.core.document import is_name
from certkeeper.core.errors import SettingsError

HELP = """\
usage: certkeeper-pull NAME... --from s3://BUCKET/PREFIX|secretsmanager:PREFIX [options]

Fetch certificates, prove them good, install them in one atomic step, reload the web server.

  --from STORE               s3://BUCKET/PREFIX, or secretsmanager:PREFIX
  --into FOLDER              default /etc/letsencrypt; servers read FOLDER/live/NAME/{fullchain,privkey}.pem
  --for DNSNAME              a name the certificate must cover, whatever the document says; may be repeated
  --reload COMMAND           run by sh after an installation, until it has succeeded once
  --check COMMAND            run by sh before the reload; if it fails, and passes with the old pair, that returns
  --wait SECONDS             how long to wait for what is not there, not allowed or out of reach yet
  --region REGION            the store's; default: AWS_REGION, AWS_DEFAULT_REGION, the instance's own
  --bucket-owner ACCOUNT     refuse a bucket of any other account
  --owner USER[:GROUP]       who may read the private key; default: root alone
  --combined                 write combined.pem as well: fullchain and private key in one file
  --roots FILE               prove chains against these roots instead of the system's
  --install-timer            do the same at every boot and every hour from now on, by systemd
  --boot                     for what the web server waits for: no reload, and no waiting once one NAME is there
  --quiet                    say nothing but errors
  --help, --version

Prints a line per name: NAME installed|unchanged|kept SERIAL until INSTANT
Exit 0: a proven, in-date certificate is installed (new, unchanged, or kept because AWS failed: said).  1: none is.
     2: usage.  3: a good one is installed, but check or reload failed, or its root is unknown here.

example: certkeeper-pull example.com --from s3://certs-123456789012/prod --reload "systemctl reload nginx"
"""
_VALUED = ("from", "into", "for", "reload", "check", "wait", "region", "bucket-owner", "owner", "roots")
_FLAGS = ("combined", "quiet", "install-timer", "boot", "help", "version")
_DNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*")
_SECRET_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_+=.@-")


class Options:
    """A command line, checked. Raises SettingsError."""

    def __init__(self, argv: list[str]) -> None:
        self.names: list[str] = []
        self.identifiers: list[str] = []
        self.values: dict[str, str] = {}
        self._read(list(argv))
        self.asks_for = next((one for one in ("--help", "--version") if one in self.values), "")
        self.combined, self.quiet, self.install_timer, self.boot = (f"--{one}" in self.values for one in _FLAGS[:4])
        value = self.values.get
        self.source, self.reload, self.check = value("--from", ""), value("--reload", ""), value("--check", "")
        self.region, self.bucket_owner = value("--region", ""), value("--bucket-owner", "")
        self.owner, self.roots = value("--owner", ""), value("--roots", "")
        scheme, _, place = self.source.partition("://")
        self.bucket, _, prefix = place.partition("/")
        self.prefix = prefix.strip("/")
        self.into = os.path.abspath(self.values.get("--into", "/etc/letsencrypt"))
        wait = self.values.get("--wait", "0")
        self.wait = int(wait) if set(wait) <= set("0123456789") and 0 < len(wait) < 8 else -1
        found = scheme == "s3" and len(self.bucket) >= 3 and is_name(self.bucket) and "_" not in self.bucket
        if self.source.startswith("secretsmanager:"):
            self.bucket, self.prefix = "", self.source.partition(":")[2].strip("/")
            found = self.prefix != "" and set(self.prefix) <= _SECRET_NAME
        for good, message in (
            (self.names, "which certificate? give at least one NAME"),
            (all(is_name(name) for name in self.names), "a NAME is [a-z0-9][a-z0-9._-]{0,63}"),
            (self.source, "--from is missing"),
            (found, "--from is not of the form s3://BUCKET/PREFIX or secretsmanager:PREFIX"),
            (self.wait >= 0, "--wait takes whole seconds"),
            (all(one and set(one) <= _DNS for one in self.identifiers), "--for takes a DNS name, as A-label"),
            (not self.region or is_region(self.region), "the region is not an AWS region"),
            (
                "--bucket-owner" not in self.values or self.bucket_owner.isdigit(),
                "--bucket-owner takes an account number",
            ),
            ("--roots" not in self.values or os.path.isfile(self.roots), "--roots: there is no such file"),
        ):
            if not good and not self.asks_for:
                raise SettingsError(message, "see certkeeper-pull --help")

    def _read(self, rest: list[str]) -> None:
        while rest:
            word = rest.pop(0)
            option, equals, value = word.partition("=")
            if not word.startswith("-"):
                if word not in self.names:
                    self.names.append(word)
            elif word[2:] in _FLAGS or word == "-h":
                self.values["--help" if word == "-h" else word] = ""
            elif option[2:] not in _VALUED:
                raise SettingsError(f"there is no option {option}", "see certkeeper-pull --help")
            elif not equals and not rest:
                raise SettingsError(f"{option} needs a value", "see certkeeper-pull --help")
            else:
                value = value if equals else rest.pop(0)
                self.values[option] = value
                if option == "--for":
                    self.identifiers.append(value)
