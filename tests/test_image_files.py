"""People's files in every format, and what happens to those that are wrong."""

import io
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dataloaders import DataError
from inference.image_files import read_depth, read_rgb

SIZE = (40, 60)


@pytest.fixture
def depth():
    """Sparse depth in whole millimetres, so that every format holds it exactly."""
    rng = np.random.default_rng(0)
    values = rng.integers(500, 9000, SIZE).astype(np.float32) / np.float32(1000)
    return np.where(rng.random(SIZE) < 0.05, values, 0).astype(np.float32)


def save_png(path, values):
    Image.fromarray(values.astype(np.uint16)).save(path)


def save_rgb16(path, values):
    cv2.imwrite(str(path), values.astype(np.uint16)[..., ::-1])


def save_csv(path, depth, header="u,v,depth\n"):
    rows, columns = np.nonzero(depth)
    lines = [f"{u},{v},{depth[v, u]:.6f}\n" for v, u in zip(rows, columns, strict=True)]
    path.write_text(header + "".join(lines))


def write(path, depth):
    """`depth` in the format of the path's suffix; returns the scale to read it with."""
    if path.suffix == ".png":
        save_png(path, np.rint(depth * 1000))
        return 1000
    if path.suffix == ".npy":
        np.save(path, depth)
    elif path.suffix == ".npz":
        np.savez_compressed(path, sparse_depth=depth, other=np.zeros(3))
    elif path.suffix == ".csv":
        save_csv(path, depth)
    else:
        exr = pytest.importorskip("OpenEXR", reason="the package OpenEXR is not installed")
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        exr.File(header, {"Z": depth}).write(str(path))
    return None


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".csv", ".exr"])
def test_every_format_gives_the_same_depth(suffix, depth, tmp_path):
    scale = write(tmp_path / f"a{suffix}", depth)
    read, notes = read_depth(tmp_path / f"a{suffix}", SIZE, scale=scale)
    assert read.dtype == np.float32 and notes == []
    np.testing.assert_array_equal(read, depth)


def test_arrays_of_other_types_and_layouts_are_read(depth, tmp_path):
    millimetres = np.rint(depth * 1000)
    for name, array, scale in (
        ("float64", depth.astype(np.float64), None),
        ("fortran", np.asfortranarray(depth), None),
        ("channel", depth[None], None),
        ("last", depth[..., None], None),
        ("uint16", millimetres.astype(np.uint16), 1000),
        ("big", millimetres.astype(">i4"), 1000),
        ("float millimetres", millimetres, 1000),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        read, _ = read_depth(tmp_path / f"{name}.npy", SIZE, scale=scale)
        np.testing.assert_array_equal(read, depth, err_msg=name)


def test_kittis_scale_is_256(tmp_path):
    save_png(tmp_path / "a.png", np.full(SIZE, 2560))
    assert (read_depth(tmp_path / "a.png", SIZE, scale=256)[0] == 10).all()


def test_csv_needs_no_header_and_may_order_its_columns(depth, tmp_path):
    save_csv(tmp_path / "a.csv", depth, header="")
    np.testing.assert_array_equal(read_depth(tmp_path / "a.csv", SIZE)[0], depth)
    (tmp_path / "b.csv").write_text("\ufeffDepth, V ,u,note\n2.5,3,4,x\n\n1.5,39.4,59.4,y\n")
    read, _ = read_depth(tmp_path / "b.csv", SIZE)
    assert read[3, 4] == 2.5 and read[39, 59] == 1.5 and np.count_nonzero(read) == 2


def test_of_points_in_one_pixel_the_nearest_stays_and_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("3,2,5\n3.2,2,1.5\n2.9,2.1,0\n3,2,4\n7,7,1\n")
    read, notes = read_depth(tmp_path / "a.csv", SIZE)
    assert read[2, 3] == 1.5 and np.count_nonzero(read) == 2
    assert notes == ["2 points dropped for a nearer one in the same pixel"]


def with_value(depth, value):
    depth = depth.copy()
    depth[3, 3] = value
    return depth


def npz(path, **arrays):
    np.savez(path, **arrays)


def claim_npy(path, shape, dtype="<f8"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def claim_png(path, width, height, depth_bits=16):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth_bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def zip_of_npy(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("depth.npy", content)


def npy_bytes(array, **flags):
    stream = io.BytesIO()
    np.save(stream, array, **flags)
    return stream.getvalue()


WRONG = [
    ("a.txt", lambda p, d: p.write_text("1"), "not a depth file this reads: .png, .npy"),
    ("a.npy", lambda p, d: None, "does not exist"),
    ("a.png", lambda p, d: save_png(p, d), "give the depth scale, values / scale = metres"),
    ("a.png", lambda p, d: Image.fromarray(d.astype(np.uint8)).save(p), "8-bit picture"),
    ("a.png", lambda p, d: Image.new("RGB", SIZE[::-1]).save(p), r"8-bit picture \(mode RGB\)"),
    ("a.png", lambda p, d: save_png(p, d.T), "is 40x60, its image 60x40"),
    ("a.png", lambda p, d: p.write_bytes(b"no picture"), "not an image this reads"),
    ("a.png", lambda p, d: claim_png(p, 60, 40), "not a readable .png file"),
    ("a.png", lambda p, d: claim_png(p, 100_000, 100_000), "cannot be opened|claims"),
    ("a.png", lambda p, d: claim_png(p, 16384, 8193), "claims 134234112 pixels, more than"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, np.nan)), "holds 1 NaN or infinite value,"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, np.inf)), "holds 1 NaN or infinite value,"),
    ("a.npy", lambda p, d: np.save(p, d.astype(float) + 1e60), "2400 NaN or infinite values"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, -2)), "negative values, down to -2 m"),
    ("a.npy", lambda p, d: np.save(p, d[:-1]), "is 60x39, its image 60x40"),
    ("a.npy", lambda p, d: np.save(p, d[0]), "is 60, its image"),
    ("a.npy", lambda p, d: np.save(p, np.float32(3)), "is a single number"),
    ("a.npy", lambda p, d: np.save(p, d > 0), "holds bool, expected numbers"),
    ("a.npy", lambda p, d: np.save(p, np.array([{}]), allow_pickle=True), "holds object"),
    ("a.npy", lambda p, d: claim_npy(p, (10**6, 10**7)), "is 10000000x1000000"),
    ("a.npy", lambda p, d: claim_npy(p, SIZE), "not a readable .npy file"),
    ("a.npy", lambda p, d: p.write_bytes(b"\x93NUMPY\x09\x00"), "not a readable .npy file"),
    ("a.npy", lambda p, d: p.write_bytes(b""), "not a readable .npy file"),
    ("a.npz", lambda p, d: npz(p, a=d, b=d), "must hold one array.*it holds a, b"),
    ("a.npz", lambda p, d: npz(p, depth=d, sparse_depth=d), "must hold one array"),
    ("a.npz", lambda p, d: p.write_bytes(b"PK\x03\x04 no archive"), "not a readable .npz"),
    ("a.npz", lambda p, d: zip_of_npy(p, npy_bytes(d)[:-9]), "not a readable .npz"),
    (
        "a.npz",
        lambda p, d: zip_of_npy(p, npy_bytes(np.array([print]), allow_pickle=True)),
        "holds object",
    ),
    (
        "a.csv",
        lambda p, d: p.write_text("u,v,depth\n1,2\n"),
        "line 2: expected u,v,depth, got '1,2'",
    ),
    (
        "a.csv",
        lambda p, d: p.write_text("x,y,z\n1,2,3\n"),
        "line 1: expected u,v,depth, got 'x,y,z'",
    ),
    ("a.csv", lambda p, d: p.write_text("1;2;3\n"), "line 1: expected u,v,depth"),
    ("a.csv", lambda p, d: p.write_text("u,v,depth\n"), "holds no point"),
    (
        "a.csv",
        lambda p, d: p.write_text("1,2,3\n\n60,2,3\n9,40,3\n"),
        "has 2 points of 3 outside of the image of 60x40 .*line 3: u=60, v=2$",
    ),
    ("a.csv", lambda p, d: p.write_text("nan,2,3\n"), "line 1: expected u,v,depth, got 'nan,2,3'"),
    ("a.csv", lambda p, d: p.write_text("1,2,-3\n"), "line 1: depth -3 is not a distance"),
    ("a.csv", lambda p, d: p.write_text("1,2,inf\n"), "line 1: depth inf is not a distance"),
    ("a.csv", lambda p, d: p.write_bytes(b"\xff\xfe1,2,3"), "not a readable .csv file"),
    (
        "a.csv",
        lambda p, d: p.write_text("1,2," + "3" * 200_000),
        "line 1: expected u,v,depth, got '1,2,333",
    ),
    ("a.csv", lambda p, d: p.write_text("0,10,20,1.5\n1,11,21,1.6\n"), "4 columns and no header"),
    ("a.csv", lambda p, d: p.write_text("u,v,depth\n0,9,20,1.5\n"), "line 2 has 4 cells, .* 3"),
    ("a.csv", lambda p, d: p.write_text("1,2,3\n\n4,5,6,7\n"), "not a readable .csv .*line 3"),
    ("a.csv", lambda p, d: p.write_text("1,2,2500\n"), "depth reaches 2500, expected metres"),
    ("a.png", lambda p, d: save_rgb16(p, np.dstack([d, d, d + 1])), "16-bit channels that differ"),
    (
        "a.exr",
        lambda p, d: p.write_bytes(b"no exr"),
        "needs the package OpenEXR|not a readable .exr",
    ),
]


@pytest.mark.parametrize(("name", "make", "sentence"), WRONG)
def test_wrong_depth_files_get_a_sentence_that_names_them(name, make, sentence, depth, tmp_path):
    make(tmp_path / name, depth)
    with pytest.raises(DataError, match=sentence) as caught:
        read_depth(tmp_path / name, SIZE)
    assert str(tmp_path / name) in str(caught.value)


def test_wrong_scales_are_refused(depth, tmp_path):
    np.save(tmp_path / "a.npy", depth)
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(DataError, match="scale must be a positive number"):
            read_depth(tmp_path / "a.npy", SIZE, scale=scale)


def test_a_depth_png_of_three_equal_channels_is_read(depth, tmp_path):
    save_rgb16(tmp_path / "a.png", np.repeat(np.rint(depth * 1000)[..., None], 3, 2))
    read, notes = read_depth(tmp_path / "a.png", SIZE, scale=1000)
    np.testing.assert_array_equal(read, depth)
    assert notes == []


def test_points_over_the_edge_are_left_out_with_their_count(tmp_path):
    """60x40 pixels reach from -0.5 to 59.5 and 39.5; where the first pixel's centre is (0.5, 0.5)
    coordinates end at 60 and 40."""
    (tmp_path / "a.csv").write_text("59.6,20,1.5\n59.4,39.4,2\n-0.4,0,3\n10,40,4\n9,9,5\n8,8,6\n")
    read, notes = read_depth(tmp_path / "a.csv", SIZE)
    assert (read[39, 59], read[0, 0], read[9, 9], read[8, 8]) == (2, 3, 5, 6)
    assert np.count_nonzero(read) == 4
    assert len(notes) == 1
    assert notes[0].startswith("left out 2 points of 6 outside of the image of 60x40 (width x heig")
    assert notes[0].endswith("such as line 1: u=59.6, v=20")


def test_a_named_index_column_and_numbered_columns_are_not_taken_for_coordinates(tmp_path):
    (tmp_path / "a.csv").write_text(",u,v,depth\n0,10,20,1.5\n1,11,21,1.6\n")
    read, _ = read_depth(tmp_path / "a.csv", SIZE)
    assert read[20, 10] == np.float32(1.5) and read[21, 11] == np.float32(1.6)
    (tmp_path / "b.csv").write_text("0,1,2\n10,20,1.5\n")
    _, notes = read_depth(tmp_path / "b.csv", SIZE)
    assert notes == ["its first line 0,1,2 is read as a point"]


def test_a_file_that_is_read_in_another_unit_says_so(tmp_path):
    values = np.full(SIZE, 2000)
    values[0, :5] = 65535
    save_png(tmp_path / "a.png", values)
    read, notes = read_depth(tmp_path / "a.png", SIZE, scale=1000)
    assert notes == ["5 values of 65535, the type's largest, read as no measurement"]
    assert not read[0, :5].any() and (read[1:] == 2).all()


RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
PHOTO = Image.fromarray(RGB)
GRAY = np.asarray(PHOTO.convert("L"))
GRAY_NOTE = "the photograph is gray, the network was trained with colours"


@pytest.mark.parametrize(
    ("name", "picture", "expected", "note"),
    [
        ("rgb.png", PHOTO, RGB, None),
        ("rgb.tif", PHOTO, RGB, None),
        ("photo.jpg", PHOTO, None, None),
        ("rgba.png", PHOTO.convert("RGBA"), RGB, "its transparency is dropped"),
        ("rgb.webp", PHOTO, None, None),
        ("gray.png", PHOTO.convert("L"), np.dstack([GRAY] * 3), GRAY_NOTE),
        ("gray.jpg", PHOTO.convert("L"), None, GRAY_NOTE),
        ("bits.png", PHOTO.convert("1"), None, GRAY_NOTE),
        ("gray16.png", Image.fromarray(GRAY.astype("u2") * 257), np.dstack([GRAY] * 3), GRAY_NOTE),
        ("palette.png", PHOTO.quantize(16), np.asarray(PHOTO.quantize(16).convert("RGB")), None),
        ("cmyk.jpg", PHOTO.convert("CMYK"), None, "its CMYK colours are converted"),
    ],
)
def test_every_kind_of_photograph_becomes_three_bytes_a_pixel(
    name, picture, expected, note, tmp_path
):
    picture.save(tmp_path / name)
    read, notes = read_rgb(tmp_path / name)
    assert read.shape == (*SIZE, 3) and read.dtype == np.uint8
    assert [text[: len(note)] for text in notes] == [note] if note else notes == []
    if expected is not None:
        np.testing.assert_array_equal(read, expected)


def test_of_several_pictures_in_a_file_the_first_is_read_and_that_is_said(tmp_path):
    for name in ("a.tif", "a.png", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        others = [PHOTO.rotate(180), PHOTO.rotate(90)]
        PHOTO.save(tmp_path / name, save_all=True, append_images=others, **options)
        read, notes = read_rgb(tmp_path / name)
        np.testing.assert_array_equal(read, RGB, err_msg=name)
        assert notes == ["the first of its 3 pictures is read"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_of_a_sensor_in_sixteen_are_not_read_as_black(suffix, bits, tmp_path):
    rgb = RGB.astype(np.uint16) << (bits - 8)
    rgb[0, 0] = 2**bits - 1
    for values in (rgb, rgb[..., 1]):
        if values.ndim == 3:
            save_rgb16(tmp_path / f"a{suffix}", values)
        else:
            Image.fromarray(values).save(tmp_path / f"a{suffix}")
        read, notes = read_rgb(tmp_path / f"a{suffix}")
        expected = values if values.ndim == 3 else np.dstack([values] * 3)
        np.testing.assert_array_equal(read, expected >> (bits - 8))
        said = f"its 16 bits are read as {bits}, since the others are empty"
        assert (said in notes) == (bits < 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "sixteen.png"])
def test_the_orientation_in_exif_is_honoured_and_said(orientation, name, tmp_path):
    stored = np.zeros((*SIZE, 3), np.uint8)
    stored[:8, :16], stored[32:, 48:] = (255, 0, 0), (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / name, exif=exif)
    if name == "sixteen.png":
        with_exif = (tmp_path / name).read_bytes()
        start = with_exif.index(b"eXIf") - 4
        chunk = with_exif[start : start + 12 + int.from_bytes(with_exif[start : start + 4], "big")]
        save_rgb16(tmp_path / name, stored.astype(np.uint16) * 257)
        plain = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(plain[:33] + chunk + plain[33:])
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name).convert("RGB")))
    read, notes = read_rgb(tmp_path / name)
    assert read.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(read, upright)
    assert len(notes) == (orientation > 1)
    if notes:
        assert f"turned as its EXIF orientation {orientation} says; depth and" in notes[0]


def test_depth_of_a_photograph_that_exif_turned_gets_the_way_out(depth, tmp_path):
    np.save(tmp_path / "a.npy", depth)
    with pytest.raises(
        DataError, match=r"is 60x40, its image 40x60 .*; turn the depth likewise, or"
    ):
        read_depth(tmp_path / "a.npy", SIZE[::-1])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image this reads"),
        (lambda p: p.write_bytes(b""), "not an image this reads"),
        (lambda p: claim_png(p, 16384, 8193, 8), "claims 134234112 pixels"),
        (lambda p: claim_png(p, 60, 40, 8), "damaged image"),
        (lambda p: p.mkdir(), "cannot be opened as an image"),
    ],
)
def test_wrong_photographs_get_a_sentence_that_names_them(make, sentence, tmp_path):
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=sentence) as caught:
        read_rgb(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(caught.value)
