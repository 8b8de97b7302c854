"""The wait for the depth of one photograph of 640x480: each number from a process of its own.

    python -m benchmarks.latency

Columns, in seconds: import of `inference.predictor`, loading the shipped network, its first image,
the next image, and the whole command `python predict.py` with its pictures. "Cold" has an empty
cache of numba's compiled code, as after a fresh clone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import write_results

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("import", "load", "first_image", "next_image")
PROBE = """
import sys, time
began = time.perf_counter()
def lap():
    global began
    print(time.perf_counter() - began)
    began = time.perf_counter()
import numpy as np
from PIL import Image
from engine.checkpoint import shipped_network
from inference.predictor import Predictor
lap()
predictor = Predictor.from_checkpoint(shipped_network(), device="cpu")
lap()
rgb, depth = np.asarray(Image.open(sys.argv[1])), np.load(sys.argv[2])
predictor(rgb, depth)
lap()
predictor(rgb, depth)
lap()
"""


def main(argv: list[str] | None = None) -> None:
    """Measure and write results/latency_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each (default 5)")
    repeats = parser.parse_args(argv).repeats
    rows: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        photo, depth = write_photo(Path(folder))
        command = ["predict.py", "--rgb", photo, "--sparse", depth, "--device", "cpu"]
        command += ["--out", f"{folder}/out"]
        for repeat in range(repeats):
            for state in rows:  # each cold run fills the caches of the warm one after it
                caches = [f"{folder}/{repeat}_{what}" for what in ("probe", "command")]
                text = run(["-c", PROBE, photo, depth], caches[0])
                found = dict(zip(STEPS, map(float, text.split()), strict=True))
                began = time.perf_counter()
                run(command, caches[1])
                rows[state].append(found | {"command": time.perf_counter() - began})
    table = [
        {"numba_cache": state}
        | {step: statistics.median(row[step] for row in found) for step in (*STEPS, "command")}
        for state, found in rows.items()
    ]
    write_results("latency", torch.device("cpu"), table)


def write_photo(folder: Path) -> tuple[str, str]:
    """Write an image of 640x480 and 600 measurements; return the paths."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:480, :640]
    rgb = np.stack((columns * 255 // 640, rows * 255 // 480, (rows + columns) % 256), axis=-1)
    depth = (2 + columns / 640 + rows / 480) * (rng.random((480, 640)) < 600 / (480 * 640))
    photo, points = folder / "photo.png", folder / "depth.npy"
    Image.fromarray(rgb.astype(np.uint8)).save(photo)
    np.save(points, depth.astype(np.float32))
    return str(photo), str(points)


def run(command: list[str], cache: str) -> str:
    """Run Python with a folder for numba's cache and return what it prints."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # set in containers: no .pyc
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
