"""Every form in which people have CLIP's weights, and what is refused in place of them.

One ViT-B/32 with random weights, rounded to what float16 holds, is made once. Its file is linked
into the other forms where these are the same bytes.
"""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from data_download.registry import REGISTRY
from ldf_utils.clip import loading
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipError, WeightsNotFound

SENTENCE = "a photograph of a cat on a windowsill"
MODEL = "ViT-B-32-quickgelu"
REPOSITORY = "timm/vit_base_patch32_clip_224.openai"
WEIGHTS = "open_clip_model.safetensors"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def half(model):
    return {name: value.half().contiguous() for name, value in model.state_dict().items()}


def picture():
    return torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The file of one large model, and what that model says of a sentence and a picture."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, load_weights=False).eval()
    with torch.no_grad():
        for tower in (model.transformer, model.visual.transformer):
            for block in tower.resblocks:
                block.mlp.c_fc.weight.mul_(4)  # so that it matters which activation follows
    save_file(half(model), folder / WEIGHTS)
    model.load_state_dict(load_file(folder / WEIGHTS))
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.no_grad():
        image = model.encode_image((picture().expand(-1, 3, -1, -1) - mean) / std)
        text = model.encode_text(open_clip.get_tokenizer(MODEL)([SENTENCE]))
    del model
    yield SimpleNamespace(
        file=folder / WEIGHTS, image=F.normalize(image, dim=-1), text=F.normalize(text, dim=-1)
    )
    shutil.rmtree(folder)


@pytest.fixture
def place(tmp_path):
    """A folder that is removed after the test; pytest keeps its own for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)
    gc.collect()  # models and traces hold hundreds of megabytes


def assert_same(clip, original):
    torch.testing.assert_close(clip.encode_text(SENTENCE), original.text, rtol=0, atol=1e-5)
    torch.testing.assert_close(clip.encode_image(picture()), original.image, rtol=0, atol=1e-5)
    assert not clip.stands_in and clip.words is None
    assert (clip.image_size, clip.dim) == (224, 512)


def write_config(folder, **changes):
    """An open_clip folder's configuration; ``quick_gelu=None`` leaves it out."""
    config = {**open_clip.get_model_config(MODEL), **changes}
    config = {key: value for key, value in config.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


# --- the forms that people have -------------------------------------------------------------------


class Tree(torch.nn.Module):
    """Parameters under dotted names, as OpenAI's archive has them."""

    def forward(self, x):
        return x


def archive(state):
    """OpenAI's form: a TorchScript archive with three numbers among its tensors."""
    root = Tree()
    for name, value in state.items():
        node, *parts = root, *name.split(".")
        for part in parts[:-1]:
            if not hasattr(node, part):
                node.add_module(part, Tree())
            node = getattr(node, part)
        node.register_parameter(parts[-1], torch.nn.Parameter(value, requires_grad=False))
    for name, number in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(number))
    return torch.jit.trace(root, torch.zeros(1))


def as_folder(original, place):
    folder = write_config(place / "my_clip")
    os.link(original.file, folder / WEIGHTS)
    return folder


def as_local_dir(original, place):
    folder = write_config(place / "my_clip")
    os.link(original.file, folder / "weights_of_mine.safetensors")
    return f"local-dir:{folder}"


def as_state_dict(original, place):
    torch.save(load_file(original.file), place / "weights.pt")
    return place / "weights.pt"


def as_checkpoint(original, place):
    state = {f"module.{name}": value for name, value in load_file(original.file).items()}
    torch.save({"epoch": 32, "name": "a run", "state_dict": state}, place / "weights.bin")
    return place / "weights.bin"


def as_torchscript(original, place):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # an old form, and OpenAI's
        traced = archive(load_file(original.file))
        assert {"input_resolution", "visual.conv1.weight"} <= set(traced.state_dict())
        torch.jit.save(traced, place / "ViT-B-32.pt")
    return place / "ViT-B-32.pt"


def as_blob(original, place):
    os.link(original.file, place / "0f1e2d")  # as the hub's cache calls its files
    return place / "0f1e2d"


def as_old_pickle(original, place):
    path = place / "old.pth"
    torch.save(load_file(original.file), path, _use_new_zipfile_serialization=False)
    return path


FORMS = (
    as_folder,
    as_local_dir,
    as_state_dict,
    as_checkpoint,
    as_torchscript,
    as_blob,
    as_old_pickle,
)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_original(form, original, place):
    assert_same(load_clip(form(original, place)), original)


HUB = """
import sys, torch
from ldf_utils.clip import loading
from ldf_utils.clip.loading import load_clip
loading.OPENAI_SHA256 = "{sha256}"  # the random model plays OpenAI's
sentence, picture, result = sys.argv[1], torch.load(sys.argv[2]), dict()
for name in sys.argv[4:]:
    clip = load_clip(name)
    result[name] = clip.name, clip.encode_text(sentence), clip.encode_image(picture)
    del clip
torch.save(result, sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "below", "file", "names"),
    [
        ("HF_HOME", "hub", WEIGHTS, ["openai", "auto"]),
        ("HF_HUB_CACHE", "", "open_clip_pytorch_model.bin", ["auto"]),
    ],
)
def test_the_hubs_cache_without_a_network(original, place, variable, below, file, names):
    assert open_clip.get_pretrained_cfg(MODEL, "openai")["hf_hub"].strip("/") == REPOSITORY
    revision, blob, sha256 = "a" * 40, "b" * 64, loading._sha256(original.file)
    cache = place / "cache" / below / f"models--{REPOSITORY.replace('/', '--')}"
    for folder in ("refs", "blobs", f"snapshots/{revision}"):
        (cache / folder).mkdir(parents=True)
    (cache / "refs" / "main").write_text(revision)
    if file == WEIGHTS:
        os.link(original.file, cache / "blobs" / blob)
    else:
        torch.save(load_file(original.file), cache / "blobs" / blob)
    (cache / "snapshots" / revision / file).symlink_to(f"../../blobs/{blob}")
    torch.save(picture(), place / "picture.pt")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LDF_CLIP"))}
    environment |= {variable: str(place / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ROOT}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            HUB.format(sha256=sha256),
            SENTENCE,
            place / "picture.pt",
            place / "result.pt",
            *names,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "stands in" not in done.stdout and "initialized randomly" not in done.stderr
    for name, (called, text, image) in torch.load(place / "result.pt").items():
        assert name in names and called == "openai"
        torch.testing.assert_close(text, original.text, rtol=0, atol=1e-5)
        torch.testing.assert_close(image, original.image, rtol=0, atol=1e-5)


# --- refusals: what is no file of weights ---------------------------------------------------------

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 90, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path):
    """A folder with a small model, and its tensors."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    state = half(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    save_file(state, folder / WEIGHTS)
    return SimpleNamespace(folder=folder, file=folder / WEIGHTS, state=state)


def refusal(path) -> str:
    with pytest.raises(ClipError) as caught:
        load_clip(path)
    return str(caught.value)


def test_the_small_model_itself_is_loaded(tiny):
    clip = load_clip(tiny.folder)
    assert clip.dim == 16 and clip.image_size == 32
    for name, value in clip.model.state_dict().items():
        torch.testing.assert_close(value, tiny.state[name].float())


def page(path, state):
    path.write_text("<!DOCTYPE html><title>404</title>")


def pointer(path, state):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 605157884\n")


def empty(path, state):
    path.write_bytes(b"")


def noise(path, state):
    path.write_bytes(b"GIF89a" + bytes(100))


def cut_safetensors(path, state):
    save_file(state, path)
    os.truncate(path, path.stat().st_size * 2 // 3)


def cut_header(path, state):
    save_file(state, path)
    os.truncate(path, 100)


def long_safetensors(path, state):
    save_file(state, path)
    with open(path, "ab") as file:
        file.write(bytes(64))


def cut_archive(path, state):
    torch.save(state, path)
    os.truncate(path, path.stat().st_size * 2 // 3)


def cut_pickle(path, state):
    torch.save(state, path, _use_new_zipfile_serialization=False)
    os.truncate(path, path.stat().st_size * 2 // 3)


def whole_module(path, state):
    torch.save(torch.nn.Linear(2, 2), path)


def numbers(path, state):
    torch.save([1, 2, 3], path)


def other_archive(path, state):
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    path.with_suffix(".npz").rename(path)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (page, "a web page"),
        (pointer, "Git LFS pointer"),
        (empty, "the file is empty"),
        (noise, "neither a safetensors file nor one of torch.*GIF89a"),
        (cut_safetensors, r"cut short: \d+ bytes, and its header asks for \d+"),
        (cut_header, r"cut short: 100 bytes"),
        (long_safetensors, "could not be read"),
        (cut_archive, "cut short.*list of contents"),
        (cut_pickle, "could not be read"),
        (whole_module, "could not be read"),
        (numbers, "found list; expected names and tensors"),
        (other_archive, "could not be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("where", ["file", "folder"])
def test_what_is_no_file_of_weights(where, spoil, found, tiny):
    tiny.file.unlink()
    spoil(tiny.file, tiny.state)
    message = refusal(getattr(tiny, where))
    assert re.match(f"{re.escape(str(tiny.file))}: .*{found}", message, flags=re.DOTALL)
    assert "expected" in message or "cut short" in message or "not weights" in message
    assert re.search("[Ff]etch the file|give the path", message)
    assert len(message) < 900


def test_the_weights_of_the_fusion_network_are_not_clips():
    path = loading.MINI_FOLDER.with_name("fusion_bounded.pt")
    assert re.search(r"fusion_bounded\.pt: found entries 'format'.*not the weights", refusal(path))


def test_no_weights_and_several(tiny):
    tiny.file.rename(tiny.folder / "a.bin")
    shutil.copy(tiny.folder / "a.bin", tiny.folder / "b.safetensors")
    assert re.search(r"holds a\.bin, b\.safetensors.*Name the file", refusal(tiny.folder))
    (tiny.folder / "a.bin").unlink()
    assert load_clip(tiny.folder).dim == 16
    (tiny.folder / "b.safetensors").unlink()
    assert re.search(r"holds no weights", refusal(tiny.folder))
    for missing in (f"local-dir:{tiny.folder / 'none'}", tiny.folder / "none", "openia"):
        with pytest.raises(WeightsNotFound, match="no such"):
            load_clip(missing)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "JSONDecodeError"),
        ("{}", "KeyError: 'model_cfg'"),
        ('{"model_cfg": {"embed_dim": 16}}', "a model_cfg with embed_dim"),
    ],
)
def test_a_configuration_that_is_none(tiny, text, found):
    (tiny.folder / "open_clip_config.json").write_text(text)
    assert re.search(rf"open_clip_config\.json: .*{found}.*expected JSON", refusal(tiny.folder))


def test_a_model_with_towers_of_another_make(tiny):
    config = {"model_cfg": {**TINY, "custom_text": True}}
    (tiny.folder / "open_clip_config.json").write_text(json.dumps(config))
    assert re.search("is a CustomTextCLIP.*expected a CLIP", refusal(tiny.folder))


# --- refusals: weights that do not fit ------------------------------------------------------------


def lacking(state):
    for name in [name for name in state if name.startswith("transformer.")][:5]:
        del state[name]


def surplus(state):
    state.update({f"decoder.{i}": torch.zeros(2) for i in range(4)})


def misshapen(state):
    state["text_projection"] = torch.zeros(16, 64)


def other_grid(state):
    state["visual.positional_embedding"] = torch.zeros(1 + 3 * 3, 64)  # of a 48-pixel picture


def other_context(state):
    state["positional_embedding"] = torch.zeros(12, 64)


def whole_numbers(state):
    state["text_projection"] = torch.zeros(64, 16, dtype=torch.int8)


def transformers_layout(state):
    for name in list(state):
        state[f"text_model.{name}"] = state.pop(name)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lacking, r"5 missing \(transformer\.\S+ .+, \.\.\.\)"),
        (surplus, r"4 not expected \(decoder\.0 \(2,\), decoder\.1 .*, \.\.\.\)"),
        (misshapen, r"1 of another shape \(text_projection is \(16, 64\), expected \(64, 16\)\)"),
        (other_grid, r"1 of another shape \(visual\.positional_embedding is \(10, 64\)"),
        (other_context, r"1 of another shape \(positional_embedding is \(12, 64\)"),
        (whole_numbers, r"1 of another kind of number \(text_projection holds int8\)"),
        (transformers_layout, r"layout of the transformers library"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_weights_that_do_not_fit(form, spoil, found, tiny):
    count = len(tiny.state)
    spoil(tiny.state)
    tiny.file.unlink()
    path = tiny.folder / f"weights.{form}"
    save_file(tiny.state, path) if form == "safetensors" else torch.save(tiny.state, path)
    message = refusal(tiny.folder)
    assert message.startswith(f"{path}: ") and re.search(found, message)
    assert f"Found {len(tiny.state)} tensors, expected the {count} of the model of" in message


def test_a_small_model_is_not_openais(tiny):
    message = refusal(tiny.file)
    assert "expected the 302 of OpenAI's ViT-B/32" in message
    assert "missing" in message and "of another shape" in message
    save_file({"conv.weight": torch.zeros(3)}, tiny.file)
    assert "These are the weights of something else" in refusal(tiny.file)


# --- the activation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "quick_gelu", "wanted"),
    [
        ("vit_base_patch32_clip_224.openai", None, "true"),
        ("vit_base_patch32_clip_224.openai", False, "true"),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K", True, "false"),
        ("models--timm--vit_base_patch32_clip_224.openai/snapshots/abc", None, "true"),
        ("my-openai-clip", None, "true"),
    ],
)
def test_a_known_name_with_the_wrong_activation(called, quick_gelu, wanted, tmp_path):
    folder = write_config(tmp_path / called, quick_gelu=quick_gelu)
    (folder / WEIGHTS).write_bytes(b"not even looked at")
    message = refusal(folder)
    assert re.search(rf"open_clip_config\.json: found.*set \"quick_gelu\": {wanted}", message)
    write_config(folder, quick_gelu=wanted == "true")
    assert "neither a safetensors file" in refusal(folder)  # the next fault


@pytest.mark.slow
def test_the_sha256_tells_the_activation(original, place, monkeypatch):
    """The random model's file plays OpenAI's: in a folder that asks for GELU it is refused."""
    folder = write_config(place / "my_clip", quick_gelu=None)
    os.link(original.file, folder / WEIGHTS)
    clip = load_clip(folder)  # nobody's weights: GELU is as good as any
    assert (clip.encode_text(SENTENCE) - original.text).abs().max() > 1e-4
    monkeypatch.setattr(loading, "OPENAI_SHA256", loading._sha256(original.file))
    message = refusal(folder)
    assert re.search(r'config\.json: found the activation GELU.*set "quick_gelu": true', message)


# --- the pinned hash ---


def test_the_pinned_hash_is_that_of_the_registry():
    text = REGISTRY.read_text(encoding="utf-8")
    assert f'hash = "sha256:{loading.OPENAI_SHA256}"' in text


def test_another_file_than_the_published_one_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(loading, "_fetch_openai", lambda: tiny.file)
    with pytest.raises(ClipError, match=r"the SHA-256 is [0-9a-f]{64}, expected e6d1bd.*again"):
        load_clip("openai")


def test_no_way_to_fetch_is_told(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("no route to the hub\nand a long story")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(WeightsNotFound, match=r"openai: .*no route to the hub\).*Expected open"):
        load_clip("openai")
