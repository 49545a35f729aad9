import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from jtr_lightning.data.files import (
    check_array,
    read_array,
    read_image,
    read_npy,
    read_npz,
    read_pixels,
    read_png,
)
from jtr_lightning.data.headers import stored_dtype
from jtr_lightning.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)


def png(path: Path, array: np.ndarray) -> Path:
    """Written by Pillow, so that reading is checked against another library."""
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "with space.png", "bücher_猫.png", "A.PNG", "b.tiff", "c.bmp"])
def test_an_image_is_read_in_rgb_order(tmp_path: Path, name: str) -> None:
    read = read_image(png(tmp_path / name, RGB))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, RGB)


def test_a_jpeg_is_read_in_rgb_order_and_as_it_is_stored(tmp_path: Path) -> None:
    red = np.zeros((16, 8, 3), np.uint8)
    red[..., 0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # 'turn me by 90 degrees'
    Image.fromarray(red).save(tmp_path / "a.jpg", exif=exif)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (16, 8, 3)
    assert np.abs(read.astype(int) - red).max() < 5


def test_grey_palette_alpha_and_16_bit_pictures_become_8_bit_rgb(tmp_path: Path) -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(read_image(png(tmp_path / "l.png", grey)), np.stack([grey] * 3, -1))
    Image.fromarray(RGB).quantize(256).save(tmp_path / "p.png")
    palette = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), palette)
    rgba = np.dstack([RGB, np.full((6, 8), 7, np.uint8)])
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", rgba)), RGB)
    np.testing.assert_array_equal(read_image(png(tmp_path / "d.png", DEEP))[..., 1], DEEP >> 8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped_and_changes_no_colour(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[1:3], alpha[3:] = 128, 7
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / f"a{suffix}", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), RGB)
    np.testing.assert_array_equal(read_array(tmp_path / f"a{suffix}")[..., :3], RGB)


def test_array_images_may_be_uint8_or_between_0_and_1(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", RGB)
    np.savez(tmp_path / "f.npz", RGB.astype(np.float64) / 255)
    np.testing.assert_array_equal(read_image(tmp_path / "u.npy"), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "f.npz"), RGB)
    np.save(tmp_path / "bad.npy", RGB.astype(np.float32))
    with pytest.raises(
        DataError, match=r"image '.*bad\.npy' should hold uint8, or .* in \[0, 1\]; found float32 from"
    ):
        read_image(tmp_path / "bad.npy")
    np.save(tmp_path / "nan.npy", np.full((2, 2, 3), np.nan))
    with pytest.raises(
        DataError, match=r"nan\.npy' should hold finite values; found NaN or infinity at 12 of 12"
    ):
        read_image(tmp_path / "nan.npy")


def test_labels_keep_their_raw_values(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_array(png(tmp_path / "d.png", DEEP)), DEEP)
    metres = RNG.random((6, 8), dtype=np.float32)
    cv2.imwrite(str(tmp_path / "m.tiff"), metres)
    np.testing.assert_array_equal(read_array(tmp_path / "m.tiff"), metres)
    np.save(tmp_path / "m.npy", metres[..., None])
    np.testing.assert_array_equal(read_array(tmp_path / "m.npy"), metres[..., None])


def test_a_palette_label_gives_its_indices_and_few_bits_their_values(tmp_path: Path) -> None:
    ids = RNG.integers(0, 4, (6, 8), dtype=np.uint8)
    coloured = Image.new("P", (8, 6))
    coloured.putdata(ids.ravel().tolist())
    coloured.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    coloured.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "p.png"), ids)
    png(tmp_path / "one.png", ids > 1)
    np.testing.assert_array_equal(read_pixels(tmp_path / "one.png"), ids > 1)
    buffer = io.BytesIO()
    Image.merge("LA", [Image.fromarray(ids), Image.fromarray(ids + 100)]).save(buffer, "PNG")
    (tmp_path / "la.png").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_pixels(tmp_path / "la.png"), ids)


class TestAsStored:
    """Values and places of pixels as the file has them, whatever the format and its notes."""

    @pytest.mark.parametrize("kind", ["tiff", "bmp"])
    def test_a_palette_gives_its_indices(self, tmp_path: Path, kind: str) -> None:
        ids = RNG.integers(0, 4, (6, 8), dtype=np.uint8)
        coloured = Image.new("P", (8, 6))
        coloured.putdata(ids.ravel().tolist())
        coloured.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        coloured.save(tmp_path / f"p.{kind}")
        np.testing.assert_array_equal(read_pixels(tmp_path / f"p.{kind}"), ids)
        np.testing.assert_array_equal(
            read_image(tmp_path / f"p.{kind}"), np.array(coloured.convert("RGB"))
        )  # a photograph keeps its colours

    @pytest.mark.parametrize("compression", ["raw", "group4", "tiff_lzw"])
    def test_a_tiff_of_single_bits_gives_0_and_1(self, tmp_path: Path, compression: str) -> None:
        mask = RNG.random((6, 8)) > 0.5
        Image.fromarray(mask).save(tmp_path / "m.tiff", compression=compression)
        read = read_pixels(tmp_path / "m.tiff")
        assert read.dtype == np.bool_  # of which 1 is the largest value, not 255
        np.testing.assert_array_equal(read, mask)
        np.testing.assert_array_equal(read_image(tmp_path / "m.tiff")[..., 0], mask * 255)

    def test_a_bmp_of_single_bits_gives_0_and_1(self, tmp_path: Path) -> None:
        mask = RNG.random((6, 8)) > 0.5
        Image.fromarray(mask).save(tmp_path / "m.bmp")
        np.testing.assert_array_equal(read_pixels(tmp_path / "m.bmp"), mask)

    def test_a_tiff_of_four_bits_gives_0_to_15(self, tmp_path: Path) -> None:
        values = np.arange(16, dtype=np.uint8).reshape(2, 8)
        (tmp_path / "n.tiff").write_bytes(four_bit_tiff(values))
        np.testing.assert_array_equal(read_pixels(tmp_path / "n.tiff"), values)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.tiff", "a.jpg", "a.png", "a.webp"])
    def test_an_orientation_turns_nothing(self, tmp_path: Path, name: str, orientation: int) -> None:
        picture = np.zeros((16, 24, 3), np.uint8)
        picture[:8, :8], picture[8:, :8] = 250, 120
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if name == "a.webp" else {}
        Image.fromarray(picture).save(tmp_path / name, exif=exif, **options)
        read = read_image(tmp_path / name).astype(int)
        assert read.shape == picture.shape
        assert np.abs(read - picture).max() < 5
        if name != "a.jpg":
            np.testing.assert_array_equal(read_pixels(tmp_path / name), picture)
        with Image.open(tmp_path / name) as noted:
            turned = np.array(ImageOps.exif_transpose(noted)).astype(int)
        upright = read_image(tmp_path / name, upright=True).astype(int)
        assert upright.shape == turned.shape
        assert np.abs(upright - turned).max() < 5

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("big", [False, True])
    def test_an_orientation_turns_no_label(
        self, tmp_path: Path, orientation: int, dtype: type, big: bool
    ) -> None:
        values = RNG.integers(0, 2, (6, 8)).astype(dtype)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(values).save(tmp_path / "a.tiff", exif=exif, big_tiff=big)
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.tiff"), values)


def four_bit_tiff(values: np.ndarray) -> bytes:
    """A little-endian TIFF of 4-bit grey values, two in a byte, as no library at hand writes it."""
    rows = (values[:, ::2] << 4 | values[:, 1::2]).tobytes()
    tags = {256: values.shape[1], 257: len(values), 258: 4, 259: 1, 262: 1, 273: 8, 278: len(values)}
    tags[279] = len(rows)
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + len(rows))
    return header + rows + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


class TestStoredDtype:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("ending", [".npy", ".npz", ".tiff"])
    def test_of_numbers(self, tmp_path: Path, dtype: type, ending: str) -> None:
        values = np.ones((6, 8), dtype)
        path = tmp_path / f"a{ending}"
        if ending == ".tiff":
            Image.fromarray(values).save(path)
        else:
            {".npy": np.save, ".npz": np.savez}[ending](path, values)
        assert stored_dtype(path) == np.dtype(dtype).name

    def test_of_one_array_among_several(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", first=np.ones(2, np.int64), second=np.ones(2, np.float16))
        assert stored_dtype(tmp_path / "a.npz", "second") == "float16"

    def test_of_pictures(self, tmp_path: Path) -> None:
        for name, array, expected in (
            ("deep.png", DEEP, "uint16"),
            ("rgb.png", RGB, "uint8"),
            ("rgb.tiff", RGB, "uint8"),
            ("rgb.jpg", RGB, "uint8"),
            ("rgb.webp", RGB, "uint8"),
            ("rgb.bmp", RGB, "uint8"),
            ("mask.png", RGB[..., 0] > 9, "1 bit"),
            ("mask.tiff", RGB[..., 0] > 9, "1 bit"),
        ):
            assert stored_dtype(png(tmp_path / name, array)) == expected, name
        for name in ("p.png", "p.tiff", "p.bmp"):
            Image.fromarray(RGB).quantize(200).save(tmp_path / name)
            assert stored_dtype(tmp_path / name) == "palette", name

    def test_nothing_is_told_of_what_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"no array")
        (tmp_path / "a.png").touch()
        assert [stored_dtype(tmp_path / name) for name in ("a.npy", "a.png", "none.npz")] == [""] * 3


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0,)])
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_an_array_without_values_is_refused(tmp_path: Path, shape: tuple[int, ...], ending: str) -> None:
    {".npy": np.save, ".npz": np.savez}[ending](tmp_path / f"a{ending}", np.zeros(shape, np.uint8))
    with pytest.raises(
        DataError, match=rf"a\{ending}' should hold values; found an empty array of the shape"
    ):
        read_array(tmp_path / f"a{ending}")


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "a.jpg", "a.webp"])
def test_a_truncated_picture_is_told_by_us_alone(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    big = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = png(tmp_path / name, big).read_bytes()
    for share in (0.4, 0.95):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="truncated"):
            read_image(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_a_png_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "d.png", DEEP)
    np.testing.assert_array_equal(read_png(path, np.uint16), DEEP)
    with pytest.raises(DataError, match=r"d\.png' should hold uint8 values; found uint16"):
        read_png(path, np.uint8)
    with pytest.raises(DataError, match=r"d\.png' should have the shape \[any, any, 3\]; found \[6, 8\]"):
        read_png(path, np.uint16, channels=3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["rgb.png", "palette.png", "photo.jpg", "a.npy", "a.npz"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    big = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if name == "a.npy":
        np.save(path, big)
    elif name == "a.npz":
        np.savez(path, big)
    elif name == "palette.png":
        Image.fromarray(big).quantize(256).save(path)
    else:
        Image.fromarray(big).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"'.*{name}'.*(empty|truncated)"):
        read_array(path)


def test_a_damaged_png_is_named(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png' should be a whole picture"):
        read_image(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "a.npy", "a.npz"):
        with pytest.raises(DataError, match=rf"'.*{name}' should be readable; found: No such file"):
            read_array(tmp_path / name)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(DataError, match=r"b\.png' should be readable; found: Is a directory"):
        read_image(tmp_path / "b.png")


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("mmap", [False, True])
def test_python_objects_are_never_unpickled(tmp_path: Path, mmap: bool) -> None:
    np.save(tmp_path / "o.npy", np.array([Bomb(tmp_path / "trace")], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", np.array([Bomb(tmp_path / "trace")], dtype=object))
    with pytest.raises(DataError, match=r"o\.npy'.*Python objects, which is never unpickled"):
        read_npy(tmp_path / "o.npy", mmap=mmap)
    with pytest.raises(DataError, match=r"o\.npz'.*Python objects, which is never unpickled"):
        read_npz(tmp_path / "o.npz")
    (tmp_path / "bare.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=r"bare\.npy' should be a NumPy \.npy file; found other content"):
        read_npy(tmp_path / "bare.npy", mmap=mmap)
    assert not (tmp_path / "trace").exists()


def test_a_mapped_array_is_read_only_and_not_in_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DEEP)
    mapped = read_npy(tmp_path / "a.npy", mmap=True)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, DEEP)


def test_an_npz_of_several_arrays_needs_a_key(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", depth=DEEP, other=RGB)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", "depth"), DEEP)
    with pytest.raises(DataError, match=r"a\.npz' should hold one array; found \['depth', 'other'\]"):
        read_array(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz' should hold an array 'normal'; found \['depth', 'other'\]"):
        read_npz(tmp_path / "a.npz", "normal")


def test_text_is_no_label(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(["chair"]))
    with pytest.raises(DataError, match=r"a\.npy' should hold real numbers; found dtype <U5"):
        read_npy(tmp_path / "a.npy")


def test_check_array_says_what_was_expected_and_found() -> None:
    check_array(DEEP, "x.png", (np.uint8, np.uint16), (6, None), finite=True)
    with pytest.raises(DataError, match=r"'x\.npy' should hold floating values; found uint16"):
        check_array(DEEP, "x.npy", (np.floating,))
    with pytest.raises(DataError, match=r"'x\.npy' should have the shape \[any, 9\]; found \[6, 8\]"):
        check_array(DEEP, "x.npy", shape=(None, 9))
    with pytest.raises(DataError, match=r"found NaN or infinity at 1 of 2 places"):
        check_array(np.array([1.0, np.inf]), "x.npy", finite=True)
