"""Frames a second of a whole recording, reading and writing included, against the network alone.

    python -m benchmarks.stream

The recording is a TUM RGB-D folder of sample rooms with 500 measurements a frame: 304x228, which
the network on ResNet-18 takes as it is (--resize none), and 640x480, which it takes at 320x240 and
whose depth is brought back. "cores" is the processor time of a frame by its wall time: reading,
network and writing overlap where it is above that of the network alone.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.timing import write_results
from engine.checkpoint import shipped_network
from engine.cli import run_script
from engine.precision import AMP, prepare_device
from inference.predictor import Predictor
from inference.results import Results
from inference.sources import open_source
from inference.stream import run_stream
from sample_data.rooms.generation import render_frame
from sample_data.rooms.sensor import CX, CY, FOCAL

# Size of the recording (width, height) -> --resize.
SIZES = {(304, 228): "none", (640, 480): "training"}
WRITTEN = ("png", "npy", "video", "tum", "cloud")


def write_recording(folder: Path, size: tuple[int, int], frames: int, rooms: int = 10) -> str:
    """Write a TUM RGB-D folder with poses, and return its intrinsics; the rooms come by turns."""
    rng, lists = np.random.default_rng(0), {"rgb": "", "depth": "", "groundtruth": ""}
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    shrink = min(480 / size[1], 2)  # NYU's: half the size, and the middle of it
    left, top = (640 / shrink - size[0]) / 2, (480 / shrink - size[1]) / 2
    rows, columns = (slice(round(a), round(a) + n) for a, n in ((top, size[1]), (left, size[0])))
    pictures = []
    for i in range(min(rooms, frames)):
        rgb, depth = render_frame(0, "val", i)
        half = (round(640 / shrink), round(480 / shrink))
        small = cv2.resize(rgb.transpose(1, 2, 0), half, interpolation=cv2.INTER_AREA)
        nearest = cv2.resize(depth, half, interpolation=cv2.INTER_NEAREST)
        pictures.append((small[rows, columns, ::-1], nearest[rows, columns]))
    for i, (rgb, depth) in zip(range(frames), itertools.cycle(pictures)):
        chosen = rng.random(depth.shape) < 500 / depth.size
        sparse = np.where(chosen, np.rint(5000 * depth), 0).astype(np.uint16)
        stamp = f"{1000 + i / 30:.6f}"
        for name, image in (("rgb", rgb), ("depth", sparse)):
            cv2.imwrite(str(folder / name / f"{stamp}.png"), image)
            lists[name] += f"{stamp} {name}/{stamp}.png\n"
        lists["groundtruth"] += f"{stamp} {i / 100} 0 0 0 0 0 1\n"
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    centre = ((CX + 0.5) / shrink - 0.5 - left, (CY + 0.5) / shrink - 0.5 - top)
    return ",".join(f"{value:.3f}" for value in (FOCAL / shrink, FOCAL / shrink, *centre))


def network_alone(predictor: Predictor, source) -> tuple[float, float]:
    """Return the wall and the processor time [s] that the network takes for a frame."""
    frames = itertools.islice(source, 20)
    ready = [predictor.prepare(frame.rgb, frame.sparse_depth) for frame in frames]
    predictor.run(ready[0])
    began, busy = time.perf_counter(), time.process_time()
    for one in ready:
        predictor.run(one)
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    return wall / len(ready), busy / len(ready)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--resume", help="checkpoint (default pretrained/)")
    parser.add_argument("--frames", type=int, default=100, help="of the recording (default 100)")
    parser.add_argument("--amp", default="bf16", choices=tuple(AMP))
    args = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare_device(device, give_back_memory=False)
    rows = []
    for size, resize in SIZES.items():
        predictor = Predictor.from_checkpoint(
            args.resume or shipped_network(), device=str(device), resize=resize, amp=args.amp
        )
        with tempfile.TemporaryDirectory() as folder:
            read = Path(folder) / "recording"
            intrinsics = write_recording(read, size, args.frames)
            source = open_source("tum", read, intrinsics=intrinsics)
            times = {"network alone": network_alone(predictor, source)}
            for name in WRITTEN:
                results = Results(Path(folder) / name, [name])
                busy = time.process_time()
                outcome = run_stream(source, predictor, results)
                busy = time.process_time() - busy
                times[name] = outcome.seconds / outcome.done, busy / outcome.done
        rows += [
            {
                "what": name,
                "recording": f"{size[0]}x{size[1]}",
                "amp": args.amp,
                "ms": 1000 * wall,
                "per_second": 1 / wall,
                "cores": busy / wall,
            }
            for name, (wall, busy) in times.items()
        ]
    write_results("stream", device, rows)


if __name__ == "__main__":
    run_script(main)
