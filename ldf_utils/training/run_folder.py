"""The folder of a run: settings, environment, checkpoint, history, samples, the network."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import pickle
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm.auto import tqdm

from ldf_utils.data.files import atomic_path, write_json, write_rows
from ldf_utils.data.images import write_image
from ldf_utils.networks.checkpoint import save_network
from ldf_utils.training.config import RENAMED, TrainConfig
from ldf_utils.training.crops import Crops

CHECKPOINT, HISTORY, NETWORK = "checkpoint.pt", "history.csv", "network.pt"
CONFIG, ENVIRONMENT, SUMMARY = "config.json", "environment.json", "summary.json"
SAMPLES, CURVES = "samples", "curves.png"
# What may differ between a run and its continuation: it does not change the result.
_FREE_TO_CHANGE = ("checkpoint_every", "cache_mb", "device", "prefetch", "samples")


class TrainingError(RuntimeError):
    """The training cannot go on; the text says why, where the evidence is and what to do."""


def checkpoint_note(folder: Path) -> str:
    """Say in words what is left in the folder of a run to go on from."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return "there is no checkpoint yet"
    return f"the last good checkpoint stays at {path}"


@dataclass
class RunState:
    """Hold what a checkpoint holds; what is random follows from the seed and the step."""

    config: TrainConfig
    facts: dict[str, Any]
    network: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the checkpoint, then the history."""
        content = {
            "config": self.config.to_dict(),
            "facts": self.facts,
            "step": len(self.history),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        with atomic_path(folder / CHECKPOINT) as temporary:
            torch.save(content, temporary)
        write_rows(folder / HISTORY, self.history)

    def load(self, folder: Path) -> None:
        """Take over what the checkpoint holds; settings may have their earlier names.

        Raises:
            TrainingError: if it is damaged.
            ValueError: if it was made with other settings.
        """
        path = folder / CHECKPOINT
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            settings = {RENAMED.get(k, k): v for k, v in content["config"].items()}
            then = TrainConfig().to_dict() | settings | content["facts"]
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

    def finish(self, folder: Path, processes: int, steps: int, seconds: float, warm: float) -> None:
        """Write the network, the history and how fast the steps of this call were.

        ``warm`` are the seconds without the first step, which warms up.
        """
        write_rows(folder / HISTORY, self.history)
        metadata = {
            "config": self.config.to_dict(),
            "clip": self.facts["clip model"],
            "perceptual": self.facts["perceptual features"],
            "pairs": self.facts["pairs"],
            "last": self.history[-1],
        }
        try:
            save_network(self.network, folder / NETWORK, metadata)
        except TypeError as error:  # a network of the caller's own: its file format is not ours
            tqdm.write(f"{NETWORK} is not written: {error}. The weights are in {CHECKPOINT}")
        crops = self.config.accumulate * self.config.batch * processes
        summary = {
            "processes": processes,
            "steps": steps,
            "crops": steps * crops,
            "seconds": round(seconds, 3),
            "crops_per_second": round((steps - 1) * crops / warm, 3) if steps > 1 else None,
            "last": self.history[-1],
        }
        write_json(folder / SUMMARY, summary)


def open_folder(
    folder: Path, config: TrainConfig, facts: Mapping[str, Any], device: torch.device, keep: bool
) -> None:
    """Write down the run, and remove what an earlier one left (all of it, or what it broke off)."""
    for name in (CHECKPOINT, HISTORY, NETWORK, CONFIG, ENVIRONMENT, SUMMARY):
        path = folder / name
        for unfinished in folder.glob(f".{path.stem}.*{path.suffix}"):
            unfinished.unlink()  # of a process that was killed while it wrote
    if not keep:
        for name in (CHECKPOINT, HISTORY, NETWORK, SUMMARY, CURVES):
            (folder / name).unlink(missing_ok=True)
        for old in folder.glob(f"{SAMPLES}/step_*.png"):
            old.unlink()
        with contextlib.suppress(OSError):
            (folder / SAMPLES).rmdir()
        write_json(folder / CONFIG, config.to_dict())
    packages = ("torchvision", "open_clip_torch", "numpy", "pillow")
    processor = platform.processor() or platform.machine()
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: importlib.metadata.version(name) for name in packages},
        "device": f"{device.type}, {processor}",
        "threads": torch.get_num_threads(),
        **facts,
    }
    write_json(folder / ENVIRONMENT, environment)


def write_samples(
    folder: Path, crops: Crops, network: nn.Module, step: int, device: torch.device
) -> None:
    """Write infrared, visible and fused crops side by side, one row a sample, always the same."""
    generator = torch.Generator().manual_seed(crops.config.seed)
    drawn = [crops.draw(generator) for _ in range(crops.config.samples)]
    if drawn:
        sources = torch.stack(drawn).to(device).split(1, dim=1)
        mode = network.training
        with torch.no_grad():
            fused = network.eval()(*sources).float()
        network.train(mode)
        rows = torch.cat([*sources, fused], dim=3)[:, 0].cpu()  # (N, crop, 3 * crop)
        picture = rows.flatten(0, 1)[None].clamp(0, 1)
        write_image(picture, folder / SAMPLES / f"step_{step:06d}.png")


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the loss, its terms and the learning rate over the steps as a PNG."""
    names = [name for name in history[0] if name != "step"]
    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(9, 2.2 * rows), layout="constrained")
    for index, name in enumerate(names, start=1):
        axis = figure.add_subplot(rows, 3, index, title=name.replace("_", " "), xlabel="step")
        axis.plot([row["step"] for row in history], [row[name] for row in history], "k-", lw=0.9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
