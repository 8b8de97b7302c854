"""What the page shows of a session: the image with its points, coloured maps and numbers, as HTML.

Everything is drawn on one colour scale of metres, which stays as it is while the propagation's
settings move, so that two pictures can be compared.
"""

import base64
import html
import io

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import minimum_filter

from tools.demo.session import Frame, Propagation, Result, Session
from visualize.pictures import colorize

ERROR, CHANGE = "error", "change"
# Shown width of the image that is clicked on, about; points need some pixels to be seen.
SHOWN_WIDTH = 912
_BAR = np.linspace(1, 2, 256, dtype=np.float32)[None]


def shown_scale(frame: Frame) -> int:
    """How many pixels of the shown image a pixel of the frame is wide and high."""
    return max(1, SHOWN_WIDTH // frame.rgb.shape[1])


def pixel_at(frame: Frame, x: int, y: int) -> tuple[int, int]:
    """(row, column) of the frame under pixel (x, y) of the picture that `points_picture` makes."""
    scale = shown_scale(frame)
    return y // scale, x // scale


def thumbnail(frame: Frame) -> np.ndarray:
    """The middle of the image, 4:3, small; uint8."""
    height, width = frame.rgb.shape[:2]
    image = Image.fromarray(frame.rgb)
    across, down = min(width, height * 4 // 3), min(height, width * 3 // 4)
    left, top = (width - across) // 2, (height - down) // 2
    return np.asarray(image.crop((left, top, left + across, top + down)).resize((200, 150)))


def depth_ends(session: Session, coarse_depth: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale in metres: the middle 98 % of the ground truth, else that of the
    coarse depth and all points. Neither depends on the propagation."""
    truth, points = session.frame.depth, session.sparse_depth[session.sparse_depth > 0]
    known = np.zeros(0) if truth is None else truth[truth > 0]
    low, high = np.quantile(known if known.size else coarse_depth, (0.01, 0.99)).tolist()
    if not known.size and points.size:
        low, high = min(low, float(points.min())), max(high, float(points.max()))
    return max(low, 0.0), max(high, low + 0.1, 0.1)


def error_end(frame: Frame, coarse_depth: np.ndarray) -> float:
    """Upper end of the error's scale in metres: 98 % of the coarse depth's errors are below."""
    if frame.depth is None or not (frame.depth > 0).any():
        return 1.0
    known = frame.depth > 0
    return max(float(np.quantile(np.abs(coarse_depth - frame.depth)[known], 0.98)), 0.01)


def points_picture(session: Session, ends: tuple[float, float]) -> np.ndarray:
    """The image, enlarged, with each point as a disc in the colour of its depth; (h, w, 3) uint8.

    `ends` are those of the colour scale in metres.
    """
    frame, scale = session.frame, shown_scale(session.frame)
    height, width = frame.rgb.shape[:2]
    size = (width * scale, height * scale)
    picture = Image.fromarray(frame.rgb).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    rows, columns = np.nonzero(session.sparse_depth)
    colors = colorize(session.sparse_depth[rows, columns][None], *ends)[0].tolist()
    radius = 5 if len(rows) <= 2000 else 2
    for row, column, color in zip(rows.tolist(), columns.tolist(), colors, strict=True):
        x, y = scale * column + scale // 2, scale * row + scale // 2
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=tuple(color), outline=(255, 255, 255) if radius > 2 else None)
    return np.asarray(picture)


def results_html(
    session: Session, settings: Propagation, result: Result, view: str, refinement: str
) -> str:
    """Coarse and refined depth, ground truth (or interpolation) and error, with bars and numbers.

    Args:
        view: ERROR, which without ground truth is CHANGE: the refined minus the coarse depth.
        refinement: "cspn", "spn" or "none", as the network has it.
    """
    frame = session.frame
    ends = depth_ends(session, result.coarse_depth)
    if not result.scores:
        view = CHANGE
    steps = f"after {_count(settings.steps, 'step')}" if refinement == "cspn" else refinement
    figures = [
        _figure("coarse", "Coarse depth", "from the network", _depth(result.coarse_depth, ends)),
        _figure("refined", "Refined depth", steps, _depth(result.refined_depth, ends)),
    ]
    if result.scores:
        truth = colorize(_seen(frame.depth), *ends)
        figures.append(_figure("truth", "Ground truth", "black where unknown", truth))
    elif result.linear_depth is not None:
        linear = _depth(result.linear_depth, ends)
        figures.append(_figure("linear", "Interpolation", "linear, of the points alone", linear))
    figures.append(_last_figure(frame, result, view))
    height, width = frame.rgb.shape[:2]
    columns = 1 if width > 2 * height else 2
    bars = [_bar("depth", "turbo", ends, "Depth, points included"), _last_bar(frame, result, view)]
    return (
        f'<div class="panels" style="--columns:{columns}">{"".join(figures)}</div>'
        f'<div class="bars">{"".join(bars)}</div>{_numbers(session, result)}'
    )


def _last_figure(frame: Frame, result: Result, view: str) -> str:
    if view == CHANGE:
        change, end = _change(result)
        colors = colorize(np.where(change == 0, 1e-9, change), -end, end, "coolwarm")
        return _figure("error", "Refined − coarse", "what the propagation changed", colors)
    known = frame.depth > 0
    # Exactly 0 would be drawn as unknown.
    error = np.where(known, np.maximum(np.abs(result.refined_depth - frame.depth), 1e-9), 0)
    colors = colorize(_seen(error), 0.0, error_end(frame, result.coarse_depth), "inferno")
    return _figure("error", "Error", "|refined − ground truth|", colors)


def _last_bar(frame: Frame, result: Result, view: str) -> str:
    if view == CHANGE:
        _, end = _change(result)
        return _bar("error", "coolwarm", (-end, end), "Refined − coarse")
    return _bar("error", "inferno", (0.0, error_end(frame, result.coarse_depth)), "Error")


def _change(result: Result) -> tuple[np.ndarray, float]:
    """Refined minus coarse depth, and the end of its scale: a quarter of a metre, half, one, ...,
    whichever holds 98 % of it, so that it rarely moves with the steps."""
    change = result.refined_depth - result.coarse_depth
    most, end = float(np.quantile(np.abs(change), 0.98)), 0.25
    while end < most:
        end *= 2
    return change, end


def _seen(measured: np.ndarray) -> np.ndarray:
    """A map with few measurements, such as a LiDAR's, with each of them three pixels wide; the
    smaller value in front."""
    known = measured > 0
    if known.mean() > 0.2:
        return measured
    nearest = minimum_filter(np.where(known, measured, np.inf), 3)
    return np.where(np.isfinite(nearest), nearest, 0)


def _depth(depth: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Colours of a network's depth, which has no holes: a 0 in it is a depth."""
    return colorize(np.where(depth == 0, 1e-9, depth), *ends)


def _figure(name: str, title: str, note: str, colors: np.ndarray) -> str:
    return (
        f'<figure><img id="{name}" alt="{title}: {html.escape(note)}" src="{_png(colors)}">'
        f"<figcaption><b>{title}</b> {html.escape(note)}</figcaption></figure>"
    )


def _bar(name: str, colormap: str, ends: tuple[float, float], title: str) -> str:
    """A colour bar with its ends, and the middle, in metres."""
    middle = sum(ends) / 2
    texts = "".join(f"<span>{value:.2f} m</span>" for value in (ends[0], middle, ends[1]))
    source = _png(colorize(_BAR, 1, 2, colormap))
    return (
        f'<div class="bar" id="bar-{name}"><b>{title}</b>'
        f'<img alt="" src="{source}"><div class="ends">{texts}</div></div>'
    )


def _numbers(session: Session, result: Result) -> str:
    """A table of errors and times, and what they are of."""
    names = {"coarse": "coarse", "refined": "refined", "linear": "interpolation"}
    times = {
        "coarse": f"{result.network_ms:.0f} ms",
        "refined": f"+ {result.propagation_ms:.1f} ms",
    }
    rows = []
    for method, name in names.items():
        if method == "linear" and "linear" not in result.scores:
            continue
        scores = result.scores.get(method, {})
        cells = [f"{scores[m]:.3f}" if m in scores else "–" for m in ("RMSE", "MAE")]
        cells += [f"{scores['DELTA1.25']:.1%}" if scores else "–", times.get(method, "–")]
        name = f'<th class="name">{name}</th>'
        rows.append(f'<tr class="row" id="row-{method}">{name}{_cells("td", "cell", cells)}</tr>')
    height, width = session.frame.rgb.shape[:2]
    points = _count(session.n_points, "point")
    if session.predictor.density is not None:
        points += f" (about {session.predictor.density * width * height:.0f} in training)"
    about = f"{html.escape(session.frame.name)}, {width} × {height} pixels, {points}."
    if not result.scores:
        about += " No ground truth: the error is not known."
    head = _cells("th", "head", ["", "RMSE (m)", "MAE (m)", "δ1.25", "time"])
    return (
        f'<div class="numbers"><table class="numbers"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="about">{about}</p>'
    )


def _cells(tag: str, kind: str, texts: list[str]) -> str:
    return "".join(f'<{tag} class="{kind}">{text}</{tag}>' for text in texts)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _png(colors: np.ndarray) -> str:
    """An image as a data address: part of the page, no file and no request."""
    stream = io.BytesIO()
    Image.fromarray(colors).save(stream, "PNG", compress_level=3)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
