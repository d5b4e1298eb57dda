"""What both cameras see alike: where edges are and how they lie, not which side is brighter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ldf_utils.registration.opencv import opencv

Picture = npt.NDArray[np.float32]

ORIENTATIONS = 6
"""Channels: edges whose normal is near 0, 30, ... 150 degrees."""

_SMOOTH = 1.0  # pixels, before the derivative and of the channels
_LOCAL = 12.0  # pixels, over which the strength of edges is compared
_MARGIN = 7  # pixels beside the edge of the view that say nothing


def view_mask(picture: Picture) -> npt.NDArray[np.uint8]:
    """Find the camera's view: 0 in black areas that touch the edge of the picture, 1 elsewhere.

    A picture that was warped before has such areas, and their edges are none of the scene.
    """
    cv2 = opencv()
    black = (picture <= 1e-6).astype(np.uint8)
    height, width = picture.shape
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(black)
    mask = np.ones(picture.shape, np.uint8)
    for label in range(1, count):
        x, y, w, h, area = boxes[label]
        if area > 0.001 * picture.size and (x == 0 or y == 0 or x + w == width or y + h == height):
            mask[labels == label] = 0
    return mask


def edge_features(picture: Picture, mask: npt.NDArray[np.uint8], window: int) -> Picture:
    """Compute oriented edge strength, contrast divided out.

    With the gradient g of the smoothed picture, its direction n and its mean square m around, the
    channel of direction e_k is ``|n . e_k|^3 |g| / sqrt(g^2 + m)``, smoothed, minus its mean over a
    window. The sign of the gradient does not enter: what is bright in visible light may be cold.
    (After CFOG: Ye et al., Fast and Robust Matching for Multimodal Remote Sensing Image
    Registration, doi:10.1109/TGRS.2019.2924684.)

    Args:
        picture: ``(H, W)``.
        mask: ``(H, W)``, 0 where the camera sees nothing.
        window: side in pixels of the area over which the mean is taken.

    Returns:
        ``(6, H, W)``, 0 where the mask is 0.
    """
    cv2 = opencv()
    smooth = cv2.GaussianBlur(picture, (0, 0), _SMOOTH)
    valid = cv2.erode(mask, np.ones((_MARGIN, _MARGIN), np.uint8)).astype(np.float32)
    x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) * (valid / 32)
    y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) * (valid / 32)
    square = x * x + y * y
    around = cv2.GaussianBlur(square, (0, 0), _LOCAL) + 0.1 * square.mean() + 1e-7
    strength, size = np.sqrt(square / (square + around)), np.sqrt(square) + 1e-6
    x, y = x / size, y / size
    inside = cv2.blur(valid, (window | 1, window | 1)) + 1e-3
    channels = np.empty((ORIENTATIONS, *picture.shape), np.float32)
    for k, channel in enumerate(channels):
        angle = np.pi * k / ORIENTATIONS
        along = np.abs(x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
        smoothed = cv2.GaussianBlur(along * along * along * strength, (0, 0), _SMOOTH) * valid
        mean = cv2.blur(smoothed, (window | 1, window | 1)) / inside
        channel[...] = (smoothed - mean) * valid
    return channels
