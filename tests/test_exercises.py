"""Exercises: answers of every kind, hints that fit the mistake, the folded solutions."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import cosine_similarity, normalize

from ldf_utils import metrics
from ldf_utils.data.images import luminance
from ldf_utils.notebook import (
    answers,
    camera_exercises,
    choices,
    exercises,
    sentence_exercises,
)
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.schedule import learning_rate
from tools.notebook_files import NOTEBOOKS, read_notebook, tagged

# ------------------------------------------------------------------ results


@answers.exercise("Add one")
def check_add_one(answer, number):
    yield answers.expect_shape("the sum", answer(number), ())
    yield answers.expect_close("the sum", answer(number), number + 1, hint="add one")


def test_a_right_answer_is_praised(capsys):
    result = check_add_one(lambda x: x + 1, 2.0)
    assert result and result.hint is None
    assert capsys.readouterr().out == "Well done: Add one.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (..., "replace the three dots"),
        (None, "replace the three dots"),
        (lambda x: x, "must be 3, got 2; add one"),
        (lambda x: torch.tensor([x]), "must be a number, got shape (1,)"),
        (lambda x: "three", "must be a number, got str"),
        (lambda x: math.nan, "not finite"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda: 1, "raised TypeError"),
        (2.5, "raised TypeError"),
    ],
)
def test_a_wrong_answer_gets_one_hint_and_no_exception(answer, hint, capsys):
    result = check_add_one(answer, 2.0)
    assert not result and hint in result.hint
    printed = capsys.readouterr().out
    assert printed.startswith("Not yet: Add one.\n  ") and hint in printed


def test_only_the_first_hint_is_shown():
    @answers.exercise("Two faults")
    def check(answer):
        yield answers.expect(False, "the first")
        yield answers.expect(False, "the second")

    assert check(0).hint == "the first"


def test_a_result_shows_nothing_twice_in_a_notebook():
    assert answers.Result("a")._ipython_display_() is None


def test_expectations():
    assert answers.expect(True, "x") is None and answers.expect(False, "x") == "x"
    assert answers.expect_close("a", torch.ones(3), torch.ones(3)) is None
    found = answers.expect_close("a", torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0]))
    assert found == "a must be 2, got 5 (element 1, where the difference is largest)"
    assert answers.expect_close("a", 1.0005, 1.0, tolerance=1e-3) is None
    assert answers.expect_between("a", 3, 1, 2, "hint") == "a must be 1 to 2, got 3; hint"
    assert answers.expect_between("a", 1.5, 1, 2) is None
    assert answers.expect_between("a", "x", 1, 2) == "a must be a number, got str"


@pytest.mark.parametrize(
    "number",
    [3, 3.0, np.int64(3), np.float32(3), np.array(3.0), torch.tensor(3), torch.tensor(3.0)],
    ids=lambda number: type(number).__name__,
)
def test_numbers_of_every_kind_are_accepted(number):
    assert check_add_one(lambda x: number, 2.0)
    assert answers.as_tensor(number) == 3


@pytest.mark.parametrize("nothing", ["3", {"a": 3}, [[1, 2], [3]], object(), print])
def test_what_is_no_number_is_not_taken_for_one(nothing):
    assert answers.as_tensor(nothing) is None


def test_an_answer_cannot_change_the_numbers_of_the_check():
    def in_place(infrared, visible, weight):
        return infrared.mul_(weight).add_(visible.mul_(1 - weight))

    assert exercises.check_weighted_average(in_place)


# ------------------------------------------------------------------ exercises


def direction_loss(image_infrared, image_visible, text_infrared, text_visible):
    cosine_infrared = cosine_similarity(image_infrared, text_infrared, dim=0)
    cosine_visible = cosine_similarity(image_visible, text_visible, dim=0)
    return 0.5 * (1 - cosine_infrared) + 0.5 * (1 - cosine_visible)


def local_mean(image):
    return F.avg_pool2d(image, 15, stride=1, padding=7, count_include_pad=False)


def salient_source(infrared, visible, off=lambda x: (x - local_mean(x)).abs()):
    return torch.where(off(infrared) > off(visible), infrared, visible)


def angle_loss(fused, infrared, visible):
    cosines = cosine_similarity(fused, infrared, dim=0), cosine_similarity(fused, visible, dim=0)
    return 1 - 0.5 * sum(cosines)


def patch_loss(patches, infrared, visible, text_infrared, text_visible):
    to_infrared = cosine_similarity(patches - infrared, text_infrared[None], dim=1)
    to_visible = cosine_similarity(patches - visible, text_visible[None], dim=1)
    return (1 - (to_infrared + to_visible) / 2).mean()


def schedule(step, steps, warmup):
    config = TrainConfig(steps=steps, warmup=warmup / steps, learning_rate=1.0)
    return learning_rate(step, config)


def overlap(first, second):
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = np.prod(np.clip(sides, 0, None))
    areas = [np.prod(np.subtract(box[2:], box[:2])) for box in (first, second)]
    return shared / (sum(areas) - shared)


def average_precision(scores, hits, boxes, envelope=True):
    order = np.argsort(-np.asarray(scores))
    right = np.cumsum(np.asarray(hits)[order])
    precision = right / np.arange(1, len(order) + 1)
    if envelope:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / boxes, np.linspace(0, 1, 101))
    return float(np.append(precision, 0.0)[places].mean())


def noisy(infrared, visible):
    noise = torch.randn(visible.shape, generator=torch.Generator().manual_seed(0))
    return (visible + 0.3 * noise).clamp(0, 1)


def right_fusion(infrared, visible):
    """Bright and sharp, and right: no cheat."""
    return exercises.known_nights(3)[2]


RIGHT = {
    "check_overlap": lambda a, b: float(overlap(a.numpy(), b.numpy())),
    "check_average_precision": average_precision,
    "check_weighted_average": lambda i, v, weight: weight * i + (1 - weight) * v,
    "check_recolor": lambda visible, fused: (visible + fused - luminance(visible)).clamp(0, 1),
    "check_zero_shot": lambda image, texts: int((normalize(texts, dim=1) @ image).argmax()),
    "check_modality_gap": lambda p, s: (p.mean(0) - s.mean(0)).norm(),
    "check_salient_source": salient_source,
    "check_cosine": lambda a, b: a @ b / (a.norm() * b.norm()),
    "check_step": lambda source, goal: normalize(goal, dim=0) - normalize(source, dim=0),
    "check_direction_loss": direction_loss,
    "check_preferred_rule": "maximum",
    "check_angle_loss": angle_loss,
    "check_entropy_threshold": 5.25,
    "check_prediction": {"brightness": "down", "sharpness": "up"},
    "check_schedule": schedule,
    "check_share": lambda pairs, rank, count: [
        k % pairs for k in range(rank, -(-pairs // count) * count, count)
    ],
    "check_ring": lambda parameters, processes: 8 * parameters * (processes - 1) / processes,
    "check_standard_deviation": lambda picture: picture.std(correction=0),
    "check_cheating_rule": noisy,
    "check_perceptual_term": lambda f, i, v: (f - torch.maximum(i, v)).square().mean(),
    "check_patch_loss": patch_loss,
    "check_mean_ranks": lambda table: (
        (table[None] > table[:, None]).sum(dim=1, dtype=torch.float64) + 1
    ).mean(1),
}


def numpy_cosine(a, b):
    return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


def numpy_direction_loss(image_infrared, image_visible, text_infrared, text_visible):
    return 1 - 0.5 * (
        numpy_cosine(image_infrared, text_infrared) + numpy_cosine(image_visible, text_visible)
    )


def numpy_salient_source(infrared, visible):
    def off(x):
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x[0, 0], 7, mode="edge"), (15, 15)
        )
        return np.abs(x - windows.mean(axis=(-2, -1)))

    return np.where(off(infrared) > off(visible), infrared, visible)


def numpy_recolor(visible, fused):
    y = np.tensordot([0.299, 0.587, 0.114], visible.astype(float), 1)
    return np.clip(visible + fused - y, 0, 1)


def numpy_checkerboard(infrared, visible):
    rows, columns = np.indices(visible.shape[-2:])
    return np.clip(visible + 0.4 * ((rows + columns) % 2 - 0.5), 0, 1)


# The same answers as a reader who thinks in NumPy gives them.
IN_NUMPY = {
    "check_overlap": lambda a, b: overlap(np.asarray(a), np.asarray(b)),
    "check_average_precision": lambda s, h, n: np.float64(average_precision(s, h, n)),
    "check_weighted_average": lambda i, v, w: np.average([i, v], axis=0, weights=[w, 1 - w]),
    "check_recolor": numpy_recolor,
    "check_zero_shot": lambda image, texts: np.argmax(
        texts @ image / np.linalg.norm(texts, axis=1)
    ),
    "check_modality_gap": lambda p, s: np.linalg.norm(np.mean(p, axis=0) - np.mean(s, axis=0)),
    "check_salient_source": numpy_salient_source,
    "check_cosine": lambda a, b: numpy_cosine(a, b),
    "check_step": lambda source, goal: (
        goal / np.linalg.norm(goal) - source / np.linalg.norm(source)
    ),
    "check_direction_loss": numpy_direction_loss,
    "check_preferred_rule": np.str_("maximum"),
    "check_angle_loss": lambda f, i, v: 1 - 0.5 * (numpy_cosine(f, i) + numpy_cosine(f, v)),
    "check_entropy_threshold": np.float32(5.25),
    "check_prediction": {"brightness": np.str_("down"), "sharpness": np.str_("up")},
    "check_schedule": lambda step, steps, warmup: np.interp(
        step, [-1, warmup - 1, steps - 1], [0, 1, 0]
    ),
    "check_share": lambda pairs, rank, count: np.resize(
        np.arange(pairs), (-(-pairs // count), count)
    )[:, rank],
    "check_ring": lambda parameters, processes: (
        np.float64(8 * parameters) * (1 - np.float64(1) / processes)
    ),
    "check_standard_deviation": np.std,
    "check_cheating_rule": numpy_checkerboard,
    "check_perceptual_term": lambda f, i, v: np.mean((f - np.maximum(i, v)) ** 2),
    "check_patch_loss": lambda p, i, v, t_i, t_v: np.mean(
        [1 - 0.5 * (numpy_cosine(one - i, t_i) + numpy_cosine(one - v, t_v)) for one in p]
    ),
    "check_mean_ranks": lambda table: (np.argsort(np.argsort(-np.array(table), 0), 0) + 1).mean(1),
}

# What a notebook has measured and hands to the check along with the answer.
GIVEN = {
    "check_preferred_rule": {"cosines": {"average": -0.1, "maximum": 0.2, "pyramid": 0.1}},
    "check_entropy_threshold": {
        "infrared_bits": torch.linspace(4, 7, 64),
        "visible_bits": torch.linspace(3.5, 7, 64),
        "share": 0.5,
    },
    "check_prediction": {
        "before": {"brightness": 0.5, "sharpness": 9.0},
        "after": {"brightness": 0.3, "sharpness": 9.5},
    },
}

WRONG = [
    ("check_weighted_average", lambda i, v, w: (1 - w) * i + w * v, "weight of the infrared"),
    ("check_weighted_average", lambda i, v, w: w * i + v, "do not add up"),
    ("check_weighted_average", torch.maximum, "TypeError"),
    ("check_recolor", lambda v, f: v + f, "old luminance is still in it"),
    ("check_recolor", lambda v, f: v * f / luminance(v), "scales the chroma"),
    ("check_recolor", lambda v, f: f.expand(3, -1, -1), "gray"),
    ("check_recolor", lambda v, f: v + f - v.mean(0, keepdim=True), "not the plain mean"),
    ("check_recolor", lambda v, f: v + f - luminance(v), "clamp"),
    ("check_recolor", lambda v, f: ..., "replace the three dots"),
    ("check_zero_shot", lambda image, texts: int((texts @ image).argmax()), "longest"),
    ("check_zero_shot", lambda image, texts: int((texts @ image).argmin()), "farthest"),
    ("check_zero_shot", lambda image, texts: (texts - image).norm(dim=1).argmax(), "farthest"),
    ("check_zero_shot", lambda image, texts: (texts - image).norm(dim=1).argmin(), "distance"),
    ("check_zero_shot", lambda image, texts: cosine_similarity(texts, image[None]).max(), "argmax"),
    ("check_zero_shot", lambda image, texts: texts @ image, "one index, got 4 numbers"),
    ("check_zero_shot", lambda image, texts: "dark", "one index, got str"),
    ("check_zero_shot", lambda image, texts: 1, "for reversed sentences the index must be 2"),
    ("check_zero_shot", lambda image, texts: 7, "the index must be 1, got 7"),
    ("check_modality_gap", lambda p, s: p.mean(0) - s.mean(0), "its length"),
    ("check_modality_gap", lambda p, s: (p.mean(0) - s.mean(0)).square().sum(), "square root"),
    ("check_modality_gap", lambda p, s: torch.cdist(p, s).mean(), "means first"),
    ("check_modality_gap", lambda p, s: 1 - (p @ s.T).mean(), "mean cosine"),
    ("check_modality_gap", lambda p, s: RIGHT["check_modality_gap"](p, s) + 1, "the gap must be"),
    ("check_salient_source", torch.maximum, "that is the brighter source"),
    ("check_salient_source", lambda i, v: salient_source(i, v, lambda x: x - local_mean(x)), "abs"),
    (
        "check_salient_source",
        lambda i, v: salient_source(i, v, lambda x: -(x - local_mean(x)).abs()),
        "stands out less",
    ),
    ("check_salient_source", lambda i, v: i[0], "must be a tensor of shape"),
    ("check_cosine", lambda a, b: a @ b, "divide it by both lengths"),
    ("check_cosine", lambda a, b: a @ b / a.norm(), "second vector"),
    ("check_cosine", lambda a, b: a * b / a.norm() / b.norm(), "one number"),
    ("check_step", lambda source, goal: goal - source, "before you subtract"),
    ("check_step", lambda s, g: normalize(s, dim=0) - normalize(g, dim=0), "other way around"),
    ("check_step", lambda s, g: normalize(g - s, dim=0), "divide first"),
    ("check_direction_loss", lambda a, b, c, d: 2 * direction_loss(a, b, c, d), "one half"),
    ("check_direction_loss", lambda a, b, c, d: direction_loss(a, b, d, c), "same source"),
    ("check_direction_loss", lambda a, b, c, d: 1 - direction_loss(a, b, c, d), "mean cosine"),
    ("check_direction_loss", lambda a, b, c, d: 1 - 0.5 * (a @ c + b @ d), "both lengths"),
    ("check_preferred_rule", "median", "must be one of average, maximum, pyramid"),
    ("check_preferred_rule", 1, "must be one of"),
    ("check_preferred_rule", "average", "number 3 of 3 with -0.100; 'maximum' has +0.200"),
    ("check_angle_loss", lambda f, i, v: 2 * angle_loss(f, i, v), "one half"),
    ("check_angle_loss", lambda f, i, v: 1 - angle_loss(f, i, v), "mean cosine"),
    ("check_angle_loss", lambda f, i, v: 1 - 0.5 * (f @ i + f @ v), "right for vectors of length"),
    ("check_entropy_threshold", 5.5, "in both sources"),
    ("check_entropy_threshold", 6.9, "3% of the patches pass in both sources, expected 50%; lower"),
    ("check_entropy_threshold", 3.0, "100% of the patches pass in both sources, expected 50%; rai"),
    ("check_entropy_threshold", 80.0, "must be 0 to 8"),
    ("check_entropy_threshold", "half", "must be a number, got str"),
    ("check_entropy_threshold", lambda: 5.25, "must be a number, got partial"),
    ("check_prediction", {"brightness": "down"}, "with the keys"),
    ("check_prediction", {"brightness": "lower", "sharpness": "up"}, "'up' or 'down'"),
    ("check_prediction", {"brightness": "up", "sharpness": "up"}, "brightness went down"),
    ("check_schedule", lambda step, steps, warmup: 1.0, "must rise"),
    ("check_schedule", lambda step, steps, warmup: min(1.0, (step + 1) / warmup), "last step"),
    ("check_schedule", lambda step, steps, warmup: 2.0, "must be 0 to 1"),
    ("check_share", lambda pairs, rank, count: range(rank, pairs, count), "twice"),
    ("check_share", lambda pairs, rank, count: range(pairs), "evenly"),
    ("check_share", lambda pairs, rank, count: range(rank, pairs + 1, count), "numbered from 0"),
    ("check_share", lambda pairs, rank, count: [rank] * (pairs // count), "no process has pair 2"),
    ("check_ring", lambda parameters, n: 2 * parameters * (n - 1) / n, "4 bytes"),
    ("check_ring", lambda parameters, n: 4 * parameters * (n - 1) / n, "one round only"),
    ("check_ring", lambda parameters, n: 8 * parameters * (n - 1), "all processes"),
    ("check_ring", lambda parameters, n: 8 * parameters, "not 2 N"),
    ("check_perceptual_term", lambda f, i, v: (f - (i + v) / 2).square().mean(), "not their mean"),
    ("check_perceptual_term", lambda f, i, v: (f - i.max()).square().mean(), "the term must be"),
    ("check_perceptual_term", lambda f, i, v: (f - torch.maximum(i, v)).square().sum(), "not the"),
    ("check_perceptual_term", lambda f, i, v: (f - torch.maximum(i, v)) ** 2, "must be a number"),
    ("check_patch_loss", lambda p, i, v, s, t: patch_loss(p, i, v, t, s), "the same source"),
    ("check_patch_loss", lambda p, i, v, s, t: 5 * patch_loss(p, i, v, s, t), "over the patches"),
    ("check_patch_loss", lambda p, i, v, s, t: 1 - patch_loss(p, i, v, s, t), "mean cosine"),
    ("check_patch_loss", lambda p, *x: patch_loss(p.mean(0, keepdim=True), *x), "the mean patch"),
    ("check_mean_ranks", lambda table: table.mean(1), "rank each column first"),
    ("check_mean_ranks", lambda table: table.argsort(0).argsort(0).add(1.0).mean(1), "highest"),
    ("check_mean_ranks", lambda table: (-table).argsort(0).argsort(0) * 1.0, "shape"),
    ("check_mean_ranks", lambda table: (-table).argsort(0).add(1.0).mean(1), "sort again"),
    ("check_standard_deviation", lambda picture: picture.std(), "one less"),
    ("check_standard_deviation", lambda picture: picture.var(correction=0), "square root"),
    ("check_overlap", lambda a, b: 50.0, "that is the intersection"),
    ("check_overlap", lambda a, b: 50 / 400, "by the union, not by the sum"),
    ("check_overlap", lambda a, b: 50 / 350, "lie apart"),
    (
        "check_average_precision",
        lambda s, h, n: average_precision(torch.arange(len(s), 0, -1), h, n),
        "sort the detections",
    ),
    ("check_average_precision", lambda s, h, n: average_precision(s, h, sum(h)), "labeled boxes"),
    (
        "check_average_precision",
        lambda s, h, n: average_precision(s, h, n, envelope=False),
        "highest precision",
    ),
    ("check_cheating_rule", lambda i, v: (i + v) / 2, "no metric yet; it comes closest in"),
    ("check_cheating_rule", lambda i, v: v[0], "got shape"),
    ("check_cheating_rule", lambda i, v: 2 * v, "clamp"),
    ("check_cheating_rule", right_fusion, "not a cheat"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name):
    result = getattr(exercises, name)(RIGHT[name], **GIVEN.get(name, {}))
    assert result, result.hint


@pytest.mark.parametrize("name", IN_NUMPY)
def test_right_answers_in_numpy_pass(name):
    result = getattr(exercises, name)(IN_NUMPY[name], **GIVEN.get(name, {}))
    assert result, result.hint


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_the_hint_that_fits(name, answer, hint):
    result = getattr(exercises, name)(answer, **GIVEN.get(name, {}))
    assert not result and hint in result.hint, result.hint


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("check_adjust", lambda f, s, o: wide(s) * f + wide(o), "a scale of 0"),
        ("check_adjust", lambda f, s, o: (1 + wide(s)) * (f + wide(o)), "add it last"),
        ("check_adjust", lambda f, s, o: (1 + s) * f + o, "RuntimeError"),
        ("check_adjust", lambda f, s, o: (1 + wide(s)) * f, "the features must be"),
        ("check_between", lambda a, b, k: (1 - k) * a + k * b, "length 1 again"),
        ("check_between", lambda a, b, k: F.normalize(k * a + (1 - k) * b, dim=-1), "share 0 is"),
        ("check_between", lambda a, b, k: F.normalize(a + k * (b - a), dim=None), "last axis"),
        ("check_between", lambda a, b, k: F.normalize(a + b, dim=-1), "the directions must be"),
    ],
)
def test_wrong_answers_about_sentences_get_the_hint_that_fits(name, answer, hint):
    result = getattr(sentence_exercises, name)(answer)
    assert not result and hint in result.hint, result.hint


def wide(numbers):
    return numbers[..., None, None]


def test_every_exercise_has_answers_here():
    known = {name for name in dir(exercises) if name.startswith("check_")}
    assert known == set(RIGHT) == set(IN_NUMPY) == {name for name, _, _ in WRONG}


@pytest.mark.parametrize("name", RIGHT)
def test_an_open_exercise_stops_nothing(name, capsys):
    assert not getattr(exercises, name)(...)
    assert "three dots" in capsys.readouterr().out


# ------------------------------------------------------------------ solutions

IMAGE = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(2))

# What the cells before an exercise have defined, as far as its folded solution uses it.
DEFINED = {
    "00_start_here": {
        "luminance": luminance,
        "show_images": lambda *_, **__: None,
        "infrared": IMAGE,
        "visible": 1 - IMAGE,
        "local_mean": local_mean,
        "torch": torch,
    },
    "01_clip_prompt_embedding": {"F": F},
    "02_fusion_direction": {
        "F": F,
        "clip": None,
        "Prompts": dict,
        "text_directions": lambda clip, prompts: None,
        "alignment": lambda label, directions: torch.tensor([[0.1, 0.2]]) * len(label),
    },
    "03_losses": {"torch": torch, "cosine_similarity": cosine_similarity},
    "03b_artifacts": {
        "torch": torch,
        "cosine_similarity": cosine_similarity,
        "entropy": metrics.entropy,
        "cuts": list(torch.rand(64, 2, 16, 16, generator=torch.Generator().manual_seed(3))),
    },
    "04_training": {
        "usual": {"brightness": 1.0, "contrast": 1.0, "sharpness": 1.0},
        "retrain": lambda words: (2.0, {}),
        "effects": lambda network: {"brightness": network, "contrast": 1.0, "sharpness": -network},
    },
    "05_evaluation": {"torch": torch},
    "06_detection": {},
    "07_your_own_cameras": {
        "torch": torch,
        "camera_exercises": camera_exercises,
        "counts_of": lambda celsius: (celsius + 273.15) / 0.04,
    },
    "08_say_it": {
        "F": F,
        "sentence_exercises": sentence_exercises,
    },
    "09_scaling_out": {},
}


@pytest.mark.parametrize("name", DEFINED)
def test_the_folded_solutions_pass_their_checks(name, capsys):
    notebook = read_notebook(NOTEBOOKS / f"{name}.ipynb")
    cells = tagged(notebook, "exercise")
    for cell in cells:
        solution = notebook.cells[notebook.cells.index(cell) + 1].source
        code = re.search(r"```python\n(.*?)```", solution, flags=re.DOTALL)[1]
        exec(code, {"exercises": exercises, "choices": choices, **DEFINED[name]})
    printed = capsys.readouterr().out
    assert printed.count("Well done") == len(cells) >= 2 and "Not yet" not in printed, printed


@pytest.mark.parametrize("name", DEFINED)
def test_the_committed_exercises_are_open(name, capsys):
    cells = tagged(read_notebook(NOTEBOOKS / f"{name}.ipynb"), "exercise")
    for cell in cells:
        exec(cell.source, {"exercises": exercises, "choices": choices, **DEFINED[name]})
    assert capsys.readouterr().out.count("Not yet") == len(cells)


def test_the_solutions_of_all_notebooks_are_run():
    assert set(DEFINED) == {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
