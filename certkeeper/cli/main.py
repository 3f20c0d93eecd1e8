"""The operator's door: parse, call a job, render, exit. stdout is data, stderr is talk."""

from __future__ import annotations

import atexit
import gc
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certkeeper import config, wiring
from certkeeper.cli import (
    account,
    arguments,
    check,
    doctor,
    earlier,
    export,
    names,
    policy,
    remotely,
    render,
    revoke,
    settings_file,
    user_data,
)
from certkeeper.cli.loading import LOOK, chosen, known_names, read_settings
from certkeeper.cli.terminal import (
    BAD_NEWS,
    CANNOT_WRITE,
    GOOD,
    INTERRUPTED,
    NO_NEWS,
    asked,
    complain,
    confirm,
    interruptible,
    print_data,
    progress,
    put,
    replace_file,
    talk,
)
from certkeeper.core.decision import Ask
from certkeeper.core.errors import CertkeeperError, SettingsError
from certkeeper.core.model import Outcome
from certkeeper.core.report import left_out_of, outcomes_json
from certkeeper.jobs import status as statuses
from certkeeper.jobs.check import UNKNOWN
from certkeeper.jobs.rehearsal import REHEARSED, rehearse
from certkeeper.jobs.tick import Report, tick

NEW_OBJECTS = 100_000
"""Before the first search for cycles: at Python's 700 a short command spends a fifth of its time on it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)  # and there is nothing to be searched for at the end
    said = arguments.parser().parse_args(argv)
    try:
        return COMMANDS[said.command](said)
    except config.Faults as error:
        for fault in error.faults:
            complain(str(fault), fault.hint)
    except CertkeeperError as error:
        complain(error.message, error.hint)
    except EOFError:
        # Of the AWS SDK, which asks for the code itself.
        complain("AWS wants an MFA code, and there is nobody to ask", "sign in before, or type this on a terminal")
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - whatever it is, exit status 1 would be news of certificates
        traceback.print_exc()
        complain("this is a defect of certkeeper", "please report it, with what stands above")
    return UNKNOWN if said.command == "check" else NO_NEWS


def _init(said: Namespace) -> int:
    path = Path(said.config or "certkeeper.toml")
    if path.exists():
        raise SettingsError(f"{path} exists already", "edit it, or write another one with --config FILE")
    if said.store:
        text = wiring.stored_text(said.store)
        config.parse(text, f"{said.store}/{wiring.SETTINGS_PATH}")
        _write_new(path, text)
        talk(f"wrote {path}, as it lies in {said.store}")
        return GOOD
    asking = sys.stdin.isatty() and not said.yes
    store = said.new_store or asked(asking, "Store", _proposed_store())
    identifiers = said.identifier or asked(asking, "DNS names, separated by spaces", "example.com").split()
    sealing = said.sealing or asked(asking, 'Sealing, "kms" (about $1 a month) or "store"', "kms")
    answers = settings_file.Answers(
        store=store,
        sealing=sealing,
        kms_key=said.kms_key or "alias/certkeeper",
        contact=said.contact,
        identifiers=tuple(identifiers),
        staging=said.staging,
    )
    text = settings_file.text(answers)
    config.parse(text, str(path))
    _write_new(path, text)
    talk(f"wrote {path}; then: certkeeper deploy")
    return GOOD


def _proposed_store() -> str:
    """Bucket names are worldwide, so account and Region are part of it; an example where AWS is not configured."""
    try:
        account, region = wiring.here()
    except CertkeeperError as error:
        talk(f"{error.message}; the store's name is an example")
        account, region = "123456789012", "eu-west-1"
    return f"s3://certkeeper-{account}-{region}/prod"


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}", CANNOT_WRITE) from None


def _plan(said: Namespace) -> int:
    settings = read_settings(said)
    specs = chosen(settings, said.names)
    # What a file says may be what is to be deployed next; the function plans by what is.
    if said.store and remotely.is_asked(settings, said):
        found = remotely.answered(settings, {"plan": list(said.names)}, progress(verbose=False), "plan")
        found = {key: found[key] for key in ("as_of", "plan", "left_out") if key in found}
    else:
        with wiring.wired(settings, LOOK) as wired:
            found = statuses.planned_json(statuses.plan(wired.keeper, specs), datetime.now(UTC))
    print_data(said, lambda: found, lambda colour: render.planned_text(found["plan"], colour))
    _told_of_left_out(left_out_of(found))
    return GOOD


def _renew(said: Namespace) -> int:
    settings = read_settings(said)
    specs = chosen(settings, said.names)
    rehearsal = settings.rehearsal(said.names) if said.staging else None
    if said.force and not said.names and not said.staging and len(specs) > 1:
        confirm(said, f"Renew all {len(specs)} certificates, due or not", "name those that are meant, or give --yes")
    ask = Ask(by_name=bool(said.names), force=said.force, spend_reserve=said.spend_reserve)
    if remotely.is_asked(settings, said):
        return _renewed(said, remotely.renewed(settings, said.names, ask, progress(said.verbose), staging=said.staging))
    deadline = timedelta(seconds=said.deadline)
    with (
        wiring.wired(rehearsal or settings, deadline, progress(said.verbose)) as wired,
        interruptible(wired.stop) as interrupted,
    ):
        report = rehearse(wired.keeper, rehearsal.specs) if rehearsal else tick(wired.keeper, specs, ask)
    status = _renewed(said, report)
    if interrupted:
        talk("interrupted; what was begun is finished by the next run")
        return INTERRUPTED
    return status


def _renewed(said: Namespace, report: Report) -> int:
    left_out = {"left_out": report.left_out} if report.left_out else {}
    print_data(
        said,
        lambda: outcomes_json(report.outcomes) | left_out,
        lambda colour: render.outcomes_text(report.outcomes, colour),
    )
    _told_of_left_out(report.left_out)
    status = _exit_of(report)
    for one in report.outcomes:
        # If nothing could be read at all, that is said once, and not for every name again.
        if one.error and status != NO_NEWS:
            complain(f"{one.name}: {one.error}", one.hint)
        elif one.hint and one.outcome == "renewed":
            talk(f"warning: {one.name}: {one.hint}")
    if report.trouble is not None:
        complain(report.trouble.message, report.trouble.hint)
    return status


def _told_of_left_out(left_out: Mapping[str, int]) -> None:
    if left_out:
        counts = ", ".join(f"{count} {sort}" for sort, count in sorted(left_out.items()))
        talk(f"the answer had no room for all: besides {counts}; name those that you look for")


def _exit_of(report: Report) -> int:
    if report.trouble is not None and all(one.outcome == "failed" for one in report.outcomes):
        return NO_NEWS
    bad = report.trouble is not None or any(_is_bad(one, report.as_of) for one in report.outcomes)
    bad = bad or not {*report.left_out} <= {"kept", "renewed", REHEARSED}
    return BAD_NEWS if bad else GOOD


def _is_bad(one: Outcome, now: datetime) -> bool:
    if one.outcome == REHEARSED:
        return False
    return one.error is not None or one.outcome == "failed" or one.not_after is None or one.not_after <= now


def _status(said: Namespace) -> int:
    settings = read_settings(said)
    now = datetime.now(UTC)
    survey = statuses.status(wiring.s3_records(settings), settings.specs, now, limits=settings.limits())
    known_names(said.names, {one.name: one.identifiers for one in survey.statuses})
    survey = survey.of(said.names)
    if said.probe is not None:
        survey = wiring.probed(survey, said.probe, progress(verbose=False))
    print_data(said, lambda: render.status_json(survey), lambda colour: render.status_text(survey, now, colour))
    if said.html:
        replace_file(Path(said.html), render.status_html(survey, now).encode())
    return BAD_NEWS if any(one.bad for one in survey.statuses) else GOOD


def _package(said: Namespace) -> int:
    from certkeeper.deployment import package

    built = package.build(
        package.Target(said.python, said.architecture),
        Path(said.into),
        bundle_boto3=said.bundle_boto3,
        progress=talk if sys.stderr.isatty() else lambda text: None,
    )
    facts = {
        "path": str(built.path),
        "size": built.size,
        "sha256": built.sha256,
        "manifest_sha256": built.manifest_sha256,
    }
    print_data(said, lambda: facts, lambda colour: "".join(f"{key:16}{value}\n" for key, value in facts.items()))
    return GOOD


def _deploy(said: Namespace) -> int:
    # Imported here, like all that only some commands need.
    from certkeeper.cli import deploy

    return deploy.run(said, _renewed)


def _destroy(said: Namespace) -> int:
    from certkeeper.cli import destroy

    return destroy.run(said)


def _alert(said: Namespace) -> int:
    settings = read_settings(said)
    answer = wiring.deployed(settings).function.ask({"alert": "test"})
    talk(f"sent: {answer.get('alert')}; whoever has confirmed a subscription gets it within a minute")
    return GOOD


def _demo(said: Namespace) -> int:
    try:
        from certkeeper.sandbox import story
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the demo needs more than is installed: {error.name}", "pip install 'certkeeper[demo]'"
        ) from None
    return story.demo(keep=said.keep, boots=said.boots)


def _completion(said: Namespace) -> int:
    import shtab

    put(shtab.complete(arguments.parser(), said.shell) + "\n")
    return GOOD


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "init": _init,
    "plan": _plan,
    "renew": _renew,
    "status": _status,
    "check": check.run,
    "export": export.run,
    "history": earlier.run_history,
    "rollback": earlier.run_rollback,
    "add": names.run_add,
    "forget": names.run_forget,
    "rename": names.run_rename,
    "account": account.run,
    "revoke": revoke.run,
    "user-data": user_data.run,
    "policy": policy.run,
    "package": _package,
    "deploy": _deploy,
    "destroy": _destroy,
    "alert": _alert,
    "doctor": doctor.run,
    "demo": _demo,
    "completion": _completion,
}
