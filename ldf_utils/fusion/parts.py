"""Parts: what is kept of a clip while it is fused, so that the work can go on where it stopped."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.fusion.steady import SteadyOutput

_log = logging.getLogger(__name__)


class Parts:
    """A folder beside the result with its whole segments and what the next frame depends on.

    Args:
        folder: the folder; it is made when the first segment is there.
        identity: what the result depends on, as JSON has it; work of another identity is dropped.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder, self.identity = folder, identity

    def path(self, start: int) -> Path:
        """Return where to write the segment from frame ``start``; NUT keeps time stamps."""
        return self.folder / f"{start:09d}.nut"

    def clips(self) -> list[Path]:
        """List the segments that are there, in order."""
        return sorted(self.folder.glob("*.nut"))

    def resume(self, steady: SteadyOutput | None, clip: bool) -> int:
        """Return how many frames are done, and bring ``steady`` to where it was then."""
        if not self.folder.is_dir():
            return 0
        try:
            known = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        states = sorted(self.folder.glob("*.pt"))
        if known != self.identity or not states:
            if states:
                _log.warning("%s: of other clips or settings, so it is begun anew", self.folder)
            self.remove()
            return 0
        done = int(states[-1].stem)
        for part in self.clips():
            if int(part.stem) >= done:  # written, and not known to be whole
                part.unlink()
        if clip and not self.clips():
            self.remove()
            return 0
        if steady is not None:
            steady.load(torch.load(states[-1], weights_only=True))
        return done

    def keep(self, done: int, steady: SteadyOutput | None) -> None:
        """Note that all frames before ``done`` are written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "settings.json", self.identity)
        older = list(self.folder.glob("*.pt"))
        with atomic_path(self.folder / f"{done:09d}.pt") as temporary:
            torch.save({} if steady is None else steady.state(), temporary)
        for state in older:
            if int(state.stem) != done:
                state.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
