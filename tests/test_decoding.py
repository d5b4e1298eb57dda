"""What cameras and programs write, read as a viewer would show it, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from ldf_utils.data import decoding, images, radiometry
from ldf_utils.data.names import ImageError
from ldf_utils.data.pairs import PairFolder, read_pair

RAMP = np.linspace(0, 1, 24 * 33).reshape(24, 33)
COLOR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)


def levels(path, **options):
    """A picture in 8-bit levels, (H, W) or (H, W, 3)."""
    image = images.read_image(path, **options)
    return 255 * image.permute(1, 2, 0).squeeze(-1).numpy()


def counts(bits, share=RAMP):
    return np.round(share * (2**bits - 1)).astype(np.uint16)


def write_tiff(path, samples, bits, photometric=1, order="<", deflate=False, orientation=1):
    """A gray TIFF of one strip, samples of any number of bits, as TIFF 6.0 describes it."""
    height, width = samples.shape
    if bits == 16:
        data = samples.astype(f"{order}u2").tobytes()
    else:
        flags = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        data = np.packbits(flags.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    data = zlib.compress(data) if deflate else data
    tags = {256: width, 257: height, 258: bits, 259: 8 if deflate else 1, 262: photometric}
    tags |= {273: 8, 274: orientation, 277: 1, 278: height, 279: len(data)}
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in sorted(tags.items()):
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = 8 + len(data) + len(data) % 2
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start)
    path.write_bytes(head + data.ljust(start - 8, b"\0") + directory + bytes(4))
    return path


def write_png16(path, samples):
    """A PNG with 16 bits a sample; its rows take turns with the five filters."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[-1]]
    rows = samples.astype(">u2").reshape(samples.shape[0], -1).view(np.uint8).astype(int)
    size, data, above = 2 * samples.shape[-1], b"", np.zeros(rows.shape[1], int)
    for number, row in enumerate(rows):
        left, corner = (np.r_[np.zeros(size, int), line[:-size]] for line in (row, above))
        guess = left + above - corner
        near = [abs(guess - value) for value in (left, above, corner)]
        paeth = np.where(
            (near[0] <= near[1]) & (near[0] <= near[2]),
            left,
            np.where(near[1] <= near[2], above, corner),
        )
        filters = [0 * row, left, above, (left + above) // 2, paeth]
        data += bytes([number % 5]) + ((row - filters[number % 5]) % 256).astype(np.uint8).tobytes()
        above = row
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", samples.shape[1], len(rows), 16, kind, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )
    return path


# --- depth and photometric interpretation


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("deflate", [False, True])
def test_gray_tiff_of_any_depth(tmp_path, bits, order, photometric, deflate):
    samples = counts(bits)
    if photometric == 0:
        samples = 2**bits - 1 - samples
    path = write_tiff(tmp_path / "a.tif", samples, bits, photometric, order, deflate)
    assert decoding.decode(path).full == 2**bits - 1
    assert abs(levels(path) - 255 * RAMP).max() <= 255 / 2**bits
    assert decoding.bits_of(path) > 8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_white_is_high_in_shallow_tiff_too(tmp_path, bits):
    samples = counts(bits)
    first = write_tiff(tmp_path / "a.tif", samples, bits, 1)
    second = write_tiff(tmp_path / "b.tif", 2**bits - 1 - samples, bits, 0)
    expected = samples * (255 / (2**bits - 1))
    for path in (first, second):
        assert abs(levels(path) - expected).max() < 0.5


def test_a_packed_tiff_that_is_cut_off_is_named(tmp_path):
    path = write_tiff(tmp_path / "a.tif", counts(14), 14)
    rows, more = (struct.pack("<HHII", 257, 4, 1, rows) for rows in (24, 99))
    path.write_bytes(path.read_bytes().replace(rows, more))
    with pytest.raises(ImageError, match=r"a\.tif: the picture is damaged or cut off"):
        images.read_image(path)


def test_other_tiff_is_not_called_no_picture(tmp_path):
    path = write_tiff(tmp_path / "a.tif", counts(14), 14)
    path.write_bytes(
        path.read_bytes().replace(
            struct.pack("<HHII", 258, 4, 1, 14), struct.pack("<HHII", 258, 4, 1, 24)
        )
    )
    with pytest.raises(ImageError, match=r"a\.tif: a TIFF of a kind that is not read"):
        images.read_image(path)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_color_png_keeps_its_16_bits(tmp_path, channels):
    samples = np.random.default_rng(0).integers(0, 2**16, (12, 7, channels), np.uint16)
    image = images.read_image(write_png16(tmp_path / "a.png", samples))
    expected = samples[..., :1] if channels == 2 else samples[..., :3]
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy() * 65535, expected, atol=0.01)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_16_bit_color_tiff_keeps_its_16_bits(tmp_path, options):
    tifffile = pytest.importorskip("tifffile")
    samples = np.random.default_rng(0).integers(0, 2**16, (12, 7, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", **options)
    image = images.read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy() * 65535, samples, atol=0.01)


def test_floating_point_in_0_to_1_is_taken_as_it_is(tmp_path):
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(levels(tmp_path / "a.tif"), 255 * RAMP, atol=1e-4)
    Image.fromarray((20 + 15 * RAMP).astype(np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ImageError, match="numbers from 20 to 35 have no known full scale; give"):
        images.read_image(tmp_path / "b.tif")
    given = levels(tmp_path / "b.tif", value_range=radiometry.ValueRange(20, 35))
    np.testing.assert_allclose(given, 255 * RAMP, atol=1e-3)
    bad = RAMP.astype(np.float32)
    bad[0, :3] = np.nan
    Image.fromarray(bad).save(tmp_path / "c.tif")
    with pytest.raises(ImageError, match=r"c\.tif: 3 of 792 pixels are not finite"):
        images.read_image(tmp_path / "c.tif")


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow was built without JPEG 2000")
def test_jpeg_2000(tmp_path):
    Image.fromarray(counts(16)).save(tmp_path / "a.jp2", irreversible=False)
    assert abs(levels(tmp_path / "a.jp2") - 255 * RAMP).max() < 0.01
    Image.fromarray(counts(8, COLOR).astype(np.uint8)).save(tmp_path / "b.JP2", "JPEG2000")
    assert abs(levels(tmp_path / "b.JP2") - 255 * COLOR).max() < 0.51


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_8_bit_modes(tmp_path, mode):
    color = Image.fromarray(counts(8, COLOR).astype(np.uint8))
    picture = color.convert(mode)
    suffix = ".tif" if mode == "CMYK" else ".png"
    picture.save(tmp_path / f"a{suffix}")
    gray = mode in ("1", "L", "LA")
    expected = np.asarray(picture.convert("L" if gray else "RGB"))
    assert abs(levels(tmp_path / f"a{suffix}") - expected).max() < 0.01


# --- orientation, pages, transparency


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "packed"])
def test_pictures_are_turned_as_a_viewer_turns_them(tmp_path, orientation, suffix):
    """The file stores what a camera held in this way sees; upright it is the ramp again."""
    upright = counts(8).astype(np.uint8)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(decoding._turn(upright, inverse))
    if suffix == "packed":
        path = write_tiff(tmp_path / "a.tif", stored.astype(int) * 16, 14, orientation=orientation)
        expected = upright * (16 * 255 / (2**14 - 1))
    else:
        exif = Image.Exif()
        exif[274] = orientation
        path, expected = tmp_path / f"a{suffix}", upright
        Image.fromarray(stored).save(
            path, exif=exif, **({"quality": 98} if suffix == ".jpg" else {})
        )
    assert abs(levels(path) - expected).max() < (4 if suffix == ".jpg" else 0.01)


def test_orientation_is_that_of_the_standard():
    """EXIF 2.3: 6 has its first row at the right, 3 is upside down, 2 mirrored, 5 transposed."""
    stored = np.array([[1, 2, 3], [4, 5, 6]])
    assert decoding._turn(stored, 6).tolist() == [[4, 1], [5, 2], [6, 3]]
    assert decoding._turn(stored, 3).tolist() == [[6, 5, 4], [3, 2, 1]]
    assert decoding._turn(stored, 2).tolist() == [[3, 2, 1], [6, 5, 4]]
    assert decoding._turn(stored, 5).tolist() == stored.T.tolist()


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_several_pages_are_named_once_a_folder(tmp_path, caplog, suffix):
    frames = [Image.fromarray(np.full((8, 8), 40 * k, np.uint8)) for k in (1, 2, 3)]
    for name in ("a", "b"):
        frames[0].save(
            tmp_path / f"{name}{suffix}", save_all=True, append_images=frames[1:], lossless=True
        )
        assert abs(levels(tmp_path / f"{name}{suffix}") - 40).max() < 2
    (record,) = caplog.records
    assert f"a{suffix}: holds 3 pages or frames, and only the first is read" in record.getMessage()


def test_a_thumbnail_is_no_page(tmp_path, caplog):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.full((4, 4), 9, np.uint8), subfiletype=1)
        file.write(np.full((8, 8), 80, np.uint8))
    assert levels(tmp_path / "a.tif").shape == (8, 8) and not caplog.records


def test_transparency_is_named(tmp_path, caplog):
    array = np.full((8, 8, 4), 200, np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    assert levels(tmp_path / "a.png").shape == (8, 8, 3)
    assert "a.png: has transparent pixels" in caplog.text


def test_what_must_not_be_read_is_said_as_such(tmp_path, monkeypatch):
    Image.fromarray(counts(8).astype(np.uint8)).save(tmp_path / "a.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.png"))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png: permission denied; allow reading it"):
        images.read_image(tmp_path / "a.png")


def test_a_picture_that_claims_too_many_pixels_is_not_called_damaged(tmp_path, monkeypatch):
    Image.fromarray(counts(8).astype(np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"a\.png: claims more pixels than are read"):
        images.read_image(tmp_path / "a.png")


# --- the range of a camera


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_one_range_for_all_frames_of_a_camera(tmp_path, caplog):
    """Counts 7400..8600 in 16 bits: one frame is cool, one is hot; a dead pixel and a shutter."""
    steps = np.kron(np.linspace(0, 1, 48).reshape(6, 8), np.ones((4, 4)))
    low, high = (7400 + 600 * steps).astype(np.uint16), (8000 + 600 * steps).astype(np.uint16)
    low[5, 5], low[9, 9] = 0, 65535
    for name, frame in (("a", low), ("b", high), ("c", np.full_like(low, 60000))):
        save(tmp_path / "ir" / f"{name}.png", frame)
        save(tmp_path / "vi" / f"{name}.png", np.zeros((24, 32), np.uint8))
    pairs = PairFolder(tmp_path)
    cool, hot, _ = (255 * pair.infrared[0].numpy() for pair in pairs)
    inside = np.ones_like(steps, bool)
    inside[5, 5] = inside[9, 9] = False
    np.testing.assert_allclose(cool[inside], (127.5 * steps)[inside], atol=0.3)
    np.testing.assert_allclose(hot, 127.5 + 127.5 * steps, atol=0.3)
    record, constant = caplog.records
    assert "c.png: this infrared picture is constant" in constant.getMessage()
    assert "infrared counts of 2 picture(s) from 7400 to 8600" in record.getMessage()
    assert "are stretched" in record.getMessage() and "of the file" in record.getMessage()
    assert pairs[0].bits == 16


@pytest.mark.parametrize(
    ("setting", "expected"), [("full", 8000 / 65535), ("7000:9000", 0.5), ("7900:7950", 1.0)]
)
def test_a_range_can_be_given(tmp_path, setting, expected):
    save(tmp_path / "ir" / "a.png", np.full((8, 8), 8000, np.uint16))
    save(tmp_path / "vi" / "a.png", np.zeros((8, 8), np.uint8))
    pair = PairFolder(tmp_path, infrared_range=setting)[0]
    assert pair.infrared.mean().item() == pytest.approx(expected, abs=1e-6)
    dark = read_pair(pair.infrared_path, pair.visible_path, infrared_range=setting, black_hot=True)
    assert dark.infrared.mean().item() == pytest.approx(1 - expected, abs=1e-6)


@pytest.mark.parametrize("text", ["", "low", "5", "9:5", "5:5", "nan:5", "0:inf", ":", "1:2:3"])
def test_other_ranges_are_refused(text):
    with pytest.raises(ValueError, match="the range must be auto, full, or LOW:HIGH"):
        radiometry.parse_range(text)


def test_12_bits_in_16_are_read_as_12(tmp_path, caplog):
    infrared = save(tmp_path / "ir" / "a.png", counts(12))
    visible = save(tmp_path / "vi" / "a.tif", counts(12))
    pair = read_pair(infrared, visible)
    for image in (pair.infrared, pair.visible):
        np.testing.assert_allclose(255 * image[0].numpy(), 255 * RAMP, atol=0.1)
    assert caplog.text.count("are read as 12 bits, so 4095 is white") == 2


def test_temperatures_are_stretched(tmp_path):
    infrared = save(tmp_path / "ir" / "a.tif", (-5 + 40 * RAMP).astype(np.float32))
    visible = save(tmp_path / "vi" / "a.png", counts(8).astype(np.uint8))
    np.testing.assert_allclose(255 * read_pair(infrared, visible).infrared[0], 255 * RAMP, atol=12)


def test_what_needs_no_range_is_left_alone(tmp_path, caplog):
    dark = save(tmp_path / "a.png", (100 + 20 * RAMP).astype(np.uint8))
    full = save(tmp_path / "b.png", counts(16))
    twelve = write_tiff(tmp_path / "c.tif", counts(12), 12)
    for path in (dark, full, twelve):
        assert radiometry.infrared_range([path]) is radiometry.visible_range([path]) is None
    assert not caplog.records


def test_a_range_that_was_chosen_is_not_for_8_bit_files(tmp_path):
    """A folder of both: counts of the one mean nothing in the other."""
    deep = save(tmp_path / "a.png", (7400 + 600 * RAMP).astype(np.uint16))
    flat = save(tmp_path / "b.png", counts(8).astype(np.uint8))
    chosen = radiometry.infrared_range([deep, flat])
    assert abs(levels(flat, value_range=chosen) - 255 * RAMP).max() < 0.51
    assert levels(deep, value_range=chosen).max() == 255


# --- what is refused


def test_what_is_not_read_says_so(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    Image.fromarray(counts(8, COLOR).astype(np.uint8)).convert("LAB").save(tmp_path / "lab.tif")
    apart = np.moveaxis(counts(16, COLOR), -1, 0)
    tifffile.imwrite(tmp_path / "apart.tif", apart, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "double.tif", RAMP)
    tifffile.imwrite(tmp_path / "dark.tif", RAMP.astype(np.float32), photometric="miniswhite")
    for name, says in (
        ("lab.tif", "pixels of Pillow mode 'LAB' are not read; convert the file to"),
        ("apart.tif", "16-bit color in a layout that is not read"),
        ("double.tif", "a TIFF of a kind that is not read"),
        ("dark.tif", "whose lowest is white have no known scale"),
    ):
        with pytest.raises(ImageError, match=f"{name}: .*{says}"):
            images.read_image(tmp_path / name)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float32])
def test_numbers_without_full_scale_are_stretched_as_infrared(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    steps = np.kron(np.linspace(0, 1, 48).reshape(6, 8), np.ones((4, 4)))
    tifffile.imwrite(tmp_path / "a.tif", (20000 + 10000 * steps).astype(kind))
    save(tmp_path / "v.png", np.zeros((24, 32), np.uint8))
    pair = read_pair(tmp_path / "a.tif", tmp_path / "v.png")
    np.testing.assert_allclose(pair.infrared[0].numpy(), steps, atol=1e-3)
