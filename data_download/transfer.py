"""Fetch files: verified, atomic, several at once, resumed, stopped within a moment.

What libraries lack, and why this module exists: git blob ids as hashes, resuming a partial file in
the next run, a least rate, a cap on what a server sends, and an immediate stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import requests
from tqdm.auto import tqdm

from data_download.errors import DownloadError, explain
from data_download.hashes import difference
from ldf_utils.data.files import web_page_or_pointer

_CHUNK = 1 << 16
_WORTH_KEEPING = 1 << 16  # bytes from which a partial file is resumed and not fetched anew
_POLL = 0.1  # seconds after which a waiting thread looks whether the run was stopped


@dataclass(frozen=True)
class Policy:
    """How patient a download is.

    Attributes:
        retries: how many times a file is tried again.
        backoff: seconds before the first retry; doubled for each further one.
        timeout: seconds that a connection may take to be made and to deliver ``least_rate`` bytes
            per second on average; counted anew after each such span.
        least_rate: bytes per second below which a connection is given up.
        longest_wait: the longest Retry-After that is waited for, in seconds.
        most_bytes: the largest size that is accepted where the registry knows none.
    """

    retries: int = 4
    backoff: float = 1.0
    timeout: float = 30.0
    least_rate: float = 100.0
    longest_wait: float = 120.0
    most_bytes: int = 256_000_000


@dataclass(frozen=True)
class Job:
    """One file to fetch.

    Attributes:
        url: an address, or the path of a file on this machine.
        path: where the file should be.
        bytes: the size, or None where it is not known.
        hash: ``sha256:...`` or ``git-blob:...``.
    """

    url: str
    path: Path
    bytes: int | None
    hash: str


def is_address(text: str) -> bool:
    """Say whether a text is an address (``https://...``) and not a path on this machine."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def address(base: str, source: str, commit: str, path: str) -> str:
    """Join ``BASE/OWNER/REPO/COMMIT/PATH``, quoted where the base is an address."""
    tail = f"{source}/{commit}/{path}"
    return f"{base.rstrip('/')}/{quote(tail) if is_address(base) else tail}"


class _Answer:
    """What a server sends, read by a thread that can be abandoned at any moment.

    A read from a socket cannot be interrupted, and its timeout counts anew with each byte. So a
    thread of its own waits for the server, and whoever iterates over the chunks looks at the clock.

    Args:
        url: an address.
        offset: the first byte to ask for.
        timeout: seconds after which the abandoned thread ends as well.
    """

    def __init__(self, url: str, offset: int, timeout: float):
        self.url, self.offset, self.timeout = url, offset, timeout
        self._parts: queue.Queue[bytes | requests.Response | Exception] = queue.Queue(16)
        self._abandoned = threading.Event()
        threading.Thread(target=self._receive, name="download", daemon=True).start()

    def _receive(self) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self.offset:
            headers["Range"] = f"bytes={self.offset}-"
        try:
            with requests.get(
                self.url, headers=headers, timeout=self.timeout, stream=True
            ) as response:
                response.raise_for_status()
                wanted = self._put(response)
                while wanted and (chunk := response.raw.read1(_CHUNK, decode_content=True)):
                    wanted = self._put(chunk)
            self._put(b"")
        except Exception as error:
            self._put(error)

    def _put(self, part: bytes | requests.Response | Exception) -> bool:
        """Hand a part over; False if nobody waits for it any more."""
        while not self._abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self._parts.put(part, timeout=_POLL)
                return True
        return False

    def next(self) -> bytes | requests.Response | None:
        """Return headers, then chunks, then an empty chunk; None if nothing came for a moment."""
        try:
            part = self._parts.get(timeout=_POLL)
        except queue.Empty:
            return None
        if isinstance(part, Exception):
            raise part
        return part

    def abandon(self) -> None:
        """Let the thread end as soon as it can."""
        self._abandoned.set()


class _Stopped(Exception):
    """The run was stopped; the partial file is kept."""


@dataclass
class _Transfer:
    """One attempt at one file: its partial file, the progress bar, and the clock.

    Attributes:
        job: what to fetch.
        partial: the partial file.
        policy: how patient to be.
        bar: the progress bar that all files share.
        stopped: set when the run should end.
        count: bytes of the partial file that were written or found.
    """

    job: Job
    partial: Path
    policy: Policy
    bar: tqdm
    stopped: threading.Event
    count: int = 0
    _since: float = field(default_factory=time.monotonic)
    _lately: int = 0

    def run(self) -> None:
        """Fetch what is missing of the file into the partial file."""
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self._show(_resumable(self.partial, self.job.bytes))
        if self.count and self.count == self.job.bytes:
            return
        with open(self.partial, "r+b" if self.count else "wb") as file:
            file.seek(self.count)
            for part in self._parts():
                if self.stopped.is_set():
                    raise _Stopped
                if isinstance(part, requests.Response):
                    if self.count and not part.headers.get("Content-Range", "").startswith(
                        f"bytes {self.count}-"
                    ):  # the whole file and not the rest that was asked for
                        self._show(-self.count)
                        file.seek(0)
                        file.truncate()
                    self._check_length(part)
                elif part is not None:
                    self._check_size(self.count + len(part))
                    file.write(part)
                    self._show(len(part))
                self._check_rate(len(part) if isinstance(part, bytes) else 0)
            file.flush()
            os.fsync(file.fileno())

    def take_back(self) -> None:
        """Take what was counted off the bar: the file did not come to a good end."""
        self._show(-self.count)

    def _parts(self) -> Iterator[bytes | requests.Response | None]:
        if not is_address(self.job.url):
            with open(self.job.url, "rb") as original:
                original.seek(self.count)
                while chunk := original.read(_CHUNK):
                    yield chunk
            return
        answer = _Answer(self.job.url, self.count, 4 * self.policy.timeout)
        try:
            while (part := answer.next()) != b"":
                yield part
        finally:
            answer.abandon()

    def _check_length(self, response: requests.Response) -> None:
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and "Content-Encoding" not in response.headers:
            self._check_size(self.count + int(length))

    def _check_size(self, size: int) -> None:
        if self.job.bytes is None and size > self.policy.most_bytes:
            raise DownloadError(
                f"{self.job.url}\n  at most {self.policy.most_bytes} bytes are accepted for a file "
                "of unknown size, found more; nothing of it was kept. Check the address",
                discard=True,
            )
        if self.job.bytes is not None and size > self.job.bytes:
            raise DownloadError(
                f"{self.job.url}\n  expected {self.job.bytes} bytes, found more: the server sends "
                "another file; nothing of it was kept. Try again later or with --mirror",
                retry=True,
                discard=True,
            )

    def _check_rate(self, count: int) -> None:
        self._lately += count
        span = time.monotonic() - self._since
        if span < self.policy.timeout:
            return
        if self._lately < self.policy.least_rate * span:
            raise DownloadError(
                f"{self.job.url}\n  {self._lately} bytes in {span:.0f} s, less than "
                f"{self.policy.least_rate:g} bytes/s; run the command again to resume, or raise "
                "--timeout",
                retry=True,
            )
        self._since, self._lately = time.monotonic(), 0

    def _show(self, count: int) -> None:
        self.count += count
        with self.bar.get_lock():
            self.bar.update(count)


class Fetcher:
    """Fetch files, one by one or several at once.

    Args:
        policy: how patient to be.
        jobs: how many files are fetched at once.
    """

    def __init__(self, policy: Policy | None = None, jobs: int = 8):
        self.policy = policy or Policy()
        self.jobs = max(1, jobs)
        self._stop = threading.Event()
        self._not_before = 0.0

    def fetch_all(
        self, jobs: Sequence[Job], staging: Callable[[Job], Path], title: str
    ) -> list[tuple[Job, DownloadError | None]]:
        """Fetch many files; the good ones stay even if others fail.

        An exception, `KeyboardInterrupt` for one, stops all transfers within a moment; what has
        arrived of large files is kept and resumed by the next run.

        Args:
            jobs: what to fetch.
            staging: gives the folder for partial files, on the file system of the target.
            title: the description of the progress bar.

        Returns:
            Each job with None or its error. A job whose error has ``stop`` ends the rest early;
            those then carry an error with ``tried`` False.
        """
        self._stop.clear()
        total = sum(job.bytes or 0 for job in jobs)
        with (
            tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None) as bar,
            ThreadPoolExecutor(self.jobs) as pool,
        ):
            futures = {pool.submit(self._fetch, job, staging(job), bar): job for job in jobs}
            pending: set[Future[DownloadError | None]] = set(futures)
            try:
                while pending:  # a wait without end could not be interrupted on Windows
                    done, pending = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [(job, future.result()) for future, job in futures.items()]

    def fetch(self, job: Job, staging: Path, title: str) -> None:
        """Fetch one file.

        Raises:
            DownloadError: if it could not be fetched.
        """
        [(_, error)] = self.fetch_all([job], lambda _: staging, title)
        if error is not None:
            raise error

    def _fetch(self, job: Job, staging: Path, bar: tqdm) -> DownloadError | None:
        useless = 0
        for attempt in range(self.policy.retries + 1):
            self._stop.wait(max(0.0, self._not_before - time.monotonic()))
            if self._stop.is_set():
                break
            try:
                self._once(job, staging, bar)
                return None
            except _Stopped:
                break
            except DownloadError as error:
                useless += error.discard
                too_long = (error.wait or 0) > self.policy.longest_wait
                if not error.retry or attempt == self.policy.retries or useless > 1 or too_long:
                    error.stop = error.stop or too_long
                    if error.stop:
                        self._stop.set()
                    return error
                pause = self.policy.backoff * 2**attempt if error.wait is None else error.wait
                if error.wait is not None:  # the server speaks to all files
                    self._not_before = time.monotonic() + error.wait
                self._stop.wait(pause)
            except BaseException:
                self._stop.set()
                raise
        return DownloadError(f"{job.url}\n  not fetched: the run was ended", tried=False)

    def _once(self, job: Job, staging: Path, bar: tqdm) -> None:
        key = hashlib.sha256(f"{job.path}\n{job.hash}".encode()).hexdigest()[:24]
        partial = staging / f"{key}.part"
        transfer = _Transfer(job, partial, self.policy, bar, self._stop)
        discard = False
        try:
            transfer.run()
            wrong = difference(partial, job.bytes, job.hash)
            if wrong is not None:
                raise DownloadError(
                    f"{job.url}\n  {wrong}; nothing of it was kept.{_web_page(partial)} Try again "
                    "later or with --mirror; if it stays so, the source has changed",
                    retry=True,
                    discard=True,
                )
            job.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial, job.path)
        except _Stopped:
            raise
        except Exception as error:
            transfer.take_back()
            explained = explain(error, job.url, job.path)
            discard = explained.discard
            raise explained from error
        finally:
            if discard or not _resumable(partial, job.bytes):
                partial.unlink(missing_ok=True)


def _resumable(partial: Path, size: int | None) -> int:
    """How many bytes of a partial file can be kept; small files start over."""
    there = partial.stat().st_size if partial.is_file() else 0
    return there if there >= _WORTH_KEEPING and (size is None or there <= size) else 0


def _web_page(path: Path) -> str:
    with open(path, "rb") as file:
        what = web_page_or_pointer(file.read(256))
    return f" It is {what}: perhaps the network asks for a login first." if what else ""


def tidy(staging: Path) -> None:
    """Remove what is too small to resume, and the folder if nothing else is in it."""
    if not staging.is_dir():
        return
    for path in staging.iterdir():
        if not _resumable(path, None):
            path.unlink()
    if not any(staging.iterdir()):
        staging.rmdir()
