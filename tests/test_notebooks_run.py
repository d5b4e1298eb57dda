"""Every notebook runs, through the runner of `make tutorial`, with smaller numbers.

The numbers go through the parameters cell, so that the code that runs is the code that is read.
The exercises are run with their folded solutions in place, which must pass their checks.
"""

import copy
import re

import pytest

from ldf_utils.notebook.run_record import read_metrics
from tools.notebook_files import (
    NOTEBOOKS,
    code_cells,
    declared_parameters,
    read_notebook,
    tagged,
    write_notebook,
)
from tools.runner import run_notebook

CELL_SECONDS = 600

# Notebook to parameters that make it small; only names that its parameters cell declares.
OVERRIDES = {
    "00_start_here": {"pairs_to_search": 4},
    "01_clip_prompt_embedding": {"pairs_per_set": 4},
    "02_fusion_direction": {"pairs_per_set": 8},
    "03_losses": {"candidates": 4, "size": 128, "patches": 6},
    "03b_artifacts": {"candidates": 4, "size": 128, "patches": 6, "pixel_steps": 20},
    "04_training": {
        "steps": 24,
        "batch": 2,
        "patches": 4,
        "held_out": 1,
        "sentence_steps": 8,
    },
    "05_evaluation": {"pairs_per_set": 2, "known_pairs": 4},
    "06_detection": {"pairs_per_set": 3, "draws": 50},
    "07_your_own_cameras": {"frames": 8, "parallax_pairs": 4},
    "08_say_it": {"steps": 3, "drawn": 3, "retrain_steps": 2},
    "09_scaling_out": {"steps": 3, "batch": 2, "patches": 2},
}

# Notebook to the number of figures it draws, at least.
FIGURES = {
    "00_start_here": 6,
    "01_clip_prompt_embedding": 9,
    "02_fusion_direction": 9,
    "03_losses": 6,
    "03b_artifacts": 7,
    "04_training": 8,
    "05_evaluation": 8,
    "06_detection": 7,
    "07_your_own_cameras": 9,
    "08_say_it": 9,
    "09_scaling_out": 4,
}

# Megabytes, where a notebook may take more than 2000: this one starts three more processes, each
# with a torch of its own. The README asks for 4 GB.
MEMORY = {"09_scaling_out": 3500}

# Notebook to its recorded numbers and the range each lies in, on generated and on real pairs, with
# the small numbers above. "sets.TNO.EN" reaches into mappings.
RANGES = {
    "00_start_here": {
        "contrast_infrared": (5.0, 255.0),
        "contrast_network": (-50.0, 255.0),
        "texture_average": (0.2, 40.0),
        "texture_network": (0.2, 40.0),
        "same_luminance": (0.7, 1.0),
    },
    "01_clip_prompt_embedding": {
        "paraphrases": (0.4, 1.0),
        "opposites": (-1.0, 0.3),
        "accuracy.which of the two": (0.5, 1.0),
        "own_side": (0.5, 1.0),
        "gap": (0.1, 2.0),
        "step_cosine": (0.05, 1.0),
        "spoiled_named": (0.75, 1.0),
    },
    "02_fusion_direction": {
        "steps_matched": (0.5, 1.0),
        "alignment.average": (-1.0, 0.5),
        "alignment.maximum": (0.0, 1.0),  # below 0 would be against the words
        "level_with_best": (0, 4),
        "gradient_step": (0.01, 2.0),
        "blur_ratio": (1.0, 1000.0),
    },
    "03_losses": {
        "direction.copy of visible": (0.5, 1.2),
        "patch_average": (0.5, 1.8),
        "perceptual.average": (0.05, 1.2),
        "edges_kept_by_average": (0.1, 1.0),
        "agreement_patch_perceptual": (-0.5, 0.5),
    },
    "03b_artifacts": {
        "patches_kept": (0.05, 1.0),
        "loss_last": (0.0, 1.0),
        "invented.average (start)": (0.0, 1e-6),
        "invented.direction only": (0.15, 1.0),
        "invented_network": (0.0, 0.25),
    },
    "04_training": {
        "terms.direction": (0.1, 1.9),
        "terms.perceptual": (0.0, 0.5),
        "overall_trained.EN": (5.0, 8.0),
        "overall_trained.SF": (5.0, 40.0),
    },
    "05_evaluation": {
        "mean_rank.average": (2.0, 7.0),
        "change_against_average.SSIM": (-90.0, 5.0),
        "raised_by_damage.noise": (2, 6),
        "raised_by_damage.contrast stretch": (3, 8),
        "raised_by_damage.copy of the infrared": (1, 8),
        "raised_by_damage.copy of the visible": (1, 8),
        "raised_by_damage.blur": (0, 4),
        "oracle_place": (2, 13),  # the nine metrics do not put the right answer first
        "truth_rank.noise": (5.0, 12.0),
        "truth_rank.average": (1.0, 8.0),
        "agreement.CC": (0.1, 1.0),
        "agreement_honest.MI": (-1.0, 0.2),
        "sd_true": (10.0, 90.0),
        "sd_saturated": (2.0, 14.0),
    },
    "06_detection": {
        "images": (6, 200),
        "ap50.person.visible": (0.01, 0.9),
        "ap50.person.infrared": (0.02, 1.0),
        "ap50.person.merged": (0.01, 1.0),
        "found_share.infrared": (0.05, 1.0),
        "score": (0.05, 0.95),
        "own_detector.merged": (0.05, 1.0),
        "sentence_spread": (0.0, 0.5),
    },
    "07_your_own_cameras": {
        "counts_filled": (0.001, 0.2),
        "range_jump": (0.05, 1.0),
        "error": (0.0, 8.0),  # real sets are off by several pixels themselves
        "confidence": (0.5, 1.0),
        "refused": (2, 4),
        "parallax.homography": (0.0, 3.0),
        "rig_error": (0.0, 8.0),
        "flicker.held over time": (0.0, 1.1),
    },
    "08_say_it": {
        "parameters": (200_000, 400_000),
        "brightness_dark": (5.0, 95.0),
        "brightness_bright": (95.0, 250.0),
        "steps_back": (0, 1),
        "content_moved": (0.5, 60.0),
    },
    "09_scaling_out": {
        "gradient_difference": (0.0, 1e-4),
        "gradient_difference_of_half": (0.01, 10.0),
        "parameters": (5_776_977, 5_776_977),
        "teraflop_per_crop": (0.3, 1.0),
        "efficiency_of_64.50 GB/s": (0.5, 1.0),
        "failed_exit_code": (1, 255),
    },
}

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """One folder for all of a process: a notebook may use what an earlier one has left."""
    return tmp_path_factory.mktemp("tutorial")


def with_solutions(notebook):
    """A copy whose exercises hold the code of the folded solution that follows each."""
    notebook = copy.deepcopy(notebook)
    for cell in tagged(notebook, "exercise"):
        solution = notebook.cells[notebook.cells.index(cell) + 1].source
        cell.source = re.search(r"```python\n(.*?)```", solution, flags=re.DOTALL)[1].strip()
    return notebook


def look_up(metrics, name):
    """A recorded number; "sets.TNO.EN" reaches into mappings."""
    value = metrics
    for part in name.split("."):
        assert part in value, f"{name} is not recorded; there is {sorted(value)}"
        value = value[part]
    return value


def test_the_tables_name_every_notebook():
    names = {path.stem for path in PATHS}
    assert names == set(OVERRIDES) == set(FIGURES) == set(RANGES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_overrides_are_declared_and_change_something(path):
    notebook = read_notebook(path)
    overrides = OVERRIDES[path.stem]
    assert set(overrides) <= set(declared_parameters(notebook, path.name))
    defaults: dict = {}
    exec(tagged(notebook, "parameters")[0].source, defaults)
    same = [name for name, value in overrides.items() if defaults[name] == value]
    assert not same, f"overrides equal to the default: {same}"


# What a notebook takes from the run of another keeps them in one process, one after the other.
GROUPS = {"05_evaluation": "04_training"}


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=pytest.mark.xdist_group(GROUPS.get(path.stem, path.stem))
        )
        for path in PATHS
    ],
)
def test_it_runs(path, run_dir, tmp_path):
    source = tmp_path / path.name
    notebook = with_solutions(read_notebook(path))
    write_notebook(notebook, source)
    overrides = OVERRIDES[path.stem]
    outcome = run_notebook(
        source,
        run_dir / path.name,
        run_dir,
        parameters=overrides,
        environment={"HF_HUB_OFFLINE": "1", "LDF_CLIP": "mini"},
        cell_seconds=CELL_SECONDS,
    )
    assert outcome.status == "done", outcome.error

    executed = code_cells(read_notebook(run_dir / path.name))
    assert len(executed) == len(code_cells(notebook)) + bool(overrides)
    assert [cell.execution_count for cell in executed] == list(range(1, len(executed) + 1))
    assert outcome.cells_run == outcome.cells == len(executed)

    outputs = [output for cell in executed for output in cell.outputs]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= FIGURES[path.stem]

    printed = "".join(output.get("text", "") for output in outputs)
    exercises = len(tagged(notebook, "exercise"))
    assert printed.count("Well done") == exercises, "a solution does not pass its check"
    assert "Not yet" not in printed

    record = read_metrics(run_dir)[path.stem]
    for name, (low, high) in RANGES[path.stem].items():
        value = look_up(record["metrics"], name)
        assert low <= value <= high, f"{name} = {value}, expected {low} to {high}"
    assert record["peak_memory_mb"] < MEMORY.get(path.stem, 2000)
