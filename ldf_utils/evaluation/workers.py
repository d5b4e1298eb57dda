"""Workers: the same function of many tasks, by several processes, results in order."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from ldf_utils.data.cli import ignore_interrupts

T = TypeVar("T")
R = TypeVar("R")


def _start_worker() -> None:
    ignore_interrupts()
    torch.set_num_threads(1)  # each worker has a core of its own


@functools.lru_cache(maxsize=1)
def _kept_pool(jobs: int) -> ProcessPoolExecutor:
    """Workers that stay for the next call, where starting them takes seconds."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker)


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes. On Linux they are copies of this one, which takes no time."""
    if not sys.platform.startswith("linux"):
        yield _kept_pool(jobs)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # before the copies are made
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _start_worker)
    try:
        with warnings.catch_warnings():  # Python 3.12 on: other threads of this process
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(int).result()
        yield pool
    except BaseException:  # Ctrl-C above all: nobody waits for what is being measured
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        pool.shutdown()
    finally:
        torch.set_num_threads(threads)


def run_in_order(
    function: Callable[[T], R], tasks: Iterator[T], jobs: int, on_warning: Callable[[str], None]
) -> Iterator[R]:
    """Yield the function of each task in order, with few tasks and results in memory.

    Processes, not threads: many short tensor operations in two threads of one process wait for
    each other, and take as long as in one.

    Args:
        function: of a task; both can be pickled.
        tasks: taken one by one in this process, as workers come free.
        jobs: processes, each with one thread; 1 does all in this one.
        on_warning: called with one sentence if a worker is ended from outside; the tasks that are
            left are done in this process then.
    """
    waiting: deque[T] = deque()
    futures: deque[Future[R]] = deque()
    if jobs > 1:
        with _workers(jobs) as pool:
            try:
                for task in tasks:
                    waiting.append(task)
                    futures.append(pool.submit(function, task))
                    if len(futures) > 2 * jobs:
                        yield futures.popleft().result()
                        waiting.popleft()
                while futures:
                    yield futures.popleft().result()
                    waiting.popleft()
            except BrokenProcessPool:
                _kept_pool.cache_clear()
                on_warning(
                    "a worker process was ended from outside (was memory short?); the rest is "
                    "done by this process. --jobs 1 needs the least memory"
                )
    yield from map(function, itertools.chain(waiting, tasks))
