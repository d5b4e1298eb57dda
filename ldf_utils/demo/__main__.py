"""A page in the browser: two pictures or a sample, aligned, fused as a sentence asks, compared.

``python -m ldf_utils.demo`` needs no network and no package beyond those of the tutorial. It is a
page of its own and not made with a library for demos: those pull in a web stack whose pins
disagree with the lock, and load parts from the network.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipError
from ldf_utils.data import radiometry
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain
from ldf_utils.data.images import luminance, read_image, to_8bit
from ldf_utils.data.names import ImageError
from ldf_utils.data.sets import RENDERED
from ldf_utils.demo.speaker import Speaker
from ldf_utils.fusion.inference import Network, fuse_tensors
from ldf_utils.fusion.sentence import SUGGESTIONS
from ldf_utils.networks.checkpoint import SENTENCE_WEIGHTS, load_network
from ldf_utils.networks.sentence import SentenceFusionNetwork
from ldf_utils.registration.align import align
from ldf_utils.registration.opencv import MissingExtra
from ldf_utils.registration.placing import Placement

PAGE = Path(__file__).with_name("page.html")
LARGEST = 128 * 2**20
"""Bytes of a request, two pictures in base64."""


def fuse_files(
    network: Network, infrared: Path, visible: Path, aligned: bool = True, black_hot: bool = False
) -> dict[str, str]:
    """Fuse two files and return what the page shows.

    Args:
        network: as in `ldf_utils.fusion.inference.fuse_tensors`.
        infrared: a picture.
        visible: a picture, of any size if ``aligned``.
        aligned: whether they are aligned first.
        black_hot: whether hot is dark in the infrared picture.

    Returns:
        ``infrared``, ``visible`` and ``fused`` as PNG in data URLs, and a ``message``.

    Raises:
        ImageError: if a picture cannot be read, or the two cannot be aligned and differ in size.
        MissingExtra: if they are to be aligned and OpenCV is missing.
    """
    first = luminance(read_image(infrared, radiometry.infrared_range([infrared])))
    second = read_image(visible, radiometry.visible_range([visible]))
    first = 1 - first if black_hot else first
    message = "Fused as they are."
    if aligned:
        found = align(first[0].numpy(), luminance(second)[0].numpy())
        message = f"Alignment: {found.reason}; confidence {found.confidence:.2f}."
        if found.accepted:
            first = Placement(found).lay(first, luminance(second))
        elif not found.aligned:
            message += " Fused as they are."
    if first.shape[-2:] != second.shape[-2:]:
        (ih, iw), (vh, vw) = first.shape[-2:], second.shape[-2:]
        raise ImageError(
            f"the pictures have {iw} x {ih} and {vw} x {vh} pixels and are not aligned; {message}"
        )
    fused = fuse_tensors(network, first[None], second[None])[0]
    pictures = {"infrared": first, "visible": second, "fused": fused}
    return {name: _data_url(picture) for name, picture in pictures.items()} | {"message": message}


def _data_url(picture: torch.Tensor) -> str:
    array = to_8bit(picture).to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _sample() -> tuple[Path, Path]:
    folder = RENDERED / "parallax"
    visible = sorted((folder / "vi").iterdir())[0]
    return next((folder / "ir_warp").glob(f"{visible.stem}.*")), visible


class Handler(BaseHTTPRequestHandler):
    """Answer ``GET /`` with the page and ``POST /fuse`` with the result as JSON.

    ``GET /sentences`` has suggestions; there are none if the page takes no sentence.
    """

    def __init__(self, network: Network, speaker: Speaker | None, *arguments: Any):
        self.network, self.speaker = network, speaker
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send the page."""
        if self.path == "/sentences":
            self._answer(HTTPStatus.OK, {"suggestions": list(SUGGESTIONS) if self.speaker else []})
            return
        if self.path.partition("?")[0] != "/":
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
            return
        self._send(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """Fuse what was sent."""
        length = int(self.headers.get("Content-Length") or 0)
        # Another page in the browser cannot send this type without being asked first.
        if self.path != "/fuse" or self.headers.get("Content-Type") != "application/json":
            self._answer(HTTPStatus.NOT_FOUND, {"error": "not found"})
        elif not 0 < length <= LARGEST:
            text = f"the pictures must have at most {LARGEST // 2**20} MiB, got {length} bytes"
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": text})
        else:
            self._fuse(self.rfile.read(length))

    def _fuse(self, body: bytes) -> None:
        try:
            values = json.loads(body)
            options = bool(values.get("align")), bool(values.get("black_hot"))
            said = self.speaker.network_for(values) if self.speaker else None
            network = said or self.network
            if values.get("sample"):
                result = fuse_files(network, *_sample(), *options)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    infrared = _store(values["infrared"], Path(folder), "infrared")
                    visible = _store(values["visible"], Path(folder), "visible")
                    result = fuse_files(network, infrared, visible, *options)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OSError,
            MissingExtra,
            ClipError,
        ) as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": explain(error)})
        else:
            self._answer(HTTPStatus.OK, result)

    def _answer(self, status: HTTPStatus, values: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(values).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header(
            "Content-Security-Policy",
            "default-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self'",
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the page shows what came of a request."""


def _store(sent: dict[str, str], folder: Path, name: str) -> Path:
    """Write an uploaded picture under a name of ours, with the ending that it had."""
    path = folder / f"{name}{Path(sent['name']).suffix.lower()}"
    path.write_bytes(base64.b64decode(sent["data"]))
    return path


def serve(
    network: Network,
    host: str = "127.0.0.1",
    port: int = 7860,
    speaker: Speaker | None = None,
) -> ThreadingHTTPServer:
    """Return a server of the page.

    Args:
        network: fuses where no sentence is said.
        host: who may connect; by default this computer only.
        port: 0 takes a free one.
        speaker: for sentences; without one the page has no field for them.

    Raises:
        OSError: if the port is taken.
    """
    return ThreadingHTTPServer((host, port), partial(Handler, network, speaker))


def _speaker(network: Network, clip: str) -> Speaker | None:
    """Return what takes sentences: the network that was asked for, or the one that ships."""
    if not isinstance(network, SentenceFusionNetwork):
        if not SENTENCE_WEIGHTS.is_file():
            return None
        network = load_network("sentence")
    assert isinstance(network, SentenceFusionNetwork)
    return Speaker(network, load_clip(clip))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ldf_utils.demo", description=__doc__)
    parser.add_argument("--weights", default="shipped", metavar="FILE", help="as for fusing")
    parser.add_argument("--host", default="127.0.0.1", help="default: this computer only")
    parser.add_argument("--port", type=int, default=7860, help="default 7860; 0: a free one")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument("--clip", default="mini", metavar="NAME", help="reads the sentences")
    arguments = parser.parse_args(argv)
    try:
        network = load_network(arguments.weights)
        speaker = _speaker(network, arguments.clip)
        server = serve(network, arguments.host, arguments.port, speaker)
    except (ValueError, OSError, ClipError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    with server:
        address = f"http://{arguments.host}:{server.server_address[1]}/"
        print(f"The page is at {address} (Ctrl-C ends it)", flush=True)
        if not arguments.no_browser:
            webbrowser.open(address)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    run_command(main, "the page is closed")
