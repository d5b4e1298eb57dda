"""Evaluation where something is wrong: values are kept, faults are named, no name is special."""

import errno
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldf_utils.data.images import read_image, write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.evaluation import __main__ as command
from ldf_utils.evaluation import (
    compare_ranks,
    evaluate,
    evaluate_set,
    mean_rows,
    with_means,
    write_report,
)
from ldf_utils.metrics import measure

ROOT = Path(__file__).resolve().parent.parent
FAST = ["--metrics", "EN", "SD"]


def scene(generator, size=(48, 60)):
    """A picture with shapes and a little noise, ``(1, H, W)``."""
    coarse = torch.rand(1, 1, 6, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0].clamp(0, 1)
    return (0.8 * smooth + 0.1 + 0.02 * torch.randn(1, *size, generator=generator)).clamp(0, 1)


def write_set(folder, generator, stems=("a", "b"), methods=("net", "other")):
    for stem in stems:
        infrared, visible = scene(generator), scene(generator)
        write_image(infrared, folder / "ir" / f"{stem}.png")
        write_image(visible, folder / "vi" / f"{stem}.png")
        for k, method in enumerate(methods):
            share = 0.3 + 0.4 * k / max(1, len(methods) - 1)
            fused = share * infrared + (1 - share) * visible
            write_image(fused, folder / f"fused_{method}" / f"{stem}.png")
    return folder


@pytest.fixture
def set_dir(tmp_path, generator, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return write_set(tmp_path / "set", generator)


def values(folder, **options):
    rows = evaluate_set(PairFolder(folder), metrics=["VIF", "MI"], progress=False, **options)
    return {(row["method"], row["image"]): row["VIF"] for row in rows}


# --- nothing that was measured is lost ------------------------------------------------------------


def test_a_terminal_without_the_characters_loses_nothing(set_dir, tmp_path):
    """Redirected output on Windows: cp1252 has no arrows."""
    table, page = tmp_path / "table.csv", tmp_path / "page.html"
    files = ["--csv", str(table), "--html", str(page)]
    run = subprocess.run(
        [sys.executable, "-m", "ldf_utils.evaluation", str(set_dir), *FAST, "--jobs", "1", *files],
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr.decode("cp1252")
    assert b"EN [bit] ?" in run.stdout and b"net" in run.stdout
    assert "↑" in page.read_text(encoding="utf-8") and table.read_text().count("\n") == 1 + 6


@pytest.mark.parametrize("option", ["--csv", "--html"])
@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_targets_are_tried_before_the_work(option, place, set_dir, tmp_path, monkeypatch, capsys):
    target = tmp_path if place == "folder" else set_dir / "ir" / "a.png" / "table"
    monkeypatch.setattr(command, "evaluate_set", lambda *_, **__: pytest.fail("worked first"))
    assert command.main([str(set_dir), *FAST, option, str(target)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "expected a f" in line


def test_a_cache_that_cannot_be_written_is_a_warning(set_dir, capsys):
    cache = set_dir / "ir" / "a.png" / "cache"
    assert command.main([str(set_dir), *FAST, "--jobs", "1", "--cache", str(cache)]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("warning: no values are kept") == 1 and "net" in captured.out


def test_a_cache_that_fails_later_is_a_warning_too(set_dir, tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(evaluate, "write_json", full)
    warned = []
    found = values(set_dir, cache=tmp_path / "cache", on_warning=warned.append)
    assert len(found) == 4 and len(warned) == 1 and "No space left" in warned[0]


@pytest.mark.parametrize("fails", ["write_rows", "write_report"])
def test_a_file_that_cannot_be_written_after_all_takes_nothing_with_it(
    fails, set_dir, tmp_path, monkeypatch, capsys
):
    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(command, fails, full)
    files = {"write_rows": tmp_path / "t.csv", "write_report": tmp_path / "p.html"}
    options = ["--csv", str(files["write_rows"]), "--html", str(files["write_report"])]
    assert command.main([str(set_dir), *FAST, "--jobs", "1", *options]) == 1
    captured = capsys.readouterr()
    assert "net" in captured.out and "no space left on device" in captured.err
    assert [name for name, path in files.items() if not path.exists()] == [fails]


def test_a_worker_that_is_ended_is_replaced_by_this_process(set_dir, monkeypatch):
    def measure_or_die(*arguments):
        if multiprocessing.parent_process() is not None:
            os._exit(9)
        return measure(*arguments)

    if not sys.platform.startswith("linux"):
        pytest.skip("workers are started anew here, and do not know of the broken function")
    alone = values(set_dir)
    monkeypatch.setattr(evaluate, "measure", measure_or_die)
    warned = []
    assert values(set_dir, jobs=2, on_warning=warned.append) == pytest.approx(alone)
    assert len(warned) == 1 and "--jobs 1" in warned[0]


def test_workers_measure_functions_that_cannot_be_sent_to_them(set_dir):
    seen = []  # a function may remember what it did

    def average(pair):
        seen.append(pair.name)
        return (pair.infrared + pair.luminance) / 2

    alone, together = (
        evaluate_set(PairFolder(set_dir), extra={"average": average}, jobs=jobs, progress=False)
        for jobs in (1, 2)
    )
    assert seen == ["a", "b"] * 2
    for one, other in zip(alone, together, strict=True):
        names = [(row.pop("method"), row.pop("image")) for row in (one, other)]
        assert names[0] == names[1]
        assert one == pytest.approx(other, rel=1e-9)


# --- files ----------------------------------------------------------------------------------------


def test_a_folder_that_must_not_be_read_is_said_as_such(set_dir, monkeypatch, capsys):
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "ir":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert command.main([str(set_dir), *FAST]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "permission denied" in line and "ir" in line


def test_two_results_of_one_stem_are_named_and_the_rest_is_measured(set_dir):
    picture = read_image(set_dir / "fused_net" / "a.png")
    write_image(picture, set_dir / "fused_net" / "a.TIF")
    problems = []
    found = values(set_dir, on_problem=problems.append)
    assert set(found) == {("net", "b"), ("other", "a"), ("other", "b")}
    (problem,) = problems
    assert "a.png" in problem and "a.TIF" in problem and "share the stem" in problem


def test_names_match_in_any_normal_form_and_case_of_the_ending(set_dir):
    plain = values(set_dir)
    for folder, form, ending in (
        ("ir", "NFC", ".PNG"),
        ("vi", "NFD", ".Png"),
        ("fused_net", "NFD", ".pnG"),
        ("fused_other", "NFC", ".png"),
    ):
        name = unicodedata.normalize(form, "caf\u00e9")
        (set_dir / folder / "a.png").rename(set_dir / folder / f"{name}{ending}")
        (set_dir / folder / "._b.png").write_bytes(b"macOS")
    found = values(set_dir)
    name = unicodedata.normalize("NFC", "caf\u00e9")
    assert found == {
        (method, {"a": name}.get(image, image)): value for (method, image), value in plain.items()
    }


def test_turned_pictures_are_measured_as_they_are_shown(set_dir, tmp_path):
    plain = values(set_dir)
    for path in (set_dir / "vi").glob("*.png"):
        with Image.open(path) as image:
            exif = Image.Exif()
            exif[0x0112] = 3
            turned = image.transpose(Image.Transpose.ROTATE_180)
        turned.save(path, exif=exif)
    assert values(set_dir) == pytest.approx(plain)


def test_counts_of_a_camera_are_read_with_one_range_that_is_told(set_dir, tmp_path, capsys):
    """Radiometric counts that fill 2 % of 16 bits: VIF was 9.79 where 0.84 is right."""
    plain = values(set_dir)
    for path in (set_dir / "ir").glob("*.png"):
        with Image.open(path) as image:
            levels = np.asarray(image).astype(np.float64)
        Image.fromarray((7400 + 5 * levels).round().astype(np.uint16)).save(path)
    assert values(set_dir) == pytest.approx(plain, rel=0.15)
    page = tmp_path / "page.html"
    assert command.main([str(set_dir), *FAST, "--jobs", "1", "--html", str(page)]) == 0
    assert "warning: " in (said := capsys.readouterr().err) and "counts" in said
    assert "counts" in page.read_text(encoding="utf-8").split("<h2>")[0]
    assert command.main([str(set_dir), *FAST, "--jobs", "1", "--infrared-range", "7400:8675"]) == 0
    exact = values(set_dir)
    given = evaluate_set(
        PairFolder(set_dir, infrared_range="7400:8675"), metrics=["VIF"], progress=False
    )
    assert {(r["method"], r["image"]): r["VIF"] for r in given} == pytest.approx(plain, rel=0.02)
    assert exact == pytest.approx(plain, rel=0.15)
    assert command.main([str(set_dir), *FAST, "--infrared-range", "high"]) == 2
    assert "LOW:HIGH" in capsys.readouterr().err


def textured(generator, size=(120, 160)):
    """Many shapes, so that a shift or another scene can be told."""
    coarse = torch.rand(1, 1, size[0] // 8, size[1] // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0].clamp(0, 1)


def one_off(folder, stems):
    for stem, before in zip(stems[:0:-1], stems[-2::-1], strict=True):
        shutil.copy(folder / "ir" / f"{before}.png", folder / "ir" / f"{stem}.png")


def shifted(folder, stems):
    for path in (folder / "ir" / f"{stem}.png" for stem in stems):
        write_image(read_image(path).roll(8, dims=-1), path)


SUSPICIOUS = {
    "same": lambda folder, stems: [
        shutil.copy(folder / "vi" / f"{stem}.png", folder / "ir" / f"{stem}.png") for stem in stems
    ],
    "constant": lambda folder, stems: [
        write_image(torch.full((1, 120, 160), 0.4), folder / "ir" / f"{stem}.png") for stem in stems
    ],
    "off by one": one_off,
    "not registered": shifted,
}


@pytest.mark.parametrize("kind", ["", *SUSPICIOUS])
def test_what_is_suspected_is_told_once_and_measured(kind, tmp_path, generator, capsys):
    stems = [f"{k:02d}" for k in range(6)]
    for stem in stems:
        picture = textured(generator)
        write_image(picture, tmp_path / "ir" / f"{stem}.png")
        write_image(0.8 * picture**1.5 + 0.1, tmp_path / "vi" / f"{stem}.png")
        write_image(picture, tmp_path / "fused_net" / f"{stem}.png")
    if kind:
        SUSPICIOUS[kind](tmp_path, stems)
    assert command.main([str(tmp_path), *FAST, "--no-cache", "--jobs", "2"]) == 0
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if line.startswith("warning: ")]
    assert len(told) == bool(kind) and kind in "".join(told) and "net" in captured.out


# --- names that look special ----------------------------------------------------------------------


def test_no_name_is_a_sentinel(tmp_path, generator, monkeypatch, capsys):
    methods = ("mean", "visible", "infrared", "__x__", "method", "EN", "$a$b$", "<b>&amp;")
    folder = write_set(tmp_path / "set", generator, ("mean", "image", "all"), methods)
    monkeypatch.chdir(tmp_path)
    pairs = PairFolder(folder)
    rows = evaluate_set(pairs, metrics=["EN", "SD"], progress=False)
    assert {(row["method"], row["image"]) for row in rows} == {
        (method, image) for method in methods for image in ("mean", "image", "all")
    }
    table = with_means(rows)
    assert len(table) == len(methods) * 4
    of_mean = [row for row in table if row["method"] == "mean"]
    assert [row["image"] for row in of_mean] == ["all", "image", "mean", "(mean)"]
    assert of_mean[3]["EN"] == pytest.approx(sum(row["EN"] for row in of_mean[:3]) / 3)
    assert {row["method"] for row in mean_rows(rows)} == set(compare_ranks(rows).ranks)
    text = write_report(tmp_path / "page.html", pairs, rows).read_text(encoding="utf-8")
    assert text.count("<figure>") == 3 * (2 + len(methods))
    assert "&lt;b&gt;&amp;amp;" in text and "<b>&amp;" not in text
    assert command.main([str(folder), *FAST, "--jobs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for method in methods:
        assert any(line.startswith(f"{method} ") for line in lines)


# --- values that are not finite -------------------------------------------------------------------


def test_values_that_are_not_finite_are_named(set_dir, capsys):
    for folder in ("vi", "fused_net"):
        for stem in ("a", "b"):
            write_image(
                read_image(set_dir / "ir" / f"{stem}.png"), set_dir / folder / f"{stem}.png"
            )
    assert command.main([str(set_dir), "--metrics", "EN", "PSNR", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "inf" in out and "PSNR has values that are not finite (net)" in out


def test_a_function_that_makes_no_numbers_is_named(set_dir):
    problems = []
    rows = evaluate_set(
        PairFolder(set_dir),
        ["net"],
        ["EN"],
        extra={"broken": lambda pair: pair.infrared * math.nan},
        on_problem=problems.append,
        progress=False,
    )
    assert {row["method"] for row in rows} == {"net"} and len(problems) == 2
    assert "broken, pair 'a'" in problems[0] and "nan" in problems[0].lower()
