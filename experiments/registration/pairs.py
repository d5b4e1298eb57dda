"""Pairs with a known displacement: published ones, rendered ones, and registered pairs, warped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ldf_utils.data.pairs import find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.registration.align import prepare
from ldf_utils.registration.geometry import grid, resize_matrix, transform
from ldf_utils.registration.homography import find_homography
from ldf_utils.registration.opencv import opencv

Array = npt.NDArray[np.float64]
Picture = npt.NDArray[np.float32]
SYNTHETIC = 20.0
"""Largest displacement of a corner in synthetic pairs, pixels of a picture 640 pixels wide."""

LONGEST = 640
"""Registered pairs are shrunk to this longer side, pixels."""


@dataclass
class KnownPair:
    """A pair, and where some visible points lie in the infrared picture (NaN: out of view)."""

    name: str
    infrared: Picture
    visible: Picture
    points: Array
    truth: Array

    def error(self, matrix: Array, field: Picture | None = None) -> float:
        """Return the median end-point error of a matrix, visible pixels."""
        points = self.points
        if field is not None:
            rows, columns = points.round().astype(int).T[::-1]
            points = points + field[rows, columns]
        scale = self.infrared.shape[1] / self.visible.shape[1]
        scale = scale if self.infrared.shape != self.visible.shape else 1.0
        distance = np.hypot(*(transform(matrix, points) - self.truth).T)
        return float(np.nanmedian(distance)) / scale

    @property
    def before(self) -> float:
        """The error of resizing one picture onto the other."""
        return self.error(resize_matrix(self.visible.shape, self.infrared.shape))


def _read(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("L")).astype(np.float32) / np.float32(255)


def smaller(picture: Picture, side: int) -> Picture:
    """Shrink a picture to a longer side."""
    ratio = min(1.0, side / max(picture.shape))
    size = (round(picture.shape[1] * ratio), round(picture.shape[0] * ratio))
    return opencv().resize(picture, size, interpolation=opencv().INTER_AREA)


def published(folder: Path, own: bool = False) -> Iterator[KnownPair]:
    """Yield pairs with ``flow/STEM.png.npz``: the place in ``ir`` of each pixel of ``ir_warp``.

    The published registration of ``ir`` and ``vi`` is off by pixels itself. With ``own`` the truth
    begins where the homography of this package lays ``ir`` on ``vi``: no truth, but it tells what
    of an error was there before the displacement.

    The arrays hold places for `torch.nn.functional.grid_sample`, -1 to 1 from edge to edge
    (``align_corners=False``), so the displacement is their inverse in pixels.
    """
    for file in sorted(folder.glob("*/flow/*.npz")):
        set_folder, name = file.parents[1], file.name.removesuffix(".npz")
        with np.load(file) as arrays:
            places = arrays["flow"][0].astype(np.float64)
        height, width = places.shape[:2]
        places = ((places + 1) * [width, height] - 1) / 2
        points = grid((height, width), 24)
        warp, visible = (_read(set_folder / part / name) for part in ("ir_warp", "vi"))
        lies = points
        if own:
            lies = _own(_read(set_folder / "ir" / name), visible, points)
        truth = _inverse(places.astype(np.float32), lies)
        yield KnownPair(f"{set_folder.name}/{name}", warp, visible, points, truth)


def _own(infrared: Picture, visible: Picture, points: Array) -> Array:
    """Return where points lie by the homography of this package."""
    return transform(find_homography([prepare(infrared, visible)], np.eye(3))[0], points)


def _inverse(places: Picture, points: Array) -> Array:
    """Find where a field of places takes each of some values; NaN where it does not."""
    cv2 = opencv()
    found = points.copy()
    for _ in range(30):
        x, y = found.T.astype(np.float32)[:, None]
        rest = cv2.remap(places, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        rest = rest - points
        found = np.clip(found - rest, 0, np.array(places.shape[1::-1]) - 1)
    found[np.hypot(*rest.T) > 0.5] = np.nan
    return found


def parallax() -> Iterator[KnownPair]:
    """Yield the rendered pairs of two cameras side by side."""
    folder = RENDERED / "parallax"
    for file in sorted((folder / "flow").glob("*.npz")):
        with np.load(file) as arrays:
            flow = arrays["flow"].astype(np.float64)
        points = grid(flow.shape[:2], 24)
        rows, columns = points.round().astype(int).T[::-1]
        infrared, visible = (
            _read(next((folder / part).glob(f"{file.stem}.*"))) for part in ("ir_warp", "vi")
        )
        truth = points + flow[rows, columns]
        yield KnownPair(f"parallax/{file.stem}", infrared, visible, points, truth)


def registered(
    folder: Path | None, every: int, names: Sequence[str] | None = None, own: bool = False
) -> Iterator[KnownPair]:
    """Yield every n-th pair of the real sets (or of the rendered test pairs), as it is.

    Args:
        folder: of the real sets, or None.
        every: n.
        names: SET/STEM of the pairs that are wanted; all for None.
        own: the truth is where the homography of this package lays the pair, as in `published`.
    """
    sets = dict(find_sets(folder)) if folder else {}
    for name, pairs in {**sets, **find_sets(RENDERED)}.items():
        if name not in {*sets, "test"}:
            continue
        for index in range(0, len(pairs), every):
            full = f"{name}/{pairs.names[index]}"
            if names is not None and full not in names:
                continue
            pair = pairs[index]
            infrared = smaller(pair.infrared[0].numpy(), LONGEST)
            visible = smaller(pair.luminance[0].numpy(), LONGEST)
            points = grid(infrared.shape, 24)
            lies = _own(infrared, visible, points) if own else points.copy()
            yield KnownPair(full, infrared, visible, points, lies)


def warped(pair: KnownPair, seed: int, view: tuple[float, float] | None = None) -> KnownPair:
    """Warp the infrared picture of a registered pair by a random homography.

    Args:
        pair: a registered pair.
        seed: of the homography, whose corners move by up to `SYNTHETIC` pixels, of uniform size.
        view: (width of the infrared view over the visible one, its pixels over visible ones).
    """
    cv2 = opencv()
    rng = np.random.default_rng(seed)
    height, width = pair.visible.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moves = rng.uniform(-1, 1, 2) + rng.uniform(-1, 1, (4, 2))
    moves *= rng.uniform(0, SYNTHETIC) * width / 640 / np.hypot(*moves.T).max()
    matrix = cv2.getPerspectiveTransform(corners, (corners + moves).astype(np.float32))
    size = (width, height)
    if view is not None:
        part, scale = view
        size = (int(width * part * scale), int(height * part * scale))
        left, top = width * (1 - part) / 2, height * (1 - part) / 2
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale], [0, 0, 1]]) @ matrix
    return _seen_through(pair, matrix, size)


def _seen_through(pair: KnownPair, matrix: Array, size: tuple[int, int]) -> KnownPair:
    """Warp the infrared picture into one of ``(width, height)`` pixels."""
    infrared = opencv().warpPerspective(pair.infrared, matrix, size)
    truth = transform(matrix, pair.truth)
    truth[((truth < 0) | (truth > np.array(size) - 1)).any(1)] = np.nan
    return KnownPair(pair.name, infrared, pair.visible, pair.points, truth)


def turned(pair: KnownPair, seed: int) -> KnownPair:
    """Turn by up to 4 degrees, scale by up to 3 % and shift by up to 14 pixels of 640."""
    rng = np.random.default_rng(seed)
    height, width = pair.visible.shape
    angle, scale = np.radians(rng.uniform(-4, 4)), rng.uniform(0.97, 1.03)
    shift = rng.uniform(-14, 14, 2) * width / 640
    middle = np.array([width - 1, height - 1]) / 2
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, middle + shift - turn @ middle
    return _seen_through(pair, matrix, (width, height))


def elastic(pair: KnownPair, seed: int) -> KnownPair:
    """Turn, shift and bend as the published pairs are: a smooth random field of 1.5 pixels."""
    cv2 = opencv()
    rng = np.random.default_rng(seed)
    height, width = pair.visible.shape
    angle, unit = np.radians(rng.normal(0, 3)), width / 640
    shift = rng.uniform(-14, 14, 2) * unit
    y, x = (np.mgrid[:height, :width] + 0.5) * 2 / np.array([height, width])[:, None, None] - 1
    turn = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    places = np.empty((height, width, 2), np.float32)
    for k, side in enumerate((width, height)):
        field = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 32 * unit)
        place = (turn[k] + 1) * side / 2 - 0.5 + shift[k]
        places[..., k] = place + 1.5 * unit * field / field.std()
    infrared = cv2.remap(pair.infrared, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
    truth = _inverse(places, pair.truth)
    return KnownPair(pair.name, infrared, pair.visible, pair.points, truth)
