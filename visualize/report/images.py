"""The page's pictures: the best and the worst images, and one image's influence maps."""

import base64
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
from PIL import Image
from skimage.transform import resize

from engine.evaluation import best_and_worst
from visualize.report.folder import RunContent, is_number

SHOWN = 3  # best and worst images, each
MOST_WIDTH = 1500
MOST_PIXELS = 50_000_000


def picture_section(run: RunContent) -> dict:
    """Return the strips of the best and worst images that were drawn, and one image's influence.

    Returns:
        {} where none was drawn. sentences: about all images; groups: title -> figures;
        influence: a figure or None. A figure holds source (a data URI), size, alt and caption, or
        `problem`, a sentence.
    """
    strips = _drawn(run, "strip")
    if not strips:
        return {}
    rows = [] if run.images.empty else run.first_draw().to_dict("records")
    drawn = [row for row in rows if row["name"] in strips]
    sentences = _spread(pd.Series([row["RMSE"] for row in rows], dtype=float).dropna())
    if len(drawn) < len(rows) and not run.record.get("pictures"):
        sentences.append(f"Best and worst of the {len(drawn)} images that were drawn.")
    best, worst = best_and_worst(drawn, SHOWN)
    maps = _drawn(run, "affinity")
    explained = [row["name"] for row in [*worst[:1], *best[:1]] if row["name"] in maps]
    return {
        "sentences": sentences,
        "groups": {
            title: [_strip(row, strips[row["name"]]) for row in chosen]
            for title, chosen in (("Best", best), ("Worst", worst))
            if chosen
        },
        "influence": next(
            (_figure(maps[name], name, f"Propagation weights of {name}") for name in explained),
            None,
        ),
    }


def _drawn(run: RunContent, kind: str) -> dict[str, Path]:
    """Return image name -> picture, by the evaluation's record or else by the table's order."""
    recorded = run.record.get("pictures")
    if not isinstance(recorded, dict):
        names = [] if run.images.empty else run.first_draw()["name"]
        recorded = {str(i): name for i, name in enumerate(filter(None, names))}
    found = {}
    for index, name in recorded.items():
        # The index is a number of ours or it names no file.
        if index.isdecimal() and index.isascii() and len(index) < 10 and isinstance(name, str):
            path = run.eval_dir / "pictures" / f"{int(index):04d}_{kind}.png"
            if path.is_file():
                found[name] = path
    return found


def _spread(rmse: pd.Series) -> list[str]:
    if rmse.empty:
        return []
    middle = rmse.sort_values().iloc[len(rmse) // 2]
    return [
        f"RMSE of the {len(rmse)} images: {rmse.min():.3f} m at best, {middle:.3f} m in the "
        f"middle, {rmse.max():.3f} m at worst. The depth panels of an image share one colour "
        "scale, in metres at its foot; the error has its own."
    ]


def _strip(row: dict, path: Path) -> dict:
    rmse, rel, delta = (
        f"{row[metric]:.3f}" if is_number(row.get(metric)) else "–"
        for metric in ("RMSE", "ABS_REL", "DELTA1.25")
    )
    caption = f"{row['name']}, RMSE {rmse} m, REL {rel}, δ1.25 {delta}"
    return _figure(path, caption, f"Input, depth maps and error of {row['name']}")


def _figure(path: Path, caption: str, alt: str) -> dict:
    """Return the picture as a JPEG of bounded width, or a sentence where the file is no picture."""
    try:
        height, width = imageio.improps(path, plugin="pillow", index=0).shape[:2]
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width}x{height} pixels")
        pixels = imageio.imread(path, plugin="pillow", index=0, mode="RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {"problem": f"{path.name} cannot be read as a picture."}
    if width > MOST_WIDTH:
        size = (max(1, round(height * MOST_WIDTH / width)), MOST_WIDTH)
        pixels = resize(pixels, size, anti_aliasing=True, preserve_range=True)
        pixels = np.rint(pixels).astype(np.uint8)
    jpeg = imageio.imwrite("<bytes>", pixels, plugin="pillow", extension=".jpg", quality=80)
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return {"source": source, "size": pixels.shape[1::-1], "alt": alt, "caption": caption}
