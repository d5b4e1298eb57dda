"""Words, sentences, and which of them are true of what."""

import json

import torch

from ldf_utils.clip import attributes
from ldf_utils.clip.attributes import ATTRIBUTES, INDEX
from ldf_utils.clip.loading import MINI_FOLDER
from ldf_utils.clip.tokenizer import CompactTokenizer


def test_every_caption_is_in_words_the_model_knows(training_batch, generator):
    words, token_ids = attributes.vocabulary()
    tokenize = CompactTokenizer(words, token_ids, 32)
    sentences, _ = attributes.draw_captions(training_batch.truth.flatten(0, 1), 300, generator)
    assert tokenize(sentences).max() == len(token_ids) - 1
    for attribute in ATTRIBUTES:
        for sentences in attributes.prompts_for(attribute.name):
            assert not sentences or tokenize(sentences).shape[1] == 32
    shipped = json.loads((MINI_FOLDER / "vocabulary.json").read_text())
    assert shipped == {"words": words, "token_ids": token_ids}


def test_captions_are_true_of_some_picture(training_batch, generator):
    truth = training_batch.truth.flatten(0, 1)
    _, assertions = attributes.draw_captions(truth, 200, generator)
    true, false = attributes.match(truth, assertions)
    own = len(attributes.PAPER_SENTENCES)
    assert true[:, own:].any(0).all()  # each was written for a picture of the batch
    assert not (true & false).any()


def test_match_against_the_definition():
    truth = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    said = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    true, false = attributes.match(truth, said)
    for i in range(3):
        for j in range(3):
            pairs = [(t, s) for t, s in zip(truth[i], said[j], strict=True) if s != 0]
            assert true[i, j] == all(t == s for t, s in pairs)
            assert false[i, j] == any(t == -s for t, s in pairs)


def test_there_are_words_for_everything_and_enough_of_them():
    words, _ = attributes.vocabulary()
    assert len(words) >= 250
    for subject in (
        "thermal",
        "grey",
        "dim",
        "defocused",
        "grainy",
        "mist",
        "faded",
        "glare",
        "textured",
        "pedestrian",
        "automobile",
        "houses",
        "foliage",
        "prominent",
        "halos",
    ):
        assert subject in words


def test_denials_come_in_pairs(generator):
    yes, no, places = attributes.draw_denials(generator)
    assert len(yes) == len(no) == len(places) == len(set(places))
    names = {ATTRIBUTES[i].name for i in places}
    assert {"infrared", "visible", "sharp", "salient", "people", "hazy", "overexposed"} <= names
    assert "fused" not in names and "street" not in names
    for one, other, place in zip(yes, no, places, strict=True):
        asserting, denying = attributes.prompts_for(ATTRIBUTES[place].name)
        assert one in asserting and other in denying
        assert not set(asserting) & set(denying)


def test_a_sentence_says_what_it_should(generator):
    sentence = attributes.write_caption({"infrared": 1, "dark": 1, "people": 1}, generator)
    kinds = {name: ATTRIBUTES[INDEX[name]] for name in ("infrared", "dark", "people")}
    assert any(noun in sentence for noun in kinds["infrared"].noun)
    assert any(w in sentence for w in kinds["dark"].adjective + kinds["dark"].clause)
    assert any(w in sentence for w in kinds["people"].clause)
    many = {attributes.write_caption({"noisy": -1}, generator) for _ in range(60)}
    assert any("without" in s for s in many) and any("no noise" in s for s in many)
