"""The page of a comparison: one file, no scripts, nothing loaded from elsewhere, light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple

from kd6d_ros.benchmark.bag_frames import read_frames
from kd6d_ros.benchmark.bag_source import BagSource
from kd6d_ros.benchmark.charts import Curve, curves_chart, error_chart, recall_chart
from kd6d_ros.benchmark.comparison_table import ACCURACY, MORE, SPEED, stage_table, table
from kd6d_ros.benchmark.overlays import describe, draw_outcomes
from kd6d_ros.benchmark.report import Picture, page, picture_grid, table_html
from kd6d_ros.benchmark.scoring import MIN_VISIBLE

if TYPE_CHECKING:
    from kd6d_ros.benchmark.comparison import Comparison
    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.rows import Row
    from kd6d_ros.benchmark.scoring import ObjectOutcome

ADD_SHOWN = 0.3
"""The curve of recall goes to this share of the diameter."""


def comparison_page(comparison: Comparison) -> str:
    """The whole page."""
    rows, record = comparison.rows, comparison.record
    title = f'kd6d bench: {comparison.recording.path.name}'
    records = [row.record for row in rows]
    parts = [
        f'<p>{escape(_headline(rows, comparison.recording))}</p>',
        '<h2>Speed</h2>',
        '<p>Time of one estimate(), all rounds together; "times first": median over the rounds of the ratio of medians '
        'to the first row. The rows took turns, each in a process of its own.</p>',
        table_html(*table(records, SPEED)),
        curves_chart('Share of the images that took at most so long', 'time of estimate() [ms]', _latency_curves(rows)),
        '<h2>Stages</h2>',
        table_html(*stage_table(records)),
        '<h2>Accuracy</h2>',
        f'<p>Over objects at least {100 * MIN_VISIBLE:.0f} % visible; one without a pose is a miss.</p>',
        table_html(*table(records, (*ACCURACY, *MORE))),
    ]
    scored = [row for row in rows if row.accuracy.score is not None]
    if scored:
        name = 'Share of the targets with ADD(-S) below so many diameters'
        parts.append(curves_chart(name, 'ADD(-S) [diameters]', _recall_curves(scored)))
    if comparison.notes:
        parts += ['<h2>Notes</h2>', '<ul>', *(f'<li>{escape(note)}</li>' for note in comparison.notes), '</ul>']
    pictures = row_pictures(comparison.recording, scored)
    for row in scored:
        parts += _row_section(row, pictures[row.variant.name])
    parts += ['<h2>Made with</h2>', table_html(('what', 'value'), _facts(record))]
    return page(title, parts)


def _headline(rows: Sequence[Row], recording: Recording) -> str:
    rate = 'an unknown rate' if recording.rate_hz is None else f'{recording.rate_hz:.1f} Hz'
    first = rows[0].record
    return f'{first["images"]} images, recorded at {rate}, {first["rounds"]} rounds, {len(rows)} rows.'


def _latency_curves(rows: Sequence[Row]) -> List[Curve]:
    curves = []
    for row in rows:
        values = sorted(1e3 * value for value in row.seconds)
        curves.append(Curve(row.variant.name, [(x, (k + 1) / len(values)) for k, x in enumerate(values)]))
    # The slowest hundredth would squeeze everything else to the left.
    longest = max(curve.points[int(0.99 * (len(curve.points) - 1))][0] for curve in curves)
    return [Curve(curve.name, [point for point in curve.points if point[0] <= longest]) for curve in curves]


def _recall_curves(rows: Sequence[Row]) -> List[Curve]:
    curves = []
    for row in rows:
        score = row.accuracy.score
        assert score is not None
        shares = sorted(
            item.error_m / (10 * score.limits_m[item.truth.object_name])
            for item in score.outcomes
            if item.error_m is not None and item.truth.visible_fraction >= MIN_VISIBLE
        )
        points = [(0.0, 0.0)]
        points += [(x, (k + 1) / score.targets) for k, x in enumerate(shares) if x <= ADD_SHOWN]
        curves.append(Curve(row.variant.name, [*points, (ADD_SHOWN, points[-1][1])]))
    return curves


def _row_section(row: Row, pictures: Sequence[Picture]) -> List[str]:
    score = row.accuracy.score
    assert score is not None
    return [
        f'<h2>{escape(row.variant.name)}</h2>',
        f'<p>{escape(row.record["engine"])}; idle threads spin: {escape(row.record["spinning"])}.</p>',
        '<p>Area: visible fraction. Line: ADD(-S) recall at 0.1 d over the last second.</p>',
        recall_chart(score),
        '<p>ADD(-S) of every pose in diameters, capped at 0.5; dashed: the limit of 0.1.</p>',
        error_chart(score),
        '<p>White: where the object is. Green: a right pose. Red: a wrong one.</p>',
        picture_grid(pictures),
    ]


def row_pictures(recording: Recording, rows: Sequence[Row], count: int = 3) -> Dict[str, List[Picture]]:
    """Overlays of the best, median and worst images of each row; the bag is read once for all of them."""
    wanted: Dict[int, List[Tuple[Row, str]]] = {}
    for row in rows:
        for stamp, caption in _chosen(row, count).items():
            wanted.setdefault(stamp, []).append((row, caption))
    found: Dict[str, Dict[str, Picture]] = {row.variant.name: {} for row in rows}
    if wanted:
        with BagSource(recording.path) as source:
            for frame in read_frames(source, recording.topics):
                for row, caption in wanted.pop(frame.stamp_ns, []):
                    image = draw_outcomes(frame, _of_stamp(row, frame.stamp_ns), row.judge.models)
                    found[row.variant.name][caption] = Picture(image, caption)
    # best, median, worst: also the order of the alphabet
    return {name: [pictures[caption] for caption in sorted(pictures)] for name, pictures in found.items()}


def _of_stamp(row: Row, stamp: int) -> List[ObjectOutcome]:
    score = row.accuracy.score
    assert score is not None
    return [item for item in score.outcomes if item.stamp_ns == stamp]


def _chosen(row: Row, count: int) -> Dict[int, str]:
    """Stamp -> caption. An image is as bad as its worst visible object; one without a pose is worse than any error."""
    score = row.accuracy.score
    assert score is not None
    worst: Dict[int, Tuple[float, ObjectOutcome]] = {}
    for item in score.outcomes:
        if item.truth.visible_fraction < MIN_VISIBLE:
            continue
        error = float('inf') if item.error_m is None else item.error_m / score.limits_m[item.truth.object_name]
        if item.stamp_ns not in worst or error > worst[item.stamp_ns][0]:
            worst[item.stamp_ns] = (error, item)
    ranked = sorted(worst.values(), key=lambda pair: (pair[0], pair[1].stamp_ns))
    posed = [pair for pair in ranked if pair[1].pose is not None]
    middle = max(0, (len(posed) - count) // 2)
    groups = {'best': posed[:count], 'median': posed[middle : middle + count], 'worst': ranked[::-1][:count]}
    captions: Dict[int, str] = {}
    for group, pairs in groups.items():
        for number, (_, item) in enumerate(pairs, 1):
            text = f'{group} {number} · image {item.frame} · {item.truth.object_name}: {describe(item)}'
            captions.setdefault(item.stamp_ns, text)
    return captions


def _facts(record: Mapping[str, Any]) -> List[Tuple[str, str]]:
    facts = [('bag', str(record['bag'])), ('sha256 of the bag', record['bag_sha256'])]
    facts += [(f'sha256 of {name} {precision}', value) for name, item in record['bundles'].items()
              for precision, value in item['engines'].items()]  # fmt: skip
    facts.append(('sha256 of the configuration', record['configuration_sha256']))
    facts += [(name, str(value)) for name, value in record['configuration'].items() if name != 'rows']
    facts += [(name, str(value)) for name, value in record['machine'].items()]
    facts += [(f'version of {name}', str(value)) for name, value in record['versions'].items()]
    return facts
