"""How each rule of the patch filter pulls at the pixels of a fused picture, before any training.

    python -m experiments.ablation.filter_pull --train rendered DIR

A training is long, and the first question has a short answer: with a rule, how strong is the
gradient of the patch term beside that of the perceptual term, where in the picture does it act, and
does it go where the words point for the whole picture? For crops as in training, fused by the
network that no training has touched, with g the gradient of a weighted term in the pixels:

    strength    |g_patch| / |g_perceptual|, means over crops of the lengths
    flat        the share of |g_patch|^2 in the fifth of the pixels where both sources are flattest,
                over 0.2: 1 if it acts everywhere alike, more where nothing is to be seen
    with words  cos(g_patch, g_direction): 1 if what it asks for is what the whole picture needs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from experiments.ablation.measures import Sample, flat_places
from experiments.ablation.samples import training_sets
from experiments.ablation.variants import FILTER_VARIANTS
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain
from ldf_utils.data.pairs import Pair
from ldf_utils.losses.direction import direction_loss, text_directions
from ldf_utils.losses.entropy_filter import PatchFilter
from ldf_utils.losses.patches import PatchSampler, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss
from ldf_utils.training.config import NETWORKS, TrainConfig
from ldf_utils.training.crops import Crops

CONFIG = TrainConfig(batch=4, crop=128, patches=8, clip="mini")


@dataclass
class Pull:
    """Hold sums over crops: patches kept, lengths of gradients, their flat share and cosine."""

    kept: float = 0.0
    strength: float = 0.0
    flat: float = 0.0
    with_words: float = 0.0
    crops: int = 0
    acting: int = 0  # crops of which a patch is kept


def _pixel_gradients(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor, clip: ClipSpace
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of the weighted perceptual and direction term in the fused pixels."""
    fused, weights = fused.detach().requires_grad_(), CONFIG.weights
    perceptual = weights.perceptual * PerceptualLoss()(fused, infrared, visible)
    with torch.no_grad():
        of_infrared, of_visible = clip.encode_image(infrared), clip.encode_image(visible)
    directions = text_directions(clip, CONFIG.prompts)
    language = direction_loss(clip.encode_image(fused), of_infrared, of_visible, directions).mean()
    (one,) = torch.autograd.grad(perceptual, fused)
    (other,) = torch.autograd.grad(weights.direction * language, fused)
    return one, other


def measure_pull(pairs: Sequence[Pair], clip: ClipSpace, batches: int = 10) -> dict[str, Pull]:
    """Measure every filter variant on the same crops and patches.

    Args:
        pairs: what crops are drawn from.
        clip: the model.
        batches: of `CONFIG`.

    Returns:
        Name of the variant to its means; those of crops without a kept patch are left out of
        ``flat`` and ``with_words``.
    """
    crops, found = Crops(pairs, CONFIG), {v.name: Pull() for v in FILTER_VARIANTS}
    sampler = PatchSampler(CONFIG.patches, size=clip.image_size)
    torch.manual_seed(CONFIG.seed)
    network = NETWORKS[CONFIG.network]().eval()
    directions = text_directions(clip, CONFIG.prompts)
    generator = torch.Generator().manual_seed(CONFIG.seed)
    for _ in tqdm(range(batches), desc="batches", leave=False):
        infrared, visible = crops.batch(generator)
        with torch.no_grad():
            fused = network(infrared, visible)
            of_infrared = clip.encode_image(infrared).repeat(CONFIG.patches, 1)
            of_visible = clip.encode_image(visible).repeat(CONFIG.patches, 1)
        perceptual, words = _pixel_gradients(fused, infrared, visible, clip)
        draws = sampler.draw(CONFIG.batch, generator, (CONFIG.crop, CONFIG.crop))
        images = torch.cat([infrared, visible], dim=1)
        views = cut_patches(images, draws, sampler.size)
        leaf = fused.clone().requires_grad_()
        patches = cut_patches(leaf, draws, sampler.size)
        cut = patches.detach().requires_grad_()
        # Patches do not see one another: one backward pass has the gradient of each.
        losses = direction_loss(clip.encode_image(cut), of_infrared, of_visible, directions)
        (each,) = torch.autograd.grad(losses.sum(), cut)
        flat = [
            F.pad(flat_places(Sample("", infrared[k], visible[k], visible[k])), (1, 1, 1, 1))
            for k in range(CONFIG.batch)
        ]
        for variant in FILTER_VARIANTS:
            rule = PatchFilter(variant.changes["patch_filter"], CONFIG.entropy_threshold)
            mask, over = rule.keep(views, images), variant.changes["mean_over"]
            share = mask.float() / (len(mask) if over == "all" else max(1, int(mask.sum())))
            (pull,) = torch.autograd.grad(
                patches, leaf, CONFIG.weight_patch * share.view(-1, 1, 1, 1) * each,
                retain_graph=True,
            )  # fmt: skip
            _add(found[variant.name], mask, pull, perceptual, words, flat)
    return {name: _mean(pull) for name, pull in found.items()}


def _add(
    result: Pull,
    mask: torch.Tensor,
    pull: torch.Tensor,
    perceptual: torch.Tensor,
    words: torch.Tensor,
    flat: Sequence[torch.Tensor],
) -> None:
    result.kept += mask.float().mean().item() * len(pull)
    for k in range(len(pull)):
        length = pull[k].norm()
        result.crops += 1
        result.strength += (length / perceptual[k].norm()).item()
        if length > 0:
            energy = pull[k, 0].square()
            result.acting += 1
            result.flat += (energy[flat[k]].sum() / energy.sum()).item() / 0.2
            result.with_words += F.cosine_similarity(
                pull[k].flatten(), words[k].flatten(), dim=0
            ).item()


def _mean(total: Pull) -> Pull:
    acting = max(1, total.acting)
    return Pull(
        total.kept / total.crops,
        total.strength / total.crops,
        total.flat / acting,
        total.with_words / acting,
        total.crops,
        total.acting,
    )


def table(found: dict[str, Pull]) -> str:
    """Write the means as a Markdown table."""
    lines = ["| filter / mean over | kept | crops without | strength | flat | with words |"]
    lines.append("|---" * 6 + "|")
    for name, pull in found.items():
        lines.append(
            f"| {name.replace('_', ' ')} | {pull.kept:.2f} | {1 - pull.acting / pull.crops:.2f} | "
            f"{pull.strength:.2f} | {pull.flat:.2f} | {pull.with_words:.2f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when done, 1 when something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablation.filter_pull",
        description="Measure how each rule of the patch filter pulls at the pixels.",
    )
    parser.add_argument("--train", nargs="+", default=["rendered"], metavar="DIR", help="sets")
    parser.add_argument("--batches", type=int, default=10)
    arguments = parser.parse_args(argv)
    try:
        if arguments.batches < 1:
            raise ValueError(f"--batches must be >= 1, got {arguments.batches}")
        pairs = [pair for _, folder in training_sets(arguments.train) for pair in folder]
        print(table(measure_pull(pairs, load_clip(CONFIG.clip), arguments.batches)))
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
