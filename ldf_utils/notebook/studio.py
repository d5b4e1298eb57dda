"""The prompt studio: type a sentence, see the image at once, train for it alone, and compare.

Nothing runs in the background. A clock in the browser (``ipywidgets.Play``) asks the kernel for one
short part of the training after the other, and between two of them the kernel answers whatever else
the reader does. So the stop button works in JupyterLab and in Colab, which does not show what a
thread changes (googlecolab/colabtools issue 3373).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import torch
from IPython.display import display
from torch.nn import functional as F

from ldf_utils.clip.model import PROMPTS, ClipError, ClipSpace
from ldf_utils.data.pairs import Pair
from ldf_utils.fusion.inference import Network, fuse_tensors
from ldf_utils.fusion.sentence import SUGGESTIONS, sentence_directions, speak
from ldf_utils.metrics import spatial_frequency
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.notebook import figures, widgets
from ldf_utils.notebook.retraining import Retraining

LABELS = ("paper's sentence", "sentence network", "retrained")
"""Of the three images: the shipped network, the one that takes sentences, and the retrained one."""

_PART = 2.0  # seconds of steps for one tick of the clock
_TICK = 500  # milliseconds between two ticks; those that come while the kernel is busy become one


def cosines(clip: ClipSpace, sentence: str) -> dict[str, float]:
    """Compare the text directions of a sentence with those of the paper's sentence.

    Args:
        clip: embeds the sentences.
        sentence: what the fused image is to be.

    Returns:
        Source prompt to the cosine of the two directions from it, in [-1, 1].

    Raises:
        ClipError: for a word that a small model does not know, or no word at all.
        ValueError: if the model embeds the sentence like a source prompt.
    """
    typed, paper = (sentence_directions(clip, text) for text in (sentence, PROMPTS.fused))
    infrared, visible = F.cosine_similarity(typed, paper, dim=-1).tolist()
    return {"from the infrared prompt": infrared, "from the visible prompt": visible}


def show_cosines(clip: ClipSpace, sentence: str, others: Sequence[str] = SUGGESTIONS[1:4]) -> None:
    """Show `cosines` of a sentence as bars, with those of other sentences for scale.

    Args:
        clip: as in `cosines`.
        sentence: likewise.
        others: the sentences to compare with.

    Raises:
        ClipError: as `cosines`.
        ValueError: likewise.
    """
    rows = {text: cosines(clip, text) for text in dict.fromkeys([sentence, *others])}
    infrared, visible = rows[sentence].values()
    figures.show_bars(
        rows,
        x_label="cosine with the direction of the paper's sentence",
        number="{:.2f}",
        title=f"“{sentence}” has cosines of {infrared:.2f} (from infrared) and {visible:.2f} (from "
        "visible) with the paper's sentence",
        caption="1: the same direction, 0: unrelated, −1: opposite. Directions start at the prompt "
        f"of either source. {figures.clip_note(clip)}",
        alt="Bars of two cosines for each sentence: "
        + "; ".join(f"{k} {', '.join(f'{x:.2f}' for x in v.values())}" for k, v in rows.items()),
    )


def show_pictures(
    pictures: Mapping[str, torch.Tensor], sentence: str, clip: ClipSpace, trained: str = ""
) -> None:
    """Show what the networks make of one pair, with brightness and sharpness of each image.

    Args:
        pictures: label to image, ``(1, H, W)`` in [0, 1].
        sentence: that the networks but the first were told.
        clip: for the note on the model in use.
        trained: how long the last one was trained.

    Raises:
        ValueError: if there is no image.
    """
    text = ", ".join(
        f"{label} {255 * image.mean().item():.0f} and {spatial_frequency(image[None]).item():.0f}"
        for label, image in pictures.items()
    )
    figures.show_images(
        pictures,
        columns=len(LABELS),
        title=f"“{sentence}”: mean brightness and spatial frequency (sharpness), levels: {text}",
        caption=f"Left: the shipped network, trained with the paper's sentence. Then, with "
        f"“{sentence}”: the network that takes sentences"
        + (f", and the shipped network after {trained} with this sentence alone" if trained else "")
        + f". {figures.clip_note(clip)}",
        alt=f"Fused images of one scene. Mean brightness and spatial frequency: {text}.",
    )


class PromptStudio:
    """Three parts of a notebook's output that belong together.

    The first takes a sentence, and shows its direction against the paper's and the image of the
    network that takes sentences. The second retrains the shipped network with the sentence while
    its clock runs, and shows the image on the way. The third compares two images at a line.

    Args:
        clip: that the network of sentences was trained with.
        sources: infrared and luminance, ``(1, 1, H, W)`` each, in [0, 1].
        sentence: the first content of the field.
        pairs: to train on; those that `ldf_utils.data.sets.open_sets` finds if None.
        steps: the longest training; see `Retraining`.
        seconds: likewise.

    Attributes:
        pictures: label to image, ``(1, H, W)``: those of `LABELS` that there are so far.
        training: the present `Retraining`, or None.

    Raises:
        ClipError: for a sentence that the model cannot read.
        ValueError: if the sentence has no direction, or the network belongs to another CLIP.

    Example:
        >>> PromptStudio(load_clip("mini"), sources, "a dark image").show()  # doctest: +SKIP
    """

    def __init__(
        self,
        clip: ClipSpace,
        sources: Sequence[torch.Tensor],
        sentence: str = PROMPTS.fused,
        pairs: Sequence[Pair] | Mapping[str, Sequence[Pair]] | None = None,
        steps: int = 300,
        seconds: float = 60.0,
    ):
        self.clip, self.sources = clip, sources
        self._limits: Any = {"pairs": pairs, "steps": steps, "seconds": seconds}
        self._network, self._tick = load_network("sentence"), 0
        self.training: Retraining | None = None
        self._failure, self._trained = "", ""
        self.pictures = {LABELS[0]: self._fuse(load_network("shipped"))}
        self.sentence, self.pictures[LABELS[1]] = sentence, self._say(sentence)
        self.field = widgets.prompt_field(clip, SUGGESTIONS, sentence)
        self.clock = ipywidgets.Play(min=0, max=100_000, interval=_TICK, show_repeat=False)
        self.left = ipywidgets.Dropdown(options=LABELS, value=LABELS[0], description="left")
        self.right = ipywidgets.Dropdown(options=LABELS, value=LABELS[1], description="right")
        line = ipywidgets.FloatSlider(value=0.5, min=0.0, max=1.0, description="line")
        self.parts = (
            widgets.controls(self._type, {"sentence": self.field}),
            widgets.controls(self._train, {"tick": self.clock}),
            widgets.controls(self._compare, {"left": self.left, "right": self.right, "line": line}),
        )
        self.field.observe(self._after_typing, "value")
        self.clock.observe(self._after_tick, "value")

    def show(self) -> None:
        """Display the three parts, one under the other."""
        for part in self.parts:
            display(part)

    def _fuse(self, network: Network) -> torch.Tensor:
        infrared, visible = self.sources
        return fuse_tensors(network, infrared, visible)[0]

    def _say(self, sentence: str) -> torch.Tensor:
        return self._fuse(speak(self._network, sentence, self.clip))

    def _type(self, sentence: str) -> None:
        """Show what a sentence does, or why it can do nothing and which one might be meant."""
        self.training, self.sentence, self._failure = None, "", ""
        self.pictures.pop(LABELS[2], None)
        try:
            self.pictures[LABELS[1]] = self._say(sentence)
            show_cosines(self.clip, sentence)
        except (ClipError, ValueError) as error:
            print(error)
            for near in widgets.respellings(sentence, self.clip.words):
                print(f"Did you mean “{near}”?")
            return
        self.sentence = sentence
        show_pictures(self.pictures, sentence, self.clip)

    def _after_typing(self, _change: object) -> None:
        """Show the other parts anew, and stop the clock of a training with another sentence."""
        if 0 < self.clock.value < self.clock.max:
            self.clock.value = self.clock.max
        else:
            self.parts[1].update()
        self.parts[2].update()

    def _train(self, tick: int) -> None:
        """Begin, go on with or stop the training, and show where it is."""
        before, self._tick = self._tick, tick
        try:
            if tick == 0:
                self.training, self._failure = None, ""
            elif before == 0 and self.sentence:
                self.training = Retraining(self.sentence, self.clip, **self._limits)
            if self.training is not None and not self.training.finished:
                self.training.advance(_PART)
                self.pictures[LABELS[2]] = self._fuse(self.training.network)
                self._trained = self.training.progress
        except (Exception, KeyboardInterrupt) as error:
            self.training = None
            self._failure = f"The training has stopped. {type(error).__name__}: {error}"
        if self._failure:
            print(self._failure)
        elif LABELS[2] in self.pictures:
            show_pictures(self.pictures, self.sentence, self.clip, self._trained)
        elif self.sentence:
            print(
                f"The first button (▶) retrains the shipped network with “{self.sentence}” for at "
                f"most {self._limits['seconds']:g} s, and pauses; the second (■) stops."
            )
        else:
            print("Type a sentence that CLIP can read, then train with it.")

    def _after_tick(self, change: Mapping[str, Any]) -> None:
        """Stop the clock where there is nothing left to train, and compare what came of it."""
        if self.training is not None and not self.training.finished:
            return
        if 0 < change["new"] < self.clock.max:
            self.clock.value = self.clock.max  # and this is called again
        elif LABELS[2] in self.pictures:
            if self.right.value == LABELS[2]:
                self.parts[2].update()
            self.right.value = LABELS[2]

    def _compare(self, left: str, right: str, line: float) -> None:
        """Show two of the images in one place."""
        if missing := {left, right} - set(self.pictures):
            print(f"There is no image “{missing.pop()}” yet: train above first.")
            return
        widgets.show_wipe(self.pictures, left, right, line)
