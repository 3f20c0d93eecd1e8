"""`certkeeper user-data`: what an instance runs at boot, printed or put into a script."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from certkeeper import config, wiring
from certkeeper.cli.loading import chosen, read_settings
from certkeeper.cli.terminal import GOOD, put, replace_file, talk
from certkeeper.core.errors import CertkeeperError, SettingsError
from certkeeper.core.model import CertificateSpec


def run(said: Namespace) -> int:
    # It takes the whole client apart, which no other command needs.
    from certkeeper.deployment import user_data

    settings = read_settings(said)
    identifiers = _required(said.identifiers, chosen(settings, said.names))
    region, owner = said.region, said.bucket_owner or settings.bucket_owner or ""
    if not (region and (owner or settings.secrets_prefix)) and not said.nginx:
        try:
            there, owner = wiring.whereabouts(settings, owner)
            region = region or there
        except CertkeeperError as error:
            talk(f"the user data leaves to the instance where the store is: {error.message}")
            talk(f"hint: {error.hint}; or give --region and --bucket-owner")
    options = user_data.Options(
        names=tuple(dict.fromkeys(said.names)),
        source=f"secretsmanager:{settings.secrets_prefix}" if settings.secrets_prefix else settings.store,
        identifiers=identifiers,
        reload=said.reload,
        wait=said.wait,
        region=region,
        bucket_owner="" if settings.secrets_prefix else owner,
        no_timer=said.no_timer,
    )
    if said.nginx:
        put("".join(user_data.nginx_lines(name) for name in said.names))
        return GOOD
    before = _script(Path(said.into)) if said.into else ""
    if said.cloud_config and before.strip():
        raise SettingsError(f"{said.into} exists already", "merge the cloud-config form into it by hand")
    text = user_data.cloud_config(options) if said.cloud_config else user_data.into(before, options)
    packed = said.gzip
    if said.into and not said.cloud_config:
        # Beside a script there is room for the compressed form, and one that is there already is what will be launched.
        packed |= len(text.encode()) > user_data.LARGEST or Path(f"{said.into}.gz").exists()
    data = user_data.compressed(text) if packed else text.encode()
    if len(data) > user_data.LARGEST:
        hint = "shorten the script" if packed else "cloud-init reads compressed user data too: --gzip"
        raise SettingsError(f"this user data has {len(data)} bytes, and EC2 takes {user_data.LARGEST}", hint)
    if said.into:
        # The script stays a script, which the next run can change again.
        replace_file(Path(said.into), text.encode())
        if packed:
            replace_file(Path(f"{said.into}.gz"), data)
        written = f"{said.into}.gz, compressed for cloud-init" if packed else said.into
        talk(f"wrote {written}: {len(data)} of the {user_data.LARGEST} bytes that EC2 takes")
    elif packed and sys.stdout.isatty():
        raise SettingsError("compressed user data is nothing for a terminal", "give --into FILE, or redirect it")
    else:
        put(data)
    return GOOD


def _required(identifiers: Sequence[str], specs: Sequence[CertificateSpec]) -> tuple[str, ...]:
    """What --for asks for, as A-labels. Raises SettingsError for what no instance would get."""
    found = []
    for text in identifiers:
        try:
            found.append(config.identifier(text))
        except ValueError as error:
            raise SettingsError(f"--for {text}: {error}", "give a DNS name, like example.com") from None
    spec = specs[0]  # with several, no --for is taken
    for name in found:
        if name not in spec.identifiers and f"*.{name.partition('.')[2]}" not in spec.identifiers:
            raise SettingsError(
                f"the settings do not have {name} covered by {spec.name}, so instances would refuse it",
                f"add it to the identifiers of {spec.name}, or leave away --for {name}",
            )
    return tuple(found)


def _script(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{path} cannot be read as text", "give a shell script of yours, or a new file") from None
