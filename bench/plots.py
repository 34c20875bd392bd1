"""Line plots as SVG text, so that a figure needs no plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_COLOURS: Final = (
    "#1f6feb", "#1a7f37", "#bf3989", "#9a6700", "#cf222e", "#6e7781", "#8250df", "#0550ae",
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 440, 70, 60, 50, 190


def scatter(
    file: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """Write points joined by lines, both axes logarithmic; what is not finite is left out.

    Parameters
    ----------
    file
        Ends in ``.svg``.
    series
        Name to points ``(x, y)``, both positive.
    """
    points = {
        name: sorted(p for p in found if all(0 < v < math.inf for v in p))
        for name, found in series.items()
    }
    every = [p for found in points.values() for p in found]
    if not every:
        return
    xs, ys = ([math.log10(p[i]) for p in every] for i in (0, 1))
    bounds = [(math.floor(min(v) * 2) / 2, math.ceil(max(v) * 2) / 2 or 1) for v in (xs, ys)]
    (x0, x1), (y0, y1) = ((lo, hi if hi > lo else lo + 1) for lo, hi in bounds)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (math.log10(x) - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (math.log10(y) - y0) / (y1 - y0) * (_HEIGHT - _BOTTOM - _TOP),
        )

    parts = [_text(_LEFT, 24, title, 15), _text(_LEFT + 150, _HEIGHT - 14, x_label, 12)]
    parts.append(
        f'<text x="18" y="{_HEIGHT / 2}" font-size="12" '
        f'transform="rotate(-90 18 {_HEIGHT / 2})" text-anchor="middle">{_safe(y_label)}</text>'
    )
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for power in range(math.ceil(x0), math.floor(x1) + 1):
        x = at(10.0**power, 10**y0)[0]
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#d0d7de"/>')
        parts.append(_text(x - 14, bottom + 18, f"{10**power:,}", 11))
    for half in range(math.ceil(y0 * 2), math.floor(y1 * 2) + 1):
        y = at(10**x0, 10 ** (half / 2))[1]
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#d0d7de"/>')
        parts.append(_text(_LEFT - 48, y + 4, f"{10 ** (half / 2):,.0f}", 11))
    for i, (name, found) in enumerate(points.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        spots = [at(*p) for p in found]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
        box = f'x="{right + 14}" y="{_TOP + 20 * i}" width="10" height="10"'
        parts.append(f'<rect {box} fill="{colour}"/>')
        parts.append(_text(right + 30, _TOP + 20 * i + 9, name, 12))
    body = "\n".join(parts)
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


def _text(x: float, y: float, text: str, size: int) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}">{_safe(text)}</text>'


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
