import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import grimp
import pytest
import torch

from experiments import language_study as study_module
from experiments.language_study import (
    ARMS,
    BASE,
    CLAIMS,
    COSTS,
    FULL,
    MEASURES,
    Arm,
    Claim,
    Difference,
    Sample,
    Settings,
    Study,
)
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipError

TINY = Settings(
    config=replace(BASE, steps=2, batch=2, crop=32, patches=2),
    scenes=4,
    held_out=2,
    size=(64, 96),
)
NAMES = {arm.name: arm for arm in ARMS}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A study of three arms with two seeds, and its folder."""
    folder = tmp_path_factory.mktemp("study")
    arms = [NAMES[name] for name in ("perceptual", "angle", "patches")]
    return study_module.run_study(TINY, folder, arms, (0, 1), progress=False), folder


def sample(picture, **changes):
    values = dict(infrared=picture, visible=picture, warm=torch.zeros_like(picture))
    return Sample("made", **(values | changes))


def ramp(height=48, width=64):
    return torch.linspace(0.2, 0.6, width).expand(1, height, width).contiguous()


# --- what is declared


def test_arms_and_claims_fit_together():
    assert len(NAMES) == len(ARMS) == 10
    assert FULL in NAMES and NAMES[FULL].changes == {}
    for claim in CLAIMS:
        assert {claim.arm, claim.baseline} <= set(NAMES) and claim.arm != claim.baseline
        assert claim.measure in MEASURES and claim.sign in (-1, 1)
    sentences = {name for name, arm in NAMES.items() if "prompt_fused" in arm.changes}
    assert sentences <= {claim.arm for claim in CLAIMS}, "a sentence without a claim"
    assert set(COSTS) <= set(MEASURES)


def test_every_sentence_is_in_words_that_the_embedded_model_knows():
    clip = load_clip("mini")
    for arm in ARMS:
        prompts = replace(BASE, **arm.changes).prompts
        assert len(clip.encode_text(list(prompts))) == 3
        assert prompts.visible == PROMPTS.visible and prompts.infrared == PROMPTS.infrared


def test_the_arms_of_terms_add_one_after_the_other():
    def terms(name):
        config = replace(BASE, **NAMES[name].changes)
        weights = {k for k, v in vars(config.weights).items() if v > 0}
        return weights | ({"filter"} if "patch" in weights and config.entropy_threshold else set())

    order = ["perceptual", "direction", "angle", "patches", "filter"]
    added = ["perceptual", "direction", "angle", "patch", "filter"]
    for k, name in enumerate(order):
        assert terms(name) - (terms(order[k - 1]) if k else set()) == {added[k]}


# --- what is measured


def test_noise_is_measured_where_the_sources_are_flat(generator):
    picture = ramp()
    picture[:, :, 40:] += 0.3 * (torch.rand(48, 24, generator=generator) > 0.5)
    made = sample(picture)
    places = study_module.flat_places(made)
    assert places.shape == (46, 62) and 0.2 <= places.float().mean() < 0.6
    assert places[:, 42:].float().mean() < 0.1 < places[:, :36].float().mean()
    clean = study_module.noise_level(picture, places)
    noise = torch.randn(picture.shape, generator=generator)
    assert clean < 0.05
    for sigma in (2.0, 6.0):
        noisy = study_module.noise_level(picture + sigma / 255 * noise, places)
        assert noisy == pytest.approx(sigma, rel=0.25)


def test_measures_rise_and_fall_with_what_they_are_named_after(generator):
    picture = 0.3 + 0.2 * torch.rand(1, 64, 64, generator=generator)
    made = sample(picture, oracle=picture)

    def value(name, image):
        return MEASURES[name].of(image, made)

    soft = study_module.gaussian_blur(picture[None], 1.5)[0]
    for name in ("sharpness", "spatial_frequency", "contrast", "detail", "noise", "texture"):
        assert value(name, soft) < 0.8 * value(name, picture)
    for name in ("ssim_oracle", "psnr", "near_sources", "correlation_visible", "ssim_sources"):
        assert value(name, soft) < value(name, picture)
    assert value("brightness", 0.5 * picture) == pytest.approx(value("brightness", picture) / 2)
    assert value("ssim_oracle", picture) == pytest.approx(1)
    assert value("texture", picture) == pytest.approx(1)
    assert value("psnr", picture + 0.1) == pytest.approx(20, abs=0.01)


def test_objects_stand_out_one_by_one():
    warm = torch.zeros(1, 64, 64)
    warm[:, 10:20, 10:20] = warm[:, 40:50, 40:50] = warm[:, 30:32, 30:32] = 1
    boxes = tuple(
        study_module.Box("person", *corners)
        for corners in ((10, 10, 20, 20), (40, 40, 50, 50), (30, 30, 32, 32))
    )
    picture = torch.full((1, 64, 64), 0.3)
    picture[:, 10:20, 10:20] = 0.8
    made = sample(picture, warm=warm, boxes=boxes)
    assert study_module.object_gaps(picture, made) == pytest.approx([0.5, 0.0], abs=1e-6)
    assert MEASURES["standing_out"].of(picture, made) == 0.5
    assert MEASURES["gap"].of(picture, made) == pytest.approx(0.25 * 255)
    assert math.isnan(MEASURES["gap"].of(picture, replace(made, boxes=())))


def test_without_truth_only_what_needs_none_is_measured(generator):
    picture = torch.rand(1, 64, 64, generator=generator)

    def network(infrared, visible):
        return (infrared + visible) / 2

    real = study_module.measure_network(network, [sample(picture)])
    assert set(real) == {name for name, m in MEASURES.items() if not m.needs_truth}
    scenes = study_module.measure_network(network, [sample(picture, oracle=picture)])
    assert set(scenes) == set(MEASURES) - {"gap", "standing_out"}  # no warm object there
    assert scenes["ssim_oracle"] == pytest.approx(1)


def test_the_share_of_noise_that_comes_through(generator):
    made = sample(0.4 + 0.1 * torch.rand(1, 64, 64, generator=generator))

    def share(network):
        fused = network(made.infrared[None], made.visible[None])[0]
        return study_module.noise_passed(fused, made, network)

    assert share(lambda infrared, visible: visible) == pytest.approx(1, rel=0.06)
    assert share(lambda infrared, visible: (infrared + visible) / 2) == pytest.approx(0.71, rel=0.1)
    assert share(lambda infrared, visible: study_module.gaussian_blur(visible, 2)) < 0.1


def test_real_pairs_are_cut_from_the_middle(tmp_path, generator):
    from ldf_utils.data.images import write_image

    for k in range(3):
        for folder in ("ir", "vi"):
            image = torch.rand(1, 41, 71, generator=generator)
            write_image(image, tmp_path / "Some" / folder / f"{k}.png")
    found = study_module.real_samples(str(tmp_path), 2, 40)
    assert [s.name for s in found] == ["Some/0", "Some/2"]
    for real in found:
        assert real.infrared.shape == real.visible.shape == (1, 40, 40)
        assert 0.02 < real.warm.mean() < 0.04 and real.oracle is None


# --- verdicts


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.0, 1.2, 1.1), study_module.MOVED),
        ((-1.0, -1.2, -1.1), study_module.OTHER_WAY),
        ((1.0, 3.0, 2.0), study_module.STAYED),  # the mean is just twice the spread
        ((1.0, -1.2, 0.1), study_module.STAYED),
        ((0.0, 0.0, 0.0), study_module.STAYED),
        ((5.0,), study_module.ONE_SEED),
    ],
)
def test_the_verdict_follows_from_mean_and_spread(values, verdict):
    difference = Difference(values, baseline=3.0)
    assert difference.verdict(+1) == verdict
    swapped = {
        study_module.MOVED: study_module.OTHER_WAY,
        study_module.OTHER_WAY: study_module.MOVED,
    }
    assert difference.verdict(-1) == swapped.get(verdict, verdict)


def made_study(**sharpness):
    """Arm to sharpness by seed, as a study."""
    runs = [
        {"arm": arm, "seed": seed, "seconds_per_step": 0.1, "last": {},
         "measures": {"scenes": {"sharpness": value}}}
        for arm, values in sharpness.items()
        for seed, value in values.items()
    ]  # fmt: skip
    arms = {arm: {"label": arm, "sentence": None, "changes": {}} for arm in sharpness}
    clip = {"name": "mini", "weights_sha256": "0" * 64}
    return Study({}, clip, {"scenes": 1}, arms, runs)


def test_differences_are_paired_by_seed():
    made = made_study(a={0: 1.0, 1: 5.0, 2: 9.0}, b={2: 8.0, 0: 0.0, 7: 100.0})
    difference = made.compare("a", "b", "sharpness")
    assert difference.values == (1.0, 1.0) and difference.baseline == 4.0
    (finding,) = made.findings([Claim("a", "b", "sharpness", 1, "sharp")])
    assert finding.verdict == study_module.MOVED and finding.place == "scenes"
    assert made.findings([Claim("a", "c", "sharpness", 1, "sharp")]) == []
    with pytest.raises(ValueError, match="no seed in common"):
        made_study(a={0: 1.0}, b={1: 1.0}).compare("a", "b", "sharpness")
    with pytest.raises(ValueError, match="no run of 'c'"):
        made.mean("c", "sharpness")
    with pytest.raises(ValueError, match="was not measured"):
        made.mean("a", "noise")


# --- the runs


def test_a_study_has_a_row_for_each_arm_and_seed(tiny):
    made, _ = tiny
    rows = [(run["arm"], run["seed"]) for run in made.runs]
    assert rows == [(arm, s) for arm in ("perceptual", "angle", "patches") for s in (0, 1)]
    assert made.seeds == [0, 1] and made.places == ["scenes"]
    assert made.by_seed("angle", "contrast")[0] != made.by_seed("angle", "contrast")[1]
    assert set(made.runs[0]["last"]) >= {"total", "perceptual"}
    assert "direction" not in made.runs[0]["last"] and "patch" in made.runs[-1]["last"]
    assert made.arms["perceptual"]["sentence"] is None
    assert made.arms["patches"]["sentence"] == PROMPTS.fused
    assert made.mean("patches", "seconds_per_step") > 0
    measures = [(measure, place) for measure, place, _ in made.costs()]
    assert measures == [*((c, "scenes") for c in COSTS), ("seconds_per_step", "")]


def test_a_stopped_study_goes_on(tiny, monkeypatch):
    made, folder = tiny
    kept = sorted((folder / "runs").iterdir())
    assert len(kept) == 6
    kept[0].unlink()
    trained = []

    def counting(config, *args, **kwargs):
        trained.append(config.seed)
        return study_module.training.fit(config, *args, **kwargs)

    monkeypatch.setattr(study_module, "fit", counting)
    arms = [NAMES[name] for name in made.arms]
    again = study_module.run_study(TINY, folder, arms, (0, 1), progress=False)
    assert len(trained) == 1
    assert again.findings() == made.findings()
    assert sorted((folder / "runs").iterdir()) == kept


def test_the_key_covers_all_code_that_a_result_depends_on(tmp_path, monkeypatch):
    root = Path(study_module.__file__).parent.parent
    covered = {path.relative_to(root) for path in study_module.code_files()}
    graph = grimp.build_graph("ldf_utils", "experiments", cache_dir=None)
    for module in graph.find_upstream_modules("experiments.language_study"):
        path = Path(*module.split("."))
        path = path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")
        if module != "experiments.language_study":
            assert path in covered, f"a change of {path} would not void old results"

    def key():
        study_module._code_digest.cache_clear()
        return study_module.run_key(TINY, NAMES["angle"], 0, "a")

    before, schedule = key(), root / "ldf_utils" / "training" / "schedule.py"
    assert schedule in study_module.code_files()
    changed = tmp_path / schedule.name
    changed.write_text(schedule.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    files = [changed if path == schedule else path for path in study_module.code_files()]
    monkeypatch.setattr(study_module, "code_files", lambda: files)
    assert key() != before
    study_module._code_digest.cache_clear()


def test_other_settings_weights_or_arms_are_other_runs(monkeypatch):
    longer = replace(TINY, config=replace(TINY.config, steps=3))
    other_scenes = replace(TINY, seed=TINY.seed + 5)
    arm, keys = NAMES["angle"], set()
    for settings, kind, seed, digest in (
        (TINY, arm, 0, "a"),
        (TINY, arm, 1, "a"),
        (TINY, arm, 0, "b"),
        (TINY, NAMES["patches"], 0, "a"),
        (longer, arm, 0, "a"),
        (other_scenes, arm, 0, "a"),
    ):
        keys.add(study_module.run_key(settings, kind, seed, digest))
    monkeypatch.setattr(study_module, "MEASURED", 0)
    study_module._code_digest.cache_clear()
    keys.add(study_module.run_key(TINY, arm, 0, "a"))
    study_module._code_digest.cache_clear()
    assert len(keys) == 7
    clip = load_clip("mini")
    before = study_module.weights_digest(clip)
    next(clip.parameters()).data[0] += 1
    assert study_module.weights_digest(clip) != before


def test_two_processes_give_what_one_gives(tiny, tmp_path):
    made, _ = tiny
    arms = [NAMES["perceptual"], NAMES["angle"]]
    again = study_module.run_study(TINY, tmp_path, arms, (0,), jobs=2, progress=False)
    for name in ("perceptual", "angle"):
        assert again.by_seed(name, "contrast")[0] == pytest.approx(
            made.by_seed(name, "contrast")[0], abs=1e-3
        )


def test_a_failed_training_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    def failing(config, *args, **kwargs):
        if config.seed == 1:
            raise study_module.training.TrainingError("step 1: not finite")
        return study_module.training.fit(config, *args, **kwargs)

    monkeypatch.setattr(study_module, "fit", failing)
    with pytest.raises(RuntimeError, match="1 of 2 trainings failed.*\n.*perceptual, seed 1"):
        study_module.run_study(TINY, tmp_path, [NAMES["perceptual"]], (0, 1), progress=False)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_an_unknown_word_is_found_before_the_first_training(tmp_path):
    odd = Arm("odd", "a word of no scene", {"prompt_fused": "a zebra image"})
    with pytest.raises(ClipError, match="zebra"):
        study_module.run_study(TINY, tmp_path, [NAMES["perceptual"], odd], (0,), progress=False)
    assert not (tmp_path / "runs").exists()


# --- files


def test_results_are_written_and_read_again(tiny, tmp_path):
    made, _ = tiny
    paths = study_module.write_study(made, tmp_path)
    assert [path.name for path in paths] == ["study.json", "study.csv", "study.md"]
    again = study_module.load_study(paths[0])
    assert again == made
    content = json.loads(paths[0].read_text())
    assert {cost["measure"] for cost in content["costs"]} == {*COSTS, "seconds_per_step"}
    assert [f["verdict"] for f in content["findings"]] == [f.verdict for f in made.findings()]
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and float(rows[0]["brightness"]) == made.runs[0]["measures"]["scenes"][
        "brightness"
    ]  # fmt: skip
    text = paths[2].read_text()
    assert "What patches cost" in text and "core seconds a step" in text
    assert study_module.NOTE in text and "/" not in str(made.settings["data"])
    findings = made.findings()
    for verdict in {f.verdict for f in findings}:
        count = sum(f.verdict == verdict for f in findings)
        assert f"- {count} of {len(findings)} {verdict}: " in text


def test_what_holds_no_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no results of the study there"):
        study_module.load_study(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no results"):
        study_module.load_study(tmp_path / "bad.json")


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_module, "Settings", lambda **k: replace(TINY, config=k["config"]))
    small = ["--set", "batch=2", "--set", "crop=32", "--set", "patches=2", "--steps", "1"]
    output = ["--output", str(tmp_path)]
    command = ["--only", "perceptual", "direction", "--seeds", "0", *small, *output]
    assert study_module.main(command) == 0
    assert "direction against perceptual, contrast on scenes" in capsys.readouterr().out
    assert study_module.load_study(tmp_path / "study.json").seeds == [0]
    for wrong, words in (
        (["--only", "nonsense"], "there is no arm 'nonsense'"),
        (["--seeds", "1", "1"], "seeds that differ"),
        (["--clip", "nowhere"], "nowhere"),
    ):
        assert study_module.main([*wrong, *small, *output]) == 1
        assert words in capsys.readouterr().err
