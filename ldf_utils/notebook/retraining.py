"""Training a network a little further at a time, for one sentence alone."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.files import run_dir
from ldf_utils.data.pairs import Pair
from ldf_utils.fusion.sentence import sentence_directions
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.trainer import fit

CONFIG = TrainConfig(
    batch=4,
    crop=96,
    patches=8,
    learning_rate=5e-4,
    noise=0.08,
    weight_direction=12.0,
    weight_patch=0.0,
    samples=0,
)
"""As `experiments.sentence` trains the network of sentences, but with one sentence."""

LONGEST = 600.0
"""The longest training in the studio, in seconds."""


class _Pause(KeyboardInterrupt):
    """Ends a call of `fit`, which then keeps a checkpoint to go on from."""


class Retraining:
    """A training with one sentence that goes on a little at every call of `advance`.

    Args:
        sentence: the objective.
        clip: embeds it; it is frozen.
        pairs: as in `fit`; the pairs for training that `open_sets` finds if None.
        start: the network to begin with, which stays as it is; the shipped one if None.
        steps: it ends after so many,
        seconds: or after so many seconds of training, whichever comes first.
        folder: of the run; ``studio`` in the run folder if None. An earlier run there is replaced.

    Attributes:
        network: what is trained, in eval mode.
        row: of the history of `fit`, after the last step; empty before the first.
        spent: seconds of training so far.

    Raises:
        ValueError: for steps or seconds out of their range, or as `sentence_directions`.
        ClipError: as `sentence_directions`.

    Example:
        >>> run = Retraining("a dark image", load_clip("mini"), steps=20)  # doctest: +SKIP
        >>> run.advance()  # doctest: +SKIP
    """

    def __init__(
        self,
        sentence: str,
        clip: ClipSpace,
        pairs: Sequence[Pair] | Mapping[str, Sequence[Pair]] | None = None,
        start: nn.Module | None = None,
        steps: int = 300,
        seconds: float = 60.0,
        folder: str | os.PathLike | None = None,
    ):
        if not 0 < seconds <= LONGEST:
            raise ValueError(f"seconds must be in (0, {LONGEST:g}], got {seconds}")
        sentence_directions(clip, sentence)  # refuses what has no direction
        self.config = TrainConfig.from_dict(
            CONFIG.to_dict() | {"steps": steps, "checkpoint_every": steps, "prompt_fused": sentence}
        )
        self.sentence, self.clip, self.pairs, self.seconds = sentence, clip, pairs, seconds
        self.network = copy.deepcopy(load_network("shipped") if start is None else start).eval()
        self.folder = run_dir() / "studio" if folder is None else Path(folder)
        self.row: dict[str, float] = {}
        self.spent = 0.0

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self.row.get("step", 0))

    @property
    def finished(self) -> bool:
        """Whether the steps or the seconds are used up."""
        return self.step >= self.config.steps or self.spent >= self.seconds

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        return (
            f"{self.step} of {self.config.steps} steps ({self.spent:.0f} of at most "
            f"{self.seconds:g} s)"
        )

    def advance(self, seconds: float = LONGEST) -> None:
        """Go on for so many seconds, at least for a step; do nothing if it is finished.

        Args:
            seconds: how long from the end of the first step of this call, which sets up anew.

        Raises:
            ImageError, OSError, TrainingError, ValueError: as `fit`.
        """
        if self.finished:
            return
        begin, spent, done = time.monotonic(), self.spent, self.step
        first = begin

        def after_step(row: dict[str, float], _network: nn.Module) -> None:
            nonlocal first
            now = time.monotonic()
            self.row, self.spent = row, spent + now - begin
            if self.step == done + 1:
                first = now
            if not self.finished and now - first < seconds:
                return
            if self.step < self.config.steps:  # after the last one `fit` writes the network
                raise _Pause

        try:
            fit(
                self.config,
                self.pairs,
                self.clip,
                self.network,
                self.folder,
                after_step,
                resume=self.step > 0,
                progress=False,
            )
        except _Pause:
            pass
        finally:
            self.network.eval()
