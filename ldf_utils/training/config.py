"""The settings of a training: what they are, their limits, and how they are read."""

from __future__ import annotations

import difflib
import operator
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from ldf_utils.clip.model import PROMPTS, Prompts
from ldf_utils.losses.fusion_loss import LossWeights
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.ldfusion import LDLite, PaperNetwork
from ldf_utils.networks.salient import SalientFusionNetwork
from ldf_utils.networks.sentence import SentenceFusionNetwork

NETWORKS = {
    "bounded": BoundedFusionNetwork,
    "salient": SalientFusionNetwork,
    "sentence": SentenceFusionNetwork,
    "paper": PaperNetwork,
    "lite": LDLite,
}

RENAMED = dict(ahead="prefetch", floor="min_lr_ratio", lean="frozen", tries="max_resamples")
"""Settings that earlier versions called by another name: old to new."""

_SIGNS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_Count = Annotated[int, ">= 1"]
_Ratio = Annotated[float, ">= 0", "<= 1"]
_NotNegative = Annotated[float, ">= 0", "< inf"]


@dataclass(frozen=True)
class TrainConfig:
    """Hold everything that decides a run, but for the pairs; the defaults follow arXiv:2402.16267.

    Each setting is explained beside it and checked against its annotation.

    Raises:
        ValueError: for a value of another type or out of its range.

    Example:
        >>> TrainConfig(steps=240, batch=4, crop=128, weight_perceptual=100).weights.perceptual
        100
    """

    steps: _Count = 2000  # of the optimizer, in the whole run
    batch: _Count = 16  # crops per process that are in memory together
    accumulate: _Count = 1  # batches whose mean gradient makes a step; exchanged once
    crop: Annotated[int, ">= 32"] = 224  # side in pixels; smaller images are mirrored
    seed: Annotated[int, ">= 0"] = 0  # of the network's first weights and of all that is drawn
    learning_rate: Annotated[float, "> 0", "< inf"] = 5e-4  # of Adam, at its highest
    # What the rate does after the warm-up, see `ldf_utils.training.schedule.learning_rate`.
    schedule: Literal["cosine", "halving", "released"] = "cosine"
    warmup: _Ratio = 0.05  # share of the steps in which the rate rises in a line
    min_lr_ratio: _Ratio = 0.01  # share of the rate that is left after a cosine decay
    noise: _NotNegative = 0.03  # std of what is added for the network; losses see clean crops
    flip: bool = True  # mirror half of the crops left to right
    # affine: turned, shifted, zoomed and sheared as patches are, with pixels of the whole picture;
    # released: the same within the crop, by the nearest pixel, 0 beyond its border.
    augment: Literal["none", "affine", "released"] = "none"
    # epochs: all pairs have their turn before one comes again, each process has its own shard.
    order: Literal["random", "epochs"] = "random"
    min_std: _NotNegative = 0.05  # a crop is drawn again if both sources have a lower std
    max_resamples: _Count = 10  # how many are drawn at most; then the last one is taken
    cache_mb: Annotated[float, ">= 0"] = 1024.0  # for pairs that were read
    network: Literal["bounded", "salient", "sentence", "paper", "lite"] = "bounded"
    clip: str = "auto"  # as in `ldf_utils.clip.loading.load_clip`
    prompt_infrared: str = PROMPTS.infrared
    prompt_visible: str = PROMPTS.visible
    prompt_fused: str = PROMPTS.fused  # the objective
    # one: prompt_fused for every crop; grammar: each crop draws its own objective, for a network
    # that takes sentences, see `ldf_utils.clip.grammar`.
    sentences: Literal["one", "grammar"] = "one"
    weight_direction: _NotNegative = LossWeights.direction  # 0 switches a term off
    weight_patch: _NotNegative = LossWeights.patch
    weight_angle: _NotNegative = LossWeights.angle
    weight_perceptual: _NotNegative = LossWeights.perceptual
    # auto: VGG19 where its weights can be had, else the filter bank; the log says which.
    perceptual: Literal["filterbank", "vgg19", "auto"] = "filterbank"
    patches: _Count = PatchSampler.count  # per crop
    patch_rule: Literal["views", "released"] = "views"  # see `ldf_utils.losses.patches`
    patch_degrees: Annotated[float, ">= 0", "<= 180"] = PatchSampler.degrees  # largest rotation
    entropy_threshold: Annotated[float, ">= 0", "<= 8"] = 6.0  # bits, of both sources; 0 keeps all
    # Which patches count, and whose bits are asked for: see `ldf_utils.losses.entropy_filter`.
    patch_filter: Literal["bits", "normalized", "upper_half", "none"] = "bits"
    filter_sources: Literal["both", "infrared", "visible"] = "both"
    mean_over: Literal["all", "kept"] = "all"  # see `ldf_utils.losses.direction`
    ignore_below: Annotated[float, ">= 0", "<= 2"] = 0.0  # patch losses up to this do not count
    # What a fused patch is compared with, and the two sides of the direction: the paper's are
    # whole, difference, difference; see `ldf_utils.losses.direction`.
    patch_sources: Literal["whole", "patch"] = "whole"
    direction_text: Literal["difference", "target"] = "difference"
    direction_image: Literal["difference", "position"] = "difference"
    autocast: bool = False  # run CLIP and VGG19 in bfloat16
    autocast_network: bool = False  # run the network in bfloat16, its weights in float32
    frozen: bool = False  # run CLIP and VGG19 as `ldf_utils.clip.frozen`: equal but for rounding
    compile: bool = False  # compile these frozen towers; it needs a C++ compiler
    device: str = "auto"  # a GPU where there is one; cpu, cuda, ...
    checkpoint_every: _Count = 200  # steps
    prefetch: Annotated[int, ">= 0"] = 1  # steps whose crops are made in the background
    samples: Annotated[int, ">= 0"] = 2  # pictures at each checkpoint of what the network makes

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            _check(name, getattr(self, name), hint)
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
        """Return plain values by name, for JSON, TOML or a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the configuration with these values, and the defaults for the rest.

        Raises:
            ValueError: for an unknown name (the new or the nearest one is named) or a bad value.
        """
        known = [setting.name for setting in fields(cls)]
        for name in values:
            if name in RENAMED:
                raise ValueError(f"the setting {name!r} is now called {RENAMED[name]!r}; rename it")
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                raise ValueError(f"there is no setting {name!r}; {hint}")
        return cls(**values)


def _check(name: str, value: Any, hint: Any) -> None:
    """Raise a `ValueError` unless a value is of the annotated type and within its limits."""
    kind, *limits = get_args(hint) or (hint,)
    if isinstance(kind, str):  # of a Literal
        if value not in (kind, *limits):
            raise ValueError(f"{name} must be one of {', '.join((kind, *limits))}, got {value!r}")
        return
    of_kind = isinstance(value, int | float if kind is float else kind)
    if not of_kind or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    for limit in limits:
        sign, bound = limit.split()
        if not _SIGNS[sign](value, float(bound)):
            raise ValueError(f"{name} must be {limit}, got {value!r}")


def parse_setting(text: str) -> tuple[str, Any]:
    """Split ``KEY=VALUE``; the value is read as TOML, or is a string if it is none.

    Raises:
        ValueError: if there is no key or no equals sign.

    Example:
        >>> parse_setting("steps=300"), parse_setting("prompt_fused=a sharp image")
        (('steps', 300), ('prompt_fused', 'a sharp image'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"expected KEY=VALUE, got {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def read_config(path: str | os.PathLike) -> TrainConfig:
    """Read settings from a TOML file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: if it is not TOML, or as `TrainConfig.from_dict`; the file is named.
        OSError: if it cannot be read.
    """
    try:
        return TrainConfig.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8-sig")))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8 ({error.reason})") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: expected settings as TOML, KEY = VALUE ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
