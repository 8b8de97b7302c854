"""What a stream writes: files of each frame, and files that grow with every frame."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataloaders.errors import DataError, counted
from engine.errors import OptionError
from engine.files import replace_text, whole_file
from inference.point_cloud import PlyWriter, save_ply, vertices_of, without_flying_pixels
from inference.prediction import Prediction
from inference.sources.frames import Frame, Source, require

PNG_MAX = 65535
FPS = 15  # of a video, and of a bag of frames without time stamps


class Part:
    """What all of them have.

    begun: whether an earlier run wrote some of it. file: what grows with every frame, from its
    first on; it is begun anew unless `appends` is set.
    """

    begun = appends = False
    file = None

    def check(self, source: Source) -> None:
        """Raise a `DataError` where a recording has not what is written."""

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write what belongs to one frame."""
        raise NotImplementedError

    def close(self) -> list[str]:
        """Complete what grows with every frame; return what a user should know, a clause each."""
        if self.file is not None:
            self.file.close()
        return []


class Maps(Part):
    """A file of each frame, `<folder>/<name><suffix>`, written by `save(path, frame, prediction)`;
    it holds at most `limit` metres."""

    def __init__(
        self,
        folder: Path,
        suffix: str,
        save: Callable[[Path, Frame, Prediction], object],
        limit: float = np.inf,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.suffix, self.save, self.limit = folder, suffix, save, limit
        self.begun = any(folder.glob(f"[!.]*{suffix}"))
        self.written = self.clipped = 0

    def has(self, name: str) -> bool:
        """Return whether the file of a frame is there."""
        return (self.folder / f"{name}{self.suffix}").is_file()

    def write(self, frame: Frame, prediction: Prediction) -> None:
        with whole_file(self.folder / f"{frame.name}{self.suffix}") as part:
            self.save(part, frame, prediction)
        self.written += 1
        self.clipped += bool((prediction.depth > self.limit).any())

    def close(self) -> list[str]:
        few = f"{self.clipped} of {counted(self.written, 'frame')}"
        far = f"depth beyond {self.limit:.3f} m, where {self.folder}'s PNG is clipped"
        return [f"{few} have {far}"] * bool(self.clipped)


class DepthPngs(Maps):
    """16-bit PNGs of depth, metres = value / scale, 0 = none."""

    def __init__(self, folder: Path, suffix: str, scale: float):
        def save(path: Path, _: Frame, prediction: Prediction) -> None:
            values = np.rint(np.nan_to_num(prediction.depth) * scale)
            if not cv2.imwrite(str(path), np.clip(values, 0, PNG_MAX).astype(np.uint16)):
                raise OSError(f"{path} could not be written")

        super().__init__(folder, suffix, save, PNG_MAX / scale)


class TumFolder(DepthPngs):
    """The layout of TUM RGB-D: `depth/<time>.png` of 1 / 5000 m, and `depth.txt` that lists them;
    frames without a time stamp are listed by their name."""

    def __init__(self, out: Path):
        super().__init__(out / "depth", ".png", 5000)

    def close(self) -> list[str]:
        files = sorted(self.folder.glob("[!.]*.png"))
        lines = "".join(f"{file.stem} depth/{file.name}\n" for file in files)
        header = "# depth maps, metres = value / 5000\n"
        replace_text(self.folder.parent / "depth.txt", header + lines)
        return super().close()


class SideBySide(Part):
    """A video of image and depth; one that was interrupted is followed by another, which its first
    frame gives the name."""

    def __init__(self, out: Path):
        self.ffmpeg = require("imageio_ffmpeg", "writing a video")
        self.out = out
        self.begun = any(out.glob("side_by_side_*.mp4"))

    def write(self, frame: Frame, prediction: Prediction) -> None:
        known = prediction.depth[prediction.depth > 0]
        if self.file is None:  # the colour scale of the first frame is that of all
            self.ends = np.quantile(known, (0.01, 0.99)) if known.size else (0.0, 1.0)
        low, high = self.ends
        scaled = np.clip((prediction.depth - low) / max(high - low, 1e-6), 0, 1) * 255
        colors = cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        picture = np.hstack([frame.rgb, colors])
        height, width = (length - length % 2 for length in picture.shape[:2])  # H.264 wants it
        if self.file is None:
            path = self.out / f"side_by_side_{frame.name}.mp4"
            options = {"fps": FPS, "macro_block_size": 2, "output_params": ["-preset", "veryfast"]}
            self.file = self.ffmpeg.write_frames(str(path), (width, height), **options)
            self.file.send(None)
            self.size = (height, width)
        if (height, width) != self.size:
            picture = cv2.resize(picture, self.size[::-1])
        self.file.send(np.ascontiguousarray(picture[: self.size[0], : self.size[1]]))


class World(Part):
    """One cloud of all frames, `cloud.ply`, in the world of their poses; every fourth row and
    column. Flying pixels are treated as `flying` says; see `point_cloud.without_flying_pixels`."""

    def __init__(self, out: Path, flying: str):
        self.path, self.flying = out / "cloud.ply", flying
        self.begun = self.path.is_file()
        self.count = self.without_pose = 0

    def check(self, source: Source) -> None:
        if not source.has_poses:
            raise DataError(
                f"{source.path} has no poses, which one cloud of all frames needs; --write ply "
                "makes one of each frame"
            )

    def write(self, frame: Frame, prediction: Prediction) -> None:
        self.count += 1
        if frame.pose is None:
            self.without_pose += 1
            return
        depth = _solid(frame, prediction, self.flying)
        if self.file is None:
            if not self.appends:
                self.path.unlink(missing_ok=True)
            self.file = PlyWriter(self.path)
        self.file.append(vertices_of(depth, frame.rgb, frame.intrinsics, frame.pose, step=4))

    def close(self) -> list[str]:
        super().close()
        few = f"{self.without_pose} of {counted(self.count, 'frame')}"
        return [f"{few} have no pose and are not in the cloud"] * bool(self.without_pose)


def _solid(frame: Frame, prediction: Prediction, flying: str) -> np.ndarray:
    """Return the depth (H, W) of a cloud; see `point_cloud.without_flying_pixels`."""
    if frame.intrinsics is None:
        raise DataError(f"frame {frame.name} has no intrinsics, which a cloud needs (--intrinsics)")
    return without_flying_pixels(prediction.depth, frame.intrinsics, prediction.error, flying)


def _save_cloud(flying: str, path: Path, frame: Frame, prediction: Prediction) -> None:
    save_ply(path, _solid(frame, prediction, flying), frame.rgb, frame.intrinsics)


class DepthBag(Part):
    """A bag of ROS 2 with the depth as Images of 32FC1 metres on /depth_completed, at the stamps of
    their frames (15 a second without); one bag for each run, which its first frame gives the name.
    """

    def __init__(self, out: Path):
        self.rosbag2 = require("rosbags.rosbag2", "writing a bag")
        self.typesys = require("rosbags.typesys", "writing a bag")
        self.out, self.count = out, 0
        self.begun = any(out.glob("bag_*"))

    def write(self, frame: Frame, prediction: Prediction) -> None:
        kind = "sensor_msgs/msg/Image"
        if self.file is None:
            path = self.out / f"bag_{frame.name}"
            if path.exists():
                raise DataError(f"{path} is there from an earlier run; remove it")
            self.store = self.typesys.get_typestore(self.typesys.Stores.ROS2_HUMBLE)
            self.file = self.rosbag2.Writer(path, version=9)
            self.file.open()
            self.topic = self.file.add_connection("/depth_completed", kind, typestore=self.store)
        types = self.store.types
        stamp = self.count / FPS if frame.time_stamp is None else frame.time_stamp
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
        self.file.write(self.topic, nanoseconds, self.store.serialize_cdr(message, kind))


# What a stream can write -> how it is opened in a folder, with what is done to flying pixels.
FORMATS: dict[str, Callable[[Path, str], Part]] = {
    "png": lambda out, _: DepthPngs(out, "_depth.png", 1000),
    "npy": lambda out, _: Maps(out, "_depth.npy", lambda path, _, p: np.save(path, p.depth)),
    "ply": lambda out, flying: Maps(out, ".ply", partial(_save_cloud, flying)),
    "tum": lambda out, _: TumFolder(out),
    "bag": lambda out, _: DepthBag(out),
    "video": lambda out, _: SideBySide(out),
    "cloud": World,
}


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
        self.parts = [FORMATS[name](out, flying) for name in dict.fromkeys(formats)]
        # Maps last: a frame whose maps are there is done. Without them, or where one of the parts
        # is not there at all, every frame is done anew.
        self.parts.sort(key=lambda part: isinstance(part, Maps))
        self.maps = [part for part in self.parts if isinstance(part, Maps)]
        self.resumes = bool(self.maps) and all(part.begun for part in self.parts)
        for part in self.parts:
            part.appends = self.resumes

    def has(self, name: str) -> bool:
        """Return whether a frame was done by an earlier run."""
        return self.resumes and all(part.has(name) for part in self.maps)

    def check(self, source: Source) -> None:
        """Raise a `DataError` where a recording has not what is written."""
        for part in self.parts:
            part.check(source)

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Write one frame."""
        for part in self.parts:
            part.write(frame, prediction)

    def close(self) -> list[str]:
        """Complete the files that grow with every frame; return what a user should know."""
        return [note for part in self.parts for note in part.close()]
