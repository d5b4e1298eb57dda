"""Lay one picture on the other by an alignment, or cut out what both show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ldf_utils.registration.align import Alignment
from ldf_utils.registration.geometry import pixel_scale, transform
from ldf_utils.registration.opencv import opencv

_SEAM = 16  # pixels over which the infrared view passes into what is around it


@dataclass(frozen=True)
class Box:
    """A part of a picture, half-open, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def warp_infrared(infrared: np.ndarray, alignment: Alignment, outside: float = 0.0) -> np.ndarray:
    """Lay an infrared picture on the visible one.

    Args:
        infrared: ``(H, W)`` or ``(H, W, C)``, uint8, uint16 or float32, of the alignment's size.
        alignment: how the cameras lie.
        outside: the value where the infrared camera sees nothing.

    Returns:
        The picture in the size of the visible one, of the same type.
    """
    _check(infrared.shape[:2], alignment.infrared_size, "infrared")
    x, y = _places(alignment)
    cv2 = opencv()
    scale = pixel_scale(alignment.matrix, alignment.visible_size)
    if scale > 1.3:  # it shrinks: without this, fine texture would flicker
        infrared = cv2.GaussianBlur(infrared, (0, 0), 0.4 * scale)
    return cv2.remap(
        infrared, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )


def warp_visible(visible: np.ndarray, alignment: Alignment, outside: float = 0.0) -> np.ndarray:
    """Lay a visible picture on the infrared one, by the homography (not the deformation)."""
    _check(visible.shape[:2], alignment.visible_size, "visible")
    cv2 = opencv()
    height, width = alignment.infrared_size
    scale = 1 / pixel_scale(alignment.matrix, alignment.visible_size)
    if scale > 1.3:
        visible = cv2.GaussianBlur(visible, (0, 0), 0.4 * scale)
    value = (outside,) * 4
    return cv2.warpPerspective(visible, alignment.matrix, (width, height), borderValue=value)


def _check(found: tuple[int, ...], expected: tuple[int, int], name: str) -> None:
    if tuple(found) != tuple(expected):
        raise ValueError(
            f"the transform is for {name} pictures of {expected[1]} x {expected[0]} pixels, found "
            f"{found[1]} x {found[0]}; find a transform for this size"
        )


def _places(alignment: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """Where each visible pixel lies in the infrared picture."""
    height, width = alignment.visible_size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    if alignment.deformation is not None:
        x, y = x + alignment.deformation[..., 0], y + alignment.deformation[..., 1]
    places = transform(alignment.matrix, np.stack([x.ravel(), y.ravel()], 1))
    return tuple(np.float32(places[:, k].reshape(height, width)) for k in (0, 1))  # type: ignore


def in_view(alignment: Alignment) -> np.ndarray:
    """Return ``(H, W)`` bool: the visible pixels that the infrared camera sees as well."""
    height, width = alignment.infrared_size
    x, y = _places(alignment)
    # A fraction of a pixel beyond the last one is still that pixel.
    return (x >= -0.5) & (y >= -0.5) & (x <= width - 0.5) & (y <= height - 0.5)


def common_box(alignment: Alignment) -> Box | None:
    """Find a large box in the visible picture that the infrared camera sees in full.

    The box grows from the middle of the common area; None where that is smaller than 32 pixels.
    """
    seen = in_view(alignment)
    if seen.all():
        return Box(0, 0, seen.shape[1], seen.shape[0])
    rows, columns = np.nonzero(seen)
    if not len(rows):
        return None
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    while True:  # cut the side with most that is out of view
        left, top, right, bottom = (int(edge) for edge in edges)
        if min(right - left, bottom - top) < 32:
            return None
        part = seen[top:bottom, left:right]
        missing = [part[:, 0], part[0], part[:, -1], part[-1]]
        shares = [1 - side.mean() for side in missing]
        if not any(shares):
            if part.all():
                return Box(left, top, right, bottom)
            shares = [1.0] * 4
        worst = int(np.argmax(shares))
        edges[worst] += 1 if worst < 2 else -1


class Placement:
    """Lays the infrared pictures of one rig on the visible ones.

    Args:
        alignment: how the cameras lie.
        common: cut both pictures to the part that both show. By default the result has the size
            of the visible picture, and where the infrared camera sees nothing the infrared picture
            is filled with the luminance of the visible one, so that fusing changes only tone and
            contrast there; one passes into the other over 16 pixels.

    Raises:
        ValueError: if the two views have too little in common.
    """

    def __init__(self, alignment: Alignment, common: bool = False):
        self.alignment = alignment
        box = common_box(alignment)
        if box is None:
            raise ValueError("the two views have no part of 32 x 32 pixels in common")
        self.box = box if common else None
        self._shrink = pixel_scale(alignment.matrix, alignment.visible_size)
        self._x, self._y = _places(alignment)
        cv2 = opencv()
        seen = np.pad(in_view(alignment).astype(np.uint8), 1, constant_values=2)
        seen[seen == 2] = 1  # the edge of the visible picture is no seam
        inside = cv2.distanceTransform(seen, cv2.DIST_L2, 3)[1:-1, 1:-1]
        self._weight = torch.from_numpy(np.float32((inside / _SEAM).clip(0, 1)))

    def lay(self, infrared: torch.Tensor, luminance: torch.Tensor) -> torch.Tensor:
        """Lay an infrared picture ``(1, H, W)`` on a visible one with luminance ``(1, H', W')``.

        Returns:
            ``(1, H', W')``, float32.

        Raises:
            ValueError: if a size is not that of the alignment.
        """
        _check(tuple(infrared.shape[-2:]), self.alignment.infrared_size, "infrared")
        _check(tuple(luminance.shape[-2:]), self.alignment.visible_size, "visible")
        cv2, picture = opencv(), infrared[0].numpy()
        if self._shrink > 1.3:  # fine texture would flicker
            picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * self._shrink)
        laid = cv2.remap(
            picture, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return torch.lerp(luminance, torch.from_numpy(laid)[None], self._weight)

    def cut(self, picture: torch.Tensor) -> torch.Tensor:
        """Cut a picture ``(C, H, W)`` of the visible size to the common part, if that is asked."""
        return picture if self.box is None else picture[(..., *self.box.part)].contiguous()
