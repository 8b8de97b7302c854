"""Line charts as inline SVG, whose colours the page's style sets for light and dark."""

import math
from collections.abc import Sequence
from html import escape

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 26

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: dict[str, Points], *, log: bool = False) -> str:
    """A figure with a line for each series over epochs; "" where no point is finite.

    Args:
        title: what stands above it, with its unit.
        series: legend -> (epoch, value) pairs; at most three.
        log: logarithmic values; what is not positive is left out.
    """
    lines = {
        name: [(x, y) for x, y in points if math.isfinite(x) and _usable(y, log)]
        for name, points in series.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_ends = (min(xs) - 0.5, max(xs) + 0.5) if min(xs) == max(xs) else (min(xs), max(xs))
    y_ticks, y_ends = _log_scale(ys) if log else _linear_scale(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if log else y
        low, high = (math.log10(end) for end in y_ends) if log else y_ends
        across = (x - x_ends[0]) / (x_ends[1] - x_ends[0])
        up = (y - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + (1 - up) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        y = at(x_ends[0], tick)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for tick in MaxNLocator(nbins=6, integer=True).tick_values(*x_ends):
        if x_ends[0] <= tick <= x_ends[1]:
            x = at(tick, y_ends[0])[0]
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:.0f}</text>'
            )
    for i, (name, points) in enumerate(lines.items()):
        places = [at(x, y) for x, y in points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line s{i}" points="{drawn}"/>')
        for (x, y), (epoch, value) in zip(places, points, strict=True):
            tip = f"{escape(name)}, epoch {epoch:.0f}: {value:.6g}"
            radius = 2.6 if len(points) <= 60 else 1.2
            parts.append(
                f'<circle class="dot s{i}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
                f"<title>{tip}</title></circle>"
            )
    legend = "".join(
        f'<span class="key s{i}">{escape(name)}</span>' for i, name in enumerate(lines)
    )
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over epochs">'
        f"{''.join(parts)}</svg></figure>"
    )


def _usable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _linear_scale(values: list[float]) -> tuple[list[float], tuple[float, float]]:
    """Round values and the ends of the axis, which they enclose."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    ticks = MaxNLocator(nbins=5).tick_values(low - pad, high + pad).tolist()
    return ticks, (ticks[0], ticks[-1])


def _log_scale(values: list[float]) -> tuple[list[float], tuple[float, float]]:
    """Powers of ten around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    if low == high:
        low, high = low - 1, high + 1
    step = max(1, (high - low) // 5)
    return [10.0**power for power in range(low, high + 1, step)], (10.0**low, 10.0**high)
