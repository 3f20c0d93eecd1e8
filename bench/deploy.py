"""How long `certkeeper deploy` takes, step by step, from an empty account; and what it asks of AWS.

    python bench/deploy.py

Every step is the command as an operator types it, a process of its own, on the sandbox: its CloudFormation makes each
resource in milliseconds where AWS takes seconds, and the function runs on this machine. So what is measured here is
what certkeeper itself takes, with the first run; on AWS the making of the stacks comes on top.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from certkeeper.sandbox.cloudformation import CloudFormation
from certkeeper.sandbox.functions import Functions
from certkeeper.sandbox.lambda_python import architecture, find_interpreter
from certkeeper.sandbox.stack import BUCKET, KMS_KEY, Sandbox
from certkeeper.sandbox.story import clean

TARGET = ("--python", find_interpreter().version, "--architecture", architecture())
FIRST, MORE = {"www": ["www.example.com"]}, {"www": ["www.example.com"], "api": ["api.example.com"]}


def settings(sandbox: Sandbox, certificates: dict[str, list[str]], contact: str) -> None:
    """A deployment in a bucket and under a key that are not there yet."""
    path = sandbox.settings(certificates)
    text = path.read_text().replace(BUCKET, f"{BUCKET}-fresh").replace(KMS_KEY, f"{KMS_KEY}-fresh")
    path.write_text('deployment = "bench"\n' + text.replace("[ca]", f'[ca]\ncontact = "{contact}"'))


def deployed(sandbox: Sandbox) -> tuple[float, int, int]:
    """Seconds, calls to AWS in all, and change sets."""
    since, begin = sandbox.desk.mark(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "certkeeper", "deploy", "--yes", *TARGET],
        env=clean(sandbox.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stderr)
    calls = sandbox.desk.calls(since=since)
    sets = sandbox.desk.calls("cloudformation", "CreateChangeSet", since=since)
    return seconds, len([one for one in calls if one.service != "acme"]), len(sets)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    steps = (
        ("from nothing to a certificate", FIRST, "ops@example.com"),
        ("nothing differs", FIRST, "ops@example.com"),
        ("settings only", FIRST, "others@example.com"),
        ("one more name, with its certificate", MORE, "others@example.com"),
    )
    print(f"load {os.getloadavg()[0]:.1f}\n{'step':36} {'wall s':>7} {'AWS calls':>10} {'change sets':>12}")
    with Sandbox() as sandbox:
        functions, formation = Functions(sandbox.aws), CloudFormation(sandbox.aws)
        try:
            for step, certificates, contact in steps:
                settings(sandbox, certificates, contact)
                seconds, calls, sets = deployed(sandbox)
                print(f"{step:36} {seconds:7.1f} {calls:10} {sets:12}", flush=True)
        finally:
            functions.close()
            formation.close()


if __name__ == "__main__":
    main()
