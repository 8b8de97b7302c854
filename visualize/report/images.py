"""The page's pictures: the best and the worst images, and one image's influence maps."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from PIL import Image

from engine.evaluation import best_and_worst
from visualize.report.folder import RunContent

SHOWN = 3  # best and worst images, each
MOST_WIDTH = 1500
MOST_PIXELS = 50_000_000


def picture_section(run: RunContent) -> dict:
    """Return the strips of the best and worst images that were drawn, and one image's influence.

    Returns:
        {} where none was drawn. scored: RMSE of all images, sorted; drawn: how many of them were
        drawn, None where the record holds it; groups: title -> the rows of images, each with
        source (a data URI) and size, or with `problem`, a sentence; influence: one like that.
    """
    strips = _drawn(run, "strip")
    if not strips:
        return {}
    rows = run.first_draw().to_dict("records")
    drawn = [row for row in rows if row["name"] in strips]
    scored = sorted(row["RMSE"] for row in rows if row["RMSE"] == row["RMSE"])
    best, worst = best_and_worst(drawn, SHOWN)
    maps = _drawn(run, "affinity")
    explained = [row["name"] for row in [*worst[:1], *best[:1]] if row["name"] in maps]
    return {
        "scored": scored,
        "drawn": None if run.record.get("pictures") or len(drawn) == len(rows) else len(drawn),
        "groups": {
            "Best": [row | _picture(strips[row["name"]]) for row in best],
            "Worst": [row | _picture(strips[row["name"]]) for row in worst],
        },
        "influence": explained[:1] and {"name": explained[0]} | _picture(maps[explained[0]]),
    }


def _drawn(run: RunContent, kind: str) -> dict[str, Path]:
    """Return image name -> picture, by the evaluation's record or else by the table's order."""
    recorded = run.record.get("pictures")
    if not isinstance(recorded, dict):
        recorded = {str(i): name for i, name in enumerate(filter(None, run.first_draw()["name"]))}
    found = {}
    for index, name in recorded.items():
        # The index is a number of ours or it names no file.
        if index.isdecimal() and index.isascii() and len(index) < 10 and isinstance(name, str):
            path = run.eval_dir / "pictures" / f"{int(index):04d}_{kind}.png"
            if path.is_file():
                found[name] = path
    return found


def _picture(path: Path) -> dict:
    """Return the picture as a JPEG of bounded width, or a sentence where the file is no picture."""
    jpeg = BytesIO()
    try:
        with Image.open(path) as file:
            if file.width * file.height > MOST_PIXELS:
                raise ValueError(f"{file.width}x{file.height} pixels")
            image = file.convert("RGB")
        image.thumbnail((MOST_WIDTH, image.height))
        image.save(jpeg, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {"problem": f"{path.name} cannot be read as a picture."}
    source = f"data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}"
    return {"source": source, "size": image.size}
