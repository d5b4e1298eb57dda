"""Which share of patches each rule of the filter keeps, set by set.

    python -m experiments.ablation.filter_share --data DIR

Crops of pairs are drawn as in training (not turned), of 224 pixels as in the paper and of 128 as in
the project's own trainings, and patches of each crop are cut as in training. Patches have the side
that CLIP takes: 224 pixels for ViT-B/32, 96 for the embedded model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import explain, write_rows
from ldf_utils.data.pairs import PairFolder, find_sets
from ldf_utils.data.sets import RENDERED
from ldf_utils.losses.entropy_filter import PatchFilter
from ldf_utils.losses.patches import PatchSampler, cut_patches
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops

CROPS = {224: 224, 128: 96}
"""Side of a crop to side of its patches."""

FILTERS = {
    "bits > 6, both": PatchFilter(),
    "bits > 6, infrared": PatchFilter(sources="infrared"),
    "bits > 6, visible": PatchFilter(sources="visible"),
    "normalized > 6, both": PatchFilter("normalized"),
    "upper half": PatchFilter("upper_half"),
    "none": PatchFilter("none"),
}


@dataclass(frozen=True)
class Share:
    """Hold what was found for one set and one size of crops.

    Attributes:
        name: of the set.
        pairs: how many were used.
        crop: side in pixels.
        bits: median bits of the patches, infrared and visible.
        kept: name in `FILTERS` to the share of patches that it keeps.
    """

    name: str
    pairs: int
    crop: int
    bits: tuple[float, float]
    kept: Mapping[str, float]


@torch.no_grad()
def measure_share(
    name: str,
    pairs: PairFolder,
    crop: int,
    count: int = 12,
    crops: int = 4,
    patches: int = 16,
    seed: int = 0,
) -> Share:
    """Measure the share of patches that each filter keeps on one set.

    Args:
        name: of the set.
        pairs: its pairs; ``count`` of them are used, evenly spread.
        crop: side of the crops, one of `CROPS`.
        count: pairs at most.
        crops: of each pair.
        patches: of each crop.
        seed: of all that is drawn.

    Raises:
        ImageError: if a picture cannot be read or is too small.
    """
    generator = torch.Generator().manual_seed(seed)
    places = torch.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().long().tolist()
    config = TrainConfig(crop=crop, min_std=0.0)
    source = Crops([pairs[place] for place in places], config)
    sampler = PatchSampler(patches, size=CROPS[crop])
    bits, kept = [], {name: 0.0 for name in FILTERS}
    for index in range(len(places)):
        images = torch.stack([source.draw(generator, index) for _ in range(crops)])
        views = cut_patches(images, sampler.draw(crops, generator, (crop, crop)), sampler.size)
        bits.append([PatchFilter(sources=source).bits(views) for source in ("infrared", "visible")])
        for label, rule in FILTERS.items():
            kept[label] += rule.keep(views, images).float().mean().item() / len(places)
    medians = [torch.cat(side).median().item() for side in zip(*bits, strict=True)]
    return Share(name, len(places), crop, (medians[0], medians[1]), kept)


def table(shares: Sequence[Share]) -> str:
    """Write the shares as a Markdown table."""
    head = ["set", "pairs", "crop", "median bits, infrared", "visible", *FILTERS]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for share in shares:
        cells = [share.name, share.pairs, share.crop, *(f"{x:.1f}" for x in share.bits)]
        cells += [f"{share.kept[name]:.2f}" for name in FILTERS]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when done, 1 when something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablation.filter_share",
        description="Measure which share of patches each rule of the filter keeps, set by set.",
    )
    parser.add_argument("--data", nargs="+", default=[], metavar="DIR", help="folders of sets")
    parser.add_argument("--pairs", type=int, default=12, help="of each set (default 12)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the numbers there as well")
    arguments = parser.parse_args(argv)
    try:
        if arguments.pairs < 1:
            raise ValueError(f"--pairs must be >= 1, got {arguments.pairs}")
        sets = {"rendered": PairFolder(RENDERED / "train")}
        for folder in arguments.data:
            sets |= find_sets(folder)
        jobs = [(name, pairs, crop) for name, pairs in sets.items() for crop in CROPS]
        shares = [
            measure_share(name, pairs, crop, arguments.pairs)
            for name, pairs, crop in tqdm(jobs, desc="sets", leave=False)
        ]
        print(table(shares))
        if arguments.csv:
            rows = [
                {
                    **{"set": s.name, "pairs": s.pairs, "crop": s.crop},
                    **{"bits_infrared": s.bits[0], "bits_visible": s.bits[1], **s.kept},
                }
                for s in shares
            ]
            print(write_rows(arguments.csv, rows))
    except (ValueError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
