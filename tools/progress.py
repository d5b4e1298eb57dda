"""What is shown and measured while a notebook runs: the current cell, time and memory."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, "3:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Show which cell is running: one renewed line on a terminal, plain lines in a log.

    Args:
        stream: where to write; standard output by default.
        every: seconds between two lines in a log while one cell runs.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 60.0):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.every = every
        self._text, self._start, self._last_line = "", time.monotonic(), 0.0

    def start(self) -> None:
        """Start the clock of a notebook."""
        self._start, self._text = time.monotonic(), ""

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._erase()
        self.stream.write(text + "\n")
        self.stream.flush()
        self._last_line = time.monotonic()

    def cell(self, text: str) -> None:
        """Announce the cell that starts."""
        self._text = text
        if self.live:
            self.tick()
        else:
            self.line(f"  {clock(time.monotonic() - self._start):>5}  {text}")

    def tick(self) -> None:
        """Renew the line; to be called about twice a second."""
        now = time.monotonic()
        if not self._text:
            return
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            line = f"  {clock(now - self._start):>5}  {self._text}"
            self.stream.write("\r\033[K" + line[:width])
            self.stream.flush()
        elif now - self._last_line > self.every:
            self.line(f"  {clock(now - self._start):>5}  still in {self._text}")

    def end(self) -> None:
        """Remove the renewed line: the notebook has ended."""
        self._erase()
        self._text = ""

    def _erase(self) -> None:
        if self.live and self._text:
            self.stream.write("\r\033[K")
            self.stream.flush()


class Watch(threading.Thread):
    """Measure the peak memory of a kernel that starts after it, and keep the progress line alive.

    Attributes:
        peak: bytes in use by the kernel and the processes it started, at most so far.
    """

    def __init__(self, progress: Progress):
        super().__init__(daemon=True)
        self.progress = progress
        self.peak = 0
        self._over = threading.Event()
        self._before = {child.pid for child in psutil.Process().children()}

    def run(self) -> None:
        while not self._over.wait(0.5):
            self.sample()
            self.progress.tick()

    def sample(self) -> None:
        """Update the peak; on Linux a single kernel's own high-water mark counts as well."""
        for kernel in psutil.Process().children():
            if kernel.pid in self._before:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                if any("ipykernel" in part for part in kernel.cmdline()):
                    self.peak = max(self.peak, _high_water(kernel.pid))
                    self.peak = max(self.peak, tree_memory(kernel, self.peak))

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()


def tree_memory(process: psutil.Process, at_least: int = 0) -> int:
    """Return the bytes that a process and its descendants use, pages they share counted once.

    Resident memory counts the libraries that several processes map in each of them. On Linux the
    sum of proportional set sizes (PSS) divides every page among the processes that map it. Other
    systems have no PSS: there it is the unique set size (USS), or where that may not be read the
    resident one.

    Args:
        process: the first of them.
        at_least: where not even the resident memory is more than this, the resident memory is
            returned: PSS, which is never more, takes long to read.
    """
    processes = [process, *process.children(recursive=True)]
    resident = _total(processes, lambda one: one.memory_info().rss)
    if len(processes) == 1 or resident <= at_least:
        return resident
    return _total(processes, _own_and_shared)


def _total(processes: list[psutil.Process], measure: Callable[[psutil.Process], int]) -> int:
    """Sum a measure over the processes that are still there."""
    total = 0
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            total += measure(one)
    return total


def _own_and_shared(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.AccessDenied:
        return process.memory_info().rss
    return getattr(memory, "pss", memory.uss)


def _high_water(pid: int) -> int:
    """Peak resident bytes of one process as Linux keeps it; 0 elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
