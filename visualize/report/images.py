"""The page's pictures: the best and the worst images, and where the propagation listens."""

import base64
import io
from pathlib import Path

from PIL import Image

from engine.evaluation import best_and_worst
from visualize.report.folder import RunContent
from visualize.report.html import number, paragraph, text

SHOWN = 3  # best and worst images, each
MOST_WIDTH = 1500
MOST_PIXELS = 50_000_000


def picture_section(run: RunContent) -> str:
    """Strips of the best and worst images that were drawn, and one affinity picture."""
    strips = _drawn(run, "strip")
    if not strips:
        return ""
    first = run.images[0]["seed"] if run.images else None
    rows = [row for row in run.images if row["seed"] == first]
    drawn = [row for row in rows if row["name"] in strips]
    parts = ["<h2>Images</h2>", _spread(rows)]
    if len(drawn) < len(rows) and not run.record.get("pictures"):
        parts.append(paragraph(f"Best and worst of the {len(drawn)} images that were drawn."))
    best, worst = best_and_worst(drawn, SHOWN)
    for title, chosen in (("Best", best), ("Worst", worst)):
        if chosen:
            parts.append(f"<h3>{title}</h3>")
            parts.extend(_strip(row, strips[row["name"]], run) for row in chosen)
    listening = _drawn(run, "affinity")
    for row in [*worst[:1], *best[:1]]:
        if row["name"] in listening:
            parts.append(_affinity(row, listening[row["name"]], run))
            break
    return "".join(parts)


def _drawn(run: RunContent, kind: str) -> dict[str, Path]:
    """Image name -> its picture, by the evaluation's record or else by its place in the table."""
    recorded = run.record.get("pictures")
    if not isinstance(recorded, dict):
        first = run.images[0]["seed"] if run.images else None
        names = [row["name"] for row in run.images if row["seed"] == first and row["name"]]
        recorded = {str(i): name for i, name in enumerate(names)}
    folder = run.eval_dir / "pictures"
    found = {}
    for index, name in recorded.items():
        # The index is a number of ours or it names no file.
        if index.isdecimal() and index.isascii() and len(index) < 10 and isinstance(name, str):
            path = folder / f"{int(index):04d}_{kind}.png"
            if path.is_file():
                found[name] = path
    return found


def _spread(rows: list[dict]) -> str:
    scores = sorted(row["RMSE"] for row in rows if row["RMSE"] == row["RMSE"])
    if not scores:
        return ""
    return paragraph(
        f"RMSE of the {len(scores)} images: {scores[0]:.3f} m at best, "
        f"{scores[len(scores) // 2]:.3f} m in the middle, {scores[-1]:.3f} m at worst. The depth "
        "panels of an image share one colour scale, in metres at its foot; the error has its own."
    )


def _strip(row: dict, path: Path, run: RunContent) -> str:
    caption = (
        f"{row['name']}, RMSE {number(row['RMSE'], 3)} m, REL {number(row.get('ABS_REL'), 3)}, "
        f"δ1.25 {number(row.get('DELTA1.25'), 3)}"
    )
    return _figure(path, caption, run, f"Input, depth maps and error of {row['name']}")


def _affinity(row: dict, path: Path, run: RunContent) -> str:
    explained = (
        "For six pixels, where the refinement changed the coarse depth most, the squares show how "
        "much each source pixel contributes after all steps (the gradient of the refined depth "
        "with respect to the coarse one, which is exact since the propagation is linear). In the "
        "two maps the hue is a direction; brightness is the strongest neighbour's share of a "
        "step's affinity in one, and the mean distance of what is heard in the other."
    )
    figure = _figure(path, row["name"], run, f"Propagation weights of {row['name']}")
    return f"<h2>Where the propagation listens</h2>{paragraph(explained)}{figure}"


def _figure(path: Path, caption: str, run: RunContent, alt: str) -> str:
    """The picture as a data URI, or a sentence where the file is no picture."""
    try:
        with Image.open(path) as image:
            size, data = image.size, _jpeg(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return paragraph(f"{path.name} cannot be read as a picture.")
    return (
        f'<figure class="picture"><figcaption>{text(caption)}</figcaption>'
        f'<div class="scroll wide" role="region" tabindex="0" aria-label="{text(alt)}">'
        f'<img src="data:image/jpeg;base64,{data}" alt="{text(alt)}" '
        f'width="{size[0]}" height="{size[1]}"></div></figure>'
    )


def _jpeg(image: Image.Image) -> str:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels")
    image = image.convert("RGB")
    if image.width > MOST_WIDTH:
        size = (MOST_WIDTH, max(1, round(image.height * MOST_WIDTH / image.width)))
        image = image.resize(size, Image.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80, optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
