import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ldf_utils.data import files, images, pairs
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.data.images import ImageError


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (np.arange(256, dtype=np.uint8).reshape(16, 16), 1),
        (np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16), 1),
        (np.arange(768, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3), 3),
        (np.arange(1024, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 4), 3),
    ],
)
def test_read_image_depths_and_channels(tmp_path, array, channels):
    image = images.read_image(save(tmp_path / "a.png", array))
    full = 65535 if array.dtype == np.uint16 else 255
    expected = torch.from_numpy(array.astype(np.float32) / full)
    expected = expected[None] if expected.ndim == 2 else expected.permute(2, 0, 1)[:3]
    assert image.shape[0] == channels and image.dtype == torch.float32
    torch.testing.assert_close(image, expected)


def test_read_image_errors_name_the_file(tmp_path):
    with pytest.raises(ImageError, match="gone.png"):
        images.read_image(tmp_path / "gone.png")
    (tmp_path / "page.png").write_text("<html>not found</html>")
    with pytest.raises(ImageError, match=r"page\.png: found a web page"):
        images.read_image(tmp_path / "page.png")
    whole = save(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    )
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-800])
    with pytest.raises(ImageError, match=r"cut\.png.*damaged"):
        images.read_image(tmp_path / "cut.png")
    save(tmp_path / "float.tif", np.full((8, 8), 300, np.float32))
    with pytest.raises(ImageError, match=r"float\.tif: numbers from 300 to 300 have no known full"):
        images.read_image(tmp_path / "float.tif")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
        images.read_image(tmp_path / "empty.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"folder\.png: expected a picture, found a folder"):
        images.read_image(tmp_path / "folder.png")


@pytest.mark.parametrize(("shape", "bits"), [((1, 7, 9), 8), ((3, 7, 9), 8), ((1, 7, 9), 16)])
def test_write_then_read(tmp_path, generator, shape, bits):
    image = torch.rand(shape, generator=generator)
    again = images.read_image(images.write_image(image, tmp_path / "new" / "a.png", bits=bits))
    torch.testing.assert_close(again, image, rtol=0, atol=0.51 / (2**bits - 1))


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(
        [(1, 8, ".png"), (3, 8, ".png"), (1, 16, ".png"), (1, 16, ".tif"), (3, 8, ".bmp")]
    ),
)
def test_what_is_written_is_read_again(tmp_path_factory, seed, size, kind):
    """Every level of 8 and 16 bits comes back as the same float, bit by bit."""
    channels, bits, suffix = kind
    random, full = torch.Generator().manual_seed(seed), 2**bits - 1
    image = torch.randint(0, full + 1, (channels, *size), generator=random).float() / full
    path = tmp_path_factory.mktemp("again") / f"a{suffix}"
    assert torch.equal(images.read_image(images.write_image(image, path, bits=bits)), image)


def test_write_image_is_atomic_and_refuses(tmp_path, monkeypatch):
    path = images.write_image(torch.zeros(1, 8, 8), tmp_path / "a.png")
    before = path.read_bytes()

    def fail(self, file, *_, **__):
        open(file, "wb").write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        images.write_image(torch.ones(1, 8, 8), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    for bad, kwargs in (((2, 8, 8), {}), ((8, 8), {}), ((3, 8, 8), {"bits": 16})):
        with pytest.raises(ImageError, match=r"b\.png"):
            images.write_image(torch.zeros(bad), tmp_path / "b.png", **kwargs)
    with pytest.raises(ImageError, match="unknown ending"):
        images.write_image(torch.zeros(1, 8, 8), tmp_path / "b.xyz")


def test_luminance_agrees_with_pillow(generator):
    image = torch.rand(3, 32, 32, generator=generator)
    array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(array).convert("YCbCr"))[..., 0] / 255
    np.testing.assert_allclose(images.luminance(image)[0].numpy(), expected, atol=1.5 / 255)


def test_replace_luminance_keeps_chroma_and_sets_luminance(generator):
    visible = 0.4 + 0.2 * torch.rand(2, 3, 8, 8, generator=generator)
    fused = 0.4 + 0.2 * torch.rand(2, 1, 8, 8, generator=generator)
    result = images.replace_luminance(visible, fused)
    torch.testing.assert_close(images.luminance(result), fused)
    difference = visible - images.luminance(visible)
    torch.testing.assert_close(result - images.luminance(result), difference)
    torch.testing.assert_close(
        images.replace_luminance(visible, images.luminance(visible)), visible
    )
    assert images.replace_luminance(fused, fused) is not None
    torch.testing.assert_close(images.replace_luminance(visible[:, :1], fused), fused)
    with pytest.raises(ImageError, match="1 or 3"):
        images.luminance(torch.zeros(2, 8, 8))


def test_pairs_and_sets(tmp_path):
    gray, color = np.full((8, 10), 100, np.uint8), np.full((8, 10, 3), 200, np.uint8)
    for stem in ("b", "a"):
        save(tmp_path / "set" / "ir" / f"{stem}.jpg", gray)
        save(tmp_path / "set" / "vi" / f"{stem}.png", color)
    save(tmp_path / "set" / "fused_mine" / "a.png", gray)
    sets = pairs.find_sets(tmp_path)
    assert list(sets) == ["set"] and sets["set"].names == ["a", "b"] and len(sets["set"]) == 2
    pair = sets["set"][0]
    assert pair.name == "a" and pair.size == (8, 10)
    assert pair.visible.shape == (3, 8, 10) and pair.luminance.shape == (1, 8, 10)
    assert [p.name for p in sets["set"][:2]] == ["a", "b"]
    assert sets["set"].fused_methods() == ["mine"]
    assert sets["set"].fused_path("mine", "a").name == "a.png"
    assert sets["set"].fused_path("mine", "b") is None


def test_bad_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(ImageError, match="LDF_DATA_DIR"):
        pairs.find_sets(tmp_path / "none")
    with pytest.raises(ImageError, match="no set in it"):
        pairs.find_sets(tmp_path)
    gray = np.zeros((8, 8), np.uint8)
    save(tmp_path / "s" / "ir" / "a.png", gray)
    save(tmp_path / "s" / "vi" / "b.png", gray)
    with pytest.raises(ImageError, match=r"(?s)a\.png: no partner a\..*b\.png: no partner b\."):
        pairs.PairFolder(tmp_path / "s")
    save(tmp_path / "s" / "vi" / "a.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(ImageError, match=r"a\.png is 8 x 8 pixels and .*a\.png is 9 x 8"):
        pairs.read_pair(tmp_path / "s" / "ir" / "a.png", tmp_path / "s" / "vi" / "a.png")
    save(tmp_path / "s" / "ir" / "a.jpg", gray)
    with pytest.raises(ImageError, match="share the stem"):
        pairs.match_files(tmp_path / "s" / "ir", tmp_path / "s" / "vi")


def test_files_are_whole_or_absent(tmp_path):
    path = files.write_json(tmp_path / "deep" / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"x": float("nan")})
    assert path.read_text() == '{\n  "x": 1\n}\n' and list(path.parent.iterdir()) == [path]
    rows = files.write_rows(tmp_path / "r.csv", [{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    assert rows.read_text().split() == ["a,b", "1,2", "3,4"]
    with pytest.raises(ValueError, match="no row"):
        files.write_rows(tmp_path / "none.csv", [])


@pytest.mark.parametrize("sigma", [0.4, 1.2, 3.0])
def test_blur_agrees_with_scipy(generator, sigma):
    image = torch.rand(2, 3, 40, 52, generator=generator)
    radius = max(int(2.5 * sigma + 0.5), 1)
    expected = ndimage.gaussian_filter(
        image.numpy(), sigma, axes=(2, 3), mode="mirror", radius=radius
    )
    torch.testing.assert_close(
        gaussian_blur(image, sigma), torch.from_numpy(expected), rtol=0, atol=1e-5
    )
