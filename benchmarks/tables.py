"""The tables of docs/benchmarks.md, docs/data.md and docs/model.md, made from benchmarks/results.

python -m benchmarks.tables            # print them
python -m benchmarks.tables --write    # put them into the pages
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmarks.timing import RESULTS
from tools.flag_tables import write_between

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"

KEPT = ("kept_for_backward_MB", "plain_kept_MB")
# Results file -> title and the columns shown.
TABLES = {
    "propagation": (
        "Propagation alone, 24 steps (`python -m benchmarks.propagation`)",
        ("what", "form", "batch", "size", "ms", "times_faster", "kept_for_backward_MB"),
    ),
    "network": (
        "Inference, ResNet-50 (`python -m benchmarks.network`)",
        ("form", "batch", "size", "ms", "times_faster"),
    ),
    "latency": (
        "One photograph of 640x480, seconds (`python -m benchmarks.latency`)",
        ("numba_cache", "import", "load", "first_image", "next_image", "command"),
    ),
    "realtime": (
        "One image of 228x304 after another "
        "(`python -m benchmarks.realtime --set nyu=data/nyudepth_hdf5 --set "
        "rooms=data/sample_rooms --resume pretrained/cspn_resnet18_any --resume "
        "output/nyu_labeled/CSPN_8sum_filled_input_seed0 --resume "
        "output/nyu_labeled/CSPN_8sum_filled_input_compact_seed0`)",
        (
            *("network", "arch", "form", "ms", "images_per_s", "peak_share"),
            *("RMSE_nyu", "relative_nyu", "RMSE_rooms"),
        ),
    ),
    "export": (
        "Exported networks on a CPU (`python -m benchmarks.export`)",
        ("form", "arch", "batch", "size", "file_MB", "relative", "ms", "times_faster"),
    ),
    "training": (
        "Training step, ResNet-50 (`python -m benchmarks.training`)",
        ("form", "batch", "size", "ms", "times_faster"),
    ),
    "training_memory": (
        "Peak memory of a training step beyond parameters, gradients and optimiser state "
        "(`python -m benchmarks.training --memory --batch 8`)",
        ("form", "batch", "size", "peak_MB", "times_less"),
    ),
    "training_profile": (
        "Where the time of a training step goes "
        "(`python -m benchmarks.training_profile --data_root data/sample_rooms`)",
        ("flags", "part", "ms", "share"),
    ),
    "loader": (
        "One sample of the loader, one thread (`python -m benchmarks.loader`)",
        ("what", "storage", "plain_ms", "ms", "times_faster"),
    ),
    "stream": (
        "Whole recordings with the network in the box, reading and writing included, by what is "
        "written (`python -m benchmarks.stream`)",
        ("what", "recording", "amp", "ms", "per_second", "cores"),
    ),
    "nyu_labeled": (
        "Trained on NYU's labelled training frames with one small budget, scored on the 654 test "
        "images over 5 draws (`python -m benchmarks.nyu_labeled --data_root data/nyudepth_hdf5`)",
        ("row", "seed", "epoch", "minutes", "RMSE", "RMSE_std", "ABS_REL", "DELTA1.02"),
    ),
    "propagation_scaling": (
        "Growth of the propagation with the work (`python -m benchmarks.propagation --scaling`)",
        ("what", "batch", "size", "steps", "ms", "times_faster", *KEPT),
    ),
    "processes": (
        "Growth of training with the processes of torchrun on one machine, one thread each "
        "(`python -m benchmarks.processes`)",
        ("processes", "arch", "batch", "size", "ms", "images_per_second", "times_one", "peak_MB"),
    ),
}
# The same, on docs/data.md.
DATA_TABLES = {
    "data_at_scale": (
        "Where the frames of shards are: the index, and a list of paths in its place "
        "(`python -m benchmarks.data_at_scale`)",
        (
            *("frames", "form", "index_MB", "made_s", "opened_s", "names_compared_s"),
            *("first_batch_s", "main_process_MB", "loader_process_MB"),
        ),
    ),
    "slow_disk": (
        "Training samples from one uncompressed shard through a disk serving one read at a time "
        "(`python -m benchmarks.data_at_scale`)",
        ("disk", "loader_processes", "samples_per_second", "MB_per_second", "loader_process_MB"),
    ),
}
# Data sets of the table of any density.
SETS = {
    "nyu": "NYU Depth v2, 24 of the test images",
    "rooms": "Sample rooms, 12 of the validation frames",
    "streets": "Sample streets, 12 of the validation frames",
    "kinect": "Two raw Kinect frames with holes",
}
# Columns of the CSV files whose heading is not their name with spaces.
HEADINGS = {
    "what": "",
    "arch": "encoder",
    "file_MB": "file, MB",
    "numba_cache": "numba's cache",
    "peak_MB": "MB",
    "images_per_s": "images/s",
    "peak_share": "of the peak",
    "RMSE_nyu": "RMSE on NYU, m",
    "RMSE_rooms": "on rooms, m",
    "relative_nyu": "to float32",
    "plain_ms": "plain, ms",
    "relative": "largest difference / largest depth",
    "kept_for_backward_MB": "kept for backward, MB",
    "plain_kept_MB": "the plain form keeps, MB",
    "times_one": "times one process",
    "MB_per_second": "MB/s",
    **{name: name.replace("_", " ")[:-3] + ", MB" for name in ("index_MB", "main_process_MB")},
    "loader_process_MB": "a loader process's own, MB",
    **{f"{name}_s": f"{name.replace('_', ' ')}, s" for name in ("made", "opened", "first_batch")},
    "names_compared_s": "names compared, s",
}


def table(name: str, path: Path) -> str:
    """Return one results file as a Markdown table, with the hardware and date it comes from."""
    title, columns = (TABLES | DATA_TABLES)[name]
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = rows.rename(columns={"ratio": "times_less" if "memory" in name else "times_faster"})
    if name == "propagation_scaling":  # to stay readable; the CSV has the other forms
        shape = ["what", "batch", "size", "steps"]
        plain = rows[rows["form"] == "plain"].rename(columns=dict([KEPT]))
        rows = rows[rows["form"] == "fast"].merge(plain[[*shape, KEPT[1]]], on=shape)
    headings = [HEADINGS.get(column, column.replace("_", " ")) for column in columns]
    lines = [
        f"{title}; {rows['measured_on'].iloc[0]}:",
        "",
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows[list(columns)].to_numpy()),
    ]
    return "\n".join(lines)


def tables(folder: Path = RESULTS, names: Iterable[str] = tuple(TABLES)) -> str:
    """Return all tables whose results exist, CPU before GPU."""
    files = {d: {name: folder / f"{name}_{d}.csv" for name in names} for d in ("cpu", "cuda")}
    found = [table(n, path) for of in files.values() for n, path in of.items() if path.is_file()]
    return "\n\n".join(found)


def density_tables(folder: Path = RESULTS) -> str:
    """Return a table per data set of any_density_cpu.csv: linear interpolation and the network."""
    found = pd.read_csv(folder / "any_density_cpu.csv", index_col=["set", "case", "method"])
    parts = []
    for name, rows in found.groupby(level="set", sort=False):
        linear, network = (
            rows.xs(m, level="method").droplevel("set") for m in ("linear", "network")
        )
        shown = pd.DataFrame(
            {
                "linear, m": linear["RMSE"].map("{:.3f}".format),
                "network, m": network["RMSE"].map("{:.3f}".format),
                "ratio": network["times_linear"].map("{:.2f}".format).replace("nan", ""),
                "in the 90 % interval": network["coverage"].map("{:.1%}".format),
                "left without a fifth": network["without_fifth"].map("{:.2f}".format),
                "AUSE": network["ause"].map("{:.2f}".format),
            }
        )
        parts.append(f"{SETS[name]}:\n\n{_markdown(shown, 'measurements')}")
    return "\n\n".join(parts)


def cloud_tables(folder: Path = RESULTS) -> str:
    """Return a table per set of what treating flying pixels does, and one of hidden points."""
    percent, angle, ratio = "{:.1%}".format, "{:.1f}°".format, "{:.2f}".format
    columns = {
        "in mid-air": ("farther than 5 cm from any true surface", percent),
        "normals": ("normals off by (mean)", angle),
        "edge precision": ("edge precision", ratio),
        "edge recall": ("edge recall", ratio),
        "points left": ("points left", percent),
        "of the dropped in mid-air": ("of the dropped in mid-air", percent),
    }
    parts = []
    for name, title in {"rooms": "Sample rooms", "nyu": "NYU's labelled test images"}.items():
        path = folder / f"point_cloud_{name}_cpu.csv"
        found = pd.read_csv(path, index_col="flying pixels")
        shown = {
            head: found[c].map(form).replace("nan%", "") for c, (head, form) in columns.items()
        }
        titled = f"{title} ({found['count'].iloc[0]}), 500 measurements, 640x480:"
        parts.append(
            f"{titled}\n\n{_markdown(pd.DataFrame(shown).replace('nan%', ''), '`--flying-pixels`')}"
        )
    found = pd.read_csv(folder / "hidden_points_cpu.csv", index_col="radius")
    shown = found[["hidden", "other"]].map(percent)
    shown.columns = ["hidden points removed", "others removed"]
    text = "Points of LiDAR scans, of four sample streets (`python -m benchmarks.point_cloud --set"
    parts.append(f"{text} streets --count 4`):\n\n{_markdown(shown, 'radius, pixels')}")
    return "\n\n".join(parts)


def _markdown(table: pd.DataFrame, index: str) -> str:
    """Return a table of texts as Markdown, its index under that heading."""
    table = table.reset_index(names=index).astype(str)
    cells = [list(table), ["---"] * table.shape[1], *table.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


# Page -> what stands between its markers.
PAGES = {
    DOCS / "benchmarks.md": tables,
    DOCS / "data.md": lambda: tables(names=DATA_TABLES),
    DOCS / "model.md": density_tables,
    DOCS / "sensors.md": cloud_tables,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="replace the tables of the pages")
    write = parser.parse_args(argv).write
    for page, make in PAGES.items():
        if write:
            write_between(page, BEGIN, END, make)
        else:
            print(make())


if __name__ == "__main__":
    main()
