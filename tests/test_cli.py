"""Tests of what all command lines share, each in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and pipes")
ROOT = Path(__file__).resolve().parent.parent
CLI = "from ldf_utils.data.cli import run_command, ignore_interrupts\n"


def start(program, sigint=signal.SIG_DFL, **options):
    """A Python process that SIGINT reaches, also where the tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-c", CLI + textwrap.dedent(program)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, sigint),
        **options,
    )


def interrupt(process):
    """Press Ctrl-C once the process has printed a line; return its code and what it said."""
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, said


@posix
@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(600)",
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",  # signals wait until it returns
        """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(time.sleep, 600)
        """,
        """
        try:
            time.sleep(600)
        finally:
            threading.Thread(target=time.sleep, args=(600,)).start()
        """,
        """
        with concurrent.futures.ProcessPoolExecutor(2, initializer=ignore_interrupts) as pool:
            pool.map(time.sleep, [600, 600])
        """,
        """
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass
        """,
    ],
    ids=["sleep", "library", "threads", "thread at the end", "processes", "swallowed"],
)
def test_an_interrupt_ends_any_work_with_one_line(work):
    program = "import concurrent.futures, hashlib, threading, time\ndef main():\n"
    program += textwrap.indent('print("ready", flush=True)\n' + textwrap.dedent(work), "    ")
    code, _, said = interrupt(start(program + "\nrun_command(main, 'stopped; go on')"))
    assert (code, said) == (130, "stopped; go on\n")


@posix
def test_an_interrupt_lets_the_work_clean_up():
    code, out, said = interrupt(
        start("""
        import time
        def main():
            try:
                print("ready", flush=True)
                time.sleep(600)
            finally:
                print("cleaned up", flush=True)
        run_command(main)
        """)
    )
    assert (code, out, said) == (130, "cleaned up\n", "stopped from the keyboard\n")


@posix
def test_an_interrupt_is_ignored_where_it_was_ignored_before():
    process = start(
        """
        import sys
        def main():
            print("ready", flush=True)
            return int(sys.stdin.readline())
        run_command(main)
        """,
        sigint=signal.SIG_IGN,
        stdin=subprocess.PIPE,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate("3\n", timeout=60) == ("", "")
    assert process.returncode == 3


@posix
@pytest.mark.parametrize("module", ["slow", "slow.module"])
def test_an_interrupt_while_a_package_is_imported(module, tmp_path):
    package = tmp_path / "slow"
    package.mkdir()
    (package / "module.py").touch()
    (package / "__main__.py").touch()
    (package / "__init__.py").write_text(
        "import time\n"
        "from ldf_utils.data.cli import end_on_interrupt_while_importing\n"
        "end_on_interrupt_while_importing()\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = start(
        f"""
        import os, sys
        os.environ["PYTHONPATH"] = {str(ROOT)!r}
        os.chdir({str(tmp_path)!r})
        os.execv(sys.executable, [sys.executable, "-m", {module!r}])
        """
    )
    code, _, said = interrupt(process)
    assert (code, said) == (130, "stopped from the keyboard\n")


def test_a_package_that_a_program_imports_leaves_interrupts_alone():
    process = start("""
        import signal
        from ldf_utils.data import cli
        cli.end_on_interrupt_while_importing()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """)
    assert process.communicate(timeout=60) == ("", "")


@posix
@pytest.mark.parametrize(
    "work",
    [
        "for line in range(10**6): print(line)",
        "print('one')",
        "argparse.ArgumentParser().parse_args(['--help'])",
        "print('one'); raise SystemExit(0)",
    ],
)
def test_a_reader_that_has_gone_is_no_traceback(work):
    process = start(
        f"""
        import argparse, sys
        def main():
            sys.stdin.readline()
            {work}
        run_command(main)
        """,
        stdin=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.write("now\n")
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(60) in (141, 0)  # argparse itself is content, and ends with 0


@posix
def test_another_broken_pipe_is_not_hidden():
    process = start("""
        import os
        def main():
            reader, writer = os.pipe()
            os.close(reader)
            os.write(writer, b"x")
        run_command(main)
        """)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "BrokenPipeError" in said


@posix
@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", "? µ"), ("ascii", "? ?")])
def test_characters_that_a_terminal_lacks_are_replaced(encoding, shown):
    program = CLI + "run_command(lambda: print(chr(8593), chr(181)))"
    process = start(
        f"""
        import os, sys
        os.environ["PYTHONIOENCODING"] = {encoding!r}
        os.execv(sys.executable, [sys.executable, "-c", {program!r}])
        """,
        encoding="cp1252",
    )
    assert process.communicate(timeout=60) == (shown + "\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize(("program", "code"), [("lambda: None", 0), ("lambda: 2", 2)])
def test_the_exit_code_is_that_of_the_command(program, code):
    process = start(f"run_command({program})")
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == code
