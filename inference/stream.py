"""A recording from its first frame to its last: reading, network and writing at the same time.

One thread reads ahead, this one runs the network, another writes behind; a few frames are under way
at once, so that memory does not grow with the recording. A result gets its name when it is whole,
and a frame whose results are all there is not read again.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dataloaders.errors import DataError, counted
from engine.errors import OptionError
from engine.files import replace_text, whole_file
from engine.progress import progress
from inference.point_cloud import PlyWriter, vertices_of, without_flying_pixels
from inference.predictor import Prediction, Predictor
from inference.sources.frames import Frame, Source, require

AHEAD = 3  # frames read before the network wants them, and results not yet written
_END = object()


@dataclass
class Outcome:
    """What became of a recording.

    done, skipped: frames completed now, and by an earlier run. bad: sentences, one for each frame
    that could not be used. seconds: of the whole. network: of the network alone.
    """

    done: int = 0
    skipped: int = 0
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0
    network: float = 0.0

    def __str__(self) -> str:
        parts = [f"{counted(self.done, 'frame')} in {self.seconds:.1f} s"]
        if self.done:
            parts[0] += f", {self.done / self.seconds:.1f} a second"
            alone = self.network / self.done
            parts.append(
                f"the network alone {1000 * alone:.0f} ms a frame, {1 / alone:.1f} a second"
            )
        parts += [f"{self.skipped} were there already"] * bool(self.skipped)
        parts += [f"{len(self.bad)} left out, as said above"] * bool(self.bad)
        return "; ".join(parts)


def run_stream(
    source: Source,
    predictor: Predictor,
    results: "Results",
    *,
    sentence: Callable[[Exception], str | None] = lambda error: None,
    say: Callable[[str], None] = tqdm.write,
) -> Outcome:
    """Complete the depth of every frame of a recording and write it.

    Args:
        results: what is written, by one thread that closes it at the end.
        sentence: turns what a frame's prediction raised into a sentence and the stream goes on,
            into None and the error is raised.
        say: prints a line beside the progress bar.

    Raises:
        DataError: the recording cannot be read any further; what was read is written.
    """
    outcome, began = Outcome(), time.perf_counter()

    def report(name: str, error: Exception) -> None:
        outcome.bad.append(str(error))
        say(f"left out: {error}")

    def skip(name: str) -> bool:
        there = results.has(name)
        outcome.skipped += there
        return there

    frames = source.frames(skip=skip, report=report)
    writing: deque = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        bar = progress(_ahead(frames, reader), label="frames", unit="frame", total=source.length)
        try:
            for frame in bar:
                start = time.perf_counter()
                try:
                    prediction = predictor(frame.rgb, frame.sparse_depth)
                except Exception as error:
                    if (words := sentence(error)) is None:
                        raise
                    report(frame.name, DataError(f"{source.path}, frame {frame.name}: {words}"))
                    continue
                outcome.network += time.perf_counter() - start
                writing.append(writer.submit(results.write, frame, prediction))
                if len(writing) > AHEAD:
                    writing.popleft().result()
                outcome.done += 1
            for written in writing:
                written.result()
        finally:
            writer.submit(results.close).result()
    outcome.seconds = time.perf_counter() - began
    return outcome


def _ahead(items: Iterator, pool: ThreadPoolExecutor) -> Iterator:
    """Yield what an iterator does, taken from it ahead of time by the one thread of `pool`."""
    waiting = deque(pool.submit(next, items, _END) for _ in range(AHEAD))
    while (item := waiting.popleft().result()) is not _END:
        waiting.append(pool.submit(next, items, _END))
        yield item


class Maps:
    """A file of each frame's depth: `<folder>/<name><suffix>`, written by `encode(path, depth)`."""

    per_frame = True

    def __init__(self, folder: Path, suffix: str, encode: Callable[[Path, np.ndarray], object]):
        self.folder, self.suffix, self.encode = folder, suffix, encode
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}{self.suffix}").is_file()

    def write(self, frame: Frame, prediction: Prediction) -> None:
        with whole_file(self.folder / f"{frame.name}{self.suffix}") as part:
            self.encode(part, prediction.depth)

    def close(self) -> None:
        pass


class TumFolder(Maps):
    """The layout of TUM RGB-D: `depth/<time>.png` of 1 / 5000 m, and `depth.txt` that lists them;
    frames without a time stamp are listed by their name."""

    def __init__(self, out: Path):
        super().__init__(out / "depth", ".png", lambda path, depth: _save_png(path, depth, 5000))

    def close(self) -> None:
        files = sorted(self.folder.glob("[!.]*.png"))
        lines = [f"{file.stem} depth/{file.name}" for file in files]
        text = "# depth maps, metres = value / 5000\n" + "".join(f"{line}\n" for line in lines)
        replace_text(self.folder.parent / "depth.txt", text)


class SideBySide:
    """A video of image and depth; one that was interrupted is followed by another, which its first
    frame gives the name."""

    per_frame = False

    def __init__(self, out: Path, fps: float = 15.0):
        self.ffmpeg = require("imageio_ffmpeg", "writing a video")
        self.out, self.fps, self.stream, self.ends = out, fps, None, None

    def write(self, frame: Frame, prediction: Prediction) -> None:
        known = prediction.depth[prediction.depth > 0]
        if self.ends is None:  # the colour scale of the first frame is that of all
            self.ends = np.quantile(known, (0.01, 0.99)) if known.size else (0.0, 1.0)
        low, high = self.ends
        scaled = np.clip((prediction.depth - low) / max(high - low, 1e-6), 0, 1) * 255
        colors = cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        picture = np.hstack([frame.rgb, colors])
        height, width = (length - length % 2 for length in picture.shape[:2])  # H.264 wants it
        if self.stream is None:
            path = self.out / f"side_by_side_{frame.name}.mp4"
            self.stream = self.ffmpeg.write_frames(
                str(path), (width, height), fps=self.fps, macro_block_size=2
            )
            self.stream.send(None)
            self.size = (height, width)
        if (height, width) != self.size:
            picture = cv2.resize(picture, self.size[::-1])
        self.stream.send(np.ascontiguousarray(picture[: self.size[0], : self.size[1]]))

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()


class World:
    """One cloud of all frames, `cloud.ply`, in the world of their poses; every `step`-th row and
    column. Flying pixels are treated as `flying` says; see `point_cloud.without_flying_pixels`."""

    per_frame = False

    def __init__(self, out: Path, step: int = 4, flying: str = "drop"):
        self.path, self.step, self.flying, self.file = out / "cloud.ply", step, flying, None

    def write(self, frame: Frame, prediction: Prediction) -> None:
        if frame.intrinsics is None or frame.pose is None:
            missing = "intrinsics" if frame.intrinsics is None else "pose"
            raise DataError(
                f"frame {frame.name} has no {missing}, which a cloud of all frames needs"
            )
        if self.file is None:
            self.file = PlyWriter(self.path)
        depth = without_flying_pixels(
            prediction.depth, frame.intrinsics, prediction.error, self.flying
        )
        thinned = np.zeros_like(depth)
        thinned[:: self.step, :: self.step] = depth[:: self.step, :: self.step]
        self.file.append(vertices_of(thinned, frame.rgb, frame.intrinsics, frame.pose, near=depth))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


class DepthBag:
    """A bag of ROS 2 with the depth as Images of 32FC1 metres on /depth_completed, at the stamps of
    their frames (15 a second without); one bag for each run, which its first frame gives the name.
    """

    per_frame = False

    def __init__(self, out: Path):
        self.rosbag2 = require("rosbags.rosbag2", "writing a bag")
        self.typesys = require("rosbags.typesys", "writing a bag")
        self.out, self.writer, self.count = out, None, 0

    def write(self, frame: Frame, prediction: Prediction) -> None:
        kind = "sensor_msgs/msg/Image"
        if self.writer is None:
            path = self.out / f"bag_{frame.name}"
            if path.exists():
                raise DataError(f"{path} is there from an earlier run; remove it")
            self.store = self.typesys.get_typestore(self.typesys.Stores.ROS2_HUMBLE)
            self.writer = self.rosbag2.Writer(path, version=9)
            self.writer.open()
            self.topic = self.writer.add_connection("/depth_completed", kind, typestore=self.store)
        types = self.store.types
        stamp = self.count / 15 if frame.time_stamp is None else frame.time_stamp
        self.count += 1
        nanoseconds = round(1e9 * stamp)
        time = types["builtin_interfaces/msg/Time"](*divmod(nanoseconds, 10**9))
        depth = np.ascontiguousarray(prediction.depth, "<f4")
        height, width = depth.shape
        message = types[kind](
            types["std_msgs/msg/Header"](time, "camera"),
            *(height, width, "32FC1", 0, 4 * width),
            depth.view(np.uint8).ravel(),
        )
        self.writer.write(self.topic, nanoseconds, self.store.serialize_cdr(message, kind))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


# What a stream can write -> how it is opened in a folder, with what is done to flying pixels.
FORMATS: dict[str, Callable[[Path, str], Maps | DepthBag | SideBySide | World]] = {
    "png": lambda out, _: Maps(out, "_depth.png", _save_png),
    "npy": lambda out, _: Maps(out, "_depth.npy", np.save),
    "tum": lambda out, _: TumFolder(out),
    "bag": lambda out, _: DepthBag(out),
    "video": lambda out, _: SideBySide(out),
    "cloud": lambda out, flying: World(out, flying=flying),
}


def _save_png(path: Path, depth: np.ndarray, scale: float = 1000) -> None:
    """Write depth in metres as a 16-bit PNG, metres = value / scale, 0 = none."""
    values = np.clip(np.rint(np.nan_to_num(depth) * scale), 0, 65535).astype(np.uint16)
    if not cv2.imwrite(str(path), values):
        raise OSError(f"{path} could not be written")


class Results:
    """What a stream writes into a folder, of the `FORMATS` named.

    Args:
        inputs: folders that are read, which `out` must not be.
        flying: of a cloud, see `point_cloud.without_flying_pixels`.

    Raises:
        OptionError: a format that does not exist. DataError: `out` is one of the inputs.
    """

    def __init__(
        self,
        out: Path,
        formats: Sequence[str],
        inputs: Iterable[Path] = (),
        *,
        flying: str = "drop",
    ):
        for name in formats:
            if name not in FORMATS:
                raise OptionError(f"what is written is one of {', '.join(FORMATS)}, got {name!r}")
        if out.resolve() in {path.resolve() for path in inputs}:
            raise DataError(f"{out} is the recording; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        self.formats = [FORMATS[name](out, flying) for name in dict.fromkeys(formats)]

    def has(self, name: str) -> bool:
        """Return whether all files of a frame are there, from an earlier run."""
        maps = [part for part in self.formats if part.per_frame]
        return bool(maps) and all(part.has(name) for part in maps)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        for part in sorted(self.formats, key=lambda part: part.per_frame):  # maps last: they count
            part.write(frame, prediction)

    def close(self) -> None:
        """Complete the files that grow with every frame."""
        for part in self.formats:
            part.close()
