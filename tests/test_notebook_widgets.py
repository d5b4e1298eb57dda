"""The widgets of the notebooks' own cells: what a reader moves changes the figure.

The cells are taken from the notebooks and run on small stand-ins for what earlier cells define.
"""

from types import SimpleNamespace

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from ldf_utils import metrics
from ldf_utils.clip.model import PROMPTS, Prompts
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.fusion.rules import average
from ldf_utils.notebook import figures, widgets
from tools.notebook_files import NOTEBOOKS, code_cells, read_notebook

matplotlib.use("agg")


def run_cells(notebook, starts, names):
    """Run the cells that contain these lines, in this order, on the given names."""
    cells = [cell.source for cell in code_cells(read_notebook(NOTEBOOKS / f"{notebook}.ipynb"))]
    for start in starts:
        (source,) = [source for source in cells if start in source]
        exec(source, names)
    return names


@pytest.fixture
def shown(monkeypatch):
    """The texts of the figures that are presented, and the widgets that are displayed."""
    record = SimpleNamespace(texts=[], widgets=[])
    monkeypatch.setattr(
        figures.output, "present", lambda fig, **texts: (record.texts.append(texts), plt.close(fig))
    )
    monkeypatch.setattr(widgets, "display", record.widgets.append)
    return record


def test_the_goal_of_02_can_be_typed(shown):
    class Clip:
        name, stands_in, words = "small", True, frozenset("a dark bright blurry image".split())

    names = {
        "clip": Clip(),
        "goals": [PROMPTS.fused, "a dark image"],
        "fusions": SimpleNamespace(complete=["average", "maximum"]),
        "alignment": lambda label, directions: torch.tensor([[float(len(label))]]),
        "text_directions": lambda clip, prompts: prompts.fused,
        "PROMPTS": PROMPTS,
        "Prompts": Prompts,
        "figures": figures,
        "widgets": widgets,
        "interactive": True,
    }
    run_cells("02_fusion_direction", ["def ask(goal)"], names)
    (panel,) = shown.widgets
    field = panel.children[0]
    assert list(field.options) == names["goals"] and field.value == PROMPTS.fused
    field.value = "a blurry image"
    assert "“a blurry image” prefers" in shown.texts[-1]["title"]


def test_the_slider_of_05_changes_the_counts(shown):
    texture = torch.rand(2, 1, 40, 48, generator=torch.Generator().manual_seed(0))
    pair = SimpleNamespace(name="a", infrared=texture[0], luminance=texture[1])
    names = {
        "torch": torch,
        "F": F,
        "average": average,
        "gaussian_blur": gaussian_blur,
        "metrics": metrics,
        "seed": 0,
        "examples": {"Night": pair},
        "ACTIVITY": ("EN", "SD", "SF", "AG"),
        "NAMES": ("EN", "SD", "SF", "AG", "SSIM"),
        "ipywidgets": ipywidgets,
        "show_images": figures.show_images,
        "explore": widgets.explore,
        "interactive": True,
    }
    starts = ["def damaged(", "def change_by_damage(", "def raised_by(", "def draw(strength)"]
    run_cells("05_evaluation", starts, names)
    slider = shown.widgets[0].children[0]
    counts = [shown.texts[0]["title"]]
    assert counts[0].endswith(", ".join(f"{d} ({len(n)})" for d, n in names["raised"].items()))
    for strength in (0.25, 2.0):
        slider.value = strength
        expected = names["raised_by"](names["change_by_damage"](strength))
        counts.append(shown.texts[-1]["title"])
        assert counts[-1].endswith(", ".join(f"{d} ({len(n)})" for d, n in expected.items()))
        assert f"{strength:g}" in shown.texts[-1]["caption"]
    assert len(set(counts)) > 1, "the damage is another, and so are the counts"


def test_the_slider_of_09_changes_the_title(shown):
    names = {
        "torch": torch,
        "compute": 0.05,
        "parameters": 5_000_000,
        "link_gigabytes": (50.0, 1.25),
        "exchange": lambda gpus, gigabytes: 4 * 5_000_000 * 2 * (gpus - 1) / gpus / gigabytes / 1e9,
        "ipywidgets": ipywidgets,
        "figures": figures,
        "widgets": widgets,
        "interactive": True,
    }
    run_cells("09_scaling_out", ["def efficiency_of(", "def show_efficiency("], names)
    slider = shown.widgets[0].children[0]
    slow = 100 * 0.05 / (0.05 + names["exchange"](64, 1.25))
    assert f"{slow:.0f}% on the slowest" in shown.texts[0]["title"]
    assert names["worst"][1.25] == pytest.approx(slow / 100)
    slider.value = 4
    slow = 100 * 0.2 / (0.2 + names["exchange"](64, 1.25))
    assert f"{slow:.0f}% on the slowest" in shown.texts[-1]["title"]
    assert "every 4 batches" in shown.texts[-1]["title"]
