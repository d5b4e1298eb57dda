"""Fetching files: verified, atomic, many at once, patient where patience helps.

The download itself is pooch's. Here is what is added to it: git blob ids, a retry that reads
Retry-After, one pool for many small files, going on with a large file that broke off, and messages
that say what to do.
"""

from __future__ import annotations

import datetime
import email.utils
import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pooch
import requests
from tqdm.auto import tqdm

_CHUNK = 1 << 16
_WORTH_KEEPING = 1 << 20  # bytes from which a half file is gone on with and not fetched anew
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)


class DownloadError(RuntimeError):
    """A file could not be fetched; the text says why and what to do.

    Attributes:
        retry: whether trying again may help.
        stop: whether the other files would fail for the same reason.
        wait: seconds that the server asks to wait, or None.
        incomplete: whether the content was not the expected one.
    """

    def __init__(self, text, *, retry=False, stop=False, wait=None, incomplete=False):
        super().__init__(text)
        self.retry, self.stop, self.wait, self.incomplete = retry, stop, wait, incomplete


@dataclass(frozen=True)
class Policy:
    """How patient a download is.

    Attributes:
        retries: how many times a file is tried again.
        backoff: seconds before the first retry; doubled for each further one.
        timeout: seconds without a byte after which a connection is given up.
        longest_wait: the longest Retry-After that is waited for, in seconds.
    """

    retries: int = 4
    backoff: float = 1.0
    timeout: float = 30.0
    longest_wait: float = 120.0


@dataclass(frozen=True)
class Job:
    """One file to fetch: from where, to where, and what it has to be.

    Attributes:
        url: an address, or the path of a file on this machine.
        path: where the file is to be.
        bytes: the size, or None where it is not known.
        hash: ``sha256:...`` or ``git-blob:...``.
    """

    url: str
    path: Path
    bytes: int | None
    hash: str


def git_blob_id(path: str | os.PathLike) -> str:
    """The name git gives to a file's content.

    It is the SHA-1 of ``blob SIZE``, a zero byte and the content.
    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects

    Args:
        path: the file.

    Returns:
        40 hexadecimal digits.
    """
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_hash(path: str | os.PathLike, kind: str) -> str:
    """The hash of a file in the registry's form.

    Args:
        path: the file.
        kind: "sha256" or "git-blob".

    Returns:
        ``KIND:DIGITS``.
    """
    digits = git_blob_id(path) if kind == "git-blob" else pooch.file_hash(str(path), alg=kind)
    return f"{kind}:{digits}"


def difference(path: str | os.PathLike, size: int | None, digest: str) -> str | None:
    """How a file differs from what it has to be.

    Args:
        path: a file that exists.
        size: the expected bytes, or None where they are not known.
        digest: the expected hash, ``KIND:DIGITS``.

    Returns:
        None if it is the right file, else "expected ..., found ...".
    """
    found = Path(path).stat().st_size
    if size is not None and found != size:
        return f"expected {size} bytes, found {found}"
    actual = file_hash(path, digest.split(":")[0])
    return None if actual == digest else f"expected {digest}, found {actual}"


def address(base: str, source: str, commit: str, path: str) -> str:
    """``BASE/OWNER/REPO/COMMIT/PATH``, quoted where the base is an address and not a folder."""
    tail = f"{source}/{commit}/{path}"
    return f"{base.rstrip('/')}/{quote(tail) if '://' in base else tail}"


class _Counted:
    """A file that counts what is written and refuses to become longer than it should.

    Args:
        file: the open file, at its start.
        limit: the bytes it may have in the end, or None.
        bar: the progress bar.
        offset: the bytes of an earlier try that are to be gone on with.
    """

    def __init__(self, file: BinaryIO, limit: int | None, bar: tqdm, offset: int):
        self.file, self.limit, self.bar, self.count = file, limit, bar, offset
        self.file.seek(offset)
        self._show(offset)

    def answered(self, response: requests.Response, *_, **__) -> None:
        """Start over if the answer is the whole file and not the rest that was asked for."""
        part = response.headers.get("Content-Range", "").startswith(f"bytes {self.count}-")
        if self.count and response.ok and not response.is_redirect and not part:
            self._show(-self.count)
            self.count = 0
            self.file.seek(0)
            self.file.truncate()

    def write(self, chunk: bytes) -> int:
        if self.limit is not None and self.count + len(chunk) > self.limit:
            raise DownloadError(
                f"expected {self.limit} bytes, found more: the server sends another file",
                retry=True,
                incomplete=True,
            )
        written = self.file.write(chunk)
        self.count += len(chunk)
        self._show(len(chunk))
        return written

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""

    def take_back(self) -> None:
        """Take what was counted off the bar: the file did not come to a good end."""
        self._show(-self.count)

    def _show(self, count: int) -> None:
        with self.bar.get_lock():
            self.bar.update(count)


def tidy(staging: Path) -> None:
    """Remove what is too small to go on with, and the folder if nothing else is in it."""
    if not staging.is_dir():
        return
    for path in staging.iterdir():
        if path.stat().st_size < _WORTH_KEEPING:
            path.unlink()
    if not any(staging.iterdir()):
        staging.rmdir()


class Fetcher:
    """Fetches files one by one or many at once.

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

        Args:
            jobs: what to fetch.
            staging: gives the folder for unfinished files, on the file system of the target.
            title: the description of the progress bar.

        Returns:
            Each job with None or its error. A job whose error has ``stop`` ends the rest early;
            those then carry an error that says that they were not tried.
        """
        self._stop.clear()
        total = sum(job.bytes or 0 for job in jobs)
        results: list[tuple[Job, DownloadError | None]] = []
        with (
            tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None) as bar,
            ThreadPoolExecutor(self.jobs) as pool,
        ):
            pending = {pool.submit(self._fetch, job, staging(job), bar): job for job in jobs}
            try:
                for future in as_completed(pending):
                    results.append((pending[future], future.result()))
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return results

    def fetch(self, job: Job, staging: Path, title: str) -> None:
        """Fetch one file.

        Raises:
            DownloadError: if it could not be fetched.
        """
        [(_, error)] = self.fetch_all([job], lambda _: staging, title)
        if error is not None:
            raise error

    def _fetch(self, job: Job, staging: Path, bar: tqdm) -> DownloadError | None:
        mismatches = 0
        for attempt in range(self.policy.retries + 1):
            self._stop.wait(max(0.0, self._not_before - time.monotonic()))
            if self._stop.is_set():
                return DownloadError(f"{job.url}\n  not fetched: an earlier error ended the run")
            try:
                self._once(job, staging, bar)
                return None
            except DownloadError as error:
                mismatches += error.incomplete
                if not error.retry or attempt == self.policy.retries or mismatches > 1:
                    return self._final(error)
                if (error.wait or 0) > self.policy.longest_wait:
                    error.stop = True
                    return self._final(error)
                wait = error.wait
                if wait is None:
                    wait = self.policy.backoff * 2**attempt
                else:  # the server speaks to all of us
                    self._not_before = time.monotonic() + wait
                self._stop.wait(wait)
            except BaseException:
                self._stop.set()
                raise
        raise AssertionError("the loop returns")

    def _final(self, error: DownloadError) -> DownloadError:
        if error.stop:
            self._stop.set()
        return error

    def _once(self, job: Job, staging: Path, bar: tqdm) -> None:
        key = hashlib.sha256(f"{job.path}\n{job.hash}".encode()).hexdigest()[:24]
        temporary = staging / f"{key}.part"
        counted = None
        keep = False
        try:
            staging.mkdir(parents=True, exist_ok=True)
            offset = _offset(temporary, job.bytes)
            with open(temporary, "r+b" if offset else "wb") as file:
                counted = _Counted(file, job.bytes, bar, offset)
                self._read(job.url, counted, offset)
                file.flush()
                os.fsync(file.fileno())
            wrong = difference(temporary, job.bytes, job.hash)
            if wrong is not None:
                raise DownloadError(
                    f"{job.url}\n  {wrong}; nothing of it was kept.{_looks_like(temporary)} Try "
                    "again later or with --mirror; if it stays so, the source has changed",
                    retry=True,
                    incomplete=True,
                )
            job.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, job.path)
        except Exception as error:
            if counted is not None:
                counted.take_back()
            explained = explain(error, job, self.policy)
            keep = not explained.incomplete
            raise explained from error
        except BaseException:
            keep = True
            raise
        finally:
            if not keep or _offset(temporary, job.bytes) == 0:
                temporary.unlink(missing_ok=True)

    def _read(self, url: str, into: _Counted, offset: int) -> None:
        if "://" not in url:
            with open(url, "rb") as original:
                original.seek(offset)
                shutil.copyfileobj(original, into, _CHUNK)
            return
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        pooch.HTTPDownloader(
            chunk_size=_CHUNK,
            timeout=self.policy.timeout,
            headers=headers,
            hooks={"response": into.answered},
        )(url, into, None)


def _offset(temporary: Path, size: int | None) -> int:
    """How many bytes of an earlier try are there to go on with; small files start over."""
    there = temporary.stat().st_size if temporary.is_file() else 0
    return there if there >= _WORTH_KEEPING and (size is None or there < size) else 0


def _looks_like(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(256).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return " It is a web page: perhaps the network asks for a login first."
    return ""


def explain(error: Exception, job: Job, policy: Policy) -> DownloadError:
    """Turn what went wrong into what to do."""
    url = job.url
    if isinstance(error, DownloadError):
        if url in str(error):
            return error
        return DownloadError(
            f"{url}\n  {error}; nothing of it was kept. Try again later or with --mirror",
            retry=error.retry,
            incomplete=error.incomplete,
        )
    if isinstance(error, requests.HTTPError):
        return _explain_status(error.response, url)
    if isinstance(error, requests.exceptions.SSLError):
        return DownloadError(
            f"{url}\n  the connection is not trusted ({error}); check the clock and the "
            "certificates of this machine",
            stop=True,
        )
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return DownloadError(
            f"{url}\n  no byte for {policy.timeout:g} s; run the command again to go on, or "
            "raise --timeout",
            retry=True,
        )
    if isinstance(error, _NO_ADDRESS):
        return DownloadError(f"{url}\n  this is no address ({error}); check --mirror", stop=True)
    if isinstance(error, requests.ConnectionError) and "Max retries exceeded" in str(error):
        return DownloadError(
            f"{url}\n  the server cannot be reached: no network, a wrong proxy (HTTPS_PROXY) or "
            "--mirror, or the server is down. What is here is kept; run the command again to go on",
            retry=True,
            stop=True,
        )
    if isinstance(error, requests.RequestException):
        return DownloadError(
            f"{url}\n  the connection broke ({error}); run the command again to go on", retry=True
        )
    if isinstance(error, FileNotFoundError) and "://" not in url:
        return DownloadError(f"{url}\n  the mirror has no such file; check --mirror")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"{job.path}\n  the disk is full; make room, or choose another folder with --to, and "
            "run the command again: what is here is kept",
            stop=True,
        )
    if isinstance(error, OSError):
        return DownloadError(
            f"{job.path}\n  cannot be written ({error}); check the folder or choose another "
            "with --to",
            stop=True,
        )
    raise error


def _explain_status(response: requests.Response, url: str) -> DownloadError:
    status = response.status_code
    if status in (404, 410):
        return DownloadError(
            f"{url}\n  the server has no such file ({status}): the repository may have moved or "
            "gone. Try --mirror with a copy of it"
        )
    if status in (401, 403):
        return DownloadError(
            f"{url}\n  the server refuses ({status}); check the network's proxy, or try --mirror"
        )
    if status == 429 or (status == 503 and "Retry-After" in response.headers):
        wait = _retry_after(response.headers.get("Retry-After"))
        asks = "" if wait is None else f" and asks to wait {wait:.0f} s"
        return DownloadError(
            f"{url}\n  too many requests ({status}){asks}; what is here is kept: run the command "
            "again after that, with a smaller --jobs",
            retry=True,
            stop=True,
            wait=wait,
        )
    if status == 416:  # the half file that is here does not fit what the server has
        return DownloadError(
            f"{url}\n  the server cannot go on with the half file ({status}), which was discarded; "
            "run the command again",
            retry=True,
            incomplete=True,
        )
    return DownloadError(
        f"{url}\n  the server fails ({status}); try again later or with --mirror",
        retry=status >= 500 or status == 408,
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
