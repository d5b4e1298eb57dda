import csv
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import grimp
import pytest
import torch

from experiments.ablation import __main__ as command_line
from experiments.ablation import measures, report, run, samples
from experiments.ablation.measures import Sample
from experiments.ablation.objects import Box, mean_separation, separation
from experiments.ablation.samples import Settings
from experiments.ablation.variants import GROUPS, VARIANTS, WORDS, Variant
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipError
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.data.images import write_image
from ldf_utils.evaluation import ablation
from ldf_utils.evaluation.ablation import (
    BASE,
    COSTS,
    DECLARED,
    EFFECTS,
    FULL,
    HYPOTHESES,
    LANGUAGE,
    MEASURES,
    PARTS,
    Difference,
    Hypothesis,
    Study,
)
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.trainer import TrainingError, fit

TINY = Settings(
    config=replace(BASE, steps=2, batch=2, crop=32, patches=2),
    held_out=2,
    side=96,
)
NAMES = {variant.name: variant for variant in VARIANTS}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A study of three variants with two seeds, and its folder."""
    folder = tmp_path_factory.mktemp("study")
    variants = [NAMES[name] for name in ("perceptual", "angle", "patches")]
    return run.run_study(TINY, folder, variants, (0, 1), progress=False), folder


def sample(picture, **changes):
    values = dict(infrared=picture, visible=picture, warm=torch.zeros_like(picture))
    return Sample("made", **(values | changes))


def ramp(height=48, width=64):
    return torch.linspace(0.2, 0.6, width).expand(1, height, width).contiguous()


# --- what is declared


def test_variants_and_hypotheses_fit_together():
    assert len(NAMES) == len(VARIANTS) == 10
    assert FULL in NAMES and NAMES[FULL].changes == {}
    known = {v.name: v for group in GROUPS.values() for v in group}
    for group in GROUPS.values():
        assert all(known[v.name] == v for v in group), "one name, two trainings"
        for variant in group:  # every setting exists and is within its limits
            replace(BASE, **variant.changes)
    for hypothesis in DECLARED:
        assert {hypothesis.variant, hypothesis.baseline} <= set(known)
        assert hypothesis.measure in MEASURES and hypothesis.sign in (-1, 1)
    for group, hypotheses in (("parts", PARTS), ("words", EFFECTS), ("network", LANGUAGE)):
        names = {v.name for v in GROUPS[group]}
        used = {n for h in hypotheses for n in (h.variant, h.baseline)}
        assert names == used, f"{group}: a training without a hypothesis, or one without training"
    for hypothesis in HYPOTHESES:
        assert {hypothesis.variant, hypothesis.baseline} <= set(
            NAMES
        ) and hypothesis.variant != hypothesis.baseline
        assert hypothesis.measure in MEASURES and hypothesis.sign in (-1, 1)
    sentences = {name for name, variant in NAMES.items() if "prompt_fused" in variant.changes}
    assert sentences <= {hypothesis.variant for hypothesis in HYPOTHESES}, (
        "a sentence without a hypothesis"
    )
    assert set(COSTS) <= set(MEASURES)


def test_each_word_has_its_opposite_and_one_measure():
    words = list(WORDS)
    assert len(words) == len(EFFECTS) == 12  # on rendered and on real pairs: 24 effects
    for one, other in zip(EFFECTS[::2], EFFECTS[1::2], strict=True):
        assert one.measure == other.measure and (one.sign, other.sign) == (1, -1)
    assert [h.variant for h in EFFECTS] == [f"word {word}" for word in words]
    for hypothesis in EFFECTS:
        assert not MEASURES[hypothesis.measure].needs_truth, "to be measured on real pairs as well"


def test_every_sentence_is_in_words_that_the_embedded_model_knows():
    clip = load_clip("mini")
    for sentence in WORDS.values():
        assert len(clip.encode_text([sentence])) == 1
    for variant in VARIANTS:
        prompts = replace(BASE, **variant.changes).prompts
        assert len(clip.encode_text(list(prompts))) == 3
        assert prompts.visible == PROMPTS.visible and prompts.infrared == PROMPTS.infrared


def test_the_variants_of_terms_add_one_after_the_other():
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
    places = measures.flat_places(made)
    assert places.shape == (46, 62) and 0.2 <= places.float().mean() < 0.6
    assert places[:, 42:].float().mean() < 0.1 < places[:, :36].float().mean()
    clean = measures.noise_level(picture, places)
    noise = torch.randn(picture.shape, generator=generator)
    assert clean < 0.05
    for sigma in (2.0, 6.0):
        noisy = measures.noise_level(picture + sigma / 255 * noise, places)
        assert noisy == pytest.approx(sigma, rel=0.25)


def test_measures_rise_and_fall_with_what_they_are_named_after(generator):
    picture = 0.3 + 0.2 * torch.rand(1, 64, 64, generator=generator)
    made = sample(picture, oracle=picture)

    def value(name, image):
        return measures._FUNCTIONS[name](image, made)

    soft = gaussian_blur(picture[None], 1.5)[0]
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
        Box("person", *corners)
        for corners in ((10, 10, 20, 20), (40, 40, 50, 50), (30, 30, 32, 32))
    )
    picture = torch.full((1, 64, 64), 0.3)
    picture[:, 10:20, 10:20] = 0.8
    made = sample(picture, warm=warm, boxes=boxes)
    assert measures.object_gaps(picture, made) == pytest.approx([0.5, 0.0], abs=1e-6)
    assert measures._FUNCTIONS["standing_out"](picture, made) == 0.5
    assert measures._FUNCTIONS["gap"](picture, made) == pytest.approx(0.25 * 255)
    assert math.isnan(measures._FUNCTIONS["gap"](picture, replace(made, boxes=())))


def test_without_truth_only_what_needs_none_is_measured(generator):
    picture = torch.rand(1, 64, 64, generator=generator)

    def network(infrared, visible):
        return (infrared + visible) / 2

    boxes = (Box("person", 10, 10, 30, 50), Box("car", 30, 10, 60, 30))
    clip = load_clip("mini")
    real = measures.measure_network(network, [sample(picture, boxes=boxes)], clip)
    without = measures.measure_network(network, [sample(picture)])
    assert set(real) - set(without) == {
        *("direction", "objects_contrast"),
        *(f"{kind}_{what}" for kind in ("people", "vehicles") for what in ("area", "contrast")),
    }
    assert set(real) == {name for name, m in MEASURES.items() if not m.needs_truth}
    scene = sample(picture, oracle=picture, boxes=boxes)
    scenes = measures.measure_network(network, [scene], clip)
    assert set(scenes) == set(MEASURES) - {"gap", "standing_out"}  # no warm object there
    assert scenes["ssim_oracle"] == pytest.approx(1)


def test_the_share_of_noise_that_comes_through(generator):
    made = sample(0.4 + 0.1 * torch.rand(1, 64, 64, generator=generator))

    def share(network):
        fused = network(made.infrared[None], made.visible[None])[0]
        return measures.noise_passed(fused, made, network)

    assert share(lambda infrared, visible: visible) == pytest.approx(1, rel=0.06)
    assert share(lambda infrared, visible: (infrared + visible) / 2) == pytest.approx(0.71, rel=0.1)
    assert share(lambda infrared, visible: gaussian_blur(visible, 2)) < 0.1


def test_objects_are_told_from_the_ring_around_them():
    """Counted by hand: around an object of 100 levels, 138 pixels have 60 and 90 have 140."""
    picture = torch.full((60, 60), 60 / 255)
    picture[:, 30:] = 140 / 255
    picture[20:40, 25:35] = 100 / 255
    area, levels = separation(picture, Box("person", 25, 20, 35, 40))
    assert area == pytest.approx(138 / 228)
    assert levels == pytest.approx(100 - (138 * 60 + 90 * 140) / 228)
    picture[:, 30:] = 60 / 255
    picture[20:40, 25:35] = 100 / 255
    for made in (picture, 1 - picture):  # a dark object counts as a bright one
        area, levels = separation(made, Box("person", 25, 20, 35, 40))
        assert area == pytest.approx(1.0) and levels == pytest.approx(40)
    picture[::2, :] = 100 / 255  # half of the ring is as the object
    area, _ = separation(picture, Box("person", 25, 20, 35, 40))
    assert area == pytest.approx(0.75, abs=0.05)
    assert separation(picture, Box("person", 0, 0, 2, 2)) is None
    boxes = [Box("Person", 25, 20, 35, 40), Box("car", 2, 2, 12, 12), Box("dog", 0, 0, 30, 30)]
    person, car = separation(picture, boxes[0]), separation(picture, boxes[1])
    both = mean_separation(picture[None], boxes, ("person", "car"))
    assert both == pytest.approx([(person[k] + car[k]) / 2 for k in (0, 1)])
    assert math.isnan(mean_separation(picture[None], boxes, ("truck",))[0])


def test_separation_is_that_of_the_shared_tool(shared_dir, generator):
    tool = shared_dir / "tools" / "visibility.py"
    if not tool.is_file():
        pytest.skip(f"no {tool}")
    spec = importlib.util.spec_from_file_location("visibility", tool)
    visibility = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(visibility)
    levels = torch.randint(256, (70, 90), generator=generator)
    for edges in ((10, 12, 30, 60), (60, 5, 95, 40), (0, 0, 9, 9), (40, 40, 42, 44)):
        got = separation(levels / 255, Box("person", *edges))
        expected = visibility.box_stats(levels.double().numpy(), edges)
        assert (got is None) == (expected is None)
        if got is not None:
            assert got == pytest.approx(expected, abs=1e-9)


def test_rendered_and_real_pairs_are_cut_about_their_objects(tmp_path, generator):
    found = samples.rendered_samples(3, 128)
    assert len(found) == 3 and all(max(s.infrared.shape[-2:]) <= 128 for s in found)
    for made in found:
        assert made.oracle.shape == made.warm.shape == made.infrared.shape
        assert all(0 <= b.xmin < b.xmax <= 128 and 0 <= b.ymin < b.ymax <= 128 for b in made.boxes)
    assert any(made.boxes for made in found)
    for name in ("a", "b", "c"):
        for side in ("ir", "vi"):
            picture = torch.rand(1, 100, 150, generator=generator)
            write_image(picture, tmp_path / "Some" / side / f"{name}.png")
    (tmp_path / "Some" / "labels").mkdir()
    table = tmp_path / "Some" / "labels" / "boxes.csv"
    table.write_text("image,xmin,ymin,xmax,ymax,name\nb.png,110.2,60,130,90,person\n")
    (part,) = samples.real_samples(str(tmp_path), 2, 64)
    assert part.name == "Some/b" and part.infrared.shape == (1, 64, 64)
    assert part.boxes == (Box("person", 24, 24, 44, 54),)
    table.write_text("image,xmin,ymin,xmax,ymax,name\nb.png,110.2,60,many,90,person\n")
    with pytest.raises(ValueError, match="boxes.csv, line 2: expected image,xmin"):
        samples.real_samples(str(tmp_path), 2, 64)


def test_a_study_can_train_on_the_rendered_set_and_on_folders(set_folder, tmp_path):
    settings = replace(TINY, train=("rendered", str(set_folder)), held_out=1, side=64)
    made = run.run_study(settings, tmp_path, [NAMES["angle"]], (0,), progress=False)
    assert made.places == ["scenes"] and made.settings["train"] == ["rendered", "Some"]
    found = made.runs[0]["measures"]["scenes"]
    assert 0 <= found["direction"] <= 2 and found["ssim_oracle"] <= 1 and found["artifacts"] >= 0
    assert "Trained on rendered, Some" in report.report(made)


def test_real_pairs_are_cut_from_the_middle(tmp_path, generator):
    from ldf_utils.data.images import write_image

    for k in range(3):
        for folder in ("ir", "vi"):
            image = torch.rand(1, 41, 71, generator=generator)
            write_image(image, tmp_path / "Some" / folder / f"{k}.png")
    found = samples.real_samples(str(tmp_path), 2, 40)
    assert [s.name for s in found] == ["Some/0", "Some/2"]
    for real in found:
        assert real.infrared.shape == real.visible.shape == (1, 40, 40)
        assert 0.02 < real.warm.mean() < 0.04 and real.oracle is None


# --- verdicts


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.0, 1.2, 1.1), ablation.MOVED),
        ((-1.0, -1.2, -1.1), ablation.OTHER_WAY),
        ((1.0, 3.0, 2.0), ablation.STAYED),  # the mean is just twice the spread
        ((1.0, -1.2, 0.1), ablation.STAYED),
        ((0.0, 0.0, 0.0), ablation.STAYED),
        ((5.0,), ablation.ONE_SEED),
    ],
)
def test_the_verdict_follows_from_mean_and_spread(values, verdict):
    difference = Difference(values, baseline=3.0)
    assert difference.verdict(+1) == verdict
    swapped = {
        ablation.MOVED: ablation.OTHER_WAY,
        ablation.OTHER_WAY: ablation.MOVED,
    }
    assert difference.verdict(-1) == swapped.get(verdict, verdict)


def made_study(**sharpness):
    """Variant to sharpness by seed, as a study."""
    runs = [
        {
            "variant": variant,
            "seed": seed,
            "seconds_per_step": 0.1,
            "last": {},
            "measures": {"scenes": {"sharpness": value}},
        }
        for variant, values in sharpness.items()
        for seed, value in values.items()
    ]
    variants = {
        variant: {"label": variant, "sentence": None, "changes": {}} for variant in sharpness
    }
    clip = {"name": "mini", "weights_sha256": "0" * 64}
    return Study({}, clip, {"scenes": 1}, variants, runs)


def test_differences_are_paired_by_seed():
    made = made_study(a={0: 1.0, 1: 5.0, 2: 9.0}, b={2: 8.0, 0: 0.0, 7: 100.0})
    difference = made.compare("a", "b", "sharpness")
    assert difference.values == (1.0, 1.0) and difference.baseline == 4.0
    (finding,) = made.findings([Hypothesis("a", "b", "sharpness", 1, "sharp")])
    assert finding.verdict == ablation.MOVED and finding.place == "scenes"
    assert made.findings([Hypothesis("a", "c", "sharpness", 1, "sharp")]) == []
    with pytest.raises(ValueError, match="no seed in common"):
        made_study(a={0: 1.0}, b={1: 1.0}).compare("a", "b", "sharpness")
    with pytest.raises(ValueError, match="no run of 'c'"):
        made.mean("c", "sharpness")
    with pytest.raises(ValueError, match="was not measured"):
        made.mean("a", "noise")


def test_changes_are_shares_of_what_was_there_and_sorted_by_verdict():
    made = made_study(
        a={0: 1.0, 1: 5.0, 2: 9.0}, b={0: 0.0, 1: 4.0, 2: 8.0}, c={0: 9.0, 1: 4.0, 2: 0.0}
    )
    up, down = (Hypothesis("a", "b", "sharpness", sign, "sharp") for sign in (1, -1))
    unclear = Hypothesis("c", "b", "sharpness", 1, "sharp")
    percent, moved, other_way = ablation.changes(made.findings([up, up, down]))
    label = ablation.MEASURES["sharpness"].label.split(":")[0]
    assert percent == {
        f"sharp: {label} up?": [25.0, 25.0, 25.0],
        f"sharp: {label} down?": [25.0, 25.0, 25.0],
    }
    assert moved == [f"sharp: {label} up?"] and other_way == [f"sharp: {label} down?"]
    percent, moved, other_way = ablation.changes(made.findings([unclear]), variants=True)
    assert list(percent) == [f"c: {label} up?"] and not moved and not other_way


# --- the runs


def test_a_study_has_a_row_for_each_variant_and_seed(tiny):
    made, _ = tiny
    rows = [(run["variant"], run["seed"]) for run in made.runs]
    assert rows == [(variant, s) for variant in ("perceptual", "angle", "patches") for s in (0, 1)]
    assert made.seeds == [0, 1] and made.places == ["scenes"]
    assert made.by_seed("angle", "contrast")[0] != made.by_seed("angle", "contrast")[1]
    assert set(made.runs[0]["last"]) >= {"total", "perceptual"}
    assert "direction" not in made.runs[0]["last"] and "patch" in made.runs[-1]["last"]
    assert made.variants["perceptual"]["sentence"] is None
    assert made.variants["patches"]["sentence"] == PROMPTS.fused
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
        return fit(config, *args, **kwargs)

    monkeypatch.setattr(run, "fit", counting)
    variants = [NAMES[name] for name in made.variants]
    again = run.run_study(TINY, folder, variants, (0, 1), progress=False)
    assert len(trained) == 1
    assert again.findings() == made.findings()
    assert sorted((folder / "runs").iterdir()) == kept


def test_two_names_for_the_same_settings_are_both_in_a_study_that_goes_on(tiny):
    _, folder = tiny
    same = [NAMES["perceptual"], Variant("again", "the same", NAMES["perceptual"].changes)]
    made = run.run_study(TINY, folder, same, (0, 1), progress=False)
    assert [r["variant"] for r in made.runs] == ["perceptual"] * 2 + ["again"] * 2
    assert made.by_seed("again", "contrast") == made.by_seed("perceptual", "contrast")


def test_the_key_covers_all_code_that_a_result_depends_on(tmp_path, monkeypatch):
    root = Path(run.__file__).parent.parent.parent
    covered = {path.relative_to(root) for path in run.code_files()}
    graph = grimp.build_graph("ldf_utils", "experiments", cache_dir=None)
    for module in graph.find_upstream_modules("experiments.ablation.run"):
        path = Path(*module.split("."))
        path = path / "__init__.py" if (root / path).is_dir() else path.with_suffix(".py")
        if module not in ("experiments", "experiments.ablation"):
            assert path in covered, f"a change of {path} would not void old results"

    def key():
        run._code_digest.cache_clear()
        return run.run_key(TINY, NAMES["angle"], 0, "a")

    before, schedule = key(), root / "ldf_utils" / "training" / "schedule.py"
    assert schedule in run.code_files()
    changed = tmp_path / schedule.name
    changed.write_text(schedule.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    files = [changed if path == schedule else path for path in run.code_files()]
    monkeypatch.setattr(run, "code_files", lambda: files)
    assert key() != before
    run._code_digest.cache_clear()


def test_other_settings_weights_or_variants_are_other_runs():
    longer = replace(TINY, config=replace(TINY.config, steps=3))
    other_scenes = replace(TINY, held_out=1)
    variant, keys = NAMES["angle"], set()
    for settings, kind, seed, digest in (
        (TINY, variant, 0, "a"),
        (TINY, variant, 1, "a"),
        (TINY, variant, 0, "b"),
        (TINY, NAMES["patches"], 0, "a"),
        (longer, variant, 0, "a"),
        (other_scenes, variant, 0, "a"),
    ):
        keys.add(run.run_key(settings, kind, seed, digest))
    assert len(keys) == 6
    clip = load_clip("mini")
    before = run.weights_digest(clip)
    next(clip.parameters()).data[0] += 1
    assert run.weights_digest(clip) != before


def test_two_processes_give_what_one_gives(tiny, tmp_path):
    made, _ = tiny
    variants = [NAMES["perceptual"], NAMES["angle"]]
    again = run.run_study(TINY, tmp_path, variants, (0,), jobs=2, progress=False)
    for name in ("perceptual", "angle"):
        assert again.by_seed(name, "contrast")[0] == pytest.approx(
            made.by_seed(name, "contrast")[0], abs=1e-3
        )


def test_a_failed_training_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    def failing(config, *args, **kwargs):
        if config.seed == 1:
            raise TrainingError("step 1: not finite")
        return fit(config, *args, **kwargs)

    monkeypatch.setattr(run, "fit", failing)
    with pytest.raises(RuntimeError, match="1 of 2 trainings failed.*\n.*perceptual, seed 1"):
        run.run_study(TINY, tmp_path, [NAMES["perceptual"]], (0, 1), progress=False)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_an_unknown_word_is_found_before_the_first_training(tmp_path):
    odd = Variant("odd", "a word of no scene", {"prompt_fused": "a zebra image"})
    with pytest.raises(ClipError, match="zebra"):
        run.run_study(TINY, tmp_path, [NAMES["perceptual"], odd], (0,), progress=False)
    assert not (tmp_path / "runs").exists()


# --- files


def test_results_are_written_and_read_again(tiny, tmp_path):
    made, _ = tiny
    paths = report.write_study(made, tmp_path)
    assert [path.name for path in paths] == ["study.json", "study.csv", "study.md"]
    again = ablation.load_study(paths[0])
    assert again == made
    content = json.loads(paths[0].read_text())
    assert {cost["measure"] for cost in content["costs"]} == {*COSTS, "seconds_per_step"}
    assert [f["verdict"] for f in content["findings"]] == [f.verdict for f in made.findings()]
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == 6
        and float(rows[0]["brightness"]) == made.runs[0]["measures"]["scenes"]["brightness"]
    )
    text = paths[2].read_text()
    assert "What patches cost" in text and "core seconds a step" in text
    assert ablation.NOTE in text and "/" not in str(made.settings["data"])
    findings = made.findings()
    for verdict in {f.verdict for f in findings}:
        count = sum(f.verdict == verdict for f in findings)
        assert f"- {count} of {len(findings)} {verdict}: " in text


def test_what_holds_no_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no results of the study there"):
        ablation.load_study(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no results"):
        ablation.load_study(tmp_path / "bad.json")


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "Settings", lambda **k: replace(TINY, config=k["config"]))
    small = ["--set", "batch=2", "--set", "crop=32", "--set", "patches=2", "--steps", "1"]
    output = ["--output", str(tmp_path)]
    command = ["--only", "perceptual", "direction", "--seeds", "0", *small, *output]
    assert command_line.main(command) == 0
    assert "direction against perceptual, contrast on scenes" in capsys.readouterr().out
    assert ablation.load_study(tmp_path / "study.json").seeds == [0]
    for wrong, words in (
        (["--only", "nonsense"], "there is no variant 'nonsense'"),
        (["--seeds", "1", "1"], "seeds that differ"),
        (["--clip", "nowhere"], "nowhere"),
    ):
        assert command_line.main([*wrong, *small, *output]) == 1
        assert words in capsys.readouterr().err


def test_the_record_of_the_shipped_study_has_settings_of_today():
    record = json.loads(ablation.SHIPPED_STUDY.read_text(encoding="utf-8"))
    config = TrainConfig.from_dict(record["settings"]["config"])
    assert (config.noise, config.weights) == (BASE.noise, BASE.weights)
    assert {*HYPOTHESES} <= {finding.hypothesis for finding in ablation.load_study().findings()}
