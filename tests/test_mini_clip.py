import json

import pytest
import torch

from ldf_utils import mini_clip
from ldf_utils.clip_space import MINI_FOLDER, PROMPTS, CompactTokenizer, load_clip
from ldf_utils.images import find_sets, luminance, read_image
from ldf_utils.mini_clip import ATTRIBUTES, INDEX, MiniClipConfig


@pytest.fixture(scope="module")
def scenes():
    parts = [mini_clip._render_chunk((77, 0, 40, 128)), mini_clip._render_chunk((78, 0, 4, 256))]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@pytest.fixture(scope="module")
def batch(scenes):
    generator = torch.Generator().manual_seed(0)
    return mini_clip.make_batch(scenes, torch.arange(52), generator)


def test_every_caption_is_in_words_the_model_knows(batch, generator):
    words, token_ids = mini_clip.vocabulary()
    tokenize = CompactTokenizer(words, token_ids, 32)
    sentences, _ = mini_clip.draw_captions(batch[1].flatten(0, 1), 300, generator)
    assert tokenize(sentences).max() == len(token_ids) - 1
    for attribute in ATTRIBUTES:
        for sentences in mini_clip.prompts_for(attribute.name):
            assert not sentences or tokenize(sentences).shape[1] == 32
    shipped = json.loads((MINI_FOLDER / "vocabulary.json").read_text())
    assert shipped == {"words": words, "token_ids": token_ids}


def test_captions_are_true_of_some_picture(batch, generator):
    truth = batch[1].flatten(0, 1)
    _, assertions = mini_clip.draw_captions(truth, 200, generator)
    true, false = mini_clip.match(truth, assertions)
    own = len(mini_clip.PAPER_SENTENCES)
    assert true[:, own:].any(0).all()  # each was written for a picture of the batch
    assert not (true & false).any()


def test_match_against_the_definition():
    truth = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    said = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    true, false = mini_clip.match(truth, said)
    for i in range(3):
        for j in range(3):
            pairs = [(t, s) for t, s in zip(truth[i], said[j], strict=True) if s != 0]
            assert true[i, j] == all(t == s for t, s in pairs)
            assert false[i, j] == any(t == -s for t, s in pairs)


def test_contrastive_loss_against_the_definition(generator):
    logits = torch.randn(5, 7, generator=generator)
    state = torch.randint(-1, 2, (5, 7), generator=generator)
    state[0, 0], state[0, 1] = 1, -1
    loss = mini_clip.contrastive_loss(logits, state > 0, state < 0)
    total = []
    for scores, marks in ((logits, state), (logits.T, state.T)):
        rows = []
        for row, mark in zip(scores, marks, strict=True):
            wrong = row[mark < 0].exp().sum()
            each = [-(torch.log(s.exp() / (s.exp() + wrong))) for s in row[mark > 0]]
            if each:
                rows.append(torch.stack(each).mean())
        total.append(torch.stack(rows).mean())
    torch.testing.assert_close(loss, (total[0] + total[1]) / 2)


def test_truth_follows_what_was_done(batch):
    images, truth = batch
    assert images.shape == (52, 8, 1, 96, 96) and images.min() >= 0 and images.max() <= 1
    assert set(truth.unique().tolist()) <= {-1.0, 0.0, 1.0}
    fact = {a.name: truth[..., i] for a, i in zip(ATTRIBUTES, INDEX.values(), strict=True)}
    assert (fact["visible"][:, 0] == 1).all() and (fact["infrared"][:, 0] == -1).all()
    assert (fact["infrared"][:, 1] == 1).all() and (fact["visible"][:, 1] == -1).all()
    spoiled = fact["artifacts"] > 0
    assert spoiled.any() and not spoiled[:, :5].any()
    assert not (spoiled & (fact["clear"] > 0)).any()
    mean = images.mean((2, 3, 4))
    assert mean[fact["dark"] > 0].max() < mean[fact["dark"] < 0].min()


@pytest.mark.parametrize("kind", mini_clip.DEGRADATIONS)
def test_degradations_change_what_they_say(kind, scenes, generator):
    clean = scenes["oracle"][:6, None].float() / 255
    spoiled = mini_clip.degrade(clean, kind, generator)
    assert spoiled.shape == clean.shape and spoiled.min() >= 0 and spoiled.max() <= 1
    assert (spoiled - clean).abs().mean() > 0.005
    edges = lambda x: x.diff(dim=-1).abs().mean()  # noqa: E731
    if kind in ("blurry", "hazy", "pale"):
        assert edges(spoiled) < edges(clean)
    if kind in ("noisy", "embossed", "halos", "ringing", "checkerboard"):
        assert edges(spoiled) > edges(clean)
    if kind == "dark":
        assert spoiled.mean() < 0.6 * clean.mean()
    with pytest.raises(ValueError, match="unknown degradation"):
        mini_clip.degrade(clean, "melted", generator)


def test_area_under_curve_against_scikit_style_definition(generator):
    a, b = torch.randn(40, generator=generator) + 0.5, torch.randn(30, generator=generator)
    wins = sum(float(x > y) + 0.5 * float(x == y) for x in a for y in b) / (40 * 30)
    assert mini_clip.area_under_curve(a, b) == pytest.approx(wins, abs=1e-6)


def test_training_resumes_where_it_was(tmp_path, scenes, monkeypatch):
    monkeypatch.setattr(mini_clip, "load_scenes", lambda *_, **__: scenes)
    tiny = dict(steps=4, groups=2, captions=12, warm_up=1, save_every=2, threads=1, scenes=44)
    threads = torch.get_num_threads()
    try:
        mini_clip.train(MiniClipConfig(**tiny), tmp_path / "a", tmp_path / "work_a")
        stop = torch.optim.lr_scheduler.LambdaLR.step
        calls = []

        def step(self, *args):
            calls.append(1)
            if len(calls) == 4:  # one call when it is made, then one a step
                raise KeyboardInterrupt
            return stop(self, *args)

        monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", step)
        with pytest.raises(KeyboardInterrupt):
            mini_clip.train(MiniClipConfig(**tiny), tmp_path / "b", tmp_path / "work_b")
        assert not (tmp_path / "b").exists()
        monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", stop)
        mini_clip.train(MiniClipConfig(**tiny), tmp_path / "b", tmp_path / "work_b")
    finally:
        torch.set_num_threads(threads)
    first, second = (load_clip(tmp_path / name).model.state_dict() for name in "ab")
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)
    with pytest.raises(ValueError, match="other settings"):
        mini_clip.train(MiniClipConfig(**{**tiny, "seed": 9}), tmp_path / "b", tmp_path / "work_b")


@pytest.fixture(scope="module")
def accuracies():
    """Of the shipped model, on worlds of a seed that neither training nor card use."""
    return mini_clip.evaluate_scenes(load_clip("mini"), count=150, seed=91_000)


@pytest.mark.parametrize(
    ("name", "least"),
    [("infrared", 0.9), ("sharp", 0.9), ("noisy", 0.85), ("dark", 0.9), ("overexposed", 0.9)],
)
def test_shipped_model_on_held_out_scenes(accuracies, name, least):
    row = accuracies["attributes"][name]
    assert min(row["true"], row["false"]) > 10
    assert row["balanced_accuracy"] >= least


def test_shipped_model_knows_the_target_sentence(accuracies):
    assert accuracies["target_sentence"]["auc"] >= 0.9


def test_shipped_model_orders_the_oracle_first(batch):
    clip = load_clip("mini")
    images = batch[0].flatten(0, 1)
    cosine = (clip.encode_image(images) @ clip.encode_text(PROMPTS.fused)[0]).view(-1, 8)
    assert (cosine[:, 2] > cosine[:, 3]).float().mean() > 0.8  # above the average of the sources
    assert (cosine[:, 2] > cosine[:, 5]).float().mean() > 0.8  # above its own spoiled copy


def test_official_results_are_nearer_to_the_target_than_averages(real_data_dir):
    clip = load_clip("mini")
    target = clip.encode_text(PROMPTS.fused)[0]
    found = 0
    for set_name, method in (("M3FD", "LDFusion"), ("LD-Lite", "LD-Lite")):
        pairs = find_sets(real_data_dir).get(set_name)
        for pair in pairs or ():
            path = pairs.fused_path(method, pair.name)
            if path is None:
                continue
            found += 1
            fused = luminance(read_image(path))
            average = (pair.infrared + pair.luminance) / 2
            both = [clip.encode_image(image[None])[0] @ target for image in (fused, average)]
            assert both[0] > both[1], (set_name, pair.name)
    if not found:
        pytest.skip("no published results of the method beside the project")


def test_card_and_size():
    card = (MINI_FOLDER / "README.md").read_text()
    record = json.loads((MINI_FOLDER / "evaluation.json").read_text())
    assert f"{record['scenes']['attributes']['infrared']['balanced_accuracy']:.3f}" in card
    assert "python -m ldf_utils.mini_clip train" in card and "no real picture" in card
    assert (MINI_FOLDER / "open_clip_model.safetensors").stat().st_size < 8e6
    assert record["scenes"]["attributes"]["infrared"]["balanced_accuracy"] >= 0.9
