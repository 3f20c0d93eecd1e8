"""The two units that repeat a run: at every boot before the web server starts, and every hour with a reload.

They are two since a reload inside a unit that the server waits for would wait for the server.
"""

from __future__ import annotations

import json
import os
import sys

from certkeeper.client.arguments import Options
from certkeeper.core.errors import CertkeeperError

_BOOTED = "/run/systemd/system"
_UNITS = "/etc/systemd/system"
_BOOT, _PULL = "certkeeper-boot.service", "certkeeper-pull"
# Root for the files' sake, and else as little as TLS, `nginx -t` and `systemctl reload` need. Where \1 and \2 stand,
# which no word of a unit can hold, the machine's own facts come: this program, and settings in its environment.
_SERVICE = """\
[Unit]
Description=certkeeper: {what}
Wants=network-online.target
After=network-online.target{order}

[Service]
Type=oneshot
ExecStartPre=+mkdir -pm755 {folder}
ExecStart=\1 {words}
\2TimeoutStartSec={seconds}
UMask=0077
ReadWritePaths={into} -/run -/var/log -/var/lib/nginx
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
MemoryDenyWriteExecute=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{wanted}"""
_ORDER = """
Before=nginx.service apache2.service httpd.service haproxy.service caddy.service lighttpd.service
OnFailure=certkeeper-pull.service"""
_WANTED = "\n[Install]\nWantedBy={}.target\n"
_TIMER = """\
[Unit]
Description=certkeeper: pull every hour

[Timer]
OnCalendar=hourly
RandomizedDelaySec=50min
FixedRandomDelay=yes
Persistent=yes
"""


def install_timer(argv: list[str], options: Options, environment: dict[str, str]) -> str:
    """Write and enable the units; returns what to say about it. Raises CertkeeperError, OSError."""
    if not os.path.isdir(_BOOTED):
        return "no timer: this machine was not booted with systemd"
    words = [one for one in argv if one not in ("--install-timer", "--boot")]
    words += _from_here(options)
    import subprocess

    os.umask(0o022)
    program = [sys.executable, "-I", *["-S"] * sys.flags.no_site, os.path.abspath(sys.argv[0])]
    settings = [f"Environment={quoted(f'{name}={value}')}\n" for name, value in sorted(environment.items())]
    for name, text in units(words, options).items():
        text = text.replace("\1", _command(program)).replace("\2", "".join(settings))
        path = f"{_UNITS}/{name}"
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)

    for command in ("systemctl daemon-reload", f"systemctl enable {_BOOT}", f"systemctl enable --now {_PULL}.timer"):
        if subprocess.run(command.split(), stdin=subprocess.DEVNULL, stdout=2).returncode:
            raise CertkeeperError(f"the timer is not installed: {command} failed")
    return f"every boot and every hour from now on: {_BOOT}, {_PULL}.timer"


def _from_here(options: Options) -> list[str]:
    """Relative paths as absolute ones: systemd runs it in another folder. Of an option the last one counts."""
    given = [(option, options.values.get(option, "/")) for option in ("--into", "--roots")]
    return [f"{option}={os.path.abspath(path)}" for option, path in given if not path.startswith("/")]


def units(words: list[str], options: Options) -> dict[str, str]:
    """The units for a command line, by file name: all but what the machine knows."""
    shared = {
        "seconds": options.wait + 900,
        "into": quoted("-" + options.into),
        "folder": _command([options.into]),
    }

    def service(what: str, order: str, wanted: str, words: list[str]) -> str:
        return _SERVICE.format(what=what, order=order, wanted=wanted, words=_command(words), **shared)

    return {
        _BOOT: service("pull before the web server starts", _ORDER, _WANTED.format("multi-user"), [*words, "--boot"]),
        _PULL + ".service": service("pull, and reload the web server", " " + _BOOT, "", words),
        _PULL + ".timer": _TIMER + _WANTED.format("timers"),
    }


def _command(words: list[str]) -> str:
    # systemd itself replaces $NAME in a command, even within quotes.
    return " ".join(quoted(word).replace("$", "$$") for word in words)


def quoted(word: str) -> str:
    """One word of a unit file. Raises CertkeeperError."""
    if not word.replace("\n", "").isprintable():
        raise CertkeeperError(f"{word!r} cannot be written into a unit file")
    return json.dumps(word, ensure_ascii=False).replace("%", "%%")
