"""Training: the loop, checkpoints, what a run leaves, and the command line.

The loop is short. A step draws random crops of registered pairs, adds noise to what the network
sees, and asks `ldf_utils.losses.fusion_loss.FusionLoss` how well the fused crops follow the words
and keep
their clean sources. Everything random in a step comes from one number made of (seed, step, rank),
so a run that was stopped goes on as if it never had been.

    python -m ldf_utils.training --config configs/laptop.toml
    python -m ldf_utils.training --output runs/first --set steps=300 --set batch=4 --set crop=128
    python -m experiments.training_speed

On several GPUs or machines the same command is started by ``torchrun``: each process draws its own
crops, and gradients are averaged (see `ldf_utils.processes`).
"""

from __future__ import annotations

import collections
import contextlib
import importlib.metadata
import math
import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import ConcatDataset
from tqdm.auto import tqdm

from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace, bfloat16_pays
from ldf_utils.data.files import atomic_path, write_json, write_rows
from ldf_utils.data.images import ImageError, write_image
from ldf_utils.data.pairs import Pair
from ldf_utils.data.scenes import open_sets
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.losses.perceptual import PerceptualLoss
from ldf_utils.networks.checkpoint import save_network
from ldf_utils.training.config import NETWORKS, TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.distributed import Team, join_team
from ldf_utils.training.schedule import learning_rate, step_seed
from ldf_utils.training.step import Embedded, Prepared, gradients, prepare

__all__ = [
    "Crops",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "fit",
    "learning_rate",
    "step_seed",
]

CHECKPOINT, HISTORY, NETWORK = "checkpoint.pt", "history.csv", "network.pt"
CONFIG, ENVIRONMENT, SUMMARY = "config.json", "environment.json", "summary.json"
SAMPLES, CURVES = "samples", "curves.png"
# What may differ between a run and its continuation: it does not change the result.
_FREE_TO_CHANGE = ("checkpoint_every", "cache_mb", "device", "ahead", "samples")


class TrainingError(RuntimeError):
    """The training cannot go on; the text says why, where the evidence is and what to do."""


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        network: the trained network, in eval mode, on the device it was trained on.
        history: one row per step: ``step``, ``learning_rate``, ``total``, each term before its
            weight, ``kept`` (share of patches that passed the filter), ``gradient`` (norm).
        folder: holds ``config.json``, ``environment.json``, ``history.csv``, ``checkpoint.pt``,
            ``samples/`` and, in the end, ``network.pt`` and ``summary.json``; event files of
            TensorBoard as well, where that package is there.
        seconds: how long the steps of this call took.
    """

    network: nn.Module
    history: list[dict[str, float]]
    folder: Path
    seconds: float


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
            any other); `ldf_utils.data.scenes.open_sets` if None.
        clip: the judge, which is frozen and moved to the device; loaded by ``config.clip`` if None.
        network: maps ``(infrared, visible)``, each ``(B, 1, H, W)`` in [0, 1], to the same shape,
            and is trained in place; built by ``config.network`` from ``config.seed`` if None.
        folder: where the run is kept; what an earlier run left there is replaced.
        callback: called after each step with the row of the history and the network, which it may
            put in eval mode.
        resume: go on from the checkpoint in ``folder``, if there is one. The result is the one
            that the run would have had without the stop.
        progress: show a bar, and say which critics are in use.

    Returns:
        The network and the history.

    Raises:
        ImageError: if there is no pair, or one cannot be read or is too small.
        ValueError: if the checkpoint was made with other settings, or as `FusionLoss`.
        TrainingError: if the loss or its gradient is not finite (the batch is saved, and the last
            checkpoint stays), if a checkpoint cannot be written (the last one stays), or if the
            checkpoint to resume from is damaged.
        ProcessError: if another process of the job failed.
    """
    folder = Path(folder)
    team = join_team(config.device)
    if pairs is None:
        pairs = _first_alone(team, open_sets)
    if isinstance(pairs, Mapping):
        pairs = ConcatDataset(list(pairs.values())) if pairs else []
    crops = Crops(pairs, config, team.rank, team.count)
    if clip is None and any((config.weight_direction, config.weight_patch, config.weight_angle)):
        clip = load_clip(config.clip)

    with _own_randomness(team.device):
        torch.manual_seed(config.seed)
        if network is None:
            network = NETWORKS[config.network]()
        network = network.to(team.device)
        team.agree(network)
        criterion = _criterion(config, clip, team.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        facts = {
            "clip model": clip.name if clip else None,
            "pairs": len(pairs),
            "processes": team.count,
            "perceptual features": getattr(getattr(criterion, "perceptual", None), "name", None),
        }
        state = _State(config, facts, network, optimizer)
        resumed = resume and (folder / CHECKPOINT).is_file()
        if resumed:
            state.load(folder / CHECKPOINT)
        if team.rank == 0:
            _open_folder(folder, config, facts, team, keep=resumed)
        if team.rank == 0 and progress:
            tqdm.write(_critics(clip, criterion, team.device))
        log = _Log(folder, crops, team, first=len(state.history))
        embedded: Embedded = {}

        bar = tqdm(
            total=config.steps,
            initial=len(state.history),
            desc="training",
            unit="step",
            mininterval=0.5,
            disable=team.rank > 0 or not progress,
        )
        start = warm = time.perf_counter()
        first = len(state.history)
        feed = _Feed(crops, team, first)
        try:
            for step in range(first, config.steps):
                failure = None
                optimizer.zero_grad(set_to_none=True)
                try:
                    batches = feed.batches(step)
                    values, fused = gradients(
                        network, criterion, batches, config, team.device, embedded
                    )
                except ImageError as error:
                    failure = _bad_picture(error, step, folder)
                except Exception as error:
                    failure = error
                team.average(network, failed=failure is not None)
                if failure is not None:
                    raise failure
                size = nn.utils.clip_grad_norm_(network.parameters(), math.inf)  # measures only

                row = team.mean(values | {"gradient": size.item()})
                if not math.isfinite(row["total"] + row["gradient"]):
                    raise _not_finite(row, batches, fused, step, folder, team)
                rate = learning_rate(step, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()

                row = {"step": step + 1, "learning_rate": rate, **row}
                state.history.append(row)
                last = step + 1 == config.steps
                log.row(row)
                if team.rank == 0 and (last or (step + 1) % config.checkpoint_every == 0):
                    _save(state, log, folder)
                bar.set_postfix(
                    {k: f"{v:.3f}" for k, v in row.items() if k in _SHOWN}, refresh=False
                )
                bar.update()
                if callback is not None:
                    callback(row, network)
                if step == first:
                    warm = time.perf_counter()
        except BaseException:
            if team.rank == 0 and state.history:
                with contextlib.suppress(OSError):  # a full disk does not hide the first error
                    write_rows(folder / HISTORY, state.history)
            raise
        finally:
            feed.close()
            log.close()
            bar.close()
        end = time.perf_counter()
        network.eval()
        if team.rank == 0:
            write_rows(folder / HISTORY, state.history)
            _export(network, config, state, folder)
            _summarize(state, team, config.steps - first, end - start, end - warm, folder)
    return TrainResult(network, state.history, folder, end - start)


_SHOWN = ("total", "direction", "patch", "angle", "perceptual", "kept")


class _Feed:
    """The batches of the coming steps, made in the background while this step is computed."""

    def __init__(self, crops: Crops, team: Team, first: int):
        self.crops, self.team, self.next = crops, team, first
        self.ahead = crops.config.ahead
        self.pool = ThreadPoolExecutor(max(1, min(self.ahead, 8)), "crops") if self.ahead else None
        self.waiting: collections.deque[Future] = collections.deque()

    def batches(self, step: int) -> list[Prepared]:
        if self.pool is None:
            return prepare(self.crops, step, self.team.rank, self.team.device)
        while self.next < min(step + 1 + self.ahead, self.crops.config.steps):
            coming = (prepare, self.crops, self.next, self.team.rank, self.team.device)
            self.waiting.append(self.pool.submit(*coming))
            self.next += 1
        return self.waiting.popleft().result()

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _first_alone(team: Team, function: Callable[[], Any]) -> Any:
    """Call it in the first process, then in the others: what is made once is there for them."""
    if team.rank == 0:
        result = function()
        team.gather(None)
        return result
    team.gather(None)
    return function()


def _criterion(config: TrainConfig, clip: ClipSpace | None, device: torch.device) -> FusionLoss:
    sampler = None
    if clip is not None:
        sampler = PatchSampler(
            config.patches,
            degrees=config.patch_degrees,
            size=clip.image_size,
            rule=config.patch_rule,
        )
    frozen = clip
    if clip is not None and (config.frozen or config.autocast):
        frozen = FrozenClip(clip, config.autocast, config.compile)
    perceptual = PerceptualLoss(config.perceptual, config.frozen, config.autocast, config.compile)
    criterion = FusionLoss(
        frozen,
        config.prompts,
        config.weights,
        sampler,
        entropy_threshold=config.entropy_threshold or None,
        mean_over=config.mean_over,
        ignore_below=config.ignore_below,
        perceptual=perceptual,
    )
    return criterion.to(device)


def _critics(clip: ClipSpace | None, criterion: nn.Module, device: torch.device) -> str:
    """One line: who judges, and what stands in for what."""
    parts = ["no CLIP" if clip is None else f"CLIP {clip.name}"]
    if getattr(clip, "stands_in", False):
        parts[0] += " (stands in for OpenAI's ViT-B/32)"
    if getattr(getattr(criterion, "clip", None), "autocast", False) and not bfloat16_pays(device):
        parts.append("in bfloat16, which is slower than float32 on this processor")
    perceptual = getattr(criterion, "perceptual", None)
    if perceptual is not None:
        parts.append(f"perceptual features {perceptual.name}")
        if perceptual.missing:
            parts[-1] += f" (stands in for VGG19: {perceptual.missing})"
    if getattr(getattr(criterion, "clip", None), "tower", None) is not None:
        parts.append("frozen towers")
    return "critics: " + ", ".join(parts)


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as the caller had it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


# --- what a run leaves


@dataclass
class _State:
    """What a checkpoint holds.

    The random state is not in it as bytes: all that is random in step s follows from the seed, s
    and the rank (`step_seed`), and the seed and s are there.
    """

    config: TrainConfig
    facts: dict[str, Any]
    network: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        content = {
            "config": self.config.to_dict(),
            "facts": self.facts,
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
            # A checkpoint of an earlier version lacks what was added since.
            facts = content.get("facts") or {
                "clip model": content["clip"],
                "pairs": content["pairs"],
            }
            then = TrainConfig().to_dict() | content["config"] | self.facts | facts
            network, optimizer = content["network"], content["optimizer"]
            history = content["history"]
        except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{path}: this is no checkpoint of a run, or it is damaged ({error!r}). Remove it "
                "to start the run again"
            ) from error
        now = self.config.to_dict() | self.facts
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
        self.network.load_state_dict(network)
        self.optimizer.load_state_dict(optimizer)
        self.history = history


def _open_folder(
    folder: Path, config: TrainConfig, facts: Mapping[str, Any], team: Team, keep: bool
) -> None:
    """Write down the run, and remove what an earlier one left (all of it, or what it broke off)."""
    for name in (CHECKPOINT, HISTORY, NETWORK, CONFIG, ENVIRONMENT, SUMMARY):
        path = folder / name
        for unfinished in folder.glob(f".{path.stem}.*{path.suffix}"):
            unfinished.unlink()  # of a process that was killed while it wrote
    if not keep:
        for name in (CHECKPOINT, HISTORY, NETWORK, SUMMARY, CURVES):
            (folder / name).unlink(missing_ok=True)
        for old in (*folder.glob(f"{SAMPLES}/step_*.png"), *folder.glob("events.out.tfevents.*")):
            old.unlink()
        with contextlib.suppress(OSError):
            (folder / SAMPLES).rmdir()
        write_json(folder / CONFIG, config.to_dict())
    packages = ("torchvision", "open_clip_torch", "numpy", "pillow")
    device = platform.processor() or platform.machine()
    if team.device.type == "cuda":
        device = torch.cuda.get_device_name(team.device)
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
        "device": f"{team.device.type}, {device}",
        "threads": torch.get_num_threads(),
        **facts,
    }
    write_json(folder / ENVIRONMENT, environment)


class _Log:
    """Samples, and the events of TensorBoard if that package is there; the first process writes.

    Args:
        folder: of the run.
        crops: where the samples are cut from, always the same ones.
        team: who we are.
        first: the step that comes next; later events of a run that was stopped are dropped.
    """

    def __init__(self, folder: Path, crops: Crops, team: Team, first: int):
        self.folder, self.crops, self.team = folder, crops, team
        self.pairs: torch.Tensor | None = None
        self.writer = None
        if team.rank == 0:
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self.writer = SummaryWriter(str(folder), purge_step=first + 1)

    def row(self, row: Mapping[str, float]) -> None:
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name, value, row["step"])

    def picture(self, network: nn.Module, step: int) -> None:
        """Infrared, visible and fused crops side by side, one row a sample."""
        config = self.crops.config
        if not config.samples:
            return
        if self.pairs is None:
            generator = torch.Generator().manual_seed(config.seed)
            self.pairs = torch.stack([self.crops.draw(generator) for _ in range(config.samples)])
        sources = self.pairs.to(self.team.device).split(1, dim=1)
        mode = network.training
        with torch.no_grad():
            fused = network.eval()(*sources).float()
        network.train(mode)
        rows = torch.cat([*sources, fused], dim=3)[:, 0].cpu()  # (N, crop, 3 * crop)
        picture = rows.flatten(0, 1)[None].clamp(0, 1)
        write_image(picture, self.folder / SAMPLES / f"step_{step:06d}.png")
        if self.writer is not None:
            self.writer.add_image("samples", picture, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _save(state: _State, log: _Log, folder: Path) -> None:
    step = len(state.history)
    try:
        state.save(folder / CHECKPOINT)
        write_rows(folder / HISTORY, state.history)
        log.picture(state.network, step)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into the latter
        raise TrainingError(
            f"step {step}: what the run has to keep could not be written to {folder} ({error}). "
            f"Is the disk full? {_what_is_left(folder)}. Make room, and go on with resume"
        ) from error


def _what_is_left(folder: Path) -> str:
    path = folder / CHECKPOINT
    if path.is_file():
        return f"the last good checkpoint stays at {path}"
    return "there is no checkpoint yet"


def _bad_picture(error: ImageError, step: int, folder: Path) -> ImageError:
    stopped = ImageError(
        f"step {step + 1}: {error}. The run stops here; {_what_is_left(folder)}. Mend the picture "
        "and go on with resume, or start a new run without it"
    )
    stopped.__cause__ = error
    return stopped


def _not_finite(
    row: dict[str, float],
    batches: Sequence[Prepared],
    fused: Sequence[torch.Tensor],
    step: int,
    folder: Path,
    team: Team,
) -> TrainingError:
    """Save the evidence, and say what happened."""
    evidence = folder / (f"bad_batch_{team.rank}.pt" if team.count > 1 else "bad_batch.pt")
    seen = {
        "infrared": torch.cat([batch.infrared for batch in batches]),
        "visible": torch.cat([batch.visible for batch in batches]),
        "fused": torch.cat(list(fused)).cpu(),
        "noisy": [torch.cat([batch.noisy[side] for batch in batches]) for side in (0, 1)],
    }
    where = f"The batch is in {evidence}"
    try:
        with atomic_path(evidence) as temporary:
            torch.save({"step": step + 1, "terms": row, **seen}, temporary)
    except (OSError, RuntimeError) as error:
        where = f"The batch could not be written to {evidence} ({error})"
    terms = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
    return TrainingError(
        f"step {step + 1}: the loss or its gradient is not finite ({terms}). {where}; "
        f"{_what_is_left(folder)}. Look at the batch for damaged pictures, or lower learning_rate"
    )


def _export(network: nn.Module, config: TrainConfig, state: _State, folder: Path) -> None:
    metadata = {
        "config": config.to_dict(),
        "clip": state.facts["clip model"],
        "perceptual": state.facts["perceptual features"],
        "pairs": state.facts["pairs"],
        "last": state.history[-1],
    }
    try:
        save_network(network, folder / NETWORK, metadata)
    except TypeError as error:  # a network of the caller's own: its file format is not ours
        tqdm.write(f"{NETWORK} is not written: {error}. The weights are in {CHECKPOINT}")


def _summarize(
    state: _State, team: Team, steps: int, seconds: float, warm: float, folder: Path
) -> None:
    """How fast the steps of this call were, over all processes; the first one warms up."""
    each = state.config.accumulate * state.config.batch * team.count
    summary = {
        "processes": team.count,
        "steps": steps,
        "crops": steps * each,
        "seconds": round(seconds, 3),
        "crops_per_second": round((steps - 1) * each / warm, 3) if steps > 1 else None,
        "last": state.history[-1],
    }
    write_json(folder / SUMMARY, summary)


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Write the loss, its terms and the learning rate over the steps as a picture.

    Args:
        history: of `TrainResult`.
        path: a PNG.

    Returns:
        The path.
    """
    names = [name for name in history[0] if name != "step"]
    figure = Figure(figsize=(9, 2.2 * math.ceil(len(names) / 3)), layout="constrained")
    axes = figure.subplots(math.ceil(len(names) / 3), 3, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot([row["step"] for row in history], [row[name] for row in history], "k-", lw=0.9)
        axis.set(title=name.replace("_", " "), xlabel="step")
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return path
