"""Charts as inline SVG text, coloured by the page's CSS variables so that light and dark both read."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import List, Sequence, Tuple

from kd6d_ros.benchmark.scoring import DROPPED, NOT_SENT, REJECTED, RIGHT, WRONG, RunScore

WIDTH, HEIGHT = 860, 250
LEFT, RIGHT_EDGE, TOP, BOTTOM = 46, 10, 12, 34
RUNNING_S = 1.0
"""Window of the running recall [s]."""

Points = Sequence[Tuple[float, float]]
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 2000, 10000)
"""Between the labels of a horizontal axis: the smallest that gives at most a dozen."""
COLOURS = 6
"""Classes c0 to c5 of the page's style."""


@dataclass(frozen=True)
class Curve:
    """A named line; points are (x, share in 0..1)."""

    name: str
    points: Points


def _frame(title: str, x_label: str, body: List[str], x_max: float, y_ticks: Points) -> str:
    """Axes around `body`; y_ticks are (value in 0..1, label number)."""
    lines = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<title>{escape(title)}</title>',
    ]
    for place, label in y_ticks:
        y = _y(place)
        lines.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT_EDGE}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label:g}</text>')
    step = next((size for size in STEPS if x_max / size <= 12), x_max or 1.0)
    for k in range(int(x_max / step + 1e-9) + 1):
        x = _x(k * step, x_max)
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{k * step:g}</text>')
    lines.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>')
    return '\n'.join([*lines, *body, '</svg>'])


def _x(value: float, x_max: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT_EDGE) * (value / x_max if x_max else 0.0)


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - min(max(value, 0.0), 1.0))


def _path(points: Points, x_max: float, css: str) -> str:
    if not points:
        return ''
    d = 'M' + ' L'.join(f'{_x(x, x_max):.1f},{_y(y):.1f}' for x, y in points)
    return f'<path class="{css}" d="{d}"/>'


def _area(points: Points, x_max: float, css: str) -> str:
    if not points:
        return ''
    closed = [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
    return _path(closed, x_max, css)


def recall_chart(score: RunScore) -> str:
    """Visible fraction and recall over the last second, against time."""
    start = min((item.stamp_ns for item in score.outcomes), default=0)
    rows = [((item.stamp_ns - start) * 1e-9, item) for item in score.outcomes]
    end = max((time for time, _ in rows), default=0.0)
    targets = [(t, item) for t, item in rows if item.outcome in (RIGHT, WRONG, REJECTED, DROPPED, NOT_SENT)]
    running: List[Points] = [[]]
    for time, _ in targets:
        near = [item.outcome == RIGHT for t, item in targets if time - RUNNING_S < t <= time]
        piece = list(running[-1])
        if piece and time - piece[-1][0] > 0.5:
            running.append([])
            piece = []
        running[-1] = [*piece, (time, sum(near) / len(near))]
    body = [_area([(t, item.truth.visible_fraction) for t, item in rows], end, 'visible')]
    body += [_path(piece, end, 'recall') for piece in running]
    return _frame('Visible fraction and running recall', 'time [s]', body, end, _unit_ticks())


def error_chart(score: RunScore) -> str:
    """Every published pose: error as a share of the limit's diameter, capped at 0.5 diameters."""
    start = min((item.stamp_ns for item in score.outcomes), default=0)
    end = max(((item.stamp_ns - start) * 1e-9 for item in score.outcomes), default=0.0)
    body = [f'<line class="limit" x1="{LEFT}" y1="{_y(0.2):.1f}" x2="{WIDTH - RIGHT_EDGE}" y2="{_y(0.2):.1f}"/>']
    for item in score.outcomes:
        if item.error_m is None:
            continue
        share = item.error_m / (10 * score.limits_m[item.truth.object_name])
        x, y = _x((item.stamp_ns - start) * 1e-9, end), _y(share / 0.5)
        body.append(f'<circle class="{"good" if share < 0.1 else "bad"}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>')
    ticks = [(k / 5, k / 10) for k in range(6)]
    return _frame('ADD of every pose in diameters', 'time [s]', body, end, ticks)


def curves_chart(title: str, x_label: str, curves: Sequence[Curve]) -> str:
    """Several lines from 0 to 1 with a legend."""
    end = max((x for curve in curves for x, _ in curve.points), default=1.0)
    body = []
    for number, curve in enumerate(curves):
        css, y = f'c{number % COLOURS}', HEIGHT - BOTTOM - 14 - 15 * (len(curves) - 1 - number)
        body.append(_path(curve.points, end, f'curve {css}'))
        body.append(f'<line class="{css}" x1="{WIDTH - 250}" y1="{y - 4}" x2="{WIDTH - 230}" y2="{y - 4}"/>')
        body.append(f'<text x="{WIDTH - 224}" y="{y}">{escape(curve.name)}</text>')
    return f'<p>{escape(title)}.</p>' + _frame(title, x_label, body, end, _unit_ticks())


def _unit_ticks() -> Points:
    return [(k / 4, k / 4) for k in range(5)]
