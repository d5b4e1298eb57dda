"""The fusion direction: geometry that can be checked by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from ldf_utils.losses.direction import (
    TextDirections,
    direction_cosines,
    image_directions,
    text_directions,
)

PROMPTS = SimpleNamespace(infrared="infrared", visible="visible", fused="fused")


class WordBook:
    """A CLIP of which only the text side exists: sentence -> given vector, normalized."""

    def __init__(self, **vectors):
        self.vectors = vectors

    def encode_text(self, sentences):
        vectors = torch.stack([torch.as_tensor(self.vectors[s]) for s in sentences])
        return F.normalize(vectors.float(), dim=-1)


def unit(*shape, generator, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def test_text_directions_are_differences_of_normalized_embeddings():
    book = WordBook(infrared=[2.0, 0, 0], visible=[0, 3.0, 0], fused=[0, 0, 5.0])
    directions = text_directions(book, PROMPTS)
    torch.testing.assert_close(directions.infrared, torch.tensor([-1.0, 0, 1]))
    torch.testing.assert_close(directions.visible, torch.tensor([0, -1.0, 1]))
    assert directions.prompts is PROMPTS


def test_directions_move_to_another_dtype():
    book = WordBook(infrared=[1.0, 0], visible=[0, 1.0], fused=[1.0, 1.0])
    directions = text_directions(book, PROMPTS).to(torch.float64)
    assert directions.infrared.dtype == directions.visible.dtype == torch.float64
    assert directions.prompts is PROMPTS


@pytest.mark.parametrize("source", ["infrared", "visible"])
def test_a_target_that_equals_a_source_is_refused(source):
    book = WordBook(infrared=[1.0, 0], visible=[0, 1.0], fused=[1.0, 1.0])
    prompts = SimpleNamespace(infrared="infrared", visible="visible", fused=source)
    with pytest.raises(ValueError, match=rf"{source} prompt.*same sentence.*zero vector"):
        text_directions(book, prompts)


def test_a_target_embedded_like_a_source_is_refused_and_a_near_one_is_not():
    alike = WordBook(infrared=[1.0, 0], visible=[0, 1.0], fused=[1.0, 5e-5])
    with pytest.raises(ValueError, match=r"infrared prompt.*embeds both alike"):
        text_directions(alike, PROMPTS)
    near = WordBook(infrared=[1.0, 0], visible=[0, 1.0], fused=[1.0, 5e-4])
    assert text_directions(near, PROMPTS).infrared.norm() > 0


def test_image_directions_point_from_the_source_to_the_fused(generator):
    fused, infrared, visible = (unit(3, 5, generator=generator) for _ in range(3))
    from_infrared, from_visible = image_directions(fused, infrared, visible)
    torch.testing.assert_close(infrared + from_infrared, fused)
    torch.testing.assert_close(visible + from_visible, fused)


def test_cosines_are_one_along_the_words_and_minus_one_against_them(generator):
    infrared, visible = (unit(4, 6, generator=generator) for _ in range(2))
    fused = unit(4, 6, generator=generator)
    for row in range(4):
        along = TextDirections((fused - infrared)[row], (fused - visible)[row])
        for sign in (1, -1):
            words = TextDirections(sign * 3 * along.infrared, sign * along.visible)
            cosines = direction_cosines(
                fused[row : row + 1], infrared[row : row + 1], visible[row : row + 1], words
            )
            for cosine in cosines:
                assert cosine.item() == pytest.approx(sign)


def test_cosines_equal_the_angle_written_slowly(generator):
    fused, infrared, visible = (unit(4, 6, generator=generator) for _ in range(3))
    words = TextDirections(*torch.randn(2, 6, generator=generator, dtype=torch.float64))
    got_infrared, got_visible = direction_cosines(fused, infrared, visible, words)
    for b in range(4):
        for got, source, word in (
            (got_infrared[b], infrared[b], words.infrared),
            (got_visible[b], visible[b], words.visible),
        ):
            step = fused[b] - source
            expected = sum(step * word) / (sum(step**2) ** 0.5 * sum(word**2) ** 0.5)
            torch.testing.assert_close(got, expected)
            assert -1 <= got <= 1


def test_a_copy_of_a_source_went_nowhere_and_its_gradient_is_finite(generator):
    infrared, visible = (unit(2, 6, generator=generator) for _ in range(2))
    fused = visible.clone().requires_grad_()
    words = TextDirections(*torch.randn(2, 6, generator=generator, dtype=torch.float64))
    cosine_infrared, cosine_visible = direction_cosines(fused, infrared, visible, words)
    assert cosine_visible.tolist() == [0, 0]
    (cosine_infrared + cosine_visible).sum().backward()
    assert fused.grad.isfinite().all()
