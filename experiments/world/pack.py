"""Pack rendered sets into the small one that ships: pictures, coded truth, boxes and a card."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from experiments.world.pair import SKY, TEMPERATURE_OFFSET, TEMPERATURE_SCALE
from experiments.world.truth import LABELS
from ldf_utils.data.files import atomic_path

Bytes = npt.NDArray[np.uint8]
QUALITY = {"vi": 88, "ir": 90, "oracle": 84}
# Depth d in meters is 0.5 exp((code - 1) / 36) for codes 1 to 254, 255 is the sky (steps of 2.8 %).
DEPTH_NEAR, DEPTH_STEPS = 0.5, 36.0
# Temperature in degrees Celsius is -30 + 0.3 code; what is colder or warmer takes the end codes.
COLDEST, KELVIN_PER_CODE = -30.0, 0.3
LIMIT = 14_000_000
BOX = ("xmin", "ymin", "xmax", "ymax", "name")


def code_depth(centimeters: npt.NDArray[np.integer]) -> Bytes:
    """Code depth in 8 bits, logarithmically."""
    meters = np.maximum(centimeters / 100.0, DEPTH_NEAR)
    code = np.clip(1 + np.round(DEPTH_STEPS * np.log(meters / DEPTH_NEAR)), 1, 254)
    return np.where(centimeters == SKY, 255, code).astype(np.uint8)


def decode_depth(code: Bytes) -> npt.NDArray[np.float32]:
    """Return meters, infinite for the sky.

    Example:
        >>> decode_depth(code_depth(np.array([1000]))).round(1)
        array([10.], dtype=float32)
    """
    meters = DEPTH_NEAR * np.exp((code.astype(np.float32) - 1) / DEPTH_STEPS)
    return np.where(code == 255, np.inf, meters).astype(np.float32)


def code_temperature(stored: npt.NDArray[np.integer]) -> Bytes:
    """Code temperature in 8 bits, from the 16 bits of ``pair.encode_temperature``."""
    celsius = stored / TEMPERATURE_SCALE - TEMPERATURE_OFFSET
    return np.clip(np.round((celsius - COLDEST) / KELVIN_PER_CODE), 0, 255).astype(np.uint8)


def decode_temperature(code: Bytes) -> npt.NDArray[np.float32]:
    """Return degrees Celsius."""
    return (COLDEST + KELVIN_PER_CODE * code.astype(np.float32)).astype(np.float32)


def _write(array: npt.NDArray[np.generic], path: Path, quality: int | None = None) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _read(path: Path) -> npt.NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


CODED = ("labels", "instances", "depth", "temperature")


def _coded(truth: Path, kind: str, name: str) -> Bytes:
    """Read one kind of truth and code it in 8 bits."""
    array = _read(truth / kind / f"{name}.png")
    if kind == "depth":
        return code_depth(array)
    if kind == "temperature":
        return code_temperature(array)
    return array.astype(np.uint8)


def pack_set(
    source: Path, target: Path, truths: Sequence[str] = CODED, oracle: bool = True
) -> list[dict[str, Any]]:
    """Pack one rendered folder; return the facts of its pairs.

    Args:
        source: folder that was rendered.
        target: folder to write.
        truths: which of ``CODED`` to keep.
        oracle: whether to keep the oracle fusion.

    Raises:
        FileNotFoundError: if ``source`` holds no finished pair.
    """
    facts_files = sorted((source / "truth" / "facts").glob("*.json"))
    if not facts_files:
        raise FileNotFoundError(
            f"no finished pair in {source}: expected truth/facts/*.json; render the set first"
        )
    rows, all_facts, truth = [], [], source / "truth"
    for path in facts_files:
        name, facts = path.stem, json.loads(path.read_text())
        pictures = {kind: source / kind for kind in ("vi", "ir", "ir_warp")}
        pictures["oracle"] = truth / "oracle"
        for kind, folder in pictures.items():
            picture = folder / f"{name}.png"
            if (kind != "oracle" or oracle) and (kind != "ir_warp" or picture.exists()):
                quality = QUALITY["ir" if kind == "ir_warp" else kind]
                _write(_read(picture), target / kind / f"{name}.jpg", quality)
        for kind in truths:
            _write(_coded(truth, kind, name), target / kind / f"{name}.png")
        flow = source / "flow" / f"{name}.npz"
        if flow.exists():
            with atomic_path(target / "flow" / flow.name) as temporary:
                shutil.copyfile(flow, temporary)
        for box in facts.pop("boxes"):
            rows.append([f"{name}.jpg", *(box[k] for k in BOX)])
        facts.pop("cameras", None)
        all_facts.append({"name": name, **facts})
    with (
        atomic_path(target / "boxes.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as table,
    ):
        writer = csv.writer(table)
        writer.writerow(["image", *BOX])
        writer.writerows(rows)
    with atomic_path(target / "facts.json") as temporary:
        temporary.write_text(json.dumps(all_facts, indent=0) + "\n")
    return all_facts


def statistics(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Count what a set shows."""
    seconds = [f["seconds"] for f in facts if "seconds" in f]
    return {
        "pairs": len(facts),
        "size": facts[0]["size"],
        "places": dict(Counter(f["layout"] for f in facts).most_common()),
        "light": dict(Counter(f["light"] for f in facts).most_common()),
        "air": dict(Counter(f["air"] for f in facts).most_common()),
        "people": sum(f["people"] for f in facts),
        "vehicles": sum(f["vehicles"] for f in facts),
        "empty": sum(f["people"] + f["vehicles"] == 0 for f in facts),
        "crowded": sum(f["people"] >= 5 for f in facts),
        "camera_height_m": [round(pick(f["height"] for f in facts), 1) for pick in (min, max)],
        "median_cpu_seconds_a_pair": round(float(np.median(seconds)), 1) if seconds else None,
        "variant": facts[0].get("variant"),
    }


CARD = """# Rendered pairs

Registered infrared and visible pairs of an invented world, rendered with Mitsuba 3 by
`experiments/world`; no picture of a real place, person or vehicle is in them. License: the
project's own, Apache-2.0.

Each of `train/`, `test/`, `sequence/` (frames a tenth of a second apart) and `parallax/` (two
cameras side by side) has some of these:

| folder | what |
|---|---|
| `ir/`, `vi/` | the pair, JPEG; infrared in gray, visible in color |
| `oracle/` | the answer of a perfect fusion, JPEG; why: `docs/rendered_world.md` |
| `labels/` | PNG, the class of every pixel: {labels} |
| `instances/` | PNG, the number of the person or vehicle, 0 for none |
| `depth/` | PNG, meters = 0.5 exp((code - 1) / 36), 255 for the sky; of what is nearest |
| `temperature/` | PNG, degrees Celsius = -30 + 0.3 code, ends saturate |
| `boxes.csv` | people and vehicles with at least 20 pixels in view, in pixels, half-open |
| `parallax/ir_warp/` | the infrared picture from a camera beside the visible one |
| `parallax/flow/` | `flow`, pixels: where a pixel of `vi/` lies in `ir_warp/`, minus where it is |
| `facts.json` | seed, place, light, air, season, weather, counts and a caption of every pair |

Made by

{commands}

{chosen}

{tables}
"""


def ranges(indices: Sequence[int]) -> str:
    """Write sorted numbers as ranges, as ``--indices`` reads them.

    Example:
        >>> ranges([0, 1, 2, 5])
        '0-2,5'
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


CHOSEN = """Of the first 72 training and 28 test worlds, all were looked at, and 8 and 4 left out
that teach nothing: nobody and nothing warm in view, smoke before all of the picture, or a bush in
front of the camera. Seconds are CPU time on one core, of those pairs for which it was measured."""


def _command(name: str, facts: list[dict[str, Any]]) -> str:
    """Return the command line that renders a set."""
    width, height = facts[0]["size"]
    what = name if name in ("sequence", "parallax") else "render"
    seed, size = facts[0]["seed"], f"{width}x{height}"
    indices = ranges([f["index"] for f in facts])
    which = f"--count {len(facts)}" if what != "render" else f"--indices {indices}"
    text = f"{what} --set {name} {which} --seed {seed} --size {size}"
    return text + (f" --light {facts[0]['light']}" if name == "sequence" else "")


def write_card(target: Path, sets: dict[str, list[dict[str, Any]]]) -> None:
    """Write ``card.json`` and ``README.md`` beside the sets."""
    numbers = {name: statistics(facts) for name, facts in sets.items()}
    commands = [f"    python -m experiments.world {_command(n, f)}" for n, f in sets.items()]
    folders = " ".join(f"--{name} runs/world/{name}" for name in sets)
    commands.append(f"    python -m experiments.world pack {folders}")
    keys = list(next(iter(numbers.values())))
    table = ["| | " + " | ".join(numbers) + " |", "|---" * (len(numbers) + 1) + "|"]
    for key in keys:
        cells = []
        for name in numbers:
            value = numbers[name][key]
            text = (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else str(value)
            )
            cells.append(text)
        table.append(f"| {key.replace('_', ' ')} | " + " | ".join(cells) + " |")
    labels = ", ".join(f"{n} {name}" for n, name in enumerate(LABELS))
    text = CARD.format(
        labels=labels, commands="\n".join(commands), chosen=CHOSEN, tables="\n".join(table)
    )
    with atomic_path(target / "README.md") as temporary:
        temporary.write_text(text)
    with atomic_path(target / "card.json") as temporary:
        temporary.write_text(json.dumps({"labels": LABELS, "sets": numbers}, indent=1) + "\n")


def pack(
    train: str | os.PathLike,
    test: str | os.PathLike,
    out: str | os.PathLike,
    sequence: str | os.PathLike | None = None,
    parallax: str | os.PathLike | None = None,
) -> int:
    """Pack the sets and return their size in bytes.

    Of a sequence only pictures, instances and boxes are kept; of pairs side by side the registered
    and the displaced infrared picture, the visible one and the true displacement.

    Raises:
        FileNotFoundError: if a folder holds no finished pair.
        ValueError: if the result is larger than what may ship.
    """
    target = Path(out)
    sets = {
        "train": pack_set(Path(train), target / "train"),
        "test": pack_set(Path(test), target / "test"),
    }
    if sequence:
        frames = target / "sequence"
        sets["sequence"] = pack_set(Path(sequence), frames, ("instances",), oracle=False)
    if parallax:
        sets["parallax"] = pack_set(Path(parallax), target / "parallax", (), oracle=False)
    write_card(target, sets)
    total = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    if total > LIMIT:
        raise ValueError(
            f"{target} has {total:,} bytes; at most {LIMIT:,} may ship: pack fewer pairs"
        )
    return total


def sheet(folder: str | os.PathLike, names: Sequence[str], out: str | os.PathLike) -> None:
    """Write one picture of some packed pairs: a row each, visible, infrared and oracle.

    Raises:
        FileNotFoundError: if a pair is not there.
    """
    width, height = 320, 240
    page = Image.new("RGB", (3 * width, height * len(names)))
    for row, name in enumerate(names):
        for column, kind in enumerate(("vi", "ir", "oracle")):
            with Image.open(Path(folder) / kind / f"{name}.jpg") as image:
                small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            page.paste(small, (column * width, row * height))
    with atomic_path(out) as temporary:
        page.save(temporary, quality=88)
