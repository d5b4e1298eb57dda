"""The network that takes any sentence, the grammar it is trained with, and its training."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from ldf_utils.clip import grammar
from ldf_utils.clip.attributes import write_caption
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipError
from ldf_utils.data.images import read_image, write_image
from ldf_utils.data.pairs import Pair
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.evaluation.declared import EFFECTS
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.fusion.export import ExportError
from ldf_utils.fusion.runtime import OnnxNetwork, onnx_network
from ldf_utils.fusion.sentence import SUGGESTIONS, between, sentence_directions, speak
from ldf_utils.losses.direction import (
    TextDirections,
    direction_loss,
    patch_direction_loss,
    text_directions,
)
from ldf_utils.networks import checkpoint
from ldf_utils.networks.checkpoint import load_network, save_network
from ldf_utils.networks.salient import SalientFusionNetwork
from ldf_utils.networks.sentence import SentenceFusionNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.sentences import Sentences, build_network
from ldf_utils.training.trainer import fit

SMALL = TrainConfig(
    steps=4,
    batch=2,
    crop=64,
    patches=2,
    patch_filter="none",
    clip="mini",
    network="sentence",
    sentences="grammar",
    checkpoint_every=2,
    samples=0,
    device="cpu",
)


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini")


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)
    return [Pair(f"{k}", *torch.rand(2, 1, 96, 96, generator=generator)) for k in range(2)]


@pytest.fixture
def network():
    """A network with words that matter: its last layer is not zero."""
    torch.manual_seed(0)
    made = SentenceFusionNetwork(dim=8)
    torch.nn.init.normal_(made.words[-1].weight, std=0.3)
    return made.eval()


def images(count=2, height=64, width=70):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, count, 1, height, width, generator=generator).unbind()


# ------------------------------------------------------------------ the network


def test_before_the_training_every_sentence_gives_the_network_without_one():
    torch.manual_seed(0)
    plain = SalientFusionNetwork().eval()
    network = SentenceFusionNetwork(dim=8).eval()
    network.load_state_dict(network.state_dict() | plain.state_dict())
    with torch.no_grad():
        for seed in range(3):
            said = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
            torch.testing.assert_close(network(*images(), said), plain(*images()))


@pytest.mark.parametrize("dim", [128, 512])
def test_it_has_at_most_400_000_parameters(dim):
    assert sum(p.numel() for p in SentenceFusionNetwork(dim).parameters()) <= 400_000


@torch.no_grad()
def test_each_image_follows_its_own_sentence(network):
    said = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(2))
    both = network(*images(), said)
    for k in range(2):
        alone = network(*(x[k : k + 1] for x in images()), said[k])
        torch.testing.assert_close(both[k : k + 1], alone)
    first = [x[:1] for x in images()]
    assert (network(*first, said[0]) - network(*first, said[1])).abs().max() > 0.01


@torch.no_grad()
def test_lengths_of_directions_do_not_matter_and_say_sets_the_default(network):
    said = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    fused = network(*images(), said)
    torch.testing.assert_close(network(*images(), 7 * said), fused)
    assert not torch.allclose(network(*images()), fused)
    network.say(3 * said[0], said[1])
    torch.testing.assert_close(network(*images()), fused)
    maps = network.maps(*images(), said)
    assert set(maps) == set(SalientFusionNetwork().maps(*images()))
    assert all(m.shape == fused.shape for m in maps.values())


@torch.no_grad()
def test_no_sentence_invents_texture(network):
    flat = torch.full((1, 1, 64, 64), 0.4), torch.full((1, 1, 64, 64), 0.6)
    for seed in range(3):
        said = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
        inner = network(*flat, said)[..., 16:-16, 16:-16]
        assert inner.diff(dim=-1).abs().max() < 0.02


@pytest.mark.parametrize("shape", [(8,), (2, 9), (3, 8), (1, 1, 2, 8)])
def test_directions_of_another_shape_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"directions must be \(2, 8\) or \(B, 2, 8\)"):
        network(*images(), torch.zeros(shape))


def test_it_is_saved_with_its_sentence_and_loaded(network, tmp_path):
    network.remember(torch.ones(8), torch.arange(8.0))
    again = load_network(save_network(network, tmp_path / "n.pt"))
    assert isinstance(again, SentenceFusionNetwork) and again.dim == 8
    torch.testing.assert_close(again.paper, network.spoken)
    with torch.no_grad():
        torch.testing.assert_close(again(*images()), network(*images()))


def test_missing_weights_say_how_to_train_them(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SENTENCE_WEIGHTS", tmp_path / "fusion_sentence.pt")
    with pytest.raises(WeightsError, match="experiments.sentence train"):
        load_network("sentence")


# ------------------------------------------------------------------ the grammar


def drawn(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [grammar.draw_sentence(generator) for _ in range(count)]


def test_sentences_for_tests_are_never_drawn():
    sentences = drawn()
    assert len(set(sentences)) > 200
    for sentence in sentences:
        assert not set(sentence.replace(",", "").split()) & grammar.HELD_OUT_WORDS, sentence
        said = grammar.assertions_of(sentence)
        assert 1 <= len(said) <= 4, sentence
        for pair in grammar.HELD_OUT_PAIRS:
            assert not all(said.get(name) == sign for name, sign in pair.items()), sentence
    topics = {item for s in sentences for item in grammar.assertions_of(s).items()}
    assert topics == {(name, sign) for name in grammar.TOPICS for sign in (1, -1)}


def test_every_declared_word_is_held_out_and_its_paraphrases_are_not():
    for effect in EFFECTS:
        word = effect.variant.removeprefix("word ")
        assert word in grammar.HELD_OUT_WORDS
    assert grammar.is_held_out(PROMPTS.fused)
    for sentence in ("a dim image", "a foggy image", "an image with obvious objects"):
        assert not grammar.is_held_out(sentence)
    assert grammar.is_held_out("a dim out of focus image")  # the pair dark and not sharp
    assert grammar.is_held_out("an image with prominent people and camouflaged objects") is False
    assert grammar.is_held_out("an image with prominent people and inconspicuous cars")


def test_assertions_are_read_back_from_the_sentences_that_make_them():
    generator = torch.Generator().manual_seed(3)
    for _ in range(300):
        said = grammar.draw_assertions(generator)
        sentence = write_caption(said, generator)
        assert grammar.assertions_of(sentence) == said, sentence


def test_the_embedded_clip_knows_every_word_of_the_grammar(clip):
    assert clip.encode_text(drawn(100)).shape == (100, clip.dim)


# ------------------------------------------------------------------ loss and training


def test_directions_of_each_image_equal_the_losses_one_by_one():
    generator = torch.Generator().manual_seed(0)
    fused, infrared, visible, *said = F.normalize(torch.randn(5, 3, 6, generator=generator), dim=-1)
    directions = TextDirections(*said)
    one_by_one = [TextDirections(said[0][k], said[1][k]) for k in range(3)]
    expected = [
        direction_loss(fused[k : k + 1], infrared[k : k + 1], visible[k : k + 1], one)
        for k, one in enumerate(one_by_one)
    ]
    torch.testing.assert_close(
        direction_loss(fused, infrared, visible, directions), torch.cat(expected)
    )
    # patches: row p * B + b is of image b
    patches = F.normalize(torch.randn(6, 6, generator=generator), dim=-1)
    kept = torch.tensor([True, True, False, False, True, True])
    found = patch_direction_loss(patches[kept], infrared, visible, directions, kept)
    by_hand = sum(
        direction_loss(
            patches[row : row + 1],
            infrared[row % 3][None],
            visible[row % 3][None],
            one_by_one[row % 3],
        ).item()
        for row in range(6)
        if kept[row]
    )
    assert found.item() == pytest.approx(by_hand / 6, abs=1e-6)
    own = patch_direction_loss(
        patches[kept],
        infrared[[0, 1, 1, 2]],
        visible[[0, 1, 1, 2]],
        directions,
        kept,
        sources="patch",
    )
    assert own.item() == pytest.approx(by_hand / 6, abs=1e-6)


def test_drawn_directions_are_those_of_their_sentences(clip):
    sentences = Sentences(clip, SMALL)
    found = sentences.draw(3, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    for k in range(3):
        prompts = replace(PROMPTS, fused=grammar.draw_sentence(generator))
        expected = text_directions(clip, prompts)
        torch.testing.assert_close(found.infrared[k], expected.infrared, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.visible[k], expected.visible, atol=1e-5, rtol=1e-4)
    same = Sentences(clip, replace(SMALL, sentences="one")).draw(2, generator)
    torch.testing.assert_close(same.infrared[1], sentences.said.infrared)


def test_zero_directions_and_unknown_words_are_refused(clip, monkeypatch):
    sentences = Sentences(clip, SMALL)
    for spoken, kind in ((PROMPTS.infrared, ValueError), ("a zyzzyva image", ClipError)):
        monkeypatch.setattr("ldf_utils.training.sentences.draw_sentence", lambda _, s=spoken: s)
        with pytest.raises(kind, match=r"zero vector|zyzzyva"):
            sentences.draw(1, torch.Generator())
    with pytest.raises(ValueError, match="zero vector"):
        Sentences(clip, replace(SMALL, prompt_fused=PROMPTS.visible))


def test_a_training_that_was_stopped_goes_on_as_if_it_never_had_been(clip, pairs, tmp_path):
    whole = fit(SMALL, pairs, clip, folder=tmp_path / "whole", progress=False)

    class Stop(Exception):
        pass

    def stop(row, network):
        if row["step"] == 2:
            raise Stop

    with pytest.raises(Stop):
        fit(SMALL, pairs, clip, folder=tmp_path / "part", callback=stop, progress=False)
    part = fit(SMALL, pairs, clip, folder=tmp_path / "part", resume=True, progress=False)
    torch.testing.assert_close(part.network.state_dict(), whole.network.state_dict())
    assert whole.network.words[-1].weight.abs().max() > 0  # the words were trained
    assert whole.network.paper.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_settings_and_network_have_to_fit(clip, pairs, tmp_path):
    with pytest.raises(ValueError, match="set network = 'sentence'"):
        fit(replace(SMALL, network="bounded"), pairs, clip, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"SentenceFusionNetwork\(128\)"):
        fit(SMALL, pairs, clip, SentenceFusionNetwork(8), folder=tmp_path, progress=False)
    no_words = replace(SMALL, weight_direction=0.0, weight_patch=0.0, weight_angle=0.0)
    with pytest.raises(ValueError, match="needs a CLIP"):
        fit(no_words, pairs, folder=tmp_path, progress=False)
    assert build_network(SMALL, clip).dim == clip.dim


# ------------------------------------------------------------------ at inference


@pytest.fixture(scope="module")
def weights(clip, tmp_path_factory):
    """A file of a network whose words matter, in the space of the embedded CLIP."""
    torch.manual_seed(0)
    made = SentenceFusionNetwork(clip.dim)
    torch.nn.init.normal_(made.words[-1].weight, std=0.3)
    made.remember(*sentence_directions(clip, PROMPTS.fused))
    return save_network(made, tmp_path_factory.mktemp("sentence") / "sentence.pt")


def test_speaking_changes_the_picture_and_a_network_of_one_sentence_refuses(clip, weights):
    network, plain = load_network(weights), load_network(weights)
    assert speak(network, "a dark image", clip) is network
    with torch.no_grad():
        assert (network(*images()) - plain(*images())).abs().max() > 0.01
    with pytest.raises(ValueError, match="one sentence and takes no other"):
        speak(load_network("shipped"), "a dark image", clip)
    with pytest.raises(ClipError, match="zyzzyva"):
        speak(network, "a zyzzyva image", clip)
    with pytest.raises(ValueError, match="zero vector"):
        speak(network, PROMPTS.infrared, clip)


def test_another_clip_is_recognized(clip, weights):
    network = load_network(weights)
    network.paper.copy_(network.paper.roll(1, dims=-1))
    with pytest.raises(ValueError, match="trained with another CLIP"):
        speak(network, "a dark image", clip)
    with pytest.raises(ValueError, match="numbers"):
        speak(SentenceFusionNetwork(8), "a dark image", clip)


def test_between_two_sentences(clip):
    dark, bright = (sentence_directions(clip, f"a {word} image") for word in ("dark", "bright"))
    assert torch.equal(between(dark, bright, 0.0), dark)
    assert torch.equal(between(dark, bright, 1.0), bright)
    way = [F.cosine_similarity(between(dark, bright, k / 10), bright).min() for k in range(11)]
    assert all(a < b for a, b in pairwise(way))
    assert between(dark, bright, 0.3).norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        between(dark, bright, 1.2)
    with pytest.raises(ValueError, match="opposite"):
        between(dark, -dark, 0.5)


def test_the_suggestions_are_known_to_the_embedded_clip(clip):
    for sentence in SUGGESTIONS:
        assert sentence_directions(clip, sentence).shape == (2, clip.dim)


def test_the_command_takes_a_sentence(weights, tmp_path, capsys):
    infrared, visible = images(1)
    for name, picture in (("ir", infrared), ("vi", visible)):
        write_image(picture[0], tmp_path / name / "a.png")
    command = ["--infrared", str(tmp_path / "ir"), "--visible", str(tmp_path / "vi")]
    command += ["--weights", str(weights), "--align", "off"]
    results = []
    for number, sentence in enumerate(("a dark image", "a bright image")):
        output = tmp_path / f"{number}"
        assert fuse([*command, "--output", str(output), "--sentence", sentence]) == 0
        results.append(read_image(output / "a.png"))
    assert not torch.equal(*results)
    assert fuse([*command, "--output", str(tmp_path / "c"), "--sentence", "a zyzzyva"]) == 2
    assert "zyzzyva" in capsys.readouterr().err


@pytest.mark.slow
def test_the_exported_file_takes_any_sentence(clip, weights, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    network = load_network(weights)
    for sentence in ("a dark image", "an image with salient people"):
        speak(network, sentence, clip)
        exported = onnx_network(network, threads=1, folder=tmp_path)
        for size in ((64, 96), (51, 77)):
            pair = images(2, *size)
            with torch.no_grad():
                torch.testing.assert_close(exported(*pair), network(*pair), atol=1e-4, rtol=0)
    assert len(list(tmp_path.glob("*.onnx"))) == 1
    (path,) = tmp_path.glob("*.onnx")
    with pytest.raises(ExportError, match="directions"):
        OnnxNetwork(path)
