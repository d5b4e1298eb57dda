"""A web server that misbehaves on purpose, and a made-up repository with its registry."""

import hashlib
import http.server
import io
import random
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from data_download import transfer
from data_download.__main__ import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server:
    """A web server for `files`; `faults` holds, per path, what to do wrong on the next requests.

    Attributes:
        files: path below the root to content.
        faults: path to a list of faults; each request takes the first one off.
        log: the paths that were asked for.
        reached: set once a "stall" has sent its half.
        headers: sent with every file.
        ranges: what was asked for in Range headers.
        barrier: where requests with the fault "together" wait for one another.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list] = {}
        self.log: list[str] = []
        self.headers: dict[str, str] = {}
        self.ranges: list[str] = []
        self.barrier: threading.Barrier | None = None
        self.reached = threading.Event()
        self.release = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                path = unquote(self.path).lstrip("/")
                server.log.append(f"HEAD {path}")
                body = server.files.get(path)
                self.send_response(404 if body is None else 200)
                for key, value in server.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()

            def do_GET(self):
                path = unquote(self.path).lstrip("/")
                server.log.append(path)
                fault = server.faults[path].pop(0) if server.faults.get(path) else None
                if fault == "together":
                    server.barrier.wait()
                server.answer(self, path, fault)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, request, path, fault):
        body = self.files.get(path)
        if isinstance(fault, tuple):  # a status and headers
            status, headers = fault
            request.send_response(status)
            for key, value in headers.items():
                request.send_header(key, value)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if isinstance(fault, int) or body is None:
            request.send_error(fault or 404)
            return
        if fault == "wrong":
            body = bytes(255 - value for value in body)
        elif fault == "longer":
            body = body + b"more"
        elif fault == "html":
            body = b"<!DOCTYPE html><title>Please log in</title>".ljust(len(body))[: len(body)]
        if fault == "drip headers":
            while not self.release.wait(0.1):
                request.wfile.write(b"H")
                request.wfile.flush()
            return
        wanted = request.headers.get("Range")
        if wanted is None or fault == "no ranges":
            request.send_response(200)
        else:  # "bytes=START-": the rest of a file that came half before
            self.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        for key, value in self.headers.items():
            request.send_header(key, value)
        if fault in ("no-length", "short without length", "endless"):
            request.send_header("Connection", "close")
            request.close_connection = True
        else:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        half = len(body) // 2
        if fault == "short without length":
            request.wfile.write(body[:half])
        elif fault == "endless":
            while not self.release.is_set():
                request.wfile.write(bytes(1 << 16))
        elif fault == "truncated":
            request.wfile.write(body[:half])
            request.wfile.flush()
            request.close_connection = True
        elif fault == "reset":
            request.wfile.write(body[:half])
            request.wfile.flush()
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.connection.close()
            request.close_connection = True
        elif fault == "stall":
            request.wfile.write(body[:half])
            request.wfile.flush()
            self.reached.set()
            self.release.wait(60)
            request.close_connection = True
        elif fault == "drip":
            for value in body:
                request.wfile.write(bytes([value]))
                request.wfile.flush()
                if self.release.wait(0.1):
                    break
            request.close_connection = True
        elif fault == "slow":
            for start in range(0, len(body), max(1, len(body) // 8)):
                request.wfile.write(body[start : start + max(1, len(body) // 8)])
                request.wfile.flush()
                time.sleep(0.03)
        else:
            request.wfile.write(body)

    def close(self):
        self.release.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server()
    yield served
    served.close()


PAIRS = 4
STEMS = [f"scene {number}" for number in range(PAIRS)]  # a blank, as some real names have
ONE = "in/rgb/scene 1.png"


def picture(seed: int) -> bytes:
    pixels = random.Random(seed).randbytes(32 * 40)
    file = io.BytesIO()
    Image.frombytes("L", (40, 32), pixels).save(file, format="PNG")
    return file.getvalue()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(content: bytes) -> str:
    return "git-blob:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


LENGTH, SIZE = 12, (48, 64)  # of a made-up clip: frames, and height and width


def clip(path, seed: int, length: int = LENGTH, size: tuple[int, int] = SIZE) -> bytes:
    """Write a clip of flat frames: frame i is as bright as `brightness` says."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(length):
            pixels = np.full((*size, 3), brightness(seed, index), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def brightness(seed: int, index: int) -> int:
    return 20 + 15 * index + seed


class Toy:
    """A made-up repository with pairs, results and weights, its server and its registry."""

    def __init__(self, server: Server, folder: Path):
        self.server, self.home = server, folder / "home"
        self.to, self.weights = self.home / "sets", self.home / "weights"
        self.registry = folder / "registry" / "sets.toml"
        self.registry.parent.mkdir(parents=True)
        self.contents = {}
        for index, stem in enumerate(STEMS):
            self.contents[f"in/thermal/{stem}.png"] = picture(index)
            self.contents[f"in/rgb/{stem}.png"] = picture(100 + index)
            self.contents[f"out/{stem}_Mean.png"] = picture(200 + index)
        self.contents["net/final.pt"] = random.Random(1).randbytes(3000)
        rows = ["path,bytes,hash"]
        for path, content in self.contents.items():
            server.files[self.remote(path)] = content
            if path.startswith("net/"):
                rows.append(f"{path},,{blob(content)}")
            else:
                rows.append(f"{path},{len(content)},{sha256(content)}")
        (self.registry.parent / "toy.csv").write_text("\n".join(rows) + "\n")
        common = f"""
kind = "files"
title = "made-up pairs"
source = "some/body"
commit = "{COMMIT}"
table = "toy.csv"
license = "CC0"
cite = "Nobody: Nothing, 2000."
homepage = "about:blank"
"""
        self.registry.write_text(
            f"""base = "{server.url}"
[sets.toy]{common}
rules = [['in/thermal/(.+)\\.png', 'ir/\\1.png'], ['in/rgb/(.+)\\.png', 'vi/\\1.png']]
[sets.toy-results]{common}
folder = "toy"
requires = ["toy"]
rules = [['out/(.+)_(\\w+)\\.png', 'fused_\\2/\\1.png']]
[sets.toy-weights]{common}
rules = [['net/final\\.pt', 'weights:Toy/final.pt']]
"""
        )

    @staticmethod
    def remote(path: str) -> str:
        return f"some/body/{COMMIT}/{path}"

    def fault(self, path: str, *faults) -> None:
        self.server.faults[self.remote(path)] = list(faults)

    def run(self, *arguments: str) -> int:
        command, *rest = arguments
        return main([command, "--registry", str(self.registry), "--to", str(self.to), *rest])

    def asked(self) -> list[str]:
        prefix = self.remote("")
        return [path.removeprefix(prefix) for path in self.server.log]

    def local(self) -> dict[str, bytes]:
        """Every file below the home folder except locks and SOURCE.md."""
        return {
            path.relative_to(self.home).as_posix(): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and path.suffix != ".lock" and path.name != "SOURCE.md"
        }

    def expected(self) -> dict[str, bytes]:
        wanted = {}
        for stem in STEMS:
            wanted[f"sets/toy/ir/{stem}.png"] = self.contents[f"in/thermal/{stem}.png"]
            wanted[f"sets/toy/vi/{stem}.png"] = self.contents[f"in/rgb/{stem}.png"]
        return wanted


def heed_interrupts() -> None:
    """For a child process: Ctrl-C reaches it, also where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def hurry(monkeypatch) -> None:
    """Let the command line wait for hundredths of seconds where it waits for seconds."""
    real = transfer.Policy
    monkeypatch.setattr(
        "data_download.__main__.Policy", lambda **chosen: real(backoff=0.01, **chosen)
    )


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    made = Toy(server, tmp_path)
    monkeypatch.setenv("LDF_WEIGHTS_DIR", str(made.weights))
    hurry(monkeypatch)
    return made
