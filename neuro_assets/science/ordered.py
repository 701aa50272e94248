"""Work on threads whose results come in order, with a bounded number of pieces in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_order(
    work: Callable[..., Result], items: Iterable[tuple[Any, ...]], n_jobs: int
) -> Iterator[Result]:
    """Call a function for each item on threads.

    Parameters
    ----------
    work : callable
        Runs on a thread.
    items : iterable of tuple
        Arguments of each call; taken one by one, so that few wait at a time.
    n_jobs : int
        Threads, and calls that may wait beside the oldest one.

    Yields
    ------
    Result
        In the order of the items. The first error ends it, and what has not begun.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(1, n_jobs)) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, *item))
                if len(pending) > n_jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for job in pending:
                job.cancel()
