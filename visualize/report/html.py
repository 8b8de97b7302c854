"""Pieces of the page; every text that comes in is escaped here."""

import html
import math
from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Any value as harmless text: escaped, without control characters."""
    shown = "".join(c if c.isprintable() or c == " " else "\ufffd" for c in str(value))
    return html.escape(shown, quote=True)


def number(value: object, digits: int = 4) -> str:
    """A score with a fixed number of places, a dash where there is none."""
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}"


def paragraph(sentence: str, style: str = "") -> str:
    """A paragraph of text."""
    return f'<p class="{style}">{text(sentence)}</p>' if style else f"<p>{text(sentence)}</p>"


def note(title: str, sentences: Iterable[str]) -> str:
    """A box that stands out, with a list."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f'<div class="note"><b>{text(title)}</b><ul>{items}</ul></div>'


def row(cells: Sequence[object], style: str = "") -> str:
    """A row of a table of numbers; the first cell names it."""
    first, *rest = cells
    name = f'<td title="{text(first)}">{text(first)}</td>'
    cells_html = name + "".join(f"<td>{text(cell)}</td>" for cell in rest)
    return f'<tr class="{style}">{cells_html}</tr>' if style else f"<tr>{cells_html}</tr>"


def table(header: Sequence[object], rows: Iterable[str], label: str) -> str:
    """A table of numbers that scrolls where it is too wide; `rows` come from `row`."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def settings(title: str, values: dict) -> str:
    """A titled list of names and values, "" where there are none."""
    if not values:
        return ""
    lines = "".join(
        f"<tr><td>{text(_short(key))}</td><td><code>{text(_short(value))}</code></td></tr>"
        for key, value in values.items()
    )
    return f'<div><h3>{text(title)}</h3><table class="text"><tbody>{lines}</tbody></table></div>'


def _short(value: object, most: int = 300) -> str:
    shown = "not set" if value is None else str(value)
    return shown if len(shown) <= most else f"{shown[:most]}… ({len(shown)} characters)"
