"""The HTML report of a run: one file, no scripts, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

import base64
import contextlib
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, List, Sequence, Tuple

from kd6d_ros.benchmark.charts import error_chart, recall_chart
from kd6d_ros.benchmark.summary import outcome_rows, summary_rows
from kd6d_ros.errors import BagError

if TYPE_CHECKING:
    from kd6d_ros.benchmark.scoring import RunScore
    from kd6d_ros.types import ImageArray

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2024; --soft: #5a6470; --line: #d5dae0;
  --area: #c9d6e6; --recall: #1256a3; --good: #1c7a3d; --bad: #c0281c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8eaed; --soft: #9aa4b0;
  --line: #333a42; --area: #2b3c52; --recall: #7db7ff; --good: #58c97d; --bad: #ff7b6e; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 900px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, figcaption { color: var(--soft); }
.verdict { font-weight: 600; color: var(--good); } .verdict.failed { color: var(--bad); }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; } td + td { font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); } .visible { fill: var(--area); stroke: none; }
.recall { fill: none; stroke: var(--recall); stroke-width: 2; }
.curve { fill: none; stroke-width: 1.8; } th { color: var(--soft); font-weight: 500; }
.scroll { overflow-x: auto; } table { font-size: 13px; } td { white-space: nowrap; } ul { padding-left: 1.2rem; }
.c0 { stroke: #1256a3; fill: #1256a3; } .c1 { stroke: #c0561c; fill: #c0561c; } .c2 { stroke: #1c7a3d; fill: #1c7a3d; }
.c3 { stroke: #8a3aa8; fill: #8a3aa8; } .c4 { stroke: #a88a1c; fill: #a88a1c; } .c5 { stroke: #5a6470; fill: #5a6470; }
@media (prefers-color-scheme: dark) { .c0 { stroke: #7db7ff; fill: #7db7ff; } .c1 { stroke: #ffa56e; fill: #ffa56e; }
  .c2 { stroke: #58c97d; fill: #58c97d; } .c3 { stroke: #d69bf0; fill: #d69bf0; }
  .c4 { stroke: #e6cf6a; fill: #e6cf6a; } .c5 { stroke: #9aa4b0; fill: #9aa4b0; } }
svg path.curve { fill: none; }
.limit { stroke: var(--soft); stroke-dasharray: 5 4; } .good { fill: var(--good); } .bad { fill: var(--bad); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; }
figcaption { font-size: 12px; }
"""


@dataclass(frozen=True, eq=False)
class Picture:
    """An overlay (H, W, 3) uint8 RGB and what to say below it."""

    image: ImageArray
    caption: str


@dataclass(frozen=True, eq=False)
class ReportText:
    """Words around the figures: title, one-line verdict, whether it passed, and facts (name, value)."""

    title: str
    verdict: str
    passed: bool
    facts: Sequence[Tuple[str, str]] = ()


def render_report(score: RunScore, text: ReportText, pictures: Sequence[Picture]) -> str:
    """The whole page of one run."""
    visibility = [(name, f'{right} of {targets}') for name, right, targets in score.recall_by_visibility() if targets]
    parts = [
        f'<p class="verdict{"" if text.passed else " failed"}">{escape(text.verdict)}</p>',
        _table(summary_rows(score)),
        '<h2>Recall over time</h2>',
        '<p>Area: visible fraction of the object. Line: ADD recall at 0.1 d over the last second, over frames '
        'in which at least a tenth of the object is visible.</p>',
        recall_chart(score),
        '<h2>Error of every pose</h2>',
        '<p>ADD(-S) in object diameters, capped at 0.5; dashed: the limit of 0.1.</p>',
        error_chart(score),
        '<h2>What became of every object in every frame</h2>',
        _table([(name, str(count)) for name, count in outcome_rows(score)]),
        '<h2>Right poses by visible fraction</h2>',
        _table(visibility),
        '<h2>Pictures</h2>',
        '<p>White: where the object is. Green: a right pose. Red: a wrong one.</p>',
        picture_grid(pictures),
        '<h2>About this run</h2>',
        _table(text.facts),
    ]
    return page(text.title, parts)


def page(title: str, parts: Sequence[str]) -> str:
    """A whole HTML page around `parts`, with the style of all our reports."""
    lines = [
        '<!DOCTYPE html>',
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title><style>{STYLE}</style></head><body>',
        f'<h1>{escape(title)}</h1>',
        *parts,
        '</body></html>',
    ]
    return '\n'.join(lines) + '\n'


def picture_grid(pictures: Sequence[Picture]) -> str:
    """Pictures side by side."""
    return '\n'.join(['<div class="pictures">', *[_figure(picture) for picture in pictures], '</div>'])


def table_html(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table that scrolls sideways where it is too wide; None becomes a dash."""
    head = ''.join(f'<th>{escape(name)}</th>' for name in header)
    lines = [
        '<tr>' + ''.join(f'<td>{"-" if cell is None else escape(str(cell))}</td>' for cell in row) + '</tr>'
        for row in rows
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _table(rows: Iterable[Tuple[str, Any]]) -> str:
    lines: List[str] = [f'<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>' for name, value in rows]
    return '<table>' + ''.join(lines) + '</table>'


def _figure(picture: Picture) -> str:
    import cv2

    encoded, data = cv2.imencode('.jpg', picture.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not encoded:
        return f'<figure><figcaption>{escape(picture.caption)} (no picture)</figcaption></figure>'
    source = base64.b64encode(data.tobytes()).decode('ascii')
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{source}">'
        f'<figcaption>{caption}</figcaption></figure>'
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file aside and rename it.

    Raises:
        BagError: the folder cannot be written.
    """
    aside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding='utf-8')
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise BagError(f'{path}: cannot be written ({error.strerror}); choose another folder') from None
