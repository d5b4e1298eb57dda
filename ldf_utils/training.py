"""Training: configuration, data, the loop, checkpoints, one process or many.

The loop is short. A step draws random crops of registered pairs, adds noise to what the network
sees, and asks `ldf_utils.losses.FusionLoss` how well the fused crops follow the words and keep
their clean sources. Everything random in a step comes from one number made of (seed, step, rank),
so a run that was stopped goes on as if it never had been.

    python -m ldf_utils.training --output runs/first --set steps=300 --set batch=4 --set crop=128

On several GPUs or machines the same command is started by ``torchrun``: each process draws its own
crops, and gradients are averaged.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import math
import os
import pickle
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset
from tqdm.auto import tqdm

from ldf_utils.clip_space import PROMPTS, ClipSpace, Prompts, load_clip
from ldf_utils.files import atomic_path, write_json, write_rows
from ldf_utils.images import ImageError, Pair, PairFolder, to_8bit
from ldf_utils.losses import FusionLoss, LossTerms, LossWeights
from ldf_utils.networks import BoundedFusionNetwork, LDLite, PaperNetwork, save_network
from ldf_utils.patches import PatchSampler
from ldf_utils.scenes import open_sets

NETWORKS = {"bounded": BoundedFusionNetwork, "paper": PaperNetwork, "lite": LDLite}
CHECKPOINT, HISTORY, NETWORK = "checkpoint.pt", "history.csv", "network.pt"
# What may differ between a run and its continuation: it does not change the result.
_FREE_TO_CHANGE = ("checkpoint_every", "cache_mb", "device")


class TrainingError(RuntimeError):
    """The training cannot go on; the text says why, where the evidence is and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but for the pairs. The defaults follow arXiv:2402.16267.

    Attributes:
        steps: optimizer steps of the whole run.
        batch: crops per step and process.
        crop: side of a crop in pixels. Smaller images are mirrored at their borders.
        seed: of the first weights of the network and of all that is drawn.
        learning_rate: of Adam, at its highest.
        warmup: share of the steps in which it rises to that, in a line.
        floor: share of it that is left at the last step, after a cosine decay.
        noise: standard deviation of the noise added to what the network sees; the losses see the
            clean crops.
        flip: mirror half of the crops left to right.
        min_std: a crop is drawn again if both sources have a lower standard deviation.
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
        perceptual: ``filterbank`` or ``vgg19``.
        patches: per crop.
        patch_degrees: largest rotation of a patch.
        entropy_threshold: bits that both source patches have to exceed; 0 keeps every patch.
        mean_over: ``all`` or ``kept``, see `ldf_utils.losses.patch_direction_loss`.
        ignore_below: patch losses up to this value do not count; 0 switches it off.
        autocast: run CLIP in bfloat16.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ...
        checkpoint_every: steps between checkpoints.

    Raises:
        ValueError: for a value of another type or out of its range.
    """

    steps: int = 2000
    batch: int = 16
    crop: int = 224
    seed: int = 0
    learning_rate: float = 5e-4
    warmup: float = 0.05
    floor: float = 0.01
    noise: float = 0.03
    flip: bool = True
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
    patch_degrees: float = PatchSampler.degrees
    entropy_threshold: float = 6.0
    mean_over: str = "all"
    ignore_below: float = 0.0
    autocast: bool = False
    device: str = "auto"
    checkpoint_every: int = 200

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
            "perceptual": (self.perceptual in ("filterbank", "vgg19"), "filterbank or vgg19"),
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


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        network: the trained network, in eval mode, on the device it was trained on.
        history: one row per step: ``step``, ``learning_rate``, ``total``, each term before its
            weight, ``kept`` (share of patches that passed the filter), ``gradient`` (norm).
        folder: holds ``config.json``, ``history.csv``, ``checkpoint.pt`` and ``network.pt``.
        seconds: how long the steps of this call took.
    """

    network: nn.Module
    history: list[dict[str, float]]
    folder: Path
    seconds: float


# --- what a step is made of


class Crops:
    """Random crops of pairs.

    Pairs are kept as 8-bit luminance once read, up to a limit; sources of 16 bits are rounded to
    8 whether they are kept or not, so the limit does not change what is drawn.

    Args:
        pairs: a sequence of `ldf_utils.images.Pair`.
        config: ``crop``, ``flip``, ``min_std``, ``tries`` and ``cache_mb`` are used.

    Raises:
        ImageError: if there is no pair.
    """

    def __init__(self, pairs: Sequence[Pair], config: TrainConfig):
        if len(pairs) == 0:
            raise ImageError(
                "there is no pair to train on; expected at least one. Give a set (ir/ and vi/ "
                "with pictures of equal stem) or a list of pairs"
            )
        self.pairs, self.config = pairs, config
        self.cache: dict[int, torch.Tensor] = {}
        self.room = config.cache_mb * 1e6

    def luminances(self, index: int) -> torch.Tensor:
        """Infrared and visible luminance of one pair, ``(2, H, W)`` uint8.

        Raises:
            ImageError: if the two differ in size, or are too small to be mirrored to a crop.
        """
        if index in self.cache:
            return self.cache[index]
        pair, crop = self.pairs[index], self.config.crop
        place = pair.infrared_path or f"pair {pair.name!r}"
        (height, width), other = pair.infrared.shape[-2:], pair.visible.shape[-2:]
        if (height, width) != tuple(other):
            raise ImageError(
                f"{place}: the infrared image is {width} x {height} pixels and the visible one "
                f"{other[1]} x {other[0]}; a pair must be registered, so both need one size"
            )
        least = math.ceil((crop + 2) / 3)
        if min(height, width) < least:
            raise ImageError(
                f"{place}: {width} x {height} pixels are too few for crops of {crop}; expected "
                f"sides of at least {least} (smaller ones cannot be mirrored so far). Set a "
                "smaller crop, or leave this pair out"
            )
        both = to_8bit(torch.cat([pair.infrared, pair.luminance])).to(torch.uint8)
        if both.numel() <= self.room:
            self.cache[index] = both
            self.room -= both.numel()
        return both

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """One crop, ``(2, crop, crop)`` float32 in [0, 1], infrared first."""

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        crop = self.config.crop
        for _ in range(self.config.tries):
            both = self.luminances(below(len(self.pairs)))
            height, width = both.shape[-2:]
            top, left = below(max(1, height - crop + 1)), below(max(1, width - crop + 1))
            cut = both[:, top : top + crop, left : left + crop].float() / 255
            if min(height, width) < crop:
                down, right = crop - cut.shape[-2], crop - cut.shape[-1]
                margins = (right // 2, right - right // 2, down // 2, down - down // 2)
                cut = F.pad(cut, margins, mode="reflect")
            if self.config.flip and below(2):
                cut = cut.flip(-1)
            if (cut.std(dim=(1, 2)) >= self.config.min_std).any():
                break
        return cut

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared and visible crops, each ``(B, 1, crop, crop)`` in [0, 1]."""
        drawn = torch.stack([self.draw(generator) for _ in range(self.config.batch)])
        return drawn[:, :1], drawn[:, 1:]


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: up in a line, down in half a cosine.

    Args:
        step: from 0 to ``config.steps - 1``.
        config: ``learning_rate``, ``warmup``, ``steps`` and ``floor`` are used.

    Returns:
        Rising to ``learning_rate``, which the last step of the warm-up has; then falling to ``floor
        * learning_rate``, which the last step of all has.
    """
    rising = round(config.warmup * config.steps)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    cosine = (1 + math.cos(math.pi * (step + 1 - rising) / (config.steps - rising))) / 2
    return config.learning_rate * (config.floor + (1 - config.floor) * cosine)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """One well-mixed number for (seed, step, rank): neighbors give unrelated streams."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


# --- many processes: the same loop, switched on by what torchrun sets


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    def average(self, network: nn.Module) -> None:
        """Replace the gradients by their mean over the processes."""
        if self.count == 1:
            return
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in network.parameters() if p.requires_grad]
        flat = nn.utils.parameters_to_vector(gradients)
        distributed.all_reduce(flat)
        nn.utils.vector_to_parameters(flat / self.count, gradients)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over the processes."""
        if self.count == 1:
            return values
        flat = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        distributed.all_reduce(flat)
        return dict(zip(values, (flat / self.count).tolist(), strict=True))

    def agree(self, network: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)


def join_team(device: str = "auto") -> Team:
    """Find out who we are from RANK, LOCAL_RANK and WORLD_SIZE, and connect if we are many.

    The connection is made once and kept until the process ends: a second one over the same store
    would find the addresses of the first.

    Args:
        device: ``auto`` takes GPU number LOCAL_RANK where there are GPUs, else the CPU.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if count > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Team(rank, count, place)


# --- the loop


def fit(
    config: TrainConfig,
    pairs: Sequence[Pair] | Mapping[str, Sequence[Pair]] | None = None,
    clip: ClipSpace | None = None,
    network: nn.Module | None = None,
    folder: str | os.PathLike = "runs/training",
    callback: Callable[[dict[str, float], nn.Module], None] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a fusion network with words.

    Args:
        config: everything that decides the run.
        pairs: what to train on: pairs, or sets by name (all pairs of all sets, each as likely as
            any other); `ldf_utils.scenes.open_sets` if None.
        clip: the judge, which is frozen and moved to the device; loaded by ``config.clip`` if None.
        network: maps ``(infrared, visible)``, each ``(B, 1, H, W)`` in [0, 1], to the same shape,
            and is trained in place; built by ``config.network`` from ``config.seed`` if None.
        folder: where the run is kept; what an earlier run left there is replaced.
        callback: called after each step with the row of the history and the network, which it may
            put in eval mode.
        resume: go on from the checkpoint in ``folder``, if there is one. The result is the one
            that the run would have had without the stop.
        progress: show a bar.

    Returns:
        The network and the history.

    Raises:
        ImageError: if there is no pair, or one cannot be read or is too small.
        ValueError: if the checkpoint was made with other settings, or as `FusionLoss`.
        TrainingError: if the loss or its gradient is not finite (the batch is saved, and the last
            checkpoint stays), or if the checkpoint to resume from is damaged.
    """
    folder = Path(folder)
    if pairs is None:
        pairs = open_sets()
    if isinstance(pairs, Mapping):
        pairs = ConcatDataset(list(pairs.values())) if pairs else []
    crops = Crops(pairs, config)
    if clip is None and any((config.weight_direction, config.weight_patch, config.weight_angle)):
        clip = load_clip(config.clip)

    team = join_team(config.device)
    with _own_randomness(team.device):
        torch.manual_seed(config.seed)
        if network is None:
            network = NETWORKS[config.network]()
        network = network.to(team.device)
        team.agree(network)
        criterion = _criterion(config, clip).to(team.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        state = _State(config, clip.name if clip else None, len(pairs), network, optimizer)
        if resume and (folder / CHECKPOINT).is_file():
            state.load(folder / CHECKPOINT)
        elif team.rank == 0:
            write_json(folder / "config.json", config.to_dict())
            for name in (CHECKPOINT, HISTORY, NETWORK):
                (folder / name).unlink(missing_ok=True)

        bar = tqdm(
            total=config.steps,
            initial=len(state.history),
            desc="training",
            unit="step",
            mininterval=0.5,
            disable=team.rank > 0 or not progress,
        )
        start = time.perf_counter()
        try:
            for step in range(len(state.history), config.steps):
                seed = step_seed(config.seed, step, team.rank)
                generator = torch.Generator().manual_seed(seed)
                torch.manual_seed(seed + 1)  # for networks that draw by themselves, as dropout does

                infrared, visible = (x.to(team.device) for x in crops.batch(generator))
                noisy = [
                    x + config.noise * torch.randn(x.shape, generator=generator).to(team.device)
                    for x in (infrared, visible)
                ]
                fused = network.train()(*noisy)
                loss = criterion(fused, infrared, visible, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.total.backward()
                team.average(network)
                size = nn.utils.clip_grad_norm_(network.parameters(), math.inf)  # measures only

                row = team.mean(_values(loss, size))
                if not math.isfinite(row["total"] + row["gradient"]):
                    seen = dict(infrared=infrared, visible=visible, fused=fused.detach())
                    raise _not_finite(row, seen | {"noisy": noisy}, step, folder, team)
                rate = learning_rate(step, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()

                row = {"step": step + 1, "learning_rate": rate, **row}
                state.history.append(row)
                last = step + 1 == config.steps
                if team.rank == 0 and (last or (step + 1) % config.checkpoint_every == 0):
                    state.save(folder / CHECKPOINT)
                    write_rows(folder / HISTORY, state.history)
                bar.set_postfix(
                    {k: f"{v:.3f}" for k, v in row.items() if k in _SHOWN}, refresh=False
                )
                bar.update()
                if callback is not None:
                    callback(row, network)
        finally:
            bar.close()
            if team.rank == 0 and state.history:
                write_rows(folder / HISTORY, state.history)
        seconds = time.perf_counter() - start
        network.eval()
        if team.rank == 0:
            _export(network, config, state, folder)
    return TrainResult(network, state.history, folder, seconds)


_SHOWN = ("total", "direction", "patch", "angle", "perceptual", "kept")


def _criterion(config: TrainConfig, clip: ClipSpace | None) -> FusionLoss:
    sampler = None
    if clip is not None:
        sampler = PatchSampler(config.patches, degrees=config.patch_degrees, size=clip.image_size)
    return FusionLoss(
        clip,
        config.prompts,
        config.weights,
        sampler,
        entropy_threshold=config.entropy_threshold or None,
        mean_over=config.mean_over,
        ignore_below=config.ignore_below,
        perceptual=config.perceptual,
        autocast=config.autocast,
    )


def _values(loss: LossTerms, gradient: torch.Tensor) -> dict[str, float]:
    values = {"total": loss.total.item()}
    values |= {name: term.item() for name, term in loss.terms.items()}
    if loss.kept is not None:
        values["kept"] = loss.kept
    return values | {"gradient": gradient.item()}


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as the caller had it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@dataclass
class _State:
    """What a checkpoint holds.

    The random state is not in it as bytes: all that is random in step s follows from the seed, s
    and the rank (`step_seed`), and the seed and s are there.
    """

    config: TrainConfig
    clip_name: str | None
    pair_count: int
    network: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        content = {
            "config": self.config.to_dict(),
            "clip": self.clip_name,
            "pairs": self.pair_count,
            "step": len(self.history),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            then = content["config"] | {"clip model": content["clip"], "pairs": content["pairs"]}
        except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path}: this is no checkpoint of a run, or it is damaged ({error!r}). Remove it "
                "to start the run again"
            ) from error
        now = self.config.to_dict() | {"clip model": self.clip_name, "pairs": self.pair_count}
        differing = [
            f"{name} was {then.get(name)!r} and is {value!r}"
            for name, value in now.items()
            if name not in _FREE_TO_CHANGE and then.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{path} is of a run with other settings: {'; '.join(differing)}. Go on with the "
                "settings of then, or start a new run in another folder"
            )
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.history = content["history"]


def _not_finite(
    row: dict[str, float], batch: dict[str, Any], step: int, folder: Path, team: Team
) -> TrainingError:
    """Save the evidence, and say what happened."""
    evidence = folder / (f"bad_batch_{team.rank}.pt" if team.count > 1 else "bad_batch.pt")
    with atomic_path(evidence) as temporary:
        torch.save({"step": step + 1, "terms": row, **batch}, temporary)
    checkpoint = folder / CHECKPOINT
    terms = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
    return TrainingError(
        f"step {step + 1}: the loss or its gradient is not finite ({terms}). The batch is in "
        f"{evidence}; "
        + (
            f"the last good checkpoint stays at {checkpoint}. "
            if checkpoint.is_file()
            else "there is no checkpoint yet. "
        )
        + "Look at the batch for damaged pictures, or lower learning_rate"
    )


def _export(network: nn.Module, config: TrainConfig, state: _State, folder: Path) -> None:
    metadata = {
        "config": config.to_dict(),
        "clip": state.clip_name,
        "pairs": state.pair_count,
        "last": state.history[-1],
    }
    try:
        save_network(network, folder / NETWORK, metadata)
    except TypeError as error:  # a network of the caller's own: its file format is not ours
        tqdm.write(f"{NETWORK} is not written: {error}. The weights are in {CHECKPOINT}")


# --- command line


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.training",
        description="Train a fusion network with words. The folder of the run holds config.json, "
        "history.csv, checkpoint.pt and, in the end, network.pt for python -m ldf_utils.fusing.",
        epilog="Settings: "
        + ", ".join(f"{setting.name}={setting.default!r}" for setting in fields(TrainConfig)),
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; overrides the file",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="a set (with ir/ and vi/) or a folder of sets; else LDF_DATA_DIR, else pairs that "
        "are generated",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the run")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 when trained, 1 if the training failed, 2 if it could not start."""
    arguments = _parser().parse_args(argv)
    try:
        values = {}
        if arguments.config:
            values = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
        config = TrainConfig.from_dict(values | dict(arguments.set))
        if (arguments.output / CHECKPOINT).exists() and not arguments.resume:
            raise ValueError(
                f"{arguments.output} holds a run already; add --resume to go on with it, or name "
                "another folder"
            )
        if arguments.data and (Path(arguments.data) / "ir").is_dir():
            pairs = PairFolder(arguments.data)
        else:
            pairs = open_sets(arguments.data)
        result = fit(config, pairs, folder=arguments.output, resume=arguments.resume)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if int(os.environ.get("RANK", 0)) == 0:
        last = result.history[-1]
        print(f"{config.steps} steps, loss {last['total']:.3f}; {result.folder / NETWORK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
