"""What is painted on each face of the demo object: big, bright, and nowhere the same twice."""

from __future__ import annotations

import math
from typing import Callable, Tuple

from kd6d_ros.data import demo_paint as p
from kd6d_ros.data.demo_paint import Canvas, Colour

Painter = Callable[[Canvas], None]


def hull_front(c: Canvas) -> None:
    c.fill(p.RED)
    c.rectangle(0.0, 0.62, 1.0, 1.0, p.WHITE)
    c.rectangle(0.30, 0.70, 0.95, 0.92, p.BLACK)
    c.disc(0.16, 0.32, 0.22, p.YELLOW)
    c.disc(0.80, 0.32, 0.16, p.WHITE)
    c.text('R5', (0.36, 0.10, 0.62, 0.54), p.NAVY)


def hull_rear(c: Canvas) -> None:
    c.fill(p.GREEN)
    c.polygon([(0.05, 0.95), (0.45, 0.05), (0.60, 0.95)], p.YELLOW)
    c.rectangle(0.68, 0.10, 0.92, 0.50, p.BLACK)
    c.rectangle(0.68, 0.60, 0.92, 0.90, p.WHITE)


def hull_left(c: Canvas) -> None:
    c.fill(p.ORANGE)
    c.rectangle(0.0, 0.0, 0.36, 1.0, p.BLACK)
    c.text('K6', (0.04, 0.14, 0.33, 0.86), p.WHITE)
    c.polygon([(0.42, 0.1), (0.62, 0.5), (0.42, 0.9)], p.NAVY)
    c.polygon([(0.60, 0.1), (0.80, 0.5), (0.60, 0.9)], p.WHITE)
    c.rectangle(0.86, 0.0, 1.0, 1.0, p.CYAN)


def hull_right(c: Canvas) -> None:
    c.fill(p.BLUE)
    c.stripes(1.6, 0.9, p.YELLOW)
    c.rectangle(0.28, 0.0, 0.74, 1.0, p.BLUE)
    c.text('D4', (0.34, 0.14, 0.68, 0.86), p.WHITE)


def hull_top(c: Canvas) -> None:
    c.fill(p.WHITE)
    c.rectangle(0.0, 0.0, 0.5, 0.5, p.PINK)
    c.rectangle(0.0, 0.5, 0.5, 1.0, p.NAVY)
    c.polygon([(0.55, 0.2), (0.95, 0.5), (0.55, 0.8)], p.BLACK)
    c.disc(0.10, 0.80, 0.10, p.LIME)


def hull_bottom(c: Canvas) -> None:
    c.fill(p.PURPLE)
    c.disc(0.24, 0.40, 0.30, p.CYAN)
    c.text('7', (0.17, 0.22, 0.31, 0.62), p.BLACK)
    c.polygon([(0.50, 0.05), (0.95, 0.05), (0.95, 0.60)], p.YELLOW)
    c.rectangle(0.50, 0.72, 0.95, 0.90, p.WHITE)


def cabin_front(c: Canvas) -> None:
    c.fill(p.LIME)
    c.rectangle(0.08, 0.15, 0.92, 0.65, p.NAVY)
    c.polygon([(0.10, 0.62), (0.35, 0.18), (0.55, 0.18), (0.30, 0.62)], p.CYAN)
    c.rectangle(0.60, 0.75, 0.92, 0.92, p.RED)


def cabin_rear(c: Canvas) -> None:
    c.fill(p.YELLOW)
    c.text('ZG', (0.10, 0.16, 0.90, 0.84), p.PURPLE)


def cabin_left(c: Canvas) -> None:
    c.fill(p.CYAN)
    c.disc(0.62, 0.48, 0.34, p.WHITE)
    c.disc(0.62, 0.48, 0.20, p.RED)
    c.rectangle(0.04, 0.08, 0.20, 0.92, p.BLACK)


def cabin_right(c: Canvas) -> None:
    c.fill(p.WHITE)
    c.checker(4, 3, p.RED)
    c.rectangle(0.0, 0.68, 1.0, 1.0, p.NAVY)


def cabin_top(c: Canvas) -> None:
    c.fill(p.ORANGE)
    c.rectangle(0.0, 0.0, 0.34, 1.0, p.BLACK)
    c.text('F', (0.06, 0.35, 0.28, 0.65), p.YELLOW)
    c.polygon([(0.45, 0.08), (0.95, 0.08), (0.95, 0.40)], p.BLUE)


def crate_front(c: Canvas) -> None:
    c.fill(p.BROWN)
    c.rectangle(0.1, 0.2, 0.9, 0.5, p.WHITE)


def crate_rear(c: Canvas) -> None:
    c.fill(p.PINK)
    c.rectangle(0.0, 0.0, 0.45, 1.0, p.BLACK)
    c.disc(0.72, 0.5, 0.26, p.YELLOW)


def crate_left(c: Canvas) -> None:
    c.fill(p.PURPLE)
    c.text('PA2', (0.08, 0.18, 0.92, 0.82), p.LIME)


def crate_right(c: Canvas) -> None:
    c.fill(p.BLACK)
    c.stripes(2.0, 0.6, p.LIME)


def crate_top(c: Canvas) -> None:
    c.fill(p.YELLOW)
    c.polygon([(0.0, 0.0), (0.7, 0.0), (0.0, 0.9)], p.RED)
    c.disc(0.72, 0.62, 0.24, p.NAVY)


def tank_side(c: Canvas) -> None:
    c.fill(p.CYAN)
    c.rectangle(0.0, 0.0, 1.0, 0.22, p.RED)
    c.rectangle(0.08, 0.22, 0.30, 1.0, p.WHITE)
    c.rectangle(0.55, 0.22, 0.80, 1.0, p.BLACK)
    c.disc(0.42, 0.62, 0.14, p.YELLOW)
    c.disc(0.90, 0.62, 0.14, p.PURPLE)


def beacon_side(c: Canvas) -> None:
    c.fill(p.PURPLE)
    c.rectangle(0.0, 0.0, 0.25, 1.0, p.YELLOW)
    c.rectangle(0.5, 0.0, 0.65, 1.0, p.WHITE)


def plain(colour: Colour) -> Painter:
    def paint(c: Canvas) -> None:
        c.fill(colour)

    return paint


def pie(ground: Colour, slice_colour: Colour, start: float, span: float, hub: Colour) -> Painter:
    """A disc with one slice [fractions of a turn] and a hub."""

    def paint(c: Canvas) -> None:
        c.fill(ground)
        c.sector(start * 2 * math.pi, (start + span) * 2 * math.pi, slice_colour)
        c.disc(0.5, 0.5, 0.16, hub)

    return paint


def tread(ground: Colour, bar: Colour, bars: int, wide: float) -> Painter:
    """A tyre's running surface: `bars` cross bars and one wider mark, so that its turn can be seen."""

    def paint(c: Canvas) -> None:
        c.fill(ground)
        for index in range(bars):
            x = index / bars
            c.rectangle(x, 0.0, x + (wide if index == 0 else 0.35 / bars), 1.0, bar)

    return paint


Faces = Tuple[Painter, ...]

HULL: Faces = (hull_front, hull_rear, hull_left, hull_right, hull_top, hull_bottom)
CABIN: Faces = (cabin_front, cabin_rear, cabin_left, cabin_right, cabin_top, plain(p.GREY))
CRATE: Faces = (crate_front, crate_rear, crate_left, crate_right, crate_top, plain(p.BROWN))
TANK: Faces = (tank_side, pie(p.RED, p.WHITE, 0.0, 0.5, p.RED), pie(p.YELLOW, p.BLACK, 0.1, 0.4, p.BLUE))
BEACON: Faces = (beacon_side, pie(p.ORANGE, p.NAVY, 0.0, 0.35, p.WHITE), plain(p.GREY))
WHEEL_FRONT_LEFT: Faces = (
    tread(p.BLACK, p.YELLOW, 6, 0.16),
    pie(p.WHITE, p.RED, 0.05, 0.40, p.BLACK),
    plain(p.BLACK),
)
WHEEL_FRONT_RIGHT: Faces = (
    tread(p.NAVY, p.WHITE, 8, 0.12),
    pie(p.LIME, p.BLACK, 0.30, 0.30, p.RED),
    plain(p.BLACK),
)
WHEEL_REAR_LEFT: Faces = (
    tread(p.BROWN, p.CYAN, 5, 0.20),
    pie(p.BLUE, p.YELLOW, 0.50, 0.45, p.WHITE),
    plain(p.BLACK),
)
WHEEL_REAR_RIGHT: Faces = (
    tread(p.BLACK, p.PINK, 4, 0.24),
    pie(p.ORANGE, p.NAVY, 0.15, 0.55, p.WHITE),
    plain(p.BLACK),
)
