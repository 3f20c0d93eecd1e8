"""SideBySide by threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

Result = TypeVar("Result")


class Threads:
    """At most `bound` tasks at once, on threads that stay, so that each keeps its connections from step to step.

    The caller's thread takes its share. So a task may run tasks of its own: if all threads are busy it does them alone.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._pool = ThreadPoolExecutor(max(1, bound - 1), thread_name_prefix="certkeeper")

    def __call__(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        results: dict[int, Result] = {}
        todo, lock = iter(enumerate(tasks)), Lock()

        def work() -> None:
            while True:
                with lock:
                    place, task = next(todo, (0, None))
                if task is None:
                    return
                results[place] = task()

        helpers = [self._pool.submit(work) for _ in range(min(self._bound, len(tasks)) - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return [results[place] for place in range(len(tasks))]

    def close(self) -> None:
        self._pool.shutdown(wait=True)
