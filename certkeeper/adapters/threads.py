"""SideBySide by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Threads:
    """At most `bound` tasks at once, on threads that stay, so that each keeps its connections from step to step."""

    def __init__(self, bound: int) -> None:
        self._pool = ThreadPoolExecutor(bound, thread_name_prefix="certkeeper")

    def __call__(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        if len(tasks) == 1:
            return [tasks[0]()]
        return list(self._pool.map(lambda task: task(), tasks))

    def close(self) -> None:
        self._pool.shutdown(wait=True)
