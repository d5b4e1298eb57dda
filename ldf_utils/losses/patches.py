"""Patches: random views of an image, and the filter that leaves out those with nothing in them.

CLIP's verdict on a whole image can be met with a little texture anywhere, even with letters. Asked
about many random patches, it cannot be: every part of the image has to agree with the words. A
patch of empty sky, though, has no detailed background and no salient object, and asking for them
there would make the network invent them. So a patch counts only if both sources have something to
show in it, measured by their gray-level entropy.

A *draw* is one random view: crop, then turn, shift, zoom and shear a little, then resize. All three
steps are affine, so their composite is a single ``2 x 3`` matrix, and all draws of a batch are
sampled at once. The same matrices serve the infrared, the visible and the fused image. Rows are in
the order ``p * B + b``: patch p of image b.

The released code of the paper cuts otherwise, and `PatchSampler` does so with ``rule="released"``:
one side of the crop for the whole step; each draw serves all images of the batch; the affine map
takes the nearest pixel of the crop and leaves 0 beyond its border; the resize is bilinear. Black
wedges at the border and doubled pixels are then part of what CLIP sees.

Source: arXiv:2402.16267 (patches and filter), after CLIPstyler (arXiv:2112.00374).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class ReleasedDraws:
    """P draws as the released code makes them; each serves all images of a batch.

    Attributes:
        crop: side of the crop in pixels, one for all.
        corner: left and top of each crop in pixels, each ``(P,)``.
        degrees: ``(P,)`` rotation, clockwise as seen on the screen.
        shift: to the right and downwards in whole pixels, each ``(P,)``.
        scale: ``(P,)`` zoom.
        shear: ``(P,)`` horizontal shear in degrees.
    """

    crop: int
    corner: tuple[torch.Tensor, torch.Tensor]
    degrees: torch.Tensor
    shift: tuple[torch.Tensor, torch.Tensor]
    scale: torch.Tensor
    shear: torch.Tensor

    def __len__(self) -> int:
        return len(self.degrees)


@dataclass(frozen=True)
class PatchSampler:
    """How views are drawn. The defaults are the paper's.

    With S the shorter side of the image, a draw is: a square crop of side ``int(S * u)`` at a
    random whole-pixel place, an affine map about its middle composed as in torchvision's
    ``RandomAffine`` (shift after rotation, zoom and shear), and a resize to ``size`` pixels.

    Attributes:
        count: patches per image, P.
        side: range of u, in (0, 1].
        degrees: the rotation is in [-degrees, degrees].
        translate: largest horizontal and vertical shift, as fractions of the side of the crop.
        scale: range of the zoom; above 1 enlarges.
        shear: the horizontal shear is in [-shear, shear], in degrees.
        size: side of the patches in pixels; what `extract_patches` is asked for.
        rule: ``"views"``, or ``"released"`` for what the released code does.

    Raises:
        ValueError: for a value out of its range.
    """

    count: int = 32
    side: tuple[float, float] = (0.5, 0.8)
    degrees: float = 5.0
    translate: tuple[float, float] = (0.0, 0.1)
    scale: tuple[float, float] = (1.0, 1.5)
    shear: float = 5.0
    size: int = 224
    rule: str = "views"

    def __post_init__(self):
        checks = {
            "count": (self.count >= 1, "at least 1"),
            "side": (0 < self.side[0] <= self.side[1] <= 1, "two rising values in (0, 1]"),
            "degrees": (0 <= self.degrees <= 180, "in [0, 180]"),
            "translate": (all(0 <= t <= 1 for t in self.translate), "two values in [0, 1]"),
            "scale": (0 < self.scale[0] <= self.scale[1], "two rising values above 0"),
            "shear": (0 <= self.shear < 90, "in [0, 90)"),
            "size": (self.size >= 1, "at least 1"),
            "rule": (self.rule in ("views", "released"), "views or released"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)}")

    def draw(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> torch.Tensor | ReleasedDraws:
        """Draw by the rule; what comes is for `cut_patches`.

        Args:
            batch: number of images, B.
            generator: source of randomness; torch's own if None.
            image_size: height and width of the images; ``(size, size)`` if None.

        Returns:
            What `sample` gives, or for the rule ``"released"`` P draws that serve all images.

        Raises:
            ValueError: if the smallest crop has no pixel.
        """
        if self.rule == "views":
            return self.sample(batch, generator, image_size)
        height, width, shorter = self._sides(image_size)
        uniform = self._uniform(generator)
        crop = int(shorter * uniform(1, *self.side).item())
        count = self.count
        left, top = (torch.floor(uniform(count, 0, 1) * (s - crop + 1)) for s in (width, height))
        degrees = uniform(count, -self.degrees, self.degrees)
        across, down = ((crop * t * uniform(count, -1, 1)).round() for t in self.translate)
        return ReleasedDraws(
            crop,
            (left, top),
            degrees,
            (across, down),
            uniform(count, *self.scale),
            uniform(count, -self.shear, self.shear),
        )

    def _sides(self, image_size: tuple[int, int] | None) -> tuple[int, int, int]:
        height, width = image_size or (self.size, self.size)
        shorter = min(height, width)
        if int(shorter * self.side[0]) < 1:
            raise ValueError(
                f"a crop of {self.side[0]} of {height} x {width} pixels has no pixel; use "
                "larger images or a larger side"
            )
        return height, width, shorter

    @staticmethod
    def _uniform(
        generator: torch.Generator | None,
    ) -> Callable[[int, float, float], torch.Tensor]:
        device = generator.device if generator is not None else None

        def uniform(count: int, low: float, high: float) -> torch.Tensor:
            fraction = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
            return low + (high - low) * fraction

        return uniform

    def sample(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Draw the views of a batch.

        Args:
            batch: number of images, B.
            generator: source of randomness; torch's own if None.
            image_size: height and width of the images; ``(size, size)`` if None.

        Returns:
            ``(P * B, 2, 3)`` float32 on the device of the generator, rows ``p * B + b``: for
            `torch.nn.functional.affine_grid`, the place in the image (both axes from -1 to 1) of
            each place in the patch.

        Raises:
            ValueError: if the smallest crop has no pixel.
        """
        height, width, shorter = self._sides(image_size)
        draw, count = self._uniform(generator), self.count * batch

        def uniform(low: float, high: float) -> torch.Tensor:
            return draw(count, low, high)

        crop = torch.floor(shorter * uniform(*self.side))
        left = torch.floor(uniform(0, 1) * (width - crop + 1))
        top = torch.floor(uniform(0, 1) * (height - crop + 1))
        across, down = [(crop * t * uniform(-1, 1)).round() for t in self.translate]
        return patch_matrices(
            crop,
            (left, top),
            (height, width),
            degrees=uniform(-self.degrees, self.degrees),
            shift=(across, down),
            scale=uniform(*self.scale),
            shear=uniform(-self.shear, self.shear),
        )


def patch_matrices(
    crop: torch.Tensor,
    corner: tuple[torch.Tensor, torch.Tensor],
    image_size: tuple[int, int],
    degrees: torch.Tensor,
    shift: tuple[torch.Tensor, torch.Tensor],
    scale: torch.Tensor,
    shear: torch.Tensor,
) -> torch.Tensor:
    """Compute the composite of crop, affine map and resize, one matrix per draw.

    The affine map moves a point x of the crop, in pixels from its middle, to
    ``scale * R(degrees) * K(shear) * x + shift`` with the rotation R and the shear
    ``K = [[1, -tan(shear)], [0, 1]]``. Sampling asks the other way round: where a pixel of the
    patch comes from. So the matrix holds the inverse, between the resize (patch to crop pixels)
    and the crop (crop pixels to the image's axes from -1 to 1).

    Args:
        crop: ``(N,)`` side in pixels.
        corner: left and top of the crop in pixels, each ``(N,)``.
        image_size: height and width of the image.
        degrees: ``(N,)`` rotation, clockwise as seen on the screen.
        shift: to the right and downwards in pixels, each ``(N,)``.
        scale: ``(N,)`` zoom.
        shear: ``(N,)`` horizontal shear in degrees.

    Returns:
        ``(N, 2, 3)`` float32.
    """
    height, width = image_size
    inverse = _inverse(degrees, scale, shear)
    rows = []
    for (a, b), first, length in zip(inverse, corner, (width, height), strict=True):
        middle = first + crop / 2 - length / 2  # of the crop, from the middle of the image
        offset = middle - a * shift[0] - b * shift[1]
        rows.append(torch.stack([a * crop / length, b * crop / length, 2 * offset / length], -1))
    return torch.stack(rows, dim=1).float()


def _inverse(
    degrees: torch.Tensor, scale: torch.Tensor, shear: torch.Tensor
) -> list[list[torch.Tensor]]:
    """Invert the linear part: ``(scale R K)^-1 = K^-1 R^T / scale``, two rows of two."""
    angle, tangent = degrees * (math.pi / 180), torch.tan(shear * (math.pi / 180))
    cos, sin = torch.cos(angle), torch.sin(angle)
    return [
        [(cos - tangent * sin) / scale, (sin + tangent * cos) / scale],
        [-sin / scale, cos / scale],
    ]


def extract_patches(images: torch.Tensor, theta: torch.Tensor, size: int) -> torch.Tensor:
    """Cut the drawn views out of the images; differentiable, all at once.

    Where a view reaches beyond the image, the image is mirrored. Sampling is bilinear without
    low-pass filtering: views much larger than ``size`` pixels alias.

    Args:
        images: ``(B, C, H, W)``.
        theta: ``(P * B, 2, 3)`` from `PatchSampler.sample`.
        size: side of the patches in pixels.

    Returns:
        ``(P * B, C, size, size)``, rows ``p * B + b``.

    Raises:
        ValueError: if the number of draws is no multiple of the number of images.
    """
    batch, channels = images.shape[:2]
    if len(theta) % batch:
        raise ValueError(
            "the number of draws must be a multiple of the number of images, got "
            f"{len(theta)} draws for {batch} images; give rows in the order p * B + b, as "
            "PatchSampler.sample does"
        )
    count = len(theta) // batch
    theta = theta.to(device=images.device, dtype=images.dtype)
    grid = F.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)
    # All patches of an image below one another: the image is read in place, not repeated P times.
    grid = grid.view(count, batch, size, size, 2).transpose(0, 1)
    grid = grid.reshape(batch, count * size, size, 2)
    patches = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    patches = patches.view(batch, channels, count, size, size).permute(2, 0, 1, 3, 4)
    return patches.reshape(count * batch, channels, size, size)


def cut_patches(
    images: torch.Tensor, draws: torch.Tensor | ReleasedDraws, size: int
) -> torch.Tensor:
    """Cut the draws of `PatchSampler.draw` out of the images; differentiable, all at once.

    Args:
        images: ``(B, C, H, W)``.
        draws: of `PatchSampler.draw`.
        size: side of the patches in pixels.

    Returns:
        ``(P * B, C, size, size)``, rows ``p * B + b``.

    Raises:
        ValueError: as `extract_patches`.
    """
    if isinstance(draws, torch.Tensor):
        return extract_patches(images, draws, size)
    patches = crop_and_turn(images, draws)
    if patches.shape[-1] == size:
        return patches
    # The low-pass filter of the released resize does nothing where a view is enlarged.
    smooth = patches.shape[-1] > size
    return F.interpolate(
        patches, (size, size), mode="bilinear", align_corners=False, antialias=smooth
    )


def crop_and_turn(images: torch.Tensor, draws: ReleasedDraws) -> torch.Tensor:
    """Crop, then the affine map about the middle of the crop: nearest pixel, 0 beyond the crop.

    The pixel that each place takes is worked out in float32 by the steps that torchvision's
    ``affine`` goes through, so that both round to the same pixel. All draws are then read out of
    the images in one call.

    Args:
        images: ``(B, C, H, W)``.
        draws: P draws; each is taken from every image.

    Returns:
        ``(P * B, C, crop, crop)``, rows ``p * B + b``.
    """
    (batch, channels, height, width), side = images.shape, draws.crop
    device, count = images.device, len(draws)
    (a, b), (c, d) = _inverse(draws.degrees, draws.scale, draws.shear)
    right, down = draws.shift
    matrix = torch.stack(
        [
            torch.stack([a, b, -a * right - b * down], dim=-1),
            torch.stack([c, d, -c * right - d * down], dim=-1),
        ],
        dim=1,
    ).to(device, torch.float32)
    steps = torch.linspace(-side * 0.5 + 0.5, side * 0.5 - 0.5, side, device=device)
    base = torch.ones(side, side, 3, device=device)
    base[..., 0], base[..., 1] = steps, steps[:, None]
    half = torch.tensor([0.5 * side, 0.5 * side], device=device)
    inside = base.view(1, -1, 3).expand(count, -1, -1).bmm(matrix.transpose(1, 2) / half)
    pixel = (((inside + 1) * side - 1) / 2).round()  # (P, side * side, 2), x and y in the crop
    beyond = ((pixel < 0) | (pixel >= side)).any(dim=-1, keepdim=True)
    pixel = pixel + torch.stack(draws.corner, dim=-1)[:, None].to(pixel)
    grid = (2 * pixel + 1) / torch.tensor([width, height], device=device) - 1
    grid = grid.masked_fill(beyond, 2.0).view(1, count * side, side, 2).to(images.dtype)
    grid = grid.expand(batch, -1, -1, -1)
    patches = F.grid_sample(images, grid, "nearest", padding_mode="zeros", align_corners=False)
    patches = patches.view(batch, channels, count, side, side).permute(2, 0, 1, 3, 4)
    return patches.reshape(count * batch, channels, side, side)
