"""What can go wrong with a download, and what the user can do about it."""

from __future__ import annotations

import datetime
import email.utils
import errno
from pathlib import Path

import requests
import urllib3

_INVALID_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)


class DownloadError(RuntimeError):
    """A file could not be fetched; the text names it and says why and what to do.

    Attributes:
        retry: whether trying again may help.
        stop: whether the other files would fail for the same reason.
        wait: seconds that the server asks to wait, or None.
        discard: whether what has arrived is useless.
        tried: False for a file that was not requested because an earlier error ended the run.
    """

    def __init__(
        self,
        text: str,
        *,
        retry: bool = False,
        stop: bool = False,
        wait: float | None = None,
        discard: bool = False,
        tried: bool = True,
    ):
        super().__init__(text)
        self.retry, self.stop, self.wait = retry, stop, wait
        self.discard, self.tried = discard, tried


def explain(error: Exception, url: str, target: Path | None = None) -> DownloadError:
    """Turn an exception of a transfer into a message that says what to do.

    Args:
        error: what the transfer raised.
        url: the address, or the path of a file on this machine.
        target: where the file should be in the end, or None if nothing is written.

    Returns:
        The error to raise or report. An exception of another kind is raised as it is.
    """
    if isinstance(error, DownloadError):
        return error
    if isinstance(error, requests.HTTPError):
        return _explain_status(error.response, url)
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return DownloadError(
            f"{url}\n  the certificate of the server is not trusted ({error}); check the clock and "
            "the certificates of this machine",
            stop=True,
        )
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return DownloadError(
            f"{url}\n  the server does not answer; run the command again to resume, or raise "
            "--timeout",
            retry=True,
        )
    if isinstance(error, _INVALID_ADDRESS):
        return DownloadError(f"{url}\n  not a valid address ({error}); check --mirror", stop=True)
    if isinstance(error, requests.ConnectionError) and "Max retries exceeded" in str(error):
        return DownloadError(
            f"{url}\n  the server cannot be reached: there is no network, the proxy (HTTPS_PROXY) "
            "or --mirror is wrong, or the server is down. Complete files are kept; run the command "
            "again to resume",
            retry=True,
            stop=True,
        )
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        return DownloadError(
            f"{url}\n  the connection broke ({error}); run the command again to resume", retry=True
        )
    if isinstance(error, OSError):
        return _explain_system(error, url, target)
    raise error


def _explain_system(error: OSError, url: str, target: Path | None) -> DownloadError:
    if error.filename == url:  # a file of a mirror on this machine
        if isinstance(error, FileNotFoundError):
            return DownloadError(f"{url}\n  the mirror has no such file; check --mirror")
        return DownloadError(f"{url}\n  cannot be read: {error.strerror}; check the mirror")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"{target}\n  the disk is full; free some space or choose another folder with --to, "
            "then run the command again: complete files are kept",
            stop=True,
        )
    reason = (error.strerror or str(error)).lower()
    return DownloadError(
        f"{error.filename or target}\n  cannot be written, {reason}; check the folder, or choose "
        "another with --to",
        stop=True,
    )


def _explain_status(response: requests.Response, url: str) -> DownloadError:
    status = response.status_code
    if status in (404, 410):
        return DownloadError(
            f"{url}\n  the server has no such file ({status}): the repository may have been moved "
            "or deleted. Try --mirror with a copy of it"
        )
    if status in (401, 403):
        return DownloadError(
            f"{url}\n  the server refuses access ({status}); check the network's proxy, or try "
            "--mirror"
        )
    if status == 429 or (status == 503 and "Retry-After" in response.headers):
        wait = _retry_after(response.headers.get("Retry-After"))
        asks = "" if wait is None else f" and asks to wait {wait:.0f} s"
        return DownloadError(
            f"{url}\n  too many requests ({status}){asks}; complete files are kept: run the "
            "command again after that, with a smaller --jobs",
            retry=True,
            stop=True,
            wait=wait,
        )
    if status == 416:  # the partial file does not fit what the server has
        return DownloadError(
            f"{url}\n  the server cannot resume the partial file ({status}), which was discarded; "
            "run the command again",
            retry=True,
            discard=True,
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
