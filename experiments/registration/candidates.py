"""What is compared: each takes a pair and returns the matrix from visible to infrared pixels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import numpy as np

from experiments.registration import checks
from experiments.registration.checks import gradients
from experiments.registration.pairs import KnownPair, smaller
from ldf_utils.registration.align import align, prepare
from ldf_utils.registration.geometry import Array, resize_matrix
from ldf_utils.registration.homography import find_homography
from ldf_utils.registration.opencv import opencv
from ldf_utils.registration.search import find_starts


def _start(pair: KnownPair) -> Array:
    return resize_matrix(pair.visible.shape, pair.infrared.shape)


def direction_correlation(pair: KnownPair) -> Array:
    """FFT correlation of edge directions over scales near 1 and small turns: a start alone."""
    source = prepare(pair.infrared, pair.visible)
    return find_starts(source, 1, tuple(np.linspace(0.94, 1.06, 7)), (-2.0, 0.0, 2.0))[0]


def _ecc(pair: KnownPair, matrix: Array, sides: Sequence[int]) -> Array:
    """Refine a homography by OpenCV's findTransformECC on gradient magnitude over a pyramid."""
    cv2 = opencv()
    for side in sides:
        pictures = [gradients(smaller(picture, side)) for picture in (pair.visible, pair.infrared)]
        to_visible, to_infrared = (
            resize_matrix(whole.shape, small.shape)
            for whole, small in zip((pair.visible, pair.infrared), pictures, strict=True)
        )
        small_matrix = np.float32(to_infrared @ matrix @ np.linalg.inv(to_visible))
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
        try:
            _, small_matrix = cv2.findTransformECC(
                *pictures, small_matrix, cv2.MOTION_HOMOGRAPHY, criteria, None, 5
            )
        except cv2.error:  # it did not converge: the level before stays
            continue
        matrix = np.linalg.inv(to_infrared) @ small_matrix @ to_visible
    return matrix / matrix[2, 2]


def ecc(pair: KnownPair) -> Array:
    """OpenCV's findTransformECC on gradient magnitude, a homography over a pyramid."""
    return _ecc(pair, _start(pair), (120, 240, 480))


def mutual_information(pair: KnownPair) -> Array:
    """SimpleITK: Mattes mutual information, affine (it has no homography), over a pyramid."""
    sitk = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    fixed, moving = (sitk.GetImageFromArray(p) for p in (pair.visible, pair.infrared))
    start = _start(pair)
    first = sitk.AffineTransform(2)
    first.SetMatrix(start[:2, :2].ravel().tolist())
    first.SetTranslation(start[:2, 2].tolist())
    first.SetCenter([0.0, 0.0])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 150)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(first, False)
    try:
        found = method.Execute(fixed, moving)
    except RuntimeError:  # the views came apart
        return start
    corners = np.array([[0, 0], [1, 0], [0, 1]], float)
    places = np.array([found.TransformPoint(corner) for corner in corners.tolist()])
    matrix = np.eye(3)
    matrix[:2] = np.stack([places[1] - places[0], places[2] - places[0], places[0]], 1)
    return matrix


def windows(pair: KnownPair) -> Array:
    """Similarity volumes of oriented edges, coarse to fine (`ldf_utils.registration`), as found."""
    return find_homography([prepare(pair.infrared, pair.visible)], _start(pair))[0]


def refined(pair: KnownPair) -> Array:
    """Refine the result of `windows` by ECC, where the mutual information of levels rises by it."""
    matrix = windows(pair)
    finer = _ecc(pair, matrix, (320, 480))
    before, after = (checks.mutual_information(pair, one) for one in (matrix, finer))
    return finer if after > before else matrix


def both_ways(pair: KnownPair) -> Array:
    """Return the mean of the search from visible to infrared and of that back."""
    return (windows(pair) + checks.other_way(pair)) / 2


def accepted(pair: KnownPair) -> Array:
    """Return what `align` does: as above, or resizing where it is refused."""
    return align(pair.infrared, pair.visible).matrix


def deformed(pair: KnownPair) -> tuple[Array, np.ndarray | None]:
    """Return the same with a deformation."""
    found = align(pair.infrared, pair.visible, deformation=True)
    return found.matrix, found.deformation


CANDIDATES: dict[str, Callable[[KnownPair], Array | tuple[Array, np.ndarray | None]]] = {
    "correlation of edge directions (FFT)": direction_correlation,
    "ECC on gradient magnitude (OpenCV)": ecc,
    "mutual information (SimpleITK)": mutual_information,
    "windows of oriented edges": windows,
    "the same, refined by ECC": refined,
    "the same, mean of both directions": both_ways,
    "the same, accepted or refused": accepted,
    "the same with a deformation": deformed,
}
