import base64
import io

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from rendered_helpers import write_crops

import data_download
from experiments import shipped_network
from ldf_utils.metrics import USUAL
from tools import figure_size, readme, real_data
from tools.cells import badges_source
from tools.notebook_files import NOTEBOOKS, read_notebook, tagged


@pytest.fixture
def recorded():
    row = {"seconds": 60.0, "peak_memory_mb": 900.0}
    numbers = {
        f"Road_{m}_{k}": 1.0 + (k == "trained")
        for m in readme.METRICS
        for k in ("average", "trained")
    }
    evaluation = {**row, "metrics": {**numbers, "Road_pairs": 50, "network": "trained"}}
    return {"04_training": dict(row), "05_evaluation": evaluation}


def test_tables_show_what_was_recorded(recorded):
    text = readme.tables(recorded)
    assert "| Road | 50 | 1.00 → 2.00 |" in text and "| all | 120 | |" in text
    with pytest.raises(ValueError, match="LDF_DATA_DIR"):
        readme.tables({"05_evaluation": {}})
    recorded["05_evaluation"]["metrics"]["network"] = "shipped"
    with pytest.raises(ValueError, match="shipped"):
        readme.tables(recorded)
    recorded["05_evaluation"]["metrics"]["network"] = "trained"
    del recorded["05_evaluation"]["metrics"]["Road_SD_average"]
    with pytest.raises(KeyError, match="Road_SD_average"):
        readme.tables(recorded)


def test_tables_go_between_the_marks():
    page = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    once = readme.fill(page, "new")
    assert "old" not in once and once.startswith("before") and once.endswith("after\n")
    assert readme.fill(once, "new") == once
    with pytest.raises(ValueError, match="marks"):
        readme.fill("no marks", "new")


def test_the_readme_is_short_and_has_its_picture_and_the_measured_tables_are_filled():
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150 and "docs/measured.md" in text
    page = readme.MEASURED.read_text(encoding="utf-8")
    between = page.split(readme.BEGIN)[1].split(readme.END)[0]
    parameters: dict = {}
    notebook = read_notebook(NOTEBOOKS / "05_evaluation.ipynb")
    exec(tagged(notebook, "parameters")[0].source, parameters)
    assert f"RoadScene | {parameters['pairs_per_set']} |" in between, "made with other settings"
    assert all(path.stem in between for path in NOTEBOOKS.glob("*.ipynb"))
    assert (readme.ROOT / "docs" / "teaser.png").stat().st_size < 500_000
    assert badges_source("00_start_here.ipynb") in text


def test_teaser_is_made_again(tmp_path):
    from ldf_utils.data.images import read_image

    picture = read_image(readme.teaser(tmp_path / "teaser.png"))
    assert picture.shape == (3, 240, 3 * 320 + 16)
    kept = read_image(readme.ROOT / "docs" / "teaser.png")
    assert (picture - kept).abs().mean() < 0.01


def test_the_card_of_the_shipped_network_agrees_with_its_record():
    import json

    from ldf_utils.networks.checkpoint import load_network

    folder = shipped_network.FOLDER
    record = json.loads((folder / shipped_network.RECORD).read_text(encoding="utf-8"))
    text = (folder / shipped_network.CARD).read_text(encoding="utf-8")
    network = load_network("shipped")
    assert record["parameters"] == sum(p.numel() for p in network.parameters()) <= 1_000_000
    assert f"{record['parameters']:,}" in text and "M3SVD" in text and "MIT" in text
    assert shipped_network.TrainConfig.from_dict(record["config"]) == shipped_network.CONFIG
    assert (folder / shipped_network.WEIGHTS).stat().st_size < 2e6


def noisy_figure(width, height):
    pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "Noise"}
    return new_output("display_data", data=data, metadata={"image/png": {"alt": "Noise"}})


def test_figures_of_committed_notebooks_shrink_largest_first_until_the_file_fits():
    outputs = [noisy_figure(60, 40), noisy_figure(400, 300), noisy_figure(300, 300)]
    notebook = new_notebook(cells=[new_code_cell("1", outputs=outputs)])
    before = [output.data["image/png"] for output in notebook.cells[0].outputs]
    figure_size.fit_figures(notebook, most_bytes=2_000_000)
    after = [output.data["image/png"] for output in notebook.cells[0].outputs]
    assert after == before, "a notebook that is small enough is not changed"
    figure_size.fit_figures(notebook, most_bytes=200_000)
    after = [output.data["image/png"] for output in notebook.cells[0].outputs]
    assert len(nbformat.writes(notebook)) <= 200_000
    assert after[0] == before[0] and after[1] != before[1] and after[2] != before[2]
    assert notebook.cells[0].outputs[1].metadata["image/png"]["alt"] == "Noise"
    figure_size.fit_figures(notebook, most_bytes=1)
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).size
        for output in notebook.cells[0].outputs
    ]
    assert sizes[0] == (27, 18), "the last step, and no endless loop"


def test_figures_of_committed_notebooks_keep_their_colors():
    smooth = torch.arange(256, dtype=torch.uint8).repeat(64, 1).numpy()
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, format="PNG")
    least = figure_size.reduced_png(file.getvalue(), 1.0, figure_size._QUALITIES[-1][1])
    assert len(set(Image.open(io.BytesIO(least)).convert("L").getdata())) > 200, "no bands"


def test_small_real_sets_are_fetched_or_one_line_says_why_not(tmp_path, monkeypatch):
    asked, said = [], []

    def get(name, to, options):
        asked.append(name)
        write_crops(to / name, 1, (32, 32))

    monkeypatch.setattr(data_download, "get", get)
    assert real_data.fetch(tmp_path, say=said.append) == tmp_path
    assert asked == list(real_data.SMALL) and not said

    def fail(name, to, options):
        raise data_download.SetError(f"{name}: 3 files could not be fetched:\n  a\n  b")

    monkeypatch.setattr(data_download, "get", fail)
    assert real_data.fetch(tmp_path, say=said.append) is None
    assert len(said) == 1 and "rendered pairs" in said[0] and "\n" not in said[0]


def test_the_small_sets_are_in_the_registry_and_small():
    registry = data_download.load_registry()
    assert set(real_data.SMALL) <= set(registry)
    files = [file for name in real_data.SMALL for file in registry[name].files]
    assert sum(file.bytes for file in files) < 60e6


def test_published_means_are_ranked_together_with_ours(tmp_path):
    best = dict.fromkeys(USUAL, 2.0)
    worst = dict.fromkeys(USUAL, 1.0)
    table = tmp_path / "rivals.csv"
    header = ",".join(["method", *USUAL])
    table.write_text(header + "\nRival," + ",".join("1.5" for _ in best) + "\n")
    found = shipped_network.among_rivals({"ours": best, "average": worst}, str(table))
    assert {name: row["rank"] for name, row in found.items()} == {
        "ours": 1.0,
        "Rival": 2.0,
        "average": 3.0,
    }
    table.write_text("method,EN\nRival,1\n")
    with pytest.raises(ValueError, match="no column"):
        shipped_network.among_rivals({"ours": best}, str(table))
