"""Settings of a training: limits, files, names."""

import json
from pathlib import Path

import pytest
from torch import nn

from ldf_utils.clip.model import PROMPTS as PAPER_PROMPTS
from ldf_utils.losses.fusion_loss import LossWeights
from ldf_utils.training.config import NETWORKS, RENAMED, TrainConfig, parse_setting, read_config
from ldf_utils.training.schedule import learning_rate

ROOT = Path(__file__).resolve().parent.parent


def test_config_goes_through_plain_values_and_json():
    config = TrainConfig(steps=7, prompt_fused="a sharp image", weight_patch=0, flip=False)
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.weights.patch == 0 and again.prompts.fused == "a sharp image"


def test_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.batch, config.crop, config.learning_rate, config.noise) == (16, 224, 5e-4, 0.03)
    assert (config.weights.direction, config.weights.patch) == (2, 10)
    assert (config.weights.angle, config.weights.perceptual) == (6, 10)
    assert (config.patches, config.entropy_threshold, config.mean_over) == (32, 6, "all")


def test_unknown_settings_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        TrainConfig.from_dict({"learnign_rate": 0.1})
    with pytest.raises(ValueError, match="expected one of steps"):
        TrainConfig.from_dict({"zzz": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("patch_filter", "median"),
        ("filter_sources", "one"),
        ("patch_sources", "half"),
        ("direction_text", "sum"),
        ("direction_image", 1),
        ("network", "laplacian"),
        ("steps", 2.5),
        ("steps", True),
        ("flip", 1),
        ("crop", 8),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("warmup", 2),
        ("min_lr_ratio", 1.5),
        ("cache_mb", -1),
        ("noise", float("inf")),
        ("prefetch", -1),
        ("network", "large"),
        ("perceptual", "vgg"),
        ("mean_over", "some"),
        ("entropy_threshold", 9),
        ("prompt_fused", 3),
        ("weight_angle", -1),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*got {value!r}$"):
        TrainConfig(**{name: value})


def test_a_setting_that_is_refused_is_told_its_limits():
    for values, told in (
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ({"warmup": 2}, "warmup must be <= 1, got 2"),
        ({"flip": 1}, "flip must be of type bool, got 1"),
        ({"order": "any"}, "order must be one of random, epochs, got 'any'"),
    ):
        with pytest.raises(ValueError) as refused:
            TrainConfig(**values)
        assert str(refused.value) == told
    with pytest.raises(ValueError, match="all loss weights are 0"):
        TrainConfig(weight_direction=0, weight_patch=0, weight_angle=0, weight_perceptual=0)


def test_the_limits_themselves_are_allowed():
    config = TrainConfig(
        steps=1,
        crop=32,
        seed=0,
        warmup=1,
        min_lr_ratio=0,
        noise=0,
        cache_mb=float("inf"),
        entropy_threshold=8,
        prefetch=0,
        samples=0,
        patch_degrees=180,
    )
    assert config.warmup == 1 and config.patch_degrees == 180


def test_every_network_by_name_can_be_chosen():
    for name, kind in NETWORKS.items():
        assert TrainConfig(network=name).network == name and issubclass(kind, nn.Module)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_setting_of_an_earlier_name_is_told_its_new_one(old, new):
    assert hasattr(TrainConfig(), new)
    with pytest.raises(ValueError, match=f"{old}.*now called '{new}'"):
        TrainConfig.from_dict({old: 1})


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_file_of_settings_may_start_with_a_byte_order_mark(start, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes(start + 'steps = 7\nprompt_fused = "Nebel über Bäumen"\n'.encode())
    assert read_config(path) == TrainConfig(steps=7, prompt_fused="Nebel über Bäumen")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps = ", "as TOML"),
        (b"steps = 7\nsteps = 8\n", "as TOML"),
        (b"prompt_fused = 'B\xe4ume'", "UTF-8"),
        (b"steps = 0", "steps must be >= 1, got 0"),
        (b"stepps = 3", "did you mean steps"),
        (b"lean = true", "now called 'frozen'"),
        (b"[loss]\nweight_patch = 1", "no setting 'loss'"),
    ],
)
def test_every_error_in_a_file_of_settings_names_the_file(content, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.toml: ") as refused:
        read_config(path)
    assert message in str(refused.value)


def test_a_setting_is_read_as_toml_or_as_words():
    assert parse_setting("steps=300") == ("steps", 300)
    assert parse_setting("flip = false") == ("flip", False)
    assert parse_setting("prompt_fused=a = b") == ("prompt_fused", "a = b")
    for text in ("steps", "=3", ""):
        with pytest.raises(ValueError, match="expected KEY=VALUE"):
            parse_setting(text)


@pytest.mark.parametrize("name", ["paper", "paper-as-released", "laptop", "smoke"])
def test_the_configurations_that_ship_are_what_they_say(name):
    config = read_config(ROOT / "configs" / f"{name}.toml")
    if name.startswith("paper"):
        assert (config.network, config.patches, config.batch, config.crop) == ("paper", 32, 16, 224)
        assert config.weights == LossWeights() and config.prompts == PAPER_PROMPTS
        assert config.learning_rate == 5e-4 and config.noise == 0.03 and config.min_std == 0.05
        assert (config.entropy_threshold, config.mean_over) == (6, "all")
        assert (config.patch_filter, config.filter_sources) == ("bits", "both")
        released = name.endswith("released")
        assert (config.schedule == "released") is released
        assert (config.patch_rule == "released") is released
        last = learning_rate(config.steps - 1, config) / config.learning_rate
        assert (last > 1) if released else (last == 1 / 32)
    else:
        assert (config.network, config.clip) == ("bounded", "mini")
