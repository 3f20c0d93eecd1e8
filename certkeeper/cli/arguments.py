"""The command line: what can be typed, and its help."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import shtab

from certkeeper import __version__
from certkeeper.cli.terminal import NO_NEWS, complain
from certkeeper.core.model import KEY_TYPES, REASONS
from certkeeper.jobs.check import UNKNOWN

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 - argparse has no other name for it

DESCRIPTION = """\
Let's Encrypt certificates for EC2 spot instances: renewed on a schedule, pulled at boot.

  certkeeper init              write a commented certkeeper.toml
  certkeeper plan              what would be done now, and why
  certkeeper renew             obtain or renew whatever is due
  certkeeper status            what is held, what expires when, what failed
  certkeeper user-data NAME    what an instance runs at boot
"""

EPILOG = """\
example: certkeeper --config prod.toml renew example.com

Settings are read from --config, $CERTKEEPER_CONFIG or ./certkeeper.toml, or with
--from s3://bucket/prefix from the store itself; both options stand before or after
the command. AWS is configured as for every AWS tool.
Exit status: 0 good, 1 bad news (failed, missing, overdue or expired), 2 no news
(usage, settings, store out of reach); of check as monitoring systems have it.
"""


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong as all else says it, with a hint, and that takes no option but in full: a shorter
    one would become another with the next option that begins like it.
    """

    wrong_usage = NO_NEWS

    def __init__(self, **how: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **how)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Here, since a command knows its own options, and whoever has asked it does not.
            self.error(f"unrecognized arguments: {' '.join(unknown)}", unknown[0].partition("=")[0])
        return found, unknown

    def error(self, message: str, unknown: str = "") -> NoReturn:
        known: list[str] = [*self._option_string_actions]
        if no_command := re.match(r"argument COMMAND: invalid choice: '([^']*)'", message):
            unknown, known = no_command[1], [*commands_of(self)]
            message = f"there is no command {unknown!r}"
        near = difflib.get_close_matches(unknown, known, 1)
        self.print_usage(sys.stderr)
        complain(message, f"did you mean {near[0]}?" if near else f"see {self.prog} --help")
        self.exit(self.wrong_usage)


def commands_of(top: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """By what is typed."""
    # argparse has no other way to ask.
    (action,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))  # noqa: SLF001
    return action.choices


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="certkeeper", description=DESCRIPTION, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"certkeeper {__version__}")
    config = top.add_argument("--config", metavar="FILE", help="the settings (default: ./certkeeper.toml)")
    config.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way
    top.add_argument("--from", dest="store", metavar="s3://BUCKET/PREFIX", help="read the settings from the store")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _init(commands)
    _plan(commands)
    _renew(commands)
    _status(commands)
    _check(commands)
    _history(commands)
    _rollback(commands)
    _add(commands)
    _forget(commands)
    _rename(commands)
    _account(commands)
    _revoke(commands)
    _export(commands)
    _user_data(commands)
    _policy(commands)
    _package(commands)
    _deploy(commands)
    _destroy(commands)
    _alert(commands)
    _doctor(commands)
    _demo(commands)
    _completion(commands)
    return top


def _command(commands: Commands, name: str, what: str, example: str) -> _Parser:
    command = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=f"example: {example}"
    )
    # Taken here too, and told by the help of all commands.
    command.add_argument("--config", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    command.add_argument("--from", dest="store", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return command


def _init(commands: Commands) -> None:
    command = _command(
        commands, "init", "write a commented certkeeper.toml; with --from, the one that was deployed",
        "certkeeper init --store s3://certkeeper-123456789012-eu-west-1/prod --identifier example.com",
    )  # fmt: skip
    command.add_argument("--store", dest="new_store", metavar="s3://BUCKET/PREFIX", help="where certificates are kept")
    command.add_argument(
        "--sealing", choices=("kms", "store"), help="kms: about $1 a month; store: the bucket's own encryption"
    )
    command.add_argument("--kms-key", metavar="KEY", help="a KMS key's alias, id or ARN (default: alias/certkeeper)")
    command.add_argument("--contact", metavar="MAIL", help="the ACME account's contact")
    command.add_argument(
        "--identifier", action="append", default=[], metavar="DNSNAME", help="a DNS name to certify; may be repeated"
    )
    command.add_argument("--staging", action="store_true", help="order from Let's Encrypt's staging CA")
    command.add_argument("--yes", action="store_true", help="ask nothing, take the defaults")


def _names(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="a certificate's name (default: all)")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="machine-readable, on stdout")


def _plan(commands: Commands) -> None:
    command = _command(commands, "plan", "what would be done now, and why; changes nothing", "certkeeper plan --json")
    _names(command)
    _json(command)
    command.add_argument("--here", action="store_true", help="with --from: not by the function that is deployed")


def _renew(commands: Commands) -> None:
    command = _command(
        commands, "renew", "obtain or renew whatever is due", "certkeeper renew example.com --force"
    )  # fmt: skip
    _names(command)
    _json(command)
    _here(command)
    command.add_argument("--force", action="store_true", help="renew although nothing is due; spends the CA's budget")
    command.add_argument(
        "--yes", action="store_true", help="with --force and no NAME: do not ask whether all are meant"
    )
    command.add_argument(
        "--spend-reserve", action="store_true", help="spend the last certificate that the CA allows this week"
    )
    command.add_argument(
        "--staging", action="store_true", help="rehearse on the CA's staging directory; nothing is saved"
    )
    command.add_argument(
        "--deadline", type=_seconds, default=300.0, metavar="SECONDS", help="stop in order after that long (300)"
    )
    command.add_argument("--verbose", action="store_true", help="tell progress though stderr is not a terminal")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 5 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 5 and 86400 seconds")
    return value


def _status(commands: Commands) -> None:
    command = _command(commands, "status", "what is held, what expires when, what failed", "certkeeper status --probe")
    _names(command)
    _json(command)
    command.add_argument(
        "--probe", nargs="?", const="", metavar="ADDRESS:PORT",
        help="also ask the servers what they serve (default: each name itself, port 443)",
    )  # fmt: skip
    page = command.add_argument("--html", metavar="FILE", help="also write a page")
    page.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way


def _here(command: argparse.ArgumentParser) -> None:
    command.add_argument("--here", action="store_true", help="run here, even where a function is deployed")


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="a certificate's name")


def _account(commands: Commands) -> None:
    command = _command(
        commands, "account", "the ACME account: show it, or give it a new key",
        "certkeeper account rollover",
    )  # fmt: skip
    command.add_argument("what", choices=("show", "rollover"), help="what to do")
    command.add_argument("--ca", metavar="DIRECTORY", help="of which CA (default: that of [ca]; show: all)")
    _json(command)
    _here(command)
    command.add_argument("--verbose", action="store_true", help="tell progress though stderr is not a terminal")


def _history(commands: Commands) -> None:
    command = _command(
        commands, "history", "the current certificate of a name, and the last three before it",
        "certkeeper history example.com --json",
    )  # fmt: skip
    _name(command)
    _json(command)
    _here(command)


def _rollback(commands: Commands) -> None:
    command = _command(
        commands,
        "rollback",
        "make an earlier certificate current again, and keep it",
        "certkeeper rollback example.com",
    )
    _name(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "revision", nargs="?", type=int, metavar="REVISION", help="as history lists it (default: the one before)"
    )
    which.add_argument("--release", action="store_true", help="let what is current be renewed again when it is due")
    _here(command)


def _add(commands: Commands) -> None:
    command = _command(
        commands, "add", "put a certificate into the settings, and obtain it",
        "certkeeper add example.com example.com '*.example.com'",
    )  # fmt: skip
    _name(command)
    command.add_argument("identifiers", nargs="+", metavar="DNSNAME", help="what it is for")
    command.add_argument("--key-type", choices=KEY_TYPES, help="of its private key (default: as the settings say)")
    command.add_argument("--profile", metavar="PROFILE", help="of the CA (default: as the settings say)")
    command.add_argument("--no-renew", action="store_true", help="do not obtain it yet")


def _forget(commands: Commands) -> None:
    command = _command(
        commands, "forget", "take a certificate out of the settings and out of the store, its private key included",
        "certkeeper forget example.com --yes",
    )  # fmt: skip
    _name(command)
    command.add_argument("--yes", action="store_true", help="do not ask")


def _rename(commands: Commands) -> None:
    command = _command(
        commands, "rename", "give a certificate another name; with sealing = \"kms\" it is obtained anew",
        "certkeeper rename example.com www",
    )  # fmt: skip
    command.add_argument("name", metavar="OLD", help="its name so far, which stays stored until it is forgotten")
    command.add_argument("new_name", metavar="NEW", help="its new name")
    _here(command)


def _revoke(commands: Commands) -> None:
    command = _command(
        commands, "revoke", "replace a certificate, and then have the CA revoke it",
        "certkeeper revoke example.com --reason keyCompromise",
    )  # fmt: skip
    _name(command)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--reason", choices=tuple(REASONS), help="what the CA is told")
    what.add_argument("--cancel", action="store_true", help="take it back, as long as the CA has not been asked")
    command.add_argument(
        "--revision",
        type=int,
        metavar="REVISION",
        help="an earlier one, as history lists it (default: the current one)",
    )
    _here(command)
    command.add_argument("--yes", action="store_true", help="do not ask")


def _check(commands: Commands) -> None:
    command = _command(
        commands, "check", "the status as one line for a monitoring system (exit status 0 OK, 1 WARNING, 2 CRITICAL, "
        "3 UNKNOWN)", "certkeeper check --warn 30% --critical 10%",
    )  # fmt: skip
    command.wrong_usage = UNKNOWN  # it must not look CRITICAL
    _names(command)
    command.add_argument(
        "--warn", type=_share, default=0.3, metavar="SHARE", help="WARNING at so much of the lifetime left (30%%)"
    )
    command.add_argument(
        "--critical", type=_share, default=0.1, metavar="SHARE", help="CRITICAL at so much of the lifetime left (10%%)"
    )


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of the lifetime, like 30%")
    return value


def _export(commands: Commands) -> None:
    command = _command(
        commands, "export", "write a certificate and its opened private key into a folder, as instances do",
        "certkeeper export example.com --into ./certificates",
    )  # fmt: skip
    _name(command)
    into = command.add_argument("--into", required=True, metavar="FOLDER", help="as FOLDER/live/NAME/fullchain.pem ...")
    into.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # shtab's way
    roots = command.add_argument("--roots", metavar="FILE", help="prove the chain against these roots")
    roots.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way


def _user_data(commands: Commands) -> None:
    command = _command(
        commands, "user-data", "print user data for a launch template, with the whole boot client inside",
        "certkeeper user-data example.com --for www.example.com --into user-data.sh",
    )  # fmt: skip
    command.add_argument("names", nargs="+", metavar="NAME", help="what the instance serves")
    command.add_argument(
        "--for", dest="identifiers", action="append", default=[], metavar="DNSNAME", help="must be covered"
    )
    command.add_argument(
        "--reload", default="systemctl reload-or-restart nginx", metavar="COMMAND", help="(reload-or-restart nginx)"
    )
    command.add_argument("--wait", type=_wait, default=300, metavar="SECONDS", help="for a certificate, at boot (300)")
    command.add_argument("--region", default="", help="of the store (default: S3 is asked)")
    command.add_argument("--bucket-owner", default="", metavar="ACCOUNT", help="whose the bucket must be (the same)")
    command.add_argument("--no-timer", action="store_true", help="do not install the timer that pulls renewals")
    into = command.add_argument("--into", metavar="FILE", help="replace or add our block in a script of yours")
    into.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way
    form = command.add_mutually_exclusive_group()
    form.add_argument("--cloud-config", action="store_true", help="as #cloud-config")
    form.add_argument(
        "--gzip", action="store_true", help="compressed, which cloud-init reads too; with --into as FILE.gz"
    )
    form.add_argument("--nginx", action="store_true", help="print the lines that nginx needs, and nothing else")


def _wait(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of whole seconds")
    return int(text)


def _policy(commands: Commands) -> None:
    command = _command(
        commands, "policy", "print the IAM policy that a role needs to read and open certificates",
        "certkeeper policy example.com > reader.json",
    )  # fmt: skip
    command.add_argument("names", nargs="+", metavar="NAME", help="what the role may read")
    command.add_argument(
        "--on-secret", action="store_true",
        help="the policy that the secret of one NAME needs, for readers of other accounts",
    )  # fmt: skip


def _package(commands: Commands) -> None:
    command = _command(
        commands, "package", "build the function's zip", "certkeeper package --into function.zip"
    )  # fmt: skip
    into = command.add_argument("--into", metavar="FILE", default="certkeeper.zip", help="where to (certkeeper.zip)")
    into.complete = shtab.FILE  # type: ignore[attr-defined] # shtab's way
    _target(command)
    command.add_argument("--bundle-boto3", action="store_true", help="do not rely on the runtime's boto3")
    _json(command)


def _target(command: argparse.ArgumentParser) -> None:
    command.add_argument("--python", default="3.13", metavar="VERSION", help="the function's Python (3.13)")
    command.add_argument("--architecture", choices=("arm64", "x86_64"), default="arm64", help="(arm64)")


def _deploy(commands: Commands) -> None:
    command = _command(
        commands, "deploy", "install, change or upgrade what runs on AWS, store the settings, and renew what is due",
        "certkeeper deploy --yes",
    )  # fmt: skip
    command.add_argument("--yes", action="store_true", help="ask nothing; without it a change is shown and asked for")
    command.add_argument(
        "--print", choices=("store", "function"), help="print that stack's template as it would be sent, and do nothing"
    )
    _target(command)
    command.add_argument("--verbose", action="store_true", help="tell progress though stderr is not a terminal")
    _json(command)


def _destroy(commands: Commands) -> None:
    command = _command(
        commands, "destroy", "delete what runs on AWS; certificates stay, and are no longer renewed",
        "certkeeper destroy --yes",
    )  # fmt: skip
    command.add_argument("--yes", action="store_true", help="do not ask; --delete-certificates asks all the same")
    command.add_argument(
        "--delete-certificates", action="store_true",
        help="also delete, for ever, every certificate and the bucket and KMS key that were made for them",
    )  # fmt: skip
    command.add_argument("--verbose", action="store_true", help="tell progress though stderr is not a terminal")


def _alert(commands: Commands) -> None:
    command = _command(
        commands, "alert", "send a trial notice the way a real one goes: from the function, through its topic",
        "certkeeper --from s3://certkeeper-123456789012-eu-west-1/prod alert --test",
    )  # fmt: skip
    command.add_argument("--test", action="store_true", required=True, help="say that it is a trial")


def _doctor(commands: Commands) -> None:
    command = _command(
        commands, "doctor", "look for what would keep certificates from being renewed; changes nothing",
        "certkeeper doctor example.com",
    )  # fmt: skip
    _names(command)
    _json(command)


def _demo(commands: Commands) -> None:
    command = _command(
        commands, "demo", "everything, for real, on this machine, with no AWS account", "certkeeper demo --keep"
    )
    command.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, and print its environment")
    command.add_argument("--boots", type=int, default=20, metavar="N", help="how many instances to replace (20)")


def _completion(commands: Commands) -> None:
    command = _command(
        commands, "completion", "print the completion script of a shell",
        "certkeeper completion bash > ~/.local/share/bash-completion/completions/certkeeper",
    )  # fmt: skip
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))
