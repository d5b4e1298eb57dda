"""Training: the loop.

A step draws random crops of registered pairs, adds noise to what the network sees, and asks
`ldf_utils.losses.fusion_loss.FusionLoss` how well the fused crops follow the words and keep their
clean sources. All that is random in it comes from one number made of (seed, step, rank), so a run
that was stopped goes on as if it never had been.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset
from tqdm.auto import tqdm

from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace, bfloat16_pays
from ldf_utils.data.files import atomic_path, check_writable, write_rows
from ldf_utils.data.headers import header_problems, source_files
from ldf_utils.data.images import ImageError
from ldf_utils.data.pairs import Pair
from ldf_utils.data.sets import open_sets
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.losses.perceptual import PerceptualLoss
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.distributed import Team, join_team
from ldf_utils.training.run_folder import (
    CHECKPOINT,
    HISTORY,
    RunState,
    TrainingError,
    checkpoint_note,
    open_folder,
    write_samples,
)
from ldf_utils.training.schedule import learning_rate
from ldf_utils.training.sentences import build_network, sentences_for
from ldf_utils.training.step import Prepared, gradients, prepare

_SHOWN = ("total", "direction", "patch", "angle", "perceptual", "kept")
_STEPS_WITHOUT_PATCH = 20  # after so many in a row a warning is due


@dataclass(frozen=True)
class TrainResult:
    """Hold what a run leaves.

    Attributes:
        network: the trained network, in eval mode, on the device it was trained on.
        history: one row per step: ``step``, ``learning_rate``, ``total``, each term before its
            weight, ``kept`` (share of patches that passed the filter), ``gradient`` (norm).
        folder: holds ``config.json``, ``environment.json``, ``history.csv``, ``checkpoint.pt``,
            ``samples/`` and, in the end, ``network.pt`` and ``summary.json``.
        seconds: how long the steps of this call took.
    """

    network: nn.Module
    history: list[dict[str, float]]
    folder: Path
    seconds: float


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
            any other); `ldf_utils.data.sets.open_sets` for training if None.
        clip: it is frozen and moved to the device; loaded by ``config.clip`` if None.
        network: maps ``(infrared, visible)``, each ``(B, 1, H, W)`` in [0, 1], to the same shape,
            and is trained in place; built by ``config.network`` from ``config.seed`` if None.
        folder: where the run is kept; what an earlier run left there is replaced.
        callback: called after each step with the row of the history and the network, which it may
            put in eval mode.
        resume: go on from the checkpoint in ``folder``, if there is one. The result is the one
            that the run would have had without the stop.
        progress: show a bar (lines where the output is no terminal), and say what the loss uses.

    Returns:
        The network and the history.

    Raises:
        ImageError: if there is no pair, or one cannot be read or is too small; the headers of all
            files are checked first, and all bad ones are named.
        ValueError: if the checkpoint was made with other settings, or as `FusionLoss`.
        OSError: if the folder cannot be written to.
        TrainingError: if the loss or its gradient is not finite (the batch is saved), or a
            checkpoint cannot be written or read; the last good one stays.
        ProcessError: if another process of the job failed.
        KeyboardInterrupt: if it is interrupted; the checkpoint then holds all finished steps.

    Example:
        >>> fit(TrainConfig(steps=300, batch=4, crop=128), folder="runs/first")  # doctest: +SKIP
    """
    folder = Path(folder)
    team = join_team(config.device)
    if team.rank == 0:
        check_writable(folder, folder=True)
    pairs = open_sets(split="train") if pairs is None else pairs
    joined: Any = pairs
    if isinstance(pairs, Mapping):
        joined = ConcatDataset(list(pairs.values())) if pairs else []  # type: ignore[arg-type]
    crops = Crops(joined, config, team.rank, team.count)
    _check_headers(joined, config.crop, team)
    if clip is None and any((config.weight_direction, config.weight_patch, config.weight_angle)):
        clip = load_clip(config.clip)
    # The caller's own random state stays as it was.
    with torch.random.fork_rng([team.device] if team.device.type == "cuda" else []):
        run = _Run(crops, clip, network, team, folder, resume)
        if team.rank == 0 and progress:
            tqdm.write(run.description())
        return run.train(callback, progress)


class _Run:
    """Network, loss and optimizer of a training, and its steps."""

    def __init__(
        self,
        crops: Crops,
        clip: ClipSpace | None,
        network: nn.Module | None,
        team: Team,
        folder: Path,
        resume: bool,
    ):
        config = crops.config
        self.crops, self.config, self.clip = crops, config, clip
        self.team, self.folder = team, folder
        torch.manual_seed(config.seed)
        network = build_network(config, clip) if network is None else network
        self.network = network.to(team.device)
        self.sentences = sentences_for(self.network, config, clip)
        team.broadcast(self.network)
        self.criterion = build_loss(config, clip, team.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        facts = {
            "clip model": clip.name if clip else None,
            "pairs": len(crops.pairs),
            "processes": team.count,
            "perceptual features": getattr(self.criterion.perceptual, "name", None),
        }
        self.state = RunState(config, facts, self.network, self.optimizer)
        resumed = resume and (folder / CHECKPOINT).is_file()
        if resumed:
            self.state.load(folder)
        if team.rank == 0:
            open_folder(folder, config, facts, team.device, keep=resumed)
        self.between_steps = True  # whether weights, optimizer and history are of one step
        self.without_patch = 0  # steps in a row

    def description(self) -> str:
        """Say in one line what the loss uses, and what stands in for what."""
        clip, perceptual = self.clip, self.criterion.perceptual
        text = f"loss: CLIP {clip.name}" if clip is not None else "loss: no CLIP"
        if getattr(clip, "stands_in", False):
            text += " (stands in for OpenAI's ViT-B/32)"
        if getattr(self.criterion.clip, "tower", None) is not None:
            text += ", frozen towers"
        if perceptual:
            text += f", perceptual features {perceptual.name}"
            if perceptual.missing:
                text += f" (stands in for VGG19: {perceptual.missing})"
        if self.config.autocast and not bfloat16_pays(self.team.device):
            text += ", in bfloat16, which is slower than float32 on this processor"
        return text

    def train(
        self, callback: Callable[[dict[str, float], nn.Module], None] | None, progress: bool
    ) -> TrainResult:
        """Go through all steps that are left."""
        config, team, history = self.config, self.team, self.state.history
        first = len(history)
        with_bar = sys.stderr.isatty() or _in_notebook()
        bar = tqdm(
            total=config.steps,
            initial=first,
            desc="training",
            unit="step",
            mininterval=0.5,
            disable=team.rank > 0 or not (progress and with_bar),
        )
        begin = warm = time.perf_counter()
        feed = _prefetched(self, first)
        try:
            for step in range(first, config.steps):
                row = self._step(step, feed)
                shown = {name: f"{row[name]:.3f}" for name in _SHOWN if name in row}
                if team.rank == 0:
                    self._watch_kept(row)
                    if row["step"] == config.steps or row["step"] % config.checkpoint_every == 0:
                        self._save()
                        if progress and not with_bar:
                            values = ", ".join(map(" ".join, shown.items()))
                            tqdm.write(f"step {row['step']} of {config.steps}: {values}")
                bar.set_postfix(shown, refresh=False)
                bar.update()
                if callback is not None:
                    callback(row, self.network)
                if step == first:
                    warm = time.perf_counter()
        except BaseException as error:
            self._keep_history(error)
            raise
        finally:
            feed.close()
            bar.close()
        end = time.perf_counter()
        self.network.eval()
        if team.rank == 0:
            self.state.finish(
                self.folder, team.count, config.steps - first, end - begin, end - warm
            )
        return TrainResult(self.network, history, self.folder, end - begin)

    def _step(self, step: int, feed: Iterator[list[Prepared]]) -> dict[str, float]:
        """Take a step, and return its row of the history."""
        failure: Exception | None = None
        self.optimizer.zero_grad(set_to_none=True)
        try:
            batches = next(feed)
            values, fused = gradients(
                self.network, self.criterion, batches, self.config, self.team.device
            )
        except ImageError as error:
            failure = ImageError(
                f"step {step + 1}: {error}. The run stops here; {checkpoint_note(self.folder)}. "
                "Replace the file and rerun with --resume, or start a new run without it"
            )
            failure.__cause__ = error
        except Exception as error:
            failure = error
        self.team.average_gradients(self.network, failed=failure is not None)
        if failure is not None:
            raise failure
        size = nn.utils.clip_grad_norm_(self.network.parameters(), math.inf)  # measures only
        means = self.team.mean(values | {"gradient": size.item()})
        if not math.isfinite(means["total"] + means["gradient"]):
            raise self._not_finite(means, batches, fused)
        rate = learning_rate(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.between_steps = False
        self.optimizer.step()
        row = {"step": step + 1, "learning_rate": rate, **means}
        self.state.history.append(row)
        self.between_steps = True
        return row

    def _watch_kept(self, row: Mapping[str, float]) -> None:
        """Warn once if no patch passes the filter for many steps in a row."""
        if self.without_patch < _STEPS_WITHOUT_PATCH:
            self.without_patch = self.without_patch + 1 if row.get("kept") == 0 else 0
            if self.without_patch == _STEPS_WITHOUT_PATCH:
                tqdm.write(
                    f"warning: no patch passed the entropy filter in {self.without_patch} steps "
                    "(kept 0), so the patch term teaches nothing. Lower entropy_threshold (now "
                    f"{self.config.entropy_threshold:g} bits, which both sources have to exceed; 0 "
                    "keeps every patch), choose another patch_filter (upper_half keeps one half of "
                    "the patches of every picture), or look whether the pictures are too dark",
                    file=sys.stderr,
                )

    def _save(self) -> None:
        step = len(self.state.history)
        try:
            self.state.save(self.folder)
            write_samples(self.folder, self.crops, self.network, step, self.team.device)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into the latter
            raise TrainingError(
                f"step {step}: what the run has to keep could not be written to {self.folder} "
                f"({error}). Is the disk full? {checkpoint_note(self.folder)}. Make room, and go "
                "on with resume"
            ) from error

    def _keep_history(self, error: BaseException) -> None:
        """Write the history of a run that ends early, and the checkpoint if it was interrupted."""
        if self.team.rank > 0 or not self.state.history:
            return
        with contextlib.suppress(OSError, RuntimeError):  # a full disk does not hide the first
            if not isinstance(error, KeyboardInterrupt):
                write_rows(self.folder / HISTORY, self.state.history)
            elif self.between_steps:
                self.state.save(self.folder)

    def _not_finite(
        self, row: dict[str, float], batches: list[Prepared], fused: list[torch.Tensor]
    ) -> TrainingError:
        """Save the evidence, and say what happened."""
        evidence = self.folder / f"bad_batch_{self.team.rank}.pt"
        where = f"The batch is in {evidence}"
        content = {
            "step": len(self.state.history) + 1,
            "terms": row,
            "infrared": torch.cat([batch.infrared for batch in batches]),
            "visible": torch.cat([batch.visible for batch in batches]),
            "noisy": [torch.cat([batch.noisy[side] for batch in batches]) for side in (0, 1)],
            "fused": torch.cat(fused).cpu(),
        }
        try:
            with atomic_path(evidence) as temporary:
                torch.save(content, temporary)
        except (OSError, RuntimeError) as error:
            where = f"The batch could not be written to {evidence} ({error})"
        terms = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
        return TrainingError(
            f"step {content['step']}: the loss or its gradient is not finite ({terms}). {where}; "
            f"{checkpoint_note(self.folder)}. Look at the batch for damaged pictures, or lower "
            "learning_rate"
        )


def _prefetched(run: _Run, first: int) -> Generator[list[Prepared], None, None]:
    """Yield the batches of each step, made in the background while earlier steps are computed."""
    steps, ahead = run.config.steps, run.config.prefetch
    more = run.team.rank, run.team.device, run.sentences
    pool = ThreadPoolExecutor(max(1, min(ahead, 8)), "crops")
    waiting: collections.deque[Future[list[Prepared]]] = collections.deque()
    try:
        for step in range(first, steps + ahead):
            if step < steps:
                waiting.append(pool.submit(prepare, run.crops, step, *more))
            if step >= first + ahead:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_headers(pairs: object, crop: int, team: Team) -> None:
    """Look at the headers of all files, each process at its shard, and name all that are bad."""
    files = source_files(pairs)
    found = team.gather(header_problems(team.shard(files), crop))
    problems = [problem for part in found for problem in part]
    if problems:
        raise ImageError(
            f"{len(problems)} of {2 * len(files)} files cannot be trained on; mend them, or take "
            "both pictures of the pair out of the folder:\n  " + "\n  ".join(problems)
        )


def build_loss(config: TrainConfig, clip: ClipSpace | None, device: torch.device) -> FusionLoss:
    """Return the loss that a configuration describes, on the device."""
    sampler = None
    if clip is not None:
        sampler = PatchSampler(
            config.patches,
            degrees=config.patch_degrees,
            size=clip.image_size,
            rule=config.patch_rule,
        )
    encoder: ClipSpace | FrozenClip | None = clip
    if clip is not None and (config.frozen or config.autocast):
        encoder = FrozenClip(clip, config.autocast, config.compile)
    keeps_all = config.entropy_threshold == 0 and config.patch_filter != "upper_half"
    criterion = FusionLoss(
        encoder,
        config.prompts,
        config.weights,
        sampler,
        None if keeps_all else config.entropy_threshold,
        config.mean_over,
        config.ignore_below,
        PerceptualLoss(config.perceptual, config.frozen, config.autocast, config.compile),
        patch_filter=config.patch_filter,
        filter_sources=config.filter_sources,
        patch_sources=config.patch_sources,
        direction_text=config.direction_text,
        direction_image=config.direction_image,
    )
    return criterion.to(device)


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this, which shows a bar; importing its package is not it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
