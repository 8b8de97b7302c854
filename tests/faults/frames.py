"""Malformed frames: HDF5 files that are damaged, wrong, hostile, or no HDF5 at all."""

import random
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from dataloaders import DataError
from dataloaders.hdf5 import read_frame
from tests.faults.cases import Case

NAME = "00001.h5"
SIZE = (48, 64)
UNREADABLE = (NAME, "is not a readable HDF5 file")


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, *SIZE)).astype(np.uint8)
    return rgb, rng.uniform(0.5, 9, SIZE).astype(np.float32)


RGB, DEPTH = _arrays()


def write(folder: Path, rgb=RGB, depth=DEPTH, libver="earliest", **options) -> Path:
    """A frame, with the storage `options` of h5py for both arrays; None leaves an array out."""
    path = folder / NAME
    with h5py.File(path, "w", libver=libver) as file:
        for key, value in (("rgb", rgb), ("depth", depth)):
            if value is not None:
                file.create_dataset(key, data=value, **options)
    return path


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return read_frame(folder / NAME)


def keeps_contract(frame: tuple[np.ndarray, np.ndarray]) -> bool:
    """The promise of `read_frame`, for whatever it returned."""
    rgb, depth = frame
    return (
        rgb.dtype == np.uint8
        and rgb.shape == (3, *depth.shape)
        and depth.dtype == np.float32
        and bool(np.isfinite(depth).all())
        and bool((depth >= 0).all())
    )


def frame_cases() -> Iterator[Case]:
    """All malformed frames."""
    yield from _damaged()
    yield from _of_wrong_type()
    yield from _of_wrong_shape()
    yield from _with_wrong_members()
    yield from _with_wrong_values()
    yield from _links()
    yield from _bombs()
    yield from _no_hdf5()


def _case(kind: str, name: str, make: Callable[[Path], object], *words: str, fine=None) -> Case:
    return Case(f"frame: {kind}", name, make, read, DataError, (NAME, *words), fine)


STORAGES = {
    "plain": {},
    "gzip": {"compression": "gzip", "shuffle": True, "chunks": True},
    "checked": {"compression": "gzip", "fletcher32": True, "chunks": True},
}


def _altered(folder: Path, storage: str, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path = write(folder, **STORAGES[storage])
    path.write_bytes(change(bytearray(path.read_bytes())))


def _damaged() -> Iterator[Case]:
    for storage, count in (("plain", 12), ("gzip", 24)):
        for i in range(count):
            yield _case(
                "truncated",
                f"{storage} cut to {i}/{count}",
                partial(_altered, storage=storage, change=partial(_cut, share=i / count)),
                "is not a readable HDF5 file",
            )
    for storage, count in (("plain", 20), ("gzip", 40), ("checked", 60)):
        for seed in range(count):
            # Pixels of plain storage carry no checksum: another pixel is all that may come of it.
            yield _case(
                "bit flips",
                f"{storage} flip {seed}",
                partial(_altered, storage=storage, change=partial(_flip, seed=seed)),
                fine=keeps_contract,
            )
    for storage in STORAGES:
        for seed in range(8):
            yield _case(
                "overwritten",
                f"{storage} overwritten {seed}",
                partial(_altered, storage=storage, change=partial(_overwrite, seed=seed)),
                fine=keeps_contract,
            )


def _cut(content: bytearray, share: float) -> bytearray:
    return content[: int(len(content) * share)]


def _flip(content: bytearray, seed: int) -> bytearray:
    """One bit: for three seeds of four in the first 4 kB, where the metadata begins."""
    rng = random.Random(seed)
    end = len(content) if seed % 4 == 0 else min(4096, len(content))
    content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return content


def _overwrite(content: bytearray, seed: int) -> bytearray:
    rng = random.Random(seed)
    start, length = rng.randrange(len(content)), rng.choice((16, 512, 4096))
    content[start : start + length] = bytes(length) if seed % 2 else rng.randbytes(length)
    return content


def _of_wrong_type() -> Iterator[Case]:
    reference = h5py.special_dtype(ref=h5py.Reference)
    kinds = {
        "int8": "i1",
        "uint16": "u2",
        "int32": "i4",
        "uint64": "u8",
        "bool": "?",
        "complex": "c8",
        "string": "S4",
        "compound": [("a", "f4"), ("b", "u1")],
        "array in compound": [("a", "f4", (3,))],
        "opaque": "V4",
        "text of any length": h5py.string_dtype(),
        "lists of any length": h5py.vlen_dtype(np.float32),
        "references": reference,
        "enumeration": h5py.enum_dtype({"a": 1, "b": 2}, basetype="i2"),
    }
    for name, dtype in kinds.items():
        for key in ("rgb", "depth"):
            yield _case(
                "wrong type",
                f"{key} of {name}",
                partial(_with_type, key=key, dtype=dtype),
                f"{key} must be",
            )
    for dtype in ("f2", "f4", "f8"):
        yield _case(
            "wrong type", f"rgb of {dtype}", partial(_with_type, key="rgb", dtype=dtype), "rgb must"
        )
    yield _case(
        "wrong type", "depth of bytes", partial(_with_type, key="depth", dtype="u1"), "must"
    )


def _with_type(folder: Path, key: str, dtype) -> None:
    path = write(folder, **{key: None})
    with h5py.File(path, "a") as file:
        shape = (3, *SIZE) if key == "rgb" else SIZE
        data = file.create_dataset(key, shape, dtype, chunks=shape)
        kind = np.dtype(dtype).kind
        if kind in "iufcb":
            data[...] = 1
        elif kind in "SV":
            data[...] = np.zeros(shape, dtype)
        elif h5py.check_string_dtype(data.dtype):
            data[...] = "text"
        elif h5py.check_ref_dtype(data.dtype):
            data[(0,) * len(shape)] = file.ref
        else:
            data[(0,) * len(shape)] = np.ones(2, np.float32)


def _of_wrong_shape() -> Iterator[Case]:
    h, w = SIZE
    for shape in ((h, w, 3), (1, h, w), (4, h, w), (h, w), (3,), (), (1, 3, h, w), (3, h), (0,)):
        rgb = np.ones(shape, np.uint8)
        yield _case("wrong shape", f"rgb {shape}", partial(write, rgb=rgb), "rgb must be (3, H, W)")
    for shape in ((1, h, w), (h, w, 1), (w, h), (h + 1, w), (h, w - 1), (h * w,), (), (0, 0)):
        depth = np.ones(shape, np.float32)
        yield _case("wrong shape", f"depth {shape}", partial(write, depth=depth), "depth must be")
    for shape in ((0, w), (h, 0), (0, 0)):
        make = partial(write, rgb=np.ones((3, *shape), np.uint8), depth=np.ones(shape, np.float32))
        yield _case("wrong shape", f"both {shape}", make, "has no pixels")
    for key, dtype in (("rgb", "u1"), ("depth", "f4")):
        make = partial(write, **{key: h5py.Empty(dtype)})
        yield _case("wrong shape", f"{key} without a shape", make, f"{key} must be")


def _with_wrong_members() -> Iterator[Case]:
    yield _case("missing", "no rgb", partial(write, rgb=None), "no dataset rgb, only: depth")
    yield _case("missing", "no depth", partial(write, depth=None), "no dataset depth, only: rgb")
    yield _case("missing", "neither", partial(write, rgb=None, depth=None), "only: none")
    for name, (old, new) in {
        "capital RGB": ("rgb", "RGB"),
        "rgb called image": ("rgb", "image"),
        "depth called depths": ("depth", "depths"),
        "depth with a space": ("depth", "depth "),
        "depth in a group": ("depth", "frame/depth"),
        "depth with a line break": ("depth", "dep\nth"),
    }.items():
        yield _case("missing", name, partial(_renamed, old=old, new=new), f"no dataset {old}")
    yield _case("missing", "3000 other members", _many_members, "no dataset depth", "...")
    for key in ("rgb", "depth"):
        yield _case("missing", f"{key} is a group", partial(_group, key=key), "plain dataset")
        yield _case("missing", f"{key} is a type", partial(_type, key=key), "plain dataset")
        yield _case("missing", f"{key} unwritten", partial(_unwritten, key=key), "never written")


def _renamed(folder: Path, old: str, new: str) -> None:
    with h5py.File(write(folder), "a") as file:
        file[new] = file[old]
        del file[old]


def _many_members(folder: Path) -> None:
    with h5py.File(write(folder, depth=None), "a") as file:
        for i in range(3000):
            file.create_group(f"member {i}")


def _group(folder: Path, key: str) -> None:
    with h5py.File(write(folder, **{key: None}), "a") as file:
        file.create_group(key)


def _type(folder: Path, key: str) -> None:
    with h5py.File(write(folder, **{key: None}), "a") as file:
        file[key] = np.dtype("f4")


def _unwritten(folder: Path, key: str) -> None:
    with h5py.File(write(folder, **{key: None}), "a") as file:
        file.create_dataset(
            key, (3, *SIZE) if key == "rgb" else SIZE, "u1" if key == "rgb" else "f4"
        )


def _with_wrong_values() -> Iterator[Case]:
    values = {
        "NaN": (np.nan, "NaN or infinite"),
        "infinity": (np.inf, "NaN or infinite"),
        "minus infinity": (-np.inf, "NaN or infinite"),
        "1e300": (1e300, "NaN or infinite"),
        "a little below 0": (-1e-6, "negative"),
        "far below 0": (-1e30, "negative"),
        "millimetres": (4500, "expected metres"),
        "1e30": (1e30, "expected metres"),
    }
    for name, (value, words) in values.items():
        for everywhere in (False, True):
            depth = DEPTH.astype(np.float64)
            depth[slice(None) if everywhere else (5, 7)] = value
            where = "everywhere" if everywhere else "in one pixel"
            yield _case("wrong values", f"{name} {where}", partial(write, depth=depth), words)
    half = DEPTH.astype(np.float16)
    half[3, 4] = np.inf
    yield _case("wrong values", "infinity in 16 bits", partial(write, depth=half), "infinite")


def _links() -> Iterator[Case]:
    other = "other.h5"
    links = {
        "soft": lambda: h5py.SoftLink("/rgb"),
        "dangling": lambda: h5py.SoftLink("/nowhere"),
        "to itself": lambda: h5py.SoftLink("/depth"),
        "to another file": lambda: h5py.ExternalLink(other, "depth"),
        "to /etc/passwd": lambda: h5py.ExternalLink("/etc/passwd", "depth"),
    }
    for name, link in links.items():
        yield _case("links", name, partial(_linked, link=link), "link to another place")
    yield _case("links", "virtual", partial(_virtual, source=other), "not a plain dataset")
    yield _case("links", "virtual of nothing", partial(_virtual, source="no.h5"), "not a plain")
    yield _case("links", "outside storage", _outside, "not a plain dataset")


def _linked(folder: Path, link: Callable[[], object]) -> None:
    write(folder).rename(folder / "other.h5")
    with h5py.File(write(folder, depth=None), "a") as file:
        file["depth"] = link()


def _virtual(folder: Path, source: str) -> None:
    write(folder).rename(folder / "other.h5")
    layout = h5py.VirtualLayout(SIZE, "f4")
    layout[:] = h5py.VirtualSource(str(folder / source), "depth", SIZE, "f4")
    with h5py.File(write(folder, depth=None), "a") as file:
        file.create_virtual_dataset("depth", layout)


def _outside(folder: Path) -> None:
    (folder / "depth.bin").write_bytes(DEPTH.tobytes())
    with h5py.File(write(folder, depth=None), "a") as file:
        place = [(str(folder / "depth.bin"), 0, DEPTH.nbytes)]
        file.create_dataset("depth", SIZE, "f4", external=place)


def _bombs() -> Iterator[Case]:
    yield _case("bombs", "claims 480 billion values", _huge, "values, more than")
    yield _case("bombs", "pieces of 400 million values", _huge_pieces, "stored in pieces of")
    yield _case("bombs", "a piece that unpacks to 1 GB", _unpacks, "bytes compressed, at most")
    yield _case("bombs", "compressed twice", _twice, "compressed more than once")
    for name, make in {"5000 attributes": _attributes, "a large attribute": _attribute}.items():
        yield _case("bombs", name, make, fine=keeps_contract)


def _huge(folder: Path) -> None:
    with h5py.File(write(folder, rgb=None), "a") as file:
        file.create_dataset("rgb", (3, 400_000, 400_000), "u1", chunks=(1, 512, 512))


def _huge_pieces(folder: Path) -> None:
    options = {"chunks": (20_000, 20_000), "maxshape": (None, None), "compression": "gzip"}
    with h5py.File(write(folder, depth=None), "a") as file:
        data = file.create_dataset("depth", SIZE, "f4", **options)
        data.id.write_direct_chunk((0, 0), zlib.compress(bytes(4 * 64)))


def _unpacks(folder: Path) -> None:
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    with h5py.File(write(folder, depth=None), "a") as file:
        data = file.create_dataset("depth", SIZE, "f4", chunks=SIZE, compression="gzip")
        data.id.write_direct_chunk((0, 0), packed)


def _twice(folder: Path) -> None:
    with h5py.File(write(folder, depth=None), "a") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(SIZE)
        creation.set_deflate(9)
        creation.set_deflate(9)
        space = h5py.h5s.create_simple(SIZE)
        data = h5py.h5d.create(file.id, b"depth", h5py.h5t.IEEE_F32LE, space, creation)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, DEPTH)


def _attributes(folder: Path) -> None:
    with h5py.File(write(folder, libver="latest"), "a", libver="latest") as file:
        for i in range(5000):
            file["depth"].attrs[f"attribute {i}"] = i


def _attribute(folder: Path) -> None:
    with h5py.File(write(folder, libver="latest"), "a", libver="latest") as file:
        file["rgb"].attrs["large"] = np.zeros(8_000_000, np.uint8)


def _no_hdf5() -> Iterator[Case]:
    signature = b"\x89HDF\r\n\x1a\n"
    contents = {
        "an empty file": b"",
        "a text": b"rgb and depth\n" * 100,
        "random bytes": random.Random(1).randbytes(5000),
        "zeros": bytes(5000),
        "a signature alone": signature,
        "a signature and noise": signature + random.Random(2).randbytes(5000),
        "a PNG's beginning": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "a NumPy file's beginning": b"\x93NUMPY\x01\x00" + bytes(1000),
        "a web page": b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
    }
    for name, content in contents.items():
        yield Case(
            "frame: no HDF5", name, partial(_bytes, content=content), read, DataError, UNREADABLE
        )
    yield Case("frame: no HDF5", "a folder", _folder, read, DataError, (NAME, "cannot be read"))
    yield Case("frame: no HDF5", "nothing", lambda folder: None, read, DataError, (NAME, "exist"))
    yield Case("frame: no HDF5", "a broken link", _broken_link, read, DataError, (NAME, "exist"))


def _bytes(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)


def _folder(folder: Path) -> None:
    (folder / NAME).mkdir()


def _broken_link(folder: Path) -> None:
    (folder / NAME).symlink_to(folder / "nowhere.h5")
