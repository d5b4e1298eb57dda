"""The two cameras: from radiance to 8 bits, with what lenses, sensors and electronics do."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from experiments.world.noise import power_noise

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VisibleCamera:
    """A color camera.

    Attributes:
        target: gray that the automatic exposure aims at, in [0, 1] after gamma.
        max_gain: longest exposure that it allows; by night the picture then stays dark.
        blur: of the lens, pixels (standard deviation).
        motion: length of motion blur, pixels.
        noise: read noise relative to full scale at gain 1.
        shot: photon noise, relative.
        glare: fraction of light that the lens scatters widely.
        balance: gains of red, green and blue.
        saturation: of colors, 1 unchanged.
        contrast: of the tone curve, 1 unchanged.
        vignette: loss of light in the corners.
        sharpen: amount of unsharp masking.
        stars: strength of rays around lamps.
        darkest: gray, in [0, 1] after gamma, below which the gain exceeds ``max_gain`` after all.
        denoise: how much of the noise the camera smooths away where there is little detail.
        quality: of JPEG compression in the camera, 0 for none.
    """

    target: float = 0.42
    max_gain: float = 60.0
    blur: float = 0.55
    motion: float = 0.0
    noise: float = 0.004
    shot: float = 0.012
    glare: float = 0.05
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    contrast: float = 1.0
    vignette: float = 0.15
    sharpen: float = 0.3
    stars: float = 0.0
    darkest: float = 0.14
    denoise: float = 0.0
    quality: int = 0


@dataclass(frozen=True)
class ThermalCamera:
    """A microbolometer camera.

    Attributes:
        blur: at 480 rows, pixels (standard deviation); at fewer rows a part is left, as if the
            picture were reduced in size.
        noise: temporal noise (NETD), kelvin.
        fixed: noise that stays the same in every frame, kelvin.
        columns: stripes, kelvin.
        gain: ``percentile`` (linear between two percentiles) or ``plateau`` (equalization).
        low: lower percentile, in percent.
        high: upper percentile, in percent.
        headroom: how far the upper end moves from there to the warmest pixels, in [0, 1].
        plateau: clip of the histogram, multiples of its mean.
        detail: amount of local contrast enhancement, which leaves halos.
        sharpen: amount of unsharp masking of fine detail.
        smear: how far noise is correlated along a row, pixels.
        middle: least gray of the median pixel before gamma, so that hot things leave the rest seen.
        quality: of JPEG compression in the camera, 0 for none.
        gamma: of the output.
        black_hot: warm is black.
        min_span: least range of temperature that is spread over the output, kelvin.
        resampled: what interpolation takes away at the end, pixels (standard deviation) at 480
            rows: sensors have fewer pixels than the pictures that come out, and registered sets
            are warped onto the visible picture. At 240 rows it is half as wide again.
    """

    blur: float = 0.9
    noise: float = 0.07
    fixed: float = 0.06
    columns: float = 0.04
    gain: str = "percentile"
    low: float = 1.0
    headroom: float = 0.0
    high: float = 99.7
    plateau: float = 3.0
    detail: float = 0.3
    gamma: float = 1.0
    black_hot: bool = False
    min_span: float = 6.0
    sharpen: float = 0.1
    smear: float = 0.0
    middle: float = 0.0
    quality: int = 0
    resampled: float = 0.0


def random_visible(kind: str, rng: np.random.Generator) -> VisibleCamera:
    """Draw a camera for a kind of light (see ``light.random_light``)."""
    dark = kind in ("night", "dusk")
    cast = rng.normal(0, 0.05, 3) + (np.array([0.06, 0.03, -0.10]) * rng.normal() if dark else 0)
    return VisibleCamera(
        target=float(rng.uniform(0.2, 0.36) if kind == "night" else rng.uniform(0.34, 0.56)),
        max_gain=float(rng.uniform(12, 55)) if dark else 60.0,
        blur=float(rng.uniform(0.4, 1.0)),
        motion=float(max(0.0, rng.normal(0, 1.0))) if dark else 0.0,
        noise=float(10 ** rng.uniform(-3.0, -2.2)),
        shot=float(10 ** rng.uniform(-2.5, -1.8)),
        glare=float(rng.uniform(0.03, 0.12)),
        balance=(1 + float(cast[0]), 1 + float(cast[1]), 1 + float(cast[2])),
        saturation=float(rng.uniform(0.5, 1.5)),
        contrast=float(rng.uniform(0.85, 1.35)),
        vignette=float(rng.uniform(0.05, 0.3)),
        sharpen=float(rng.choice([0.0, rng.uniform(0.2, 0.7), rng.uniform(0.7, 1.6)])),
        stars=float(rng.uniform(0.0, 0.8)) if dark and rng.random() < 0.4 else 0.0,
        darkest=float(rng.uniform(0.11, 0.17)),
        denoise=float(rng.uniform(0.3, 1.0)),
        quality=int(rng.choice([0.0, rng.uniform(55, 80), rng.uniform(80, 96)])),
    )


def random_thermal(rng: np.random.Generator, black_hot: float = 0.0) -> ThermalCamera:
    """Draw a thermal camera; ``black_hot`` is the share of those that show warm as black."""
    style = str(rng.choice(["plateau", "vivid", "plain", "hot"], p=[0.34, 0.22, 0.22, 0.22]))
    plateau, hot = style == "plateau", style == "hot"
    sharp = style in ("plateau", "vivid")
    return ThermalCamera(
        blur=float(rng.uniform(0.7, 1.7)),
        noise=float(10 ** rng.uniform(-1.8, -1.05)),
        fixed=float(10 ** rng.uniform(-1.9, -1.2)),
        columns=float(rng.choice([0.0, 0.01, 0.03, 0.06])),
        gain="plateau" if plateau else "percentile",
        low=float(rng.uniform(0.2, 3.0)),
        headroom=float(rng.uniform(0.6, 1.0) if hot else rng.uniform(0.0, 0.7)),
        high=float(rng.uniform(99.7, 99.95) if hot else rng.uniform(98.5, 99.9)),
        plateau=float(rng.uniform(1.3, 3.0)),
        detail=float(rng.uniform(0.2, 1.0) if sharp else rng.uniform(0, 0.4)),
        gamma=float(rng.uniform(1.0, 1.6) if hot else rng.uniform(0.75, 1.3)),
        black_hot=bool(rng.random() < black_hot),
        min_span=float(rng.uniform(12, 24) if hot else rng.uniform(6, 12)),
        sharpen=float(rng.uniform(0.0, 0.6) if sharp else rng.uniform(0, 0.4)),
        smear=float(rng.choice([0.0, rng.uniform(0.4, 1.5)])),
        middle=float(rng.uniform(0.06, 0.2) if hot else rng.uniform(0.1, 0.45)),
        quality=int(rng.choice([0.0, rng.uniform(60, 85), rng.uniform(85, 97)])),
        resampled=float(rng.spawn(1)[0].uniform(0.3, 0.7)),
    )


def _stars(bright: Array, strength: float) -> Array:
    """Rays around saturated points."""
    size = max(9, bright.shape[0] // 8) | 1
    kernel = np.exp(-np.abs(np.arange(size) - size // 2) / (size / 9)).astype(np.float32)
    kernel *= strength * 0.05 / kernel.max()
    rays = ndimage.convolve1d(bright, kernel, axis=0) + ndimage.convolve1d(bright, kernel, axis=1)
    return rays.astype(np.float32)


def srgb(x: npt.ArrayLike) -> Array:
    """Apply the sRGB transfer function to linear values in [0, 1]."""
    a = np.clip(np.asarray(x, np.float32), 0, 1)
    return np.where(a <= 0.0031308, 12.92 * a, 1.055 * a ** (1 / 2.4) - 0.055).astype(np.float32)


def exposure_gain(radiance: Array, camera: VisibleCamera) -> float:
    """Return the gain of the automatic exposure: the mean reaches the target, unless too dark."""
    y = radiance @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    level = float(np.exp(np.mean(np.log(np.clip(y, 1e-5, np.quantile(y, 0.98)) + 1e-4))))
    level = 0.5 * level + 0.5 * float(np.clip(y, 0, np.quantile(y, 0.97)).mean())
    level = max(level, 1e-6)
    longest = max(camera.max_gain, camera.darkest**2.2 / level)
    return float(min(camera.target**2.2 / level, longest))


def compress(picture: Bytes, quality: int) -> Bytes:
    """Return what is left of a picture after JPEG compression; 0 leaves it as it is."""
    if not quality:
        return picture
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image)


def denoise(x: Array, sigma: float, amount: float) -> Array:
    """Smooth where a color picture varies no more than its noise, as cameras do.

    Luma by a local Wiener filter (5 x 5), color by a blur.
    """
    y = x.mean(-1)
    mean = ndimage.uniform_filter(y, 5)
    variance = np.maximum(ndimage.uniform_filter(y * y, 5) - mean * mean, 1e-9)
    keep = np.maximum(variance - sigma * sigma, 0) / variance
    smooth = mean + keep * (y - mean)
    color = ndimage.gaussian_filter(x - y[..., None], (1.4, 1.4, 0))
    clean = smooth[..., None] + color
    return ((1 - amount) * x + amount * clean).astype(np.float32)


def develop(
    radiance: Array, camera: VisibleCamera, rng: np.random.Generator, gain: float | None = None
) -> Bytes:
    """Turn linear radiance ``(H, W, 3)`` into an 8-bit color picture.

    Order: exposure, lens (glare, rays, blur, motion), vignette, sensor noise, white balance, tone
    curve, sharpening. ``gain`` overrides the automatic exposure.
    """
    h, w = radiance.shape[:2]
    gain = exposure_gain(radiance, camera) if gain is None else gain
    x = np.clip(radiance * gain, 0, 60.0)
    wide = sum(
        weight * np.stack([ndimage.gaussian_filter(x[..., c], s * h / 240) for c in range(3)], -1)
        for s, weight in ((2.5, 0.45), (8.0, 0.3), (28.0, 0.25))
    )
    x = (1 - camera.glare) * x + camera.glare * wide
    if camera.stars > 0:
        x += np.stack([_stars(np.clip(x[..., c] - 1, 0, 30), camera.stars) for c in range(3)], -1)
    x = np.stack([ndimage.gaussian_filter(x[..., c], camera.blur) for c in range(3)], -1)
    if camera.motion > 0.5:
        x = ndimage.uniform_filter1d(x, max(2, round(camera.motion) + 1), axis=1)
    yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    x = x * (1 - camera.vignette * (0.5 * (xx**2 + yy**2))[..., None])
    boost = np.sqrt(1 + gain / 20.0)
    sigma = np.sqrt((camera.noise * boost) ** 2 + (camera.shot**2) * boost * np.clip(x, 0, 1))
    grain = rng.standard_normal((h, w, 3)).astype(np.float32)
    coarse = ndimage.gaussian_filter(rng.standard_normal((h, w, 3)).astype(np.float32), (1, 1, 0))
    noise = 0.75 * grain + 1.8 * coarse
    noise = (
        0.45 * noise + 0.55 * noise.mean(-1, keepdims=True) * 1.7
    )  # color noise is filtered away
    x = x + sigma * noise
    x = np.clip(x * np.asarray(camera.balance), 0, None)
    x = x / (1 + 0.22 * x) * 1.12
    y = x @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    x = srgb(y[..., None] + camera.saturation * (x - y[..., None]))
    if camera.denoise > 0:
        rough = np.abs(ndimage.convolve(x.mean(-1), np.array([[1, -1], [-1, 1]]) / 2))
        x = denoise(x, 2.5 * float(np.median(rough)), camera.denoise)
    pivot = float(np.clip(1.5 * x.mean(), 0.1, 0.5))  # so that dark pictures do not turn black
    x = np.clip(pivot + (x - pivot) * camera.contrast, 0, 1)
    if camera.sharpen > 0:
        x = x + camera.sharpen * (x - ndimage.gaussian_filter(x, (1.0, 1.0, 0)))
    return compress((np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8), camera.quality)


def _plateau(values: Array, clip: float) -> Array:
    """Equalize a histogram whose bins are cut at ``clip`` times their mean."""
    bins = 1024
    lo, hi = np.quantile(values, [0.0005, 0.9995])
    counts, edges = np.histogram(values, bins, (float(lo), float(hi) + 1e-6))
    capped = np.minimum(counts, clip * counts.mean()) + 0.15 * counts.mean()
    curve = np.concatenate([[0], np.cumsum(capped)]) / capped.sum()
    return np.interp(values, edges, curve).astype(np.float32)


def automatic_gain(celsius: Array, camera: ThermalCamera) -> Array:
    """Map apparent temperature to [0, 1] as the camera's electronics do."""
    if camera.gain == "plateau":
        spread = float(np.quantile(celsius, 0.995) - np.quantile(celsius, 0.005))
        x = _plateau(celsius, camera.plateau)
        return (0.5 + (x - 0.5) * min(1.0, spread / camera.min_span)).astype(np.float32)
    solid = celsius[celsius > np.median(celsius) - 14.0]  # the cold sky does not set the range
    lo, hi = float(np.percentile(solid, camera.low)), float(np.percentile(celsius, camera.high))
    hi += camera.headroom * max(0.0, float(np.percentile(celsius, 99.93)) - hi)
    if hi - lo < camera.min_span:
        hi = lo + camera.min_span
    median = float(np.median(solid))
    if median - lo < camera.middle * (hi - lo):
        lo = (median - camera.middle * hi) / (1 - camera.middle)
    return np.clip((celsius - lo) / (hi - lo), 0, 1).astype(np.float32)


def sense(
    celsius: Array, camera: ThermalCamera, rng: np.random.Generator, fixed_seed: int = 0
) -> Bytes:
    """Turn apparent temperature ``(H, W)`` into an 8-bit infrared picture.

    ``fixed_seed`` numbers the individual camera: its fixed-pattern noise is the same in each frame.
    """
    shape = (celsius.shape[0], celsius.shape[1])
    reduced = min(1.0, shape[0] / 480)
    x = ndimage.gaussian_filter(np.clip(celsius, -60, 120), camera.blur * reduced)
    own = np.random.default_rng(fixed_seed)
    pattern = own.standard_normal(shape) * camera.fixed * 0.6
    pattern = pattern + power_noise(shape, 1.0, own) * camera.fixed
    stripes = (
        own.standard_normal((1, shape[1])) * camera.columns
        + own.standard_normal((shape[0], 1)) * camera.columns * 0.3
    )
    spread = (0.45, 0.45 + camera.smear)
    temporal = ndimage.gaussian_filter(rng.standard_normal(shape), spread)
    temporal *= camera.noise / temporal.std()
    x = (x + pattern + stripes + temporal).astype(np.float32)
    y = automatic_gain(x, camera)
    if camera.detail > 0:
        y = y + camera.detail * (y - ndimage.gaussian_filter(y, shape[0] / 60))
    if camera.sharpen > 0:
        y = y + camera.sharpen * (y - ndimage.gaussian_filter(y, 1.2))
    if camera.resampled > 0:
        y = ndimage.gaussian_filter(y, camera.resampled * (2 - reduced))
    y = np.clip(y, 0, 1) ** camera.gamma
    if camera.black_hot:
        y = 1 - y
    return compress((y * 255 + 0.5).astype(np.uint8), camera.quality)
