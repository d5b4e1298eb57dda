import json
import subprocess
import sys
import time
from copy import deepcopy

import open_clip
import pytest
import torch

from ldf_utils.clip import loading, tokenizer
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS, ClipError
from ldf_utils.data.images import ImageError


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini")


def test_embeddings_have_unit_length_and_the_model_is_frozen(clip, generator):
    texts = clip.encode_text(list(PROMPTS))
    images = clip.encode_image(torch.rand(3, 1, 50, 70, generator=generator))
    assert texts.shape == (3, clip.dim) and images.shape == (3, clip.dim)
    for embeddings in (texts, images):
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    assert not any(p.requires_grad for p in clip.parameters())
    assert all(p.dtype == torch.float32 for p in clip.parameters())
    assert not clip.training and not clip.train().training and not clip.model.training
    assert clip.stands_in and clip.name == "mini"


def test_gradients_reach_the_pixels_only(clip, generator):
    images = torch.rand(2, 1, 96, 96, generator=generator, requires_grad=True)
    clip.encode_image(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in clip.parameters())


def test_gray_is_repeated_and_pictures_are_resized(clip, generator):
    gray = torch.rand(2, 1, 96, 96, generator=generator)
    same = clip.encode_image(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(clip.encode_image(gray), same)
    large = torch.nn.functional.interpolate(gray[..., :6, :6], (192, 192), mode="bicubic")
    small = torch.nn.functional.avg_pool2d(large.clamp(0, 1), 2)
    cosine = (clip.encode_image(large.clamp(0, 1)) * clip.encode_image(small)).sum(-1)
    assert (cosine > 0.95).all()
    with pytest.raises(ImageError, match="1 or 3"):
        clip.encode_image(torch.zeros(1, 2, 96, 96))


def test_pictures_come_to_the_device_of_the_model(clip):
    elsewhere = deepcopy(clip).to("meta")  # of a device that every machine has
    assert elsewhere.encode_image(torch.rand(2, 1, 48, 64)).device.type == "meta"


def test_unknown_words_are_refused_with_suggestions(clip):
    with pytest.raises(ClipError, match=r"'salientt'.*salient"):
        clip.encode_text("a clear image with salientt objects")
    with pytest.raises(ClipError, match=r"'cat' in 'a cat'\. It knows \d+ words"):
        clip.encode_text("a cat")  # nothing is near, so nothing is suggested
    with pytest.raises(ClipError, match="no word"):
        clip.encode_text(["an infrared image", " ... "])
    with pytest.raises(ClipError, match="at least one word"):
        clip.encode_text([])
    with pytest.raises(ClipError, match="longer than"):
        clip.encode_text("a clear image " * 20)


SOME_WORDS = frozenset(
    "image objects blurry bright photo thermal infrared vehicle night salient noise detail".split()
)


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("images", "image"),  # plural
        ("object", "objects"),  # singular
        ("blurring", "blurry"),  # another ending
        ("brightness", "bright"),
        ("photograph", "photo"),  # a longer word
        ("thermogram", "thermal"),
        ("infared", "infrared"),  # a slip of the finger
        ("vehicel", "vehicle"),
        ("nigth", "night"),
    ],
)
def test_the_nearest_word_comes_first(asked, first):
    assert tokenizer.nearest_words(asked, SOME_WORDS)[0] == first


@pytest.mark.parametrize("asked", ["cat", "dog", "rgb", "automobile", "an1"])
def test_no_word_is_suggested_where_none_is_near(asked):
    assert tokenizer.nearest_words(asked, SOME_WORDS) == []


def test_compact_tokens_are_the_large_tokenizers(clip):
    rows = clip.tokenize([PROMPTS.fused])[0].tolist()
    full = open_clip.SimpleTokenizer(context_length=32)([PROMPTS.fused])[0].tolist()
    kept = json.loads((loading.MINI_FOLDER / "vocabulary.json").read_text())["token_ids"]
    assert [kept[row] for row in rows if row] == [token for token in full if token]
    assert rows.index(max(rows)) == full.index(max(full))  # where the text tower reads


def test_mini_loads_by_the_same_open_clip_call(clip):
    model = open_clip.create_model(f"local-dir:{loading.MINI_FOLDER}", require_pretrained=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(clip.model.state_dict()[name], value)


def test_what_is_no_model_is_refused(tmp_path):
    """More of what is refused, and of what is loaded, is in test_clip_weights.py."""
    with pytest.raises(ClipError, match="no known name"):
        load_clip("openia")
    with pytest.raises(ClipError, match=r"open_clip_config\.json"):
        load_clip(tmp_path)
    config = (loading.MINI_FOLDER / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(config)
    with pytest.raises(ClipError, match="holds no weights"):  # else they would be random
        load_clip(tmp_path)


OFFLINE = """
import time, re, torch
start = time.perf_counter()
import ldf_utils.clip.loading as c
imported = time.perf_counter()
clip = c.load_clip("auto")
clip.encode_image(torch.rand(8, 1, 240, 320))
print("\\nLOADED", clip.name, time.perf_counter() - imported,
      int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("how", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://192.0.2.1:9"}])
def test_auto_without_a_network_is_mini_with_a_banner(tmp_path, monkeypatch, how):
    for name in ("LDF_CLIP", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**how, "HF_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=120, check=True
    )
    assert "stands in for OpenAI" in result.stdout and "Reason:" in result.stdout
    name, _, megabytes = result.stdout.split("LOADED ")[1].split()
    assert name == "mini" and float(megabytes) < 2000


def test_the_network_is_given_up_in_time(tmp_path, monkeypatch):
    """The wait for a name that never resolves is bounded by design, not by luck."""
    import huggingface_hub.constants as constants

    def hang(*_, **__):
        time.sleep(30)
        raise OSError("no such host")

    monkeypatch.setattr(loading.socket, "create_connection", hang)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    waits = []
    real_join = loading.threading.Thread.join

    def join(self, timeout=None):
        waits.append(timeout)
        return real_join(self, 0.01)

    monkeypatch.setattr(loading.threading.Thread, "join", join)
    assert "no connection" in loading._why_not_openai()
    assert waits and all(wait is not None and wait < 5 for wait in waits)
