"""People's files in every format, and what happens to those that are wrong."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from dataloaders import DataError
from inference.image_files import match_pairs, read_depth, read_rgb

SIZE = (40, 60)


@pytest.fixture
def depth():
    """Sparse depth in whole millimetres, so that every format holds it exactly."""
    rng = np.random.default_rng(0)
    values = rng.integers(500, 9000, SIZE).astype(np.float32) / np.float32(1000)
    return np.where(rng.random(SIZE) < 0.05, values, 0).astype(np.float32)


def save_png(path, values):
    Image.fromarray(values.astype(np.uint16)).save(path)


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
    read = read_depth(tmp_path / f"a{suffix}", SIZE, scale=scale)
    assert read.depth.dtype == np.float32 and read.notes == []
    np.testing.assert_array_equal(read.depth, depth)


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
        read = read_depth(tmp_path / f"{name}.npy", SIZE, scale=scale)
        np.testing.assert_array_equal(read.depth, depth, err_msg=name)


def test_kittis_scale_is_256(tmp_path):
    save_png(tmp_path / "a.png", np.full(SIZE, 2560))
    assert (read_depth(tmp_path / "a.png", SIZE, scale=256).depth == 10).all()


def test_csv_needs_no_header_and_may_order_its_columns(depth, tmp_path):
    save_csv(tmp_path / "a.csv", depth, header="")
    np.testing.assert_array_equal(read_depth(tmp_path / "a.csv", SIZE).depth, depth)
    (tmp_path / "b.csv").write_text("\ufeffDepth, V ,u,note\n2.5,3,4,x\n\n1.5,39.4,59.4,y\n")
    read = read_depth(tmp_path / "b.csv", SIZE).depth
    assert read[3, 4] == 2.5 and read[39, 59] == 1.5 and np.count_nonzero(read) == 2


def test_of_points_in_one_pixel_the_nearest_stays_and_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("3,2,5\n3.2,2,1.5\n2.9,2.1,0\n3,2,4\n7,7,1\n")
    read = read_depth(tmp_path / "a.csv", SIZE)
    assert read.depth[2, 3] == 1.5 and np.count_nonzero(read.depth) == 2
    assert read.notes == ["2 points share a pixel with a nearer one, which was kept"]


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
    ("a.png", lambda p, d: claim_png(p, 60, 40), "damaged image"),
    ("a.png", lambda p, d: claim_png(p, 100_000, 100_000), "cannot be opened|claims"),
    ("a.png", lambda p, d: claim_png(p, 8192, 8192), "claims 67108864 pixels, more than"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, np.nan)), "holds 1 NaN or infinite values"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, np.inf)), "holds 1 NaN or infinite values"),
    ("a.npy", lambda p, d: np.save(p, d.astype(float) + 1e60), "2400 NaN or infinite values"),
    ("a.npy", lambda p, d: np.save(p, with_value(d, -2)), "negative depth, -2 m"),
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
        "line 3: u=60, v=2 lies outs.*1 oth",
    ),
    ("a.csv", lambda p, d: p.write_text("nan,2,3\n"), "line 1: u=nan, v=2 lies outside"),
    ("a.csv", lambda p, d: p.write_text("1,2,-3\n"), "line 1: depth -3 is not a distance"),
    ("a.csv", lambda p, d: p.write_text("1,2,inf\n"), "line 1: depth inf is not a distance"),
    ("a.csv", lambda p, d: p.write_bytes(b"\xff\xfe1,2,3"), "cannot be read as CSV"),
    ("a.csv", lambda p, d: p.write_text("1,2," + "3" * 200_000), "cannot be read as CSV"),
    ("a.exr", lambda p, d: p.write_bytes(b"no exr"), "needs the package OpenEXR|not a readable Op"),
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


def test_every_kind_of_photograph_becomes_three_bytes_a_pixel(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    grey = image.convert("L")
    opaque = image.convert("RGBA")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for name, picture, expected in (
        ("rgb.png", image, rgb),
        ("rgba.png", opaque, rgb),
        ("rgb.webp", opaque, None),
        ("photo.jpg", image, None),
        ("grey.png", grey, np.repeat(np.asarray(grey)[..., None], 3, 2)),
        ("grey16.png", wide, np.repeat(np.asarray(grey)[..., None], 3, 2)),
        ("palette.png", image.quantize(16), np.asarray(image.quantize(16).convert("RGB"))),
        ("cmyk.jpg", image.convert("CMYK"), None),
    ):
        picture.save(tmp_path / name)
        read = read_rgb(tmp_path / name)
        assert read.shape == (*SIZE, 3) and read.dtype == np.uint8, name
        if expected is not None:
            np.testing.assert_array_equal(read, expected, err_msg=name)


def test_a_photograph_of_sixteen_bits_a_channel_keeps_its_high_bytes(tmp_path):
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), rgb >> 8)


def test_the_orientation_in_exif_is_honoured(tmp_path):
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:20] = 255  # white above black
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    turned = read_rgb(tmp_path / "a.png")
    assert turned.shape == (60, 40, 3)
    assert (turned[:, 20:] == 255).all() and (turned[:, :20] == 0).all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image this reads"),
        (lambda p: p.write_bytes(b""), "not an image this reads"),
        (lambda p: claim_png(p, 8192, 8192, 8), "claims 67108864 pixels"),
        (lambda p: claim_png(p, 60, 40, 8), "damaged image"),
        (lambda p: p.mkdir(), "cannot be opened as an image"),
    ],
)
def test_wrong_photographs_get_a_sentence_that_names_them(make, sentence, tmp_path):
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=sentence) as caught:
        read_rgb(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(caught.value)


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_folders_are_paired_by_stem_and_the_rest_is_named(tmp_path):
    rgb = touch(tmp_path / "rgb", "b.jpg", "a.png", "alone.png", "note.txt", ".hidden.png")
    depth = touch(tmp_path / "depth", "a.npy", "b.csv", "other.png")
    pairs, left_out = match_pairs(rgb, depth)
    assert pairs == [(rgb / "a.png", depth / "a.npy"), (rgb / "b.jpg", depth / "b.csv")]
    assert left_out == sorted(map(str, (rgb / "alone.png", rgb / "note.txt", depth / "other.png")))


def test_what_cannot_be_paired_is_refused(tmp_path):
    rgb = touch(tmp_path / "rgb", "a.png", "a.jpg")
    depth = touch(tmp_path / "depth", "b.png")
    with pytest.raises(DataError, match="have one stem"):
        match_pairs(rgb, depth)
    (rgb / "a.jpg").unlink()
    with pytest.raises(DataError, match="no pairs"):
        match_pairs(rgb, depth)
    with pytest.raises(DataError, match="two files or two folders"):
        match_pairs(rgb, depth / "b.png")
