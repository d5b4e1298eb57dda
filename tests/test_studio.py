"""The prompt studio: what is typed, what is trained for it, and when that ends."""

from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from training_helpers import make_pair

from experiments.sentence.training import CONFIG as OF_EXPERIMENT
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipError
from ldf_utils.notebook import figures, retraining, studio
from ldf_utils.notebook.retraining import CONFIG, Retraining
from ldf_utils.notebook.studio import LABELS, PromptStudio

matplotlib.use("agg")
PAPER, SAID, RETRAINED = LABELS


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Trainings of a step in a fraction of a second, whose run is kept aside."""
    monkeypatch.setattr(retraining, "CONFIG", replace(CONFIG, batch=1, crop=32, device="cpu"))
    monkeypatch.setenv("LDF_RUN_DIR", str(tmp_path))
    return [make_pair("a", 48, 48)]


@pytest.fixture
def texts(monkeypatch):
    """The texts of the figures that are presented."""
    shown = []
    monkeypatch.setattr(
        figures.output, "present", lambda fig, **texts: (shown.append(texts), plt.close(fig))
    )
    return shown


@pytest.fixture
def opened(clip, small, texts):
    """A studio for one small pair."""
    pair = make_pair("b", 40, 48)
    sources = pair.infrared[None], pair.luminance[None]
    return PromptStudio(clip, sources, "a dark image", small, steps=3)


def tick(studio, value):
    """What the browser does when its clock ticks; a part of a training is then one step."""
    studio.clock.value = value


def test_the_settings_are_those_of_the_experiment():
    other = {"steps", "network", "sentences", "checkpoint_every", "clip"}
    ours, theirs = CONFIG.to_dict(), OF_EXPERIMENT.to_dict()
    assert {k: v for k, v in ours.items() if theirs[k] != v}.keys() <= other


def test_the_cosines_with_the_papers_sentence(clip):
    assert list(studio.cosines(clip, PROMPTS.fused).values()) == pytest.approx([1, 1])
    found = studio.cosines(clip, "a dark image")
    assert all(-1 <= value < 0.95 for value in found.values())
    with pytest.raises(ValueError, match="same sentence"):
        studio.cosines(clip, PROMPTS.infrared)
    with pytest.raises(ClipError, match="does not know the word 'melancholic'"):
        studio.cosines(clip, "a melancholic image")


def test_a_training_ends_after_its_steps(clip, small):
    run = Retraining("a dark image", clip, small, steps=2)
    run.advance()
    assert run.step == 2 and run.finished and not run.network.training
    run.advance()
    assert run.step == 2, "nothing is left to do"
    assert "2 of 2 steps" in run.progress


def test_a_training_ends_after_its_seconds(clip, small):
    run = Retraining("a dark image", clip, small, steps=5, seconds=1e-6)
    run.advance()
    assert run.step == 1 and run.finished


def test_in_parts_it_is_the_training_that_it_is_in_one(clip, small, tmp_path):
    whole = Retraining("a dark image", clip, small, steps=3, folder=tmp_path / "whole")
    whole.advance()
    parts = Retraining("a dark image", clip, small, steps=3, folder=tmp_path / "parts")
    for step in (1, 2, 3):
        parts.advance(0)
        assert parts.step == step
    assert parts.finished and parts.row == whole.row
    for one, other in zip(parts.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert (tmp_path / "parts" / "network.pt").is_file()


def test_limits_and_sentences_without_a_direction_are_refused(clip):
    for seconds in (0, retraining.LONGEST + 1):
        with pytest.raises(ValueError, match="seconds must be in"):
            Retraining("a dark image", clip, seconds=seconds)
    with pytest.raises(ValueError, match="steps must be"):
        Retraining("a dark image", clip, steps=0)
    with pytest.raises(ValueError, match="same sentence"):
        Retraining(PROMPTS.visible, clip)


def test_the_picture_changes_with_the_sentence(opened, texts):
    before = opened.pictures.copy()
    opened.field.value = "a bright image"
    assert not torch.equal(opened.pictures[SAID], before[SAID])
    assert torch.equal(opened.pictures[PAPER], before[PAPER])
    assert any("“a bright image” has cosines of" in text["title"] for text in texts)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("a blury image", "Did you mean “a blurry image”?"),
        ("an infrared image", "they are the same sentence"),
        ("", "at least one word"),
    ],
)
def test_what_cannot_be_read_is_answered_in_words(opened, texts, capsys, typed, said):
    count = len(texts)
    opened.field.value = typed
    assert said in capsys.readouterr().out
    tick(opened, 1)
    assert opened.training is None and RETRAINED not in opened.pictures
    assert "Type a sentence" in capsys.readouterr().out
    assert len(texts) <= count + 1, "the comparison of two images is all that is drawn"


def test_the_training_shows_its_picture_and_ends_by_itself(opened, texts, monkeypatch):
    monkeypatch.setattr(studio, "_PART", 0.0)
    for value in (1, 2, 3):
        tick(opened, value)
        assert opened.training.step == value
        assert f"{value} of 3 steps" in texts[-1 if value < 3 else -2]["caption"]
    assert list(opened.pictures) == list(LABELS)
    assert opened.clock.value == opened.clock.max, "the clock of the browser stops"
    assert opened.right.value == RETRAINED
    assert texts[-1]["title"] == f"Left of the line: {PAPER}; right of it: {RETRAINED}"
    tick(opened, 4)
    assert opened.training.step == 3, "a late tick begins nothing"
    tick(opened, 0)
    tick(opened, 1)
    assert opened.training.step == 1, "from the start once more"


def test_the_training_stops_when_asked(opened, monkeypatch):
    monkeypatch.setattr(studio, "_PART", 0.0)
    tick(opened, 1)
    tick(opened, 0)
    assert opened.training is None and RETRAINED in opened.pictures
    assert opened.right.value == RETRAINED, "what was reached can be compared"


def test_another_sentence_ends_the_training(opened, monkeypatch, capsys):
    monkeypatch.setattr(studio, "_PART", 0.0)
    tick(opened, 1)
    capsys.readouterr()
    opened.field.value = "a bright image"
    assert opened.training is None and RETRAINED not in opened.pictures
    assert "“a bright image” for at most 60 s" in capsys.readouterr().out
    opened.field.value = "a sharp image"
    assert "“a sharp image” for at most 60 s" in capsys.readouterr().out
    tick(opened, 2)
    assert opened.training is None, "a late tick begins nothing"


def test_an_error_of_the_training_is_shown_and_ends_it(opened, capsys, monkeypatch):
    def broken(*_args, **_more):
        raise OSError("the disk is full")

    monkeypatch.setattr(retraining, "fit", broken)
    tick(opened, 1)
    assert opened.training is None and opened.clock.value == opened.clock.max
    assert "The training has stopped. OSError: the disk is full" in capsys.readouterr().out
    opened.parts[1].update()
    assert "the disk is full" in capsys.readouterr().out, "it stays until the next beginning"
    tick(opened, 0)
    assert "The first button" in capsys.readouterr().out


def test_two_pictures_are_compared_at_a_line(opened, texts, capsys):
    opened.left.value = SAID
    assert texts[-1]["title"] == f"Left of the line: {SAID}; right of it: {SAID}"
    opened.right.value = RETRAINED
    assert "train above first" in capsys.readouterr().out


def test_all_parts_are_displayed(opened, monkeypatch):
    shown = []
    monkeypatch.setattr(studio, "display", shown.append)
    opened.show()
    assert shown == list(opened.parts) and len(shown) == 3
