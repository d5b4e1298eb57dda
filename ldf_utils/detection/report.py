"""Report: one HTML page with the tables and pictures on which the boxes are drawn."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from PIL import Image, ImageDraw

from ldf_utils.data.files import write_text
from ldf_utils.data.images import to_8bit
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection.boxes import Boxes, best_score, outcome
from ldf_utils.detection.search import MERGED, SOURCES, Findings
from ldf_utils.detection.table import Row, ranked
from ldf_utils.evaluation.evaluate import read_fused

FOUND, MISSED, FALSE = "#56b4e9", "#e69f00", "#d55e00"
_WIDTH = 400


def draw_boxes(gray: torch.Tensor, truth: Boxes, detections: Boxes, score: float) -> Image.Image:
    """Draw what was found, missed and false on a picture.

    Found labels are blue, missed ones amber and wider, false detections red and crossed.

    Args:
        gray: ``(1, H, W)`` in [0, 1].
        truth: labels.
        detections: of the picture.
        score: detections below it are not drawn.

    Returns:
        An RGB picture, enlarged to `_WIDTH` pixels or more by a whole number.
    """
    picture = Image.fromarray(to_8bit(gray)[0].to(torch.uint8).numpy()).convert("RGB")
    factor = max(1, round(_WIDTH / picture.width))
    picture = picture.resize((picture.width * factor, picture.height * factor))
    pen, made = ImageDraw.Draw(picture), outcome(truth, detections, score)
    for corners, missed in zip(truth.corners * factor, made.missed, strict=True):
        color, width = (MISSED, 3) if missed else (FOUND, 2)
        pen.rectangle(tuple(corners), outline=color, width=width)
    for corners in detections.corners[made.false] * factor:
        pen.rectangle(tuple(corners), outline=FALSE, width=2)
        pen.line(tuple(corners), fill=FALSE, width=1)
    return picture


def _inlined(picture: Image.Image) -> str:
    """Encode a picture as the address of an inlined image."""
    size = (_WIDTH, max(1, round(picture.height * _WIDTH / picture.width)))
    png = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(png, format="PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")


def _pictures(
    pairs: PairFolder, findings: Findings, score: float, count: int
) -> Iterator[dict[str, Any]]:
    """Show labeled pairs spread over the set, with the boxes of each method."""
    names = [name for name, boxes in findings.truth.items() if len(boxes)] or list(findings.truth)
    for k in sorted({round(x) for x in np.linspace(0, len(names) - 1, min(count, len(names)))}):
        name, shown = names[k], []
        pair = pairs[pairs.names.index(name)]
        for method, found in findings.found.items():
            if name not in found or not (method in (*SOURCES, MERGED) or _is_file(pairs, method)):
                continue
            if method in (*SOURCES, MERGED):
                gray = pair.infrared if method == "infrared" else pair.luminance
            else:
                gray = read_fused(pairs, method, name, pair.size)
            made = outcome(findings.truth[name], found[name], score)
            counts = [int(x.sum()) for x in (made.found, made.missed, made.false)]
            text = f"{counts[0]} found, {counts[1]} missed, {counts[2]} false"
            picture = draw_boxes(gray, findings.truth[name], found[name], score)
            where = " (drawn on the visible picture)" if method == MERGED else ""
            shown.append((f"{method}{where}: {text}", _inlined(picture)))
        yield {"name": name, "shown": shown}


def _is_file(pairs: PairFolder, method: str) -> bool:
    return method in pairs.fused_methods()


def write_report(
    path: str | os.PathLike,
    pairs: PairFolder,
    findings: Findings,
    rows: Sequence[Row],
    *,
    detector: str,
    told: Sequence[str] = (),
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    examples: int = 4,
) -> Path:
    """Write one HTML page that needs no other file.

    Args:
        path: the file.
        pairs: the set.
        findings: of `ldf_utils.detection.search.search_set`.
        rows: of `ldf_utils.detection.table.precision_rows`.
        detector: its name.
        told: sentences on what is beyond chance.
        problems: what was reported.
        notes: sentences to begin with.
        examples: how many pairs to show, spread over those with boxes.

    Raises:
        OSError: if the file cannot be written.
    """
    score = best_score(findings.truth, findings.found.values())
    source = resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    page = environment.from_string(source).render(
        title=f"Detection in {pairs.name}: {len(findings.truth)} pairs, {len(findings.found)} "
        "methods",
        detector=detector,
        notes=notes,
        rows=ranked(rows),
        told=told,
        score=score,
        colors={"found": FOUND, "missed": MISSED, "false": FALSE},
        pictures=list(_pictures(pairs, findings, score, examples)),
        problems=problems,
    )
    return write_text(path, page.lstrip() + "\n")
