"""Runs in .parts/policy-linter: reads policies by name, prints [name, issue, detail] of whatever parliament finds."""

from __future__ import annotations

import json
import sys

import parliament  # type: ignore[import-not-found] # is in an environment of its own

found = [
    (name, finding.issue, str(finding.detail))
    for name, policy in json.load(sys.stdin).items()
    for finding in parliament.analyze_policy_string(json.dumps(policy)).findings
]
json.dump(found, sys.stdout)
