"""What every command line does alike: Ctrl-C, a closed pipe, a terminal with few characters.

A module that is a command ends with ::

    if __name__ == "__main__":
        run_command(main)
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TextIO

_INTERRUPTED = 128 + 2  # what a shell reports for SIGINT
_BROKEN_PIPE = 128 + 13  # and for SIGPIPE
_GRACE = 0.7  # seconds between Ctrl-C and the end of the process, at most
_said = threading.Lock()  # acquired by whoever prints the one line, and never released


def run_command(
    main: Callable[[], int | None],
    stopped: str | Callable[[], str] = "stopped from the keyboard",
) -> NoReturn:
    """Run a command line and end the process with its exit code.

    - Ctrl-C prints ``stopped`` in one line and ends with 130. The command is interrupted by
      `KeyboardInterrupt`, so that ``with`` and ``finally`` clean up, and has 0.7 s for it: a thread
      ends the process even if the command waits for other threads or is inside a long tensor
      operation. A process that was started with SIGINT ignored (a background job) stays so.
    - A reader that goes away (``... | head -1``) ends the command with 141 and without a message.
    - Characters that the terminal or the file behind stdout lacks are printed as ``?``.

    Args:
        main: parses ``sys.argv``, does the work and returns the exit code; None is 0. It must not
            catch `KeyboardInterrupt`.
        stopped: the line for Ctrl-C, or a function that gives it; say here what was kept.

    Raises:
        SystemExit: with the exit code.
    """
    _replace_unknown_characters()
    _end_soon_after_interrupt(stopped)
    code: str | int | None
    try:
        try:
            code = main()
        except SystemExit as end:  # of argparse
            code = end.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        _end(stopped)
    except BrokenPipeError:
        if not any([_is_closed(sys.stdout), _is_closed(sys.stderr)]):
            raise
        code = _BROKEN_PIPE
    sys.exit(code or 0)


def ignore_interrupts() -> None:
    """Let a worker process ignore Ctrl-C, so that only the command itself speaks.

    Give it as ``initializer`` of a `ProcessPoolExecutor`; the command ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_on_interrupt_while_importing(stopped: str = "stopped from the keyboard") -> None:
    """Let Ctrl-C end the process at once if a package is imported by ``python -m PACKAGE...``.

    It is called by the package's ``__init__``, ahead of imports that take seconds. Does nothing in
    a program that imports the package: only while ``-m`` looks for its module is ``sys.argv[0]``
    equal to "-m".
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: _end(stopped))


def _replace_unknown_characters() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _end_soon_after_interrupt(stopped: str | Callable[[], str]) -> None:
    """Raise `KeyboardInterrupt` on SIGINT, and end the process soon after it.

    The operating system's part of the signal handler writes to a socket at once, also while Python
    code cannot run because the main thread is inside a library.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while received := reader.recv(1):
            if received[0] == signal.SIGINT:
                time.sleep(_GRACE)
                _end(stopped)

    threading.Thread(target=watch, name="interrupt", daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)


def _end(stopped: str | Callable[[], str]) -> NoReturn:
    """Print one line and end the process and its workers now."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _said.acquire(blocking=False):
        text = stopped if isinstance(stopped, str) else stopped()
        line = f"{text}\n".encode("ascii", "replace")
        with contextlib.suppress(OSError):
            os.write(2, b"\n" + line if os.isatty(2) else line)
    else:  # another thread is about to end the process
        time.sleep(_GRACE)
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()
    os._exit(_INTERRUPTED)


def _is_closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream; if so, what is printed from now on goes nowhere."""
    if hasattr(select, "poll"):  # not on Windows
        poll = select.poll()
        poll.register(stream, select.POLLERR)
        if not poll.poll(0):
            return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return True
