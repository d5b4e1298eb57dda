"""The settings of a training."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ldf_utils.clip.model import PROMPTS, Prompts
from ldf_utils.losses.fusion_loss import LossWeights
from ldf_utils.losses.patches import (
    PatchSampler,
)
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.ldfusion import LDLite, PaperNetwork

NETWORKS = {"bounded": BoundedFusionNetwork, "paper": PaperNetwork, "lite": LDLite}
SCHEDULES = ("cosine", "halving", "released")
AUGMENTS = ("none", "affine", "released")
PERCEPTUAL = ("filterbank", "vgg19", "auto")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but for the pairs. The defaults follow arXiv:2402.16267.

    Attributes:
        steps: optimizer steps of the whole run.
        batch: crops per process that are in memory together.
        accumulate: how many such batches, one after the other, make the gradient of a step; their
            gradients are averaged, and processes exchange them once.
        crop: side of a crop in pixels. Smaller images are mirrored at their borders.
        seed: of the first weights of the network and of all that is drawn.
        learning_rate: of Adam, at its highest.
        schedule: what it does after the warm-up: ``cosine`` falls to ``floor``; ``halving`` halves
            it after 50, 60, 70, 80 and 90 % of the steps, as the authors' settings ask for;
            ``released`` does what their code does with them, see `learning_rate`.
        warmup: share of the steps in which it rises to that, in a line.
        floor: share of it that is left at the last step, after a cosine decay.
        noise: standard deviation of the noise added to what the network sees; the losses see the
            clean crops.
        flip: mirror half of the crops left to right.
        augment: ``none`` leaves crops as they are; ``affine`` turns, shifts, zooms and shears them
            as patches are, with pixels from the whole picture; ``released`` does so within the
            crop, by the nearest pixel and with 0 beyond its border.
        order: ``random`` draws every crop from any pair; ``epochs`` goes through all pairs in a
            new order each time before one comes again, each process through its own share.
        min_std: a crop is drawn again if both sources have a lower standard deviation; from the
            same pair where the order is ``epochs``.
        tries: how often at most; then the last one is taken.
        cache_mb: memory for pairs that were read, in MB; the others are read again when drawn.
        network: ``bounded``, ``paper`` or ``lite``.
        clip: as in `ldf_utils.clip_space.load_clip`.
        prompt_infrared: the sentence for the infrared image.
        prompt_visible: the sentence for the visible image.
        prompt_fused: the sentence for the fused image, the objective.
        weight_direction: weight of the direction term; 0 switches it off, as with the others.
        weight_patch: weight of the patch term.
        weight_angle: weight of the angle term.
        weight_perceptual: weight of the perceptual term.
        perceptual: ``filterbank``, ``vgg19``, or ``auto``: VGG19 where its weights can be had,
            else the filter bank, which is then named in the log.
        patches: per crop.
        patch_rule: ``views`` or ``released``, see `ldf_utils.patches.PatchSampler`.
        patch_degrees: largest rotation of a patch.
        entropy_threshold: bits that both source patches have to exceed; 0 keeps every patch.
        mean_over: ``all`` or ``kept``, see `ldf_utils.losses.patch_direction_loss`.
        ignore_below: patch losses up to this value do not count; 0 switches it off.
        autocast: run CLIP and VGG19 in bfloat16.
        autocast_network: run the network that is trained in bfloat16, its weights in float32.
        frozen: run CLIP and VGG19 as `ldf_utils.clip.frozen`: equal up to rounding, less work.
        compile: compile the frozen towers; slower to start, faster then. It needs a C++ compiler.
        cache_sources: keep the embeddings of sources whose crop is always the same, that is of
            pictures no larger than the crop.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ...
        checkpoint_every: steps between checkpoints.
        ahead: steps whose crops are read and cut in the background; 0 does it in between.
        samples: pictures that show, at each checkpoint, what the network makes.

    Raises:
        ValueError: for a value of another type or out of its range.
    """

    steps: int = 2000
    batch: int = 16
    accumulate: int = 1
    crop: int = 224
    seed: int = 0
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    floor: float = 0.01
    noise: float = 0.03
    flip: bool = True
    augment: str = "none"
    order: str = "random"
    min_std: float = 0.05
    tries: int = 10
    cache_mb: float = 1024.0
    network: str = "bounded"
    clip: str = "auto"
    prompt_infrared: str = PROMPTS.infrared
    prompt_visible: str = PROMPTS.visible
    prompt_fused: str = PROMPTS.fused
    weight_direction: float = LossWeights.direction
    weight_patch: float = LossWeights.patch
    weight_angle: float = LossWeights.angle
    weight_perceptual: float = LossWeights.perceptual
    perceptual: str = "filterbank"
    patches: int = PatchSampler.count
    patch_rule: str = PatchSampler.rule
    patch_degrees: float = PatchSampler.degrees
    entropy_threshold: float = 6.0
    mean_over: str = "all"
    ignore_below: float = 0.0
    autocast: bool = False
    autocast_network: bool = False
    frozen: bool = False
    compile: bool = False
    cache_sources: bool = False
    device: str = "auto"
    checkpoint_every: int = 200
    ahead: int = 1
    samples: int = 2

    def __post_init__(self):
        for setting in fields(self):
            value, kind = getattr(self, setting.name), type(setting.default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, setting.name, float(value))
            elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(
                    f"{setting.name} is to be of type {kind.__name__}, found {value!r}; "
                    f"the default is {setting.default!r}"
                )
        checks = {
            "steps": (self.steps >= 1, "at least 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "augment": (self.augment in AUGMENTS, f"one of {', '.join(AUGMENTS)}"),
            "order": (self.order in ("random", "epochs"), "random or epochs"),
            "patch_rule": (self.patch_rule in ("views", "released"), "views or released"),
            "ahead": (self.ahead >= 0, "0 or more"),
            "samples": (self.samples >= 0, "0 or more"),
            "crop": (self.crop >= 32, "at least 32"),
            "seed": (self.seed >= 0, "0 or more"),
            "learning_rate": (0 < self.learning_rate < math.inf, "above 0"),
            "warmup": (0 <= self.warmup <= 1, "in [0, 1]"),
            "floor": (0 <= self.floor <= 1, "in [0, 1]"),
            "noise": (0 <= self.noise < math.inf, "0 or more"),
            "min_std": (0 <= self.min_std < math.inf, "0 or more"),
            "tries": (self.tries >= 1, "at least 1"),
            "cache_mb": (self.cache_mb >= 0, "0 or more"),
            "network": (self.network in NETWORKS, f"one of {', '.join(NETWORKS)}"),
            "perceptual": (self.perceptual in PERCEPTUAL, f"one of {', '.join(PERCEPTUAL)}"),
            "patches": (self.patches >= 1, "at least 1"),
            "patch_degrees": (0 <= self.patch_degrees <= 180, "in [0, 180]"),
            "entropy_threshold": (0 <= self.entropy_threshold <= 8, "in [0, 8] bits"),
            "mean_over": (self.mean_over in ("all", "kept"), "all or kept"),
            "ignore_below": (0 <= self.ignore_below <= 2, "in [0, 2]"),
            "checkpoint_every": (self.checkpoint_every >= 1, "at least 1"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise ValueError(f"{name} is to be {expected}, found {getattr(self, name)!r}")
        _ = self.weights  # checks them

    @property
    def weights(self) -> LossWeights:
        """The weights of the loss terms."""
        return LossWeights(
            self.weight_direction, self.weight_patch, self.weight_angle, self.weight_perceptual
        )

    @property
    def prompts(self) -> Prompts:
        """The three sentences."""
        return Prompts(
            infrared=self.prompt_infrared, visible=self.prompt_visible, fused=self.prompt_fused
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON, TOML or a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The configuration with these values, and the defaults for the rest.

        Raises:
            ValueError: for an unknown name (the nearest known one is named) or a bad value.
        """
        known = [setting.name for setting in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                raise ValueError(f"there is no setting {name!r}; {hint}")
        return cls(**values)
