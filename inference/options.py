"""The flags of predict.py, of which `SourceConfig` says what is read, for other commands too."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from cspn import ANCHORS, NORM_TYPES
from dataloaders import SAMPLERS
from engine.errors import OptionError
from engine.flags import Settings, count, of_call, positive, seed, whole
from engine.precision import AMP
from inference.point_cloud import FLYING
from inference.predictor import RESIZES
from inference.results import FORMATS
from inference.sources import KINDS
from inference.sources.projection import KEEP_OR_UNDO
from inference.tiling import MAX_TILE_PIXELS

# Flags of the input that images and their measurements have, too.
_OF_IMAGES = {"rgb", "sparse", "depth_scale", "intrinsics"}


@dataclass
class SourceConfig(Settings):
    """What is read; without `source`, images and their measurements."""

    TITLE: ClassVar[str] = "input"
    DASHES: ClassVar[bool] = True

    source: tuple[str, str] | None = of_call(
        None,
        f"a recording of a sensor, of one of the kinds {', '.join(KINDS)} (docs/sensors.md)",
        short=("--from",),
        nargs=2,
        metavar=("KIND", "PATH"),
    )
    rgb: str | None = of_call(None, "photograph, or folder of them; images of a recording")
    sparse: str | None = of_call(
        None, "its measurements, or folder of them; sparse maps of a video's frames"
    )
    depth_scale: float | None = of_call(
        None,
        "metres = value / scale; needed for integers (1000 for millimetres, 256 for KITTI), known "
        "for most recordings",
        type=float,
    )
    intrinsics: str | None = of_call(
        None,
        "of the photograph's pixels, or a file: text of the 3x3 matrix, YAML or JSON of a "
        "recording's camera; writes a point cloud too",
        metavar="fx,fy,cx,cy",
    )
    extrinsics: str | None = of_call(
        None, "file with the transform from scan to camera: text, YAML or JSON", metavar="FILE"
    )
    max_dt: float | None = of_call(
        None,
        "largest gap in time between image and depth",
        unit="s",
        type=positive,
        unset="0.02",
    )
    camera: int | None = of_call(
        None, "KITTI's camera, left or right", type=count, choices=(2, 3), unset="2"
    )
    rgb_topic: str | None = of_call(None, "a bag's images", metavar="TOPIC", unset="the only ones")
    depth_topic: str | None = of_call(
        None, "a bag's depth images or scans", metavar="TOPIC", unset="the only ones"
    )
    hidden_radius: int | None = of_call(
        None,
        "points of a scan that nearer ones surround within this distance are removed; 0 keeps all",
        unit="pixels",
        type=whole,
        unset="0.005 of the image's width",
    )
    metres_per_unit: float | None = of_call(
        None, "scale of a COLMAP model", type=positive, unset="1, which is up to scale"
    )
    max_error: float | None = of_call(
        None,
        "largest reprojection error of a COLMAP point",
        unit="pixels",
        type=positive,
        unset="2",
    )
    min_track: int | None = of_call(
        None, "fewest images that saw a COLMAP point", type=count, unset="3"
    )
    confidence: int | None = of_call(
        None, "least confidence of an iOS measurement, 0 to 2", type=whole, unset="1"
    )

    distortion: str | None = of_call(
        None,
        "lens distortion: undo it, or keep the image's own pixels and bend the projection",
        choices=KEEP_OR_UNDO,
        unset="undo",
    )

    def options(self) -> dict[str, object]:
        """Return the options of `open_source` that were given."""
        names = [name for name in SourceConfig.fields() if name != "source"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class DrawConfig(Settings):
    """How measurements are drawn from dense depth."""

    TITLE: ClassVar[str] = "measurements drawn"

    sample_from: str | None = of_call(
        None,
        "dense depth to draw the measurements from; the result is scored against it",
        metavar="DENSE",
    )
    n_sample: int = of_call(500, "how many to draw", short=("-n",), type=count)
    sampler: str = of_call(
        "exact", "draw as many as -n says, or that many on average", choices=SAMPLERS
    )
    seed: int = of_call(0, "of the draw", type=seed)


@dataclass
class OutputConfig(Settings):
    """What is written."""

    TITLE: ClassVar[str] = "output"

    out: str = of_call("output/predictions", "folder")
    write: tuple[str, ...] | None = of_call(
        None,
        "of a recording: PNG, NPY, a PLY of each frame, TUM's folder, a ROS bag, a video, one "
        "cloud of all frames",
        nargs="+",
        choices=tuple(FORMATS),
        unset="png",
    )
    flying_pixels: str = of_call(
        "drop", "what becomes of a cloud's points in mid-air at depth edges", choices=FLYING
    )


@dataclass
class PredictConfig(SourceConfig, DrawConfig, OutputConfig):
    """Every flag of this script."""

    TITLE: ClassVar[str] = "network"
    DASHES: ClassVar[bool] = True

    resume: str | None = of_call(
        None,
        "file, run folder or folder of a shared network",
        short=("-r",),
        unset="the network in pretrained/",
        metavar="CHECKPOINT",
    )
    resize: str = of_call(
        "training",
        "training: at the scale the network was trained at, NYU's 240 pixels for the short side, "
        "and back; none: at the image's own size",
        choices=RESIZES,
    )
    thin: bool = of_call(True, "drop measurements beyond the density of training")
    max_tile_pixels: int = of_call(
        MAX_TILE_PIXELS, "larger inputs are cut into overlapping tiles", type=count
    )
    cspn_step: int | None = of_call(None, "propagation steps", type=whole, unset="as trained")
    cspn_norm_type: str | None = of_call(
        None, "how the affinity is normalised", choices=NORM_TYPES, unset="as trained"
    )
    cspn_anchor: str | None = of_call(
        None, "what measured pixels keep", choices=ANCHORS, unset="as trained"
    )
    amp: str = of_call(
        "off", "mixed precision; heads and propagation stay in float32", choices=tuple(AMP)
    )
    device: str = of_call("auto", "auto, cpu, cuda or cuda:N")
    debug: bool = of_call(False, "full traceback on errors", action="store_true")

    def network(self) -> dict[str, object]:
        """Return the options of `Predictor.from_checkpoint`."""
        names = ("device", "resize", "max_tile_pixels", "thin", "amp")
        propagation = {n: getattr(self, f"cspn_{n}") for n in ("norm_type", "anchor")}
        return propagation | {"steps": self.cspn_step} | {n: getattr(self, n) for n in names}

    def check_given(self, given: Iterable[str]) -> None:
        """Raise OptionError where what is read or written leaves a flag of `given` without effect,
        or nothing is read."""
        recording = self.source is not None
        if not recording and self.rgb is None:
            raise OptionError("give --rgb and its measurements, or a recording: --from KIND PATH")
        if not recording and (self.sparse is None) == (self.sample_from is None):
            raise OptionError("give either --sparse or --sample-from")
        makes_cloud = {"ply", "cloud"} & set(self.write or ()) or (
            not recording and self.intrinsics is not None
        )
        # Whether there is what these flags need, its name, and the flags.
        needs = (
            (not recording, "--rgb without --from", {"sample_from"}),
            (self.sample_from, "--sample-from", {"n_sample", "sampler", "seed"}),
            (recording, "--from", SourceConfig.fields().keys() - _OF_IMAGES | {"write"}),
            (makes_cloud, "--intrinsics, or --write ply or cloud", {"flying_pixels"}),
        )
        for there, needed, names in needs:
            if not there and (unused := sorted(names & set(given))):
                raise OptionError(f"--{unused[0].replace('_', '-')} goes with {needed}")
