"""Metrics: bounds and symmetries, and slow independent references."""

import math

import numpy as np
import piq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, signal
from skimage.metrics import mean_squared_error as skimage_mse
from skimage.metrics import structural_similarity as skimage_ssim

from experiments import metrics_speed
from ldf_utils import metrics
from ldf_utils.metrics import CONVENTIONS, METRICS, USUAL, gray_levels, measure, select
from ldf_utils.metrics.filters import gaussian, separable, sobel

OF_THE_FUSED_ALONE = ("EN", "SD", "SF", "AG", "EI")
DIFFERENTIABLE = (
    "SD",
    "SF",
    "AG",
    "EI",
    "SCD",
    "CC",
    "MSE",
    "PSNR",
    "SSIM",
    "MS-SSIM",
    "VIF",
    "Qabf",
)
# Lowest and highest possible value.
RANGES = {
    "EN": (0, 8),
    "SD": (0, 127.5),
    "SF": (0, 255 * math.sqrt(2)),
    "AG": (0, 255),
    "EI": (0, 1020 * math.sqrt(2)),
    "MI": (0, 2 * math.log(256)),
    "MI_bits": (0, 16),
    "NMI": (0, 2),
    "CE": (-math.inf, math.inf),
    "SCD": (-2, 2),
    "CC": (-1, 1),
    "MSE": (0, 1),
    "PSNR": (0, math.inf),
    "SSIM": (-2, 2),
    "SSIMa": (-1, 1),
    "MS-SSIM": (0, 2),
    "VIF": (0, math.inf),
    "Qabf": (0, 0.9994 * 0.9879),
    "Nabf": (0, 1),
    "Nabf_unweighted": (0, 1),
    "FMI_pixel": (-1e-6, 1),
    "FMI_edge": (-1e-6, 1),
    "FMI_gradient": (-1e-6, 1),
    "Qcb": (0, 1),
    "Qcv": (0, math.inf),
}
# What three equal pictures give, where that does not depend on the picture.
OF_THREE_EQUAL = {
    "NMI": 2,
    "CE": 0,
    "SCD": 0,
    "CC": 1,
    "MSE": 0,
    "PSNR": math.inf,
    "SSIM": 2,
    "SSIMa": 1,
    "MS-SSIM": 2,
    "VIF": 2,
    "Nabf": 0,
    "Nabf_unweighted": 0,
    "FMI_pixel": 1,
    "FMI_edge": 1,
    "FMI_gradient": 1,
    "Qcb": 1,
    "Qcv": 0,
}


def size_for(name):
    """A small picture that the metric is defined for."""
    if name in ("FMI_pixel", "FMI_gradient"):
        return (9, 12)
    return {"MS-SSIM": (176, 192), "VIF": (45, 53)}.get(name, (37, 53))


def pictures(generator, batch=3, size=(37, 53)):
    """A batch of fused, infrared and visible uint8 pictures with structure and noise."""
    height, width = size
    rows = torch.linspace(0, 3, height).view(1, 1, -1, 1)
    columns = torch.linspace(0, 4, width).view(1, 1, 1, -1)
    phase = torch.rand(batch, 1, 1, 1, generator=generator) * 6
    infrared = 120 + 80 * torch.sin(rows * 2 + phase) * torch.cos(columns + phase)
    visible = 110 + 70 * torch.sin(columns * 3 + 2 * phase)
    infrared, visible = (
        image + 8 * torch.randn(batch, 1, height, width, generator=generator)
        for image in (infrared, visible.expand_as(infrared))
    )
    fused = 0.6 * infrared + 0.4 * visible
    fused = fused + 4 * torch.randn(fused.shape, generator=generator)
    return tuple(
        image.round().clamp(0, 255).to(torch.uint8) for image in (fused, infrared, visible)
    )


# --- slow references, one picture at a time, in plain numpy, scipy and scikit-image --------------


def shares_of(picture):
    return np.bincount(picture.astype(int).ravel(), minlength=256) / picture.size


def numpy_entropy(fused, infrared=None, visible=None):
    return -sum(p * math.log2(p) for p in shares_of(fused) if p)


def numpy_spatial_frequency(fused, infrared, visible):
    height, width = fused.shape
    along_rows = [
        (fused[i, j] - fused[i, j - 1]) ** 2 for i in range(height) for j in range(1, width)
    ]
    along_columns = [
        (fused[i, j] - fused[i - 1, j]) ** 2 for i in range(1, height) for j in range(width)
    ]
    return math.sqrt(np.mean(along_rows) + np.mean(along_columns))


def numpy_average_gradient(fused, infrared, visible):
    down, right = np.gradient(fused)
    return np.sqrt((down**2 + right**2) / 2).mean()


def scipy_edge_intensity(fused, infrared, visible):
    right, down = (ndimage.sobel(fused, axis=axis, mode="nearest") for axis in (1, 0))
    return np.hypot(right, down).mean()


def numpy_shared(first, second):
    joint, _, _ = np.histogram2d(
        first.ravel(), second.ravel(), bins=256, range=[[0, 256], [0, 256]]
    )
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return (joint[there] * np.log(joint[there] / independent[there])).sum()


def numpy_mutual_information(fused, infrared, visible):
    return numpy_shared(fused, infrared) + numpy_shared(fused, visible)


def numpy_normalized_mutual_information(fused, infrared, visible):
    return sum(
        2
        * numpy_shared(fused, source)
        / math.log(2)
        / (numpy_entropy(fused) + numpy_entropy(source))
        for source in (infrared, visible)
    )


def numpy_cross_entropy(fused, infrared, visible):
    q = shares_of(fused)
    return (
        sum(
            a * math.log2(a / b)
            for source in (infrared, visible)
            for a, b in zip(shares_of(source), q, strict=True)
            if a and b
        )
        / 2
    )


def numpy_correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def numpy_scd(fused, infrared, visible):
    return numpy_correlation(fused - visible, infrared) + numpy_correlation(
        fused - infrared, visible
    )


def numpy_cc(fused, infrared, visible):
    return (numpy_correlation(fused, infrared) + numpy_correlation(fused, visible)) / 2


def skimage_mse_mean(fused, infrared, visible):
    return np.mean([skimage_mse(fused / 255, source / 255) for source in (infrared, visible)])


def skimage_ssim_sum(fused, infrared, visible):
    return sum(skimage_ssim(fused, source, data_range=255) for source in (infrared, visible))


def gaussian_window(size, sigma):
    offsets = np.arange(size) - size // 2
    line = np.exp(-(offsets**2) / (2 * sigma**2))
    window = np.outer(line, line)
    return window / window.sum()


def scipy_ms_ssim(fused, infrared, visible):
    window = gaussian_window(11, 1.5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def smooth(image):
        return signal.fftconvolve(image, window, mode="valid")

    def one(x, y):
        result = 1.0
        for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                x, y = (
                    image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean((1, 3))
                    for image in (x, y)
                )
            mx, my = smooth(x), smooth(y)
            vx, vy = smooth(x * x) - mx * mx, smooth(y * y) - my * my
            contrast = (2 * (smooth(x * y) - mx * my) + c2) / (vx + vy + c2)
            luminance_term = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            term = (contrast * luminance_term).mean() if scale == 4 else contrast.mean()
            result *= max(term, 0) ** power
        return result

    return one(fused, infrared) + one(fused, visible)


def scipy_vif(fused, infrared, visible):
    def one(reference, distorted):
        kept = there = 0.0
        for scale in range(1, 5):
            size = 2 ** (5 - scale) + 1
            window = gaussian_window(size, size / 5)

            def smooth(image, window=window):
                return signal.convolve2d(image, window, mode="valid")

            if scale > 1:
                reference, distorted = smooth(reference)[::2, ::2], smooth(distorted)[::2, ::2]
            mean1, mean2 = smooth(reference), smooth(distorted)
            var1 = np.maximum(smooth(reference**2) - mean1**2, 0)
            var2 = np.maximum(smooth(distorted**2) - mean2**2, 0)
            both = smooth(reference * distorted) - mean1 * mean2
            gain = both / (var1 + 1e-10)
            noise = var2 - gain * both
            gain[var1 < 1e-10], noise[var1 < 1e-10] = 0, var2[var1 < 1e-10]
            gain[var2 < 1e-10], noise[var2 < 1e-10] = 0, 0
            noise[gain < 0] = var2[gain < 0]
            gain[gain < 0] = 0
            noise = np.maximum(noise, 1e-10)
            kept += np.log10(1 + gain**2 * var1 / (noise + 2)).sum()
            there += np.log10(1 + var1 / 2).sum()
        return kept / there

    return one(infrared, fused) + one(visible, fused)


SOBEL_DOWN = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])
SOBEL_RIGHT = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def scipy_qabf(fused, infrared, visible):
    def edges(image):
        x = signal.convolve2d(image, SOBEL_RIGHT, mode="same")
        y = signal.convolve2d(image, SOBEL_DOWN, mode="same")
        angle = np.full(image.shape, np.pi / 2)
        angle[x != 0] = np.arctan(y[x != 0] / x[x != 0])
        return np.sqrt(x**2 + y**2), angle

    g, a = edges(fused)
    above = below = 0.0
    for source in (infrared, visible):
        gs, angle = edges(source)
        for i, j in np.ndindex(g.shape):
            if gs[i, j] > g[i, j]:
                ratio = g[i, j] / gs[i, j]
            elif gs[i, j] == g[i, j]:
                ratio = g[i, j]
            else:
                ratio = gs[i, j] / g[i, j]
            agreement = 1 - abs(angle[i, j] - a[i, j]) / (np.pi / 2)
            strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
            orientation = 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
            above += strength * orientation * gs[i, j]
            below += gs[i, j]
    return above / below


def numpy_nabf(fused, infrared, visible, weighted=True):
    """Invented edges; the kept and lost ones are computed too, since the three add up to 1."""

    def edges(image):
        padded = np.pad(image, 1, mode="reflect")
        # Sums in the order of the package: on [0, 1] rounding decides which of two equal slopes is
        # the larger one.
        smooth = padded[:-2] + padded[2:] + 2 * padded[1:-1]
        step = padded[2:] - padded[:-2]
        x = (smooth[:, 2:] - smooth[:, :-2]) / 8
        y = (step[:, :-2] + step[:, 2:] + 2 * step[:, 1:-1]) / 8
        angle = np.zeros(image.shape)
        some = (x != 0) | (y != 0)
        with np.errstate(divide="ignore"):
            angle[some] = np.arctan(x[some] / y[some])
        return np.sqrt(x**2 + y**2), angle

    g, a = edges(fused)
    quality, weight, strengths = [], [], []
    for source in (infrared, visible):
        gs, angle = edges(source)
        largest = np.maximum(np.maximum(gs, g), 1e-300)
        ratio = np.minimum(gs, g) / largest
        agreement = np.abs(np.abs(angle - a) - np.pi / 2) * 2 / np.pi
        quality.append(
            np.sqrt(
                0.9999
                / (1 + np.exp(-19 * (ratio - 0.5)))
                * 0.9995
                / (1 + np.exp(-22 * (agreement - 0.5)))
            )
        )
        weight.append(np.where(gs >= 2, gs**1.5, 0.001) if weighted else np.ones_like(gs))
        strengths.append(gs)
    total = np.sum(weight)
    new = (g > strengths[0]) & (g > strengths[1])
    missed = sum((1 - q) * w for q, w in zip(quality, weight, strict=True))
    kept = sum((q * w).sum() for q, w in zip(quality, weight, strict=True))
    assert kept + missed[new].sum() + missed[~new].sum() == pytest.approx(total)
    return missed[new].sum() / total


def python_fmi(fused, infrared, visible):
    def distribution(window):
        window = window.T.ravel()  # column by column
        spread = window.max() - window.min()
        window = (window - window.min()) / spread if spread else np.ones(9)
        return window / window.sum()

    def entropy(shares):
        return -sum(p * math.log2(abs(p)) for p in shares if p)

    def information(first, second):
        if (first == second).all():
            return 1.0
        p, q = distribution(first), distribution(second)
        cp, cq = np.cumsum(p), np.cumsum(q)
        dp, dq = p - p.mean(), q - q.mean()
        scale = math.sqrt((dp @ dp) * (dq @ dq))
        r = (dp @ dq) / scale if scale else 0.0

        def bound(i, j):
            if i < 0 or j < 0:
                return 0.0
            return min(cp[i], cq[j]) if r >= 0 else max(cp[i] + cq[j] - 1, 0.0)

        places = np.arange(1, 10)
        sp, sq = (math.sqrt(max((places**2) @ x - (places @ x) ** 2, 0)) for x in (p, q))
        covariance = sum(bound(i, j) - cp[i] * cq[j] for i in range(9) for j in range(9))
        mix = r * sp * sq / covariance if sp and sq and covariance else 0.0
        joint = [
            mix * (bound(i, j) - bound(i - 1, j) - bound(i, j - 1) + bound(i - 1, j - 1))
            + (1 - mix) * p[i] * q[j]
            for i in range(9)
            for j in range(9)
        ]
        own = entropy(p) + entropy(q)
        return 2 * (own - entropy(joint)) / own if own else 0.0

    height, width = fused.shape
    values = [
        information(
            fused[i : i + 3, j : j + 3],
            source[i : i + 3, j : j + 3],
        )
        for source in (infrared, visible)
        for i in range(height - 2)
        for j in range(width - 2)
    ]
    return np.mean(values)


def python_fmi_of_gradients(*triple):
    return python_fmi(*(np.gradient(image, axis=1) for image in triple))


def scipy_edges(image):
    """Edges as the source of MATLAB's function has them, one pixel after the other."""
    right, down = (np.abs(ndimage.sobel(image, axis=axis, mode="nearest")) for axis in (1, 0))
    strength = right**2 + down**2
    found = np.zeros_like(image)
    for i in range(1, image.shape[0] - 1):
        for j in range(1, image.shape[1] - 1):
            here = strength[i, j]
            across = right[i, j] >= down[i, j] and (
                strength[i, j - 1] <= here and here > strength[i, j + 1]
            )
            along = down[i, j] >= right[i, j] and (
                strength[i - 1, j] <= here and here > strength[i + 1, j]
            )
            found[i, j] = here > 4 * strength.mean() and (across or along)
    return found


def python_fmi_of_edges(*triple):
    return python_fmi(*map(scipy_edges, triple))


def scipy_ssim_matlab(fused, infrared, visible):
    window = gaussian_window(11, 1.5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def smooth(image):
        return ndimage.correlate(image, window, mode="nearest")

    def one(x, y):
        mx, my = smooth(x), smooth(y)
        vx, vy = smooth(x * x) - mx * mx, smooth(y * y) - my * my
        above = (2 * mx * my + c1) * (2 * (smooth(x * y) - mx * my) + c2)
        return (above / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()

    return (one(fused, infrared) + one(fused, visible)) / 2


def numpy_stretch(image):
    return np.floor((image - image.min()) / (image.max() - image.min()) * 255 + 0.5)


def numpy_frequencies(shape, divisor):
    """As MATLAB's freqspace, from -1 on, the zero frequency in the middle."""
    down, right = ((np.arange(n) - n // 2) * 2 / n * n / divisor for n in shape)
    return np.hypot(down[:, None], right[None, :])


def numpy_filter(image, response):
    spectrum = np.fft.fftshift(np.fft.fft2(image)) * response
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def scipy_qcb(fused, infrared, visible):
    r = numpy_frequencies(fused.shape, 30)
    response = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    x, y = np.meshgrid(np.arange(-15, 16), np.arange(-15, 16))

    def contrast(image):
        image = numpy_filter(numpy_stretch(image), response)
        narrow, wide = (
            signal.convolve2d(
                image, np.exp(-(x**2 + y**2) / (2 * s**2)) / (2 * np.pi * s**2), mode="same"
            )
            for s in (2, 4)
        )
        local = np.abs(narrow / wide - 1)
        return local**3 / (local**2 + 1e-4)

    f, a, b = contrast(fused), contrast(infrared), contrast(visible)
    share = a**2 / (a**2 + b**2)
    quality = [np.minimum(f, s) / np.maximum(f, s) for s in (a, b)]
    return (share * quality[0] + (1 - share) * quality[1]).mean()


def scipy_qcv(fused, infrared, visible):
    fused, *sources = (numpy_stretch(image) for image in (fused, infrared, visible))
    r = 0.144 * numpy_frequencies(fused.shape, 8)
    response = 2.6 * (0.0192 + r) * np.exp(-(r**1.1))
    above = below = 0.0
    for source in sources:
        gradient = np.hypot(
            signal.convolve2d(source, SOBEL_RIGHT, mode="same"),
            signal.convolve2d(source, SOBEL_DOWN, mode="same"),
        )
        seen = numpy_filter(source - fused, response)
        for i in range(0, fused.shape[0], 16):
            for j in range(0, fused.shape[1], 16):
                block = slice(i, i + 16), slice(j, j + 16)
                weight = (gradient[block] ** 5).sum()
                above += weight * (seen[block] ** 2).sum() / 256
                below += weight
    return above / below


REFERENCES = {
    "EN": numpy_entropy,
    "SD": lambda fused, infrared, visible: np.std(fused),
    "SF": numpy_spatial_frequency,
    "AG": numpy_average_gradient,
    "EI": scipy_edge_intensity,
    "MI": numpy_mutual_information,
    "MI_bits": lambda *triple: numpy_mutual_information(*triple) / math.log(2),
    "NMI": numpy_normalized_mutual_information,
    "CE": numpy_cross_entropy,
    "SCD": numpy_scd,
    "CC": numpy_cc,
    "MSE": skimage_mse_mean,
    "PSNR": lambda *triple: -10 * math.log10(skimage_mse_mean(*triple)),
    "SSIM": skimage_ssim_sum,
    "SSIMa": scipy_ssim_matlab,
    "MS-SSIM": scipy_ms_ssim,
    "VIF": scipy_vif,
    "Qabf": scipy_qabf,
    "Nabf": numpy_nabf,
    "Nabf_unweighted": lambda *triple: numpy_nabf(*(x / 255 for x in triple), weighted=False),
    "FMI_pixel": python_fmi,
    "FMI_edge": python_fmi_of_edges,
    "FMI_gradient": python_fmi_of_gradients,
    "Qcb": scipy_qcb,
    "Qcv": scipy_qcv,
}


def agree(name, triple, reference, rtol=1e-8, **options):
    found = METRICS[name].function(*triple, **options)
    expected = [
        reference(*(image[b, 0].double().numpy() for image in triple)) for b in range(len(found))
    ]
    assert found.dtype == torch.float64
    expected = torch.tensor(np.array(expected, dtype=np.float64))
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-9)


def test_every_metric_has_a_reference_and_a_range():
    assert set(REFERENCES) == set(METRICS) == set(RANGES)


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_a_slow_reference(name, generator):
    agree(name, pictures(generator, batch=2, size=size_for(name)), REFERENCES[name])


def test_vif_agrees_with_piq(generator):
    triple = pictures(generator, batch=2, size=(64, 75))
    fused, *sources = (image.double() for image in triple)
    expected = sum(
        piq.vif_p(fused, source, data_range=255.0, reduction="none") for source in sources
    )
    found = metrics.visual_information_fidelity(*triple)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(176, 192), (161, 174), (205, 167)])
def test_ms_ssim_agrees_with_piq(generator, size):
    """Also where sides are odd at some scale."""
    triple = pictures(generator, batch=2, size=size)
    fused, *sources = (image.double() for image in triple)
    expected = sum(
        piq.multi_scale_ssim(fused, source, data_range=255.0, reduction="none")
        for source in sources
    )
    found = metrics.multi_scale_structural_similarity(*triple)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def vifb_spatial_frequency(fused, infrared, visible):
    steps = (np.diff(fused, axis=1) ** 2).sum() + (np.diff(fused, axis=0) ** 2).sum()
    return math.sqrt(steps / fused.size)


def matlab_average_gradient(fused, infrared, visible):
    height, width = fused.shape
    return numpy_average_gradient(fused, None, None) * fused.size / ((height - 1) * (width - 1))


def vifb_psnr(fused, infrared, visible):
    error = np.mean([np.linalg.norm(fused - source) / fused.size for source in (infrared, visible)])
    return 20 * math.log10(255 / math.sqrt(error))


def gaussian_ssim(fused, infrared, visible):
    return sum(
        skimage_ssim(
            fused,
            source,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for source in (infrared, visible)
    )


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("SF", vifb_spatial_frequency),
        ("AG", matlab_average_gradient),
        ("MI", lambda *triple: numpy_mutual_information(*map(numpy_stretch, triple))),
        ("PSNR", vifb_psnr),
        ("SSIM", gaussian_ssim),
    ],
)
def test_vifb_convention(name, reference, generator):
    agree(name, pictures(generator, batch=2), reference, convention="vifb")


@pytest.mark.parametrize("name", METRICS)
def test_conventions_that_a_metric_names_change_it(name, generator):
    metric, triple = METRICS[name], pictures(generator, batch=1, size=size_for(name))
    definition = metric(*triple)
    for convention in CONVENTIONS:
        found = measure(*triple, [name], convention=convention)[name]
        changed = convention in metric.conventions
        if name != "MI_bits" or convention != "matlab-uint8":  # the levels 254 and 255 only
            assert torch.equal(found, definition) != changed
    if metric.conventions:
        with pytest.raises(ValueError, match="known are 'standard', 'matlab-uint8'"):
            metric.function(*triple, convention="other")
    with pytest.raises(ValueError, match="unknown convention 'other'"):
        measure(*triple, [name], convention="other")


# --- what follows from the definitions ---------------------------------------------------------


@st.composite
def any_pictures(draw, size):
    """Three pictures of tiles of any level, which hypothesis can make simple, one with noise."""
    height, width = size
    tiles = draw(arrays(np.uint8, (3, 3, 4)))
    whole = np.kron(tiles, np.ones((-(-height // 3), -(-width // 4)), np.uint8))[:, :height, :width]
    noise = np.random.default_rng(0).integers(0, draw(st.sampled_from([1, 9])), (height, width))
    fused, infrared, visible = torch.from_numpy(whole)[:, None, None]
    return torch.from_numpy(np.maximum(fused.numpy(), noise).astype(np.uint8)), infrared, visible


@pytest.mark.parametrize("name", METRICS)
def test_properties_of_any_pictures(name):
    """The range, no NaN, symmetry in the sources, and what three equal pictures give."""
    function, (low, high) = METRICS[name].function, RANGES[name]

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(any_pictures(size_for(name)))
    def check(triple):
        fused, infrared, visible = triple
        value, swapped = function(fused, infrared, visible), function(fused, visible, infrared)
        assert low - 1e-9 <= value.item() <= high + 1e-9
        torch.testing.assert_close(value, swapped, rtol=1e-9, atol=1e-9)
        if name in OF_THREE_EQUAL and fused.min() < fused.max():
            assert function(fused, fused, fused).item() == pytest.approx(
                OF_THREE_EQUAL[name], abs=1e-6
            )

    check()


@pytest.mark.parametrize("name", METRICS)
def test_batch_is_the_same_as_one_by_one(name, generator):
    triple = pictures(generator, batch=4, size=size_for(name))
    together = METRICS[name].function(*triple)
    alone = torch.cat(
        [METRICS[name].function(*(image[b : b + 1] for image in triple)) for b in range(4)]
    )
    assert together.shape == (4,)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_float_pictures_mean_the_same_as_8_bit_ones(name, generator):
    triple = pictures(generator, batch=1, size=size_for(name))
    floats = [image.float() / 255 for image in triple]
    assert torch.equal(METRICS[name].function(*floats), METRICS[name].function(*triple))


@pytest.mark.parametrize("name", METRICS)
def test_the_sources_are_interchangeable(name, generator):
    fused, infrared, visible = pictures(generator, batch=1, size=size_for(name))
    function = METRICS[name].function
    torch.testing.assert_close(
        function(fused, infrared, visible), function(fused, visible, infrared)
    )


# Not those that take every other pixel, blocks, or the places in a window in an order; nor Qabf,
# where upright edges have one orientation only.
@pytest.mark.parametrize(
    "name", [name for name in METRICS if name not in ("VIF", "Qabf", "Qcv") and "FMI" not in name]
)
def test_unchanged_by_a_mirror(name, generator):
    triple = pictures(generator, batch=1, size=size_for(name))
    mirrored = [image.flip(-1) for image in triple]
    function = METRICS[name].function
    torch.testing.assert_close(function(*mirrored), function(*triple), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OF_THE_FUSED_ALONE)
def test_the_sources_are_not_needed(name, generator):
    fused, infrared, visible = pictures(generator)
    function = METRICS[name].function
    assert torch.equal(function(fused), function(fused, infrared, visible))


@pytest.mark.parametrize("name", OF_THE_FUSED_ALONE)
def test_flat_picture_has_no_activity(name):
    flat = torch.full((2, 1, 16, 16), 77, dtype=torch.uint8)
    assert METRICS[name].function(flat).tolist() == [0.0, 0.0]


def test_entropy_bounds():
    all_levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert metrics.entropy(all_levels).item() == pytest.approx(8.0, abs=1e-12)
    two = (all_levels > 127).to(torch.uint8)
    assert metrics.entropy(two).item() == pytest.approx(1.0, abs=1e-12)


def test_entropy_is_blind_to_place_and_to_inversion(generator):
    fused, _, _ = pictures(generator, batch=1)
    order = torch.randperm(fused.numel(), generator=generator)
    shuffled = fused.flatten()[order].view_as(fused)
    assert metrics.entropy(shuffled).item() == pytest.approx(metrics.entropy(fused).item())
    assert metrics.entropy(255 - fused).item() == pytest.approx(metrics.entropy(fused).item())


def test_standard_deviation_bound():
    halves = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    halves[..., 4:] = 255
    assert metrics.standard_deviation(halves).item() == pytest.approx(127.5)


def test_gradient_of_a_ramp():
    ramp = (3 * torch.arange(32, dtype=torch.uint8)).expand(1, 1, 32, 32)
    assert metrics.average_gradient(ramp).item() == pytest.approx(3 / math.sqrt(2))
    assert metrics.spatial_frequency(ramp).item() == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["SD", "SF", "AG"])
def test_twice_the_contrast_is_twice_the_activity(name, generator):
    fused, _, _ = pictures(generator)
    half = fused // 2
    function = METRICS[name].function
    torch.testing.assert_close(function(half * 2), 2 * function(half))
    torch.testing.assert_close(function(half + 100), function(half))


def test_mutual_information_of_a_copy_is_its_entropy(generator):
    _, infrared, visible = pictures(generator)
    flat = torch.full_like(visible, 9)
    expected = metrics.entropy(infrared) * math.log(2)
    torch.testing.assert_close(metrics.mutual_information(infrared, infrared, flat), expected)
    inverted = metrics.mutual_information(255 - infrared, infrared, flat)
    torch.testing.assert_close(inverted, expected)
    bound = 2 * expected
    assert (metrics.mutual_information(infrared, infrared, visible) <= bound).all()


def test_mutual_information_names_its_unit(generator):
    triple = pictures(generator)
    nats, bits = METRICS["MI"], METRICS["MI_bits"]
    assert (nats.header, bits.header) == ("MI [nat] ↑", "MI_bits [bit] ↑")
    torch.testing.assert_close(nats.function(*triple), bits.function(*triple) * math.log(2))
    matlab = {"convention": "matlab-uint8"}  # published in bits: there both are the same
    assert torch.equal(nats.function(*triple, **matlab), bits.function(*triple, **matlab))


def test_scd_of_a_sum_is_two(generator):
    _, infrared, visible = pictures(generator)
    infrared, visible = infrared // 2, visible // 2
    scd = metrics.sum_of_correlations_of_differences(infrared + visible, infrared, visible)
    torch.testing.assert_close(scd, torch.full_like(scd, 2.0))
    against = metrics.sum_of_correlations_of_differences(
        127 - infrared // 2 + (127 - visible // 2), infrared, visible
    )
    assert (against < 0).all()


def test_scd_of_a_copy_is_defined(generator):
    _, infrared, visible = pictures(generator)
    copy = metrics.sum_of_correlations_of_differences(visible, infrared, visible)
    assert copy.isfinite().all()


@pytest.mark.parametrize("name", OF_THREE_EQUAL)
def test_three_equal_pictures(name, generator):
    fused, infrared, _ = pictures(generator, batch=1, size=size_for(name))
    function = METRICS[name].function
    expected = OF_THREE_EQUAL[name]
    assert function(fused, fused, fused).item() == pytest.approx(expected, abs=1e-6)
    if name != "SCD":
        other = function(fused, infrared, infrared).item()
        assert other < expected if METRICS[name].higher_is_better else other > expected


def test_edges_of_three_equal_pictures(generator):
    fused, _, _ = pictures(generator, batch=1)
    highest = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert metrics.edge_preservation(fused, fused, fused).item() == pytest.approx(highest)


@pytest.mark.parametrize("name", METRICS)
def test_range(name, generator):
    """Also of noise, of flat pictures, of inverted ones and of steps from black to white."""
    size = size_for(name)
    _, infrared, visible = pictures(generator, batch=1, size=size)
    noise = torch.randint(0, 256, infrared.shape, generator=generator, dtype=torch.uint8)
    flat = torch.full_like(infrared, 90)
    board = torch.zeros_like(infrared)
    board[..., ::2] = 255
    low, high = RANGES[name]
    for fused in (noise, flat, board, 255 - infrared):
        for first, second in ((infrared, visible), (flat, visible), (flat, flat), (fused, fused)):
            value = METRICS[name].function(fused, first, second).item()
            assert not math.isnan(value)
            assert low - 1e-9 <= value <= high + 1e-9


def test_noise_invents_edges_and_an_average_does_not(generator):
    _, infrared, visible = pictures(generator, batch=1)
    average = (infrared.double() + visible.double()) / 2
    noise = 30 * torch.randn(average.shape, generator=generator, dtype=torch.float64)
    noisy, clean = ((image.clamp(0, 255) / 255) for image in (average + noise, average))
    artifacts = [metrics.fusion_artifacts(x, infrared, visible).item() for x in (noisy, clean)]
    assert artifacts[0] > 10 * artifacts[1]


def test_vif_rewards_contrast(generator):
    _, infrared, _ = pictures(generator, batch=1, size=(60, 60))
    soft = infrared // 2 + 60
    more = metrics.visual_information_fidelity(infrared, soft, soft).item()
    less = metrics.visual_information_fidelity(soft, infrared, infrared).item()
    assert more > 2 > less


def test_psnr_is_a_function_of_mse(generator):
    triple = pictures(generator)
    error = metrics.mean_squared_error(*triple)
    torch.testing.assert_close(
        metrics.peak_signal_to_noise_ratio(*triple), -10 * torch.log10(error)
    )
    too_much = metrics.peak_signal_to_noise_ratio(*triple, convention="matlab-uint8")
    torch.testing.assert_close(too_much, -10 * torch.log10(error) + 20 * math.log10(255))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_against_a_finite_difference(name, generator):
    """Along a random direction, in float64; and finite where the picture is flat."""
    fused, infrared, visible = (
        image.double() / 255 for image in pictures(generator, batch=1, size=size_for(name))
    )
    # Off the whole levels, where equal gradients and upright edges make Qabf jump.
    fused = fused.clamp(0.05, 0.95) + 1e-3 * torch.rand(fused.shape, generator=generator)
    direction = torch.randn(fused.shape, generator=generator, dtype=torch.float64)

    def value(step):
        return METRICS[name].function(fused + step * direction, infrared, visible, rounded=False)

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step).sum(), step)
    expected = (value(1e-6) - value(-1e-6)).sum() / 2e-6
    torch.testing.assert_close(slope, expected.detach(), rtol=1e-4, atol=1e-7)
    fused[..., 4:20, 4:20] = 0.5
    fused.requires_grad_()
    METRICS[name].function(fused, infrared, visible, rounded=False).sum().backward()
    assert fused.grad.isfinite().all() and fused.grad.abs().sum() > 0


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (17, 1), (9, 2), (5, 2)])
def test_separable_window(taps, stride, generator):
    images = torch.rand(2, 3, 61, 75, generator=generator, dtype=torch.float64)
    kernel = gaussian(taps, taps / 5)
    weights = torch.tensor(kernel, dtype=torch.float64)
    window = torch.outer(weights, weights).expand(3, 1, -1, -1)
    expected = torch.nn.functional.conv2d(images, window, stride=stride, groups=3)
    torch.testing.assert_close(separable(images, kernel, stride), expected)


def test_sobel_of_a_slope():
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    right, down = sobel((2 * columns + 3 * rows)[None])
    assert (right == 16).all() and (down == 24).all() and right.shape == (1, 3, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", METRICS)
def test_the_same_on_a_gpu(name, generator):
    triple = pictures(generator, batch=2, size=size_for(name))
    found = METRICS[name].function(*(image.cuda() for image in triple))
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), METRICS[name].function(*triple), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_a_picture_off_the_scale_is_refused(name):
    good = torch.rand(1, 1, *size_for(name))
    with pytest.raises(ValueError, match="values in"):
        METRICS[name].function(good * 255, good, good)
    with pytest.raises(ValueError, match="values in"):
        METRICS[name].function(good * float("nan"), good, good)


def test_wrong_shapes_say_what_to_do():
    good = torch.rand(1, 1, 16, 16)
    with pytest.raises(ValueError, match="luminance first"):
        gray_levels(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="one shape"):
        metrics.mutual_information(good, good, good[..., :8])
    with pytest.raises(ValueError, match="at least 7 x 7"):
        metrics.structural_similarity(*(image[..., :5] for image in (good, good, good)))
    with pytest.raises(ValueError, match="at least 41 x 41"):
        metrics.visual_information_fidelity(good, good, good)
    with pytest.raises(ValueError, match=r"torch\.int64"):
        metrics.entropy(torch.zeros(1, 1, 8, 8, dtype=torch.int64))


def test_select_names_what_is_known():
    assert [metric.name for metric in select(["MI", "EN"])] == ["MI", "EN"]
    assert [metric.name for metric in select()] == list(USUAL)
    assert [metric.name for metric in select(METRICS)] == list(METRICS)
    with pytest.raises(ValueError, match=r"unknown metric XX; known are EN, SD"):
        select(["EN", "XX"])


@pytest.mark.parametrize("name", METRICS)
def test_smallest_picture(name):
    metric = METRICS[name]
    small = torch.rand(1, 1, metric.smallest, metric.smallest)
    assert metric.function(small, small * 0.5, small).isfinite().all()
    if metric.smallest > 2:
        with pytest.raises(ValueError, match=f"at least {metric.smallest} x"):
            metric.function(*[small[..., 1:]] * 3)


def test_registry_says_what_it_measures():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.function.__doc__.startswith(f"Compute {name.split('_')[0]}")
        assert metric.definition.startswith(name.split("_")[0]) and len(metric.definition) > 20
        assert metric.source.startswith("DOI 10.")
        assert "Source:" in metric.function.__doc__
        assert "better" in metric.function.__doc__
        assert metric.source in metric.function.__doc__
        assert metric.arrow in metric.header


def test_command_line_lists_the_definitions(capsys):
    assert metrics_speed.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(METRICS)
    assert lines[0].startswith("EN [bit] ↑") and "DOI 10.1117" in lines[0]


def test_benchmark_compares_equal_values(capsys):
    """The direct implementations it is measured against compute the same."""
    threads = torch.get_num_threads()
    try:
        assert metrics_speed.main(["--size", "161", "164", "--repeats", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    for name in METRICS:
        assert float(lines[name][1]) >= 0
    for name in metrics_speed.DIRECT:
        assert float(lines[name][-1]) < (1e-6 if name == "VIF" else 1e-10)
    assert lines["The"][:3] == ["The", "usual", "nine"]
    assert lines["4"][:5] == ["4", "pairs,", "the", "usual", "nine:"]
    with pytest.raises(SystemExit):
        metrics_speed.main(["--size", "20", "20"])


def test_entropy_of_patches_is_that_of_pictures_for_levels_of_a_file(generator):
    """One function for both: the filter of patches and EN agree where the values are levels."""
    levels = torch.randint(0, 256, (4, 1, 24, 24), generator=generator, dtype=torch.uint8)
    levels[0] = 255
    patches = metrics.entropy(levels.float() / 255, rounded=False)
    assert patches.dtype == torch.float32
    torch.testing.assert_close(patches.double(), metrics.entropy(levels), rtol=1e-6, atol=1e-6)


def test_edges_are_one_pixel_wide_and_steep():
    step = torch.zeros(1, 1, 9, 12, dtype=torch.uint8)
    step[..., 5:] = 200
    edges = metrics.edge_map(step)
    assert edges.dtype == torch.bool and edges.shape == step.shape
    assert edges[0, 0, 1:-1].sum(dim=1).tolist() == [1] * 7 and edges[0, 0, 4, 4:6].any()
    assert torch.equal(metrics.edge_map(step.mT)[0, 0].mT, edges[0, 0])
    assert not metrics.edge_map(torch.full_like(step, 80)).any()
    equal, empty = metrics.edge_window_shares(step, step, torch.zeros_like(step))
    without = 1 - 3 * 7 / (7 * 10)  # three windows of each row hold the edge
    assert empty.item() == pytest.approx(without)
    assert equal.item() == pytest.approx((1 + without) / 2)
