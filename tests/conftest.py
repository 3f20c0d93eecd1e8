"""How the tests are run: the fast ones before the live ones, and on CI none may be skipped."""

from __future__ import annotations

import os
from typing import Any

import pytest

ON_CI = os.environ.get("CI") == "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("live") is not None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ON_CI and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI has all the parts, so a skipped test is a failure.", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = terminalreporter is not None and terminalreporter.stats.get("skipped")
    if ON_CI and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
