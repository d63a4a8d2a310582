"""A run's score as table rows and as plain values for JSON."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from kd6d_ros.benchmark.scoring import ADD_LIMIT, MIN_VISIBLE, RunScore


def summary_rows(score: RunScore) -> List[Tuple[str, str]]:
    """(what, value) rows of the table that ends a run."""
    rows = [
        ('frames in the bag', str(score.frames)),
        ('frames sent', str(score.sent)),
        ('frames processed', str(score.processed)),
        ('frames dropped or lost', str(score.dropped)),
        ('poses out', str(score.poses)),
    ]
    if score.latency is not None:
        latency = score.latency.milliseconds()
        rows.append(('latency p50 / p95 [ms]', f'{latency["p50"]:.1f} / {latency["p95"]:.1f}'))
    recall = 'no targets' if score.recall is None else f'{100 * score.recall:.1f} %'
    right = score.counts['right']
    rows.append((f'ADD recall at {ADD_LIMIT:g} d', f'{recall} ({right} of {score.targets})'))
    rows.append(('poses while out of view, stray', str(score.false_poses)))
    return rows


def outcome_rows(score: RunScore) -> List[Tuple[str, int]]:
    """Every object of every frame by what became of it; the numbers add up to all of them."""
    return [(name, count) for name, count in score.counts.items() if count]


def summary_record(score: RunScore) -> Dict[str, Any]:
    """The same as plain values."""
    return {
        'frames': score.frames,
        'sent': score.sent,
        'processed': score.processed,
        'dropped': score.dropped,
        'poses': score.poses,
        'targets': score.targets,
        'min_visible_fraction': MIN_VISIBLE,
        'add_recall': score.recall,
        'add_limit_of_diameter': ADD_LIMIT,
        'false_poses': score.false_poses,
        'outcomes': score.counts,
        'recall_by_visibility': [
            {'visible': name, 'right': right, 'targets': targets}
            for name, right, targets in score.recall_by_visibility()
        ],
        'latency_ms': None if score.latency is None else score.latency.milliseconds(),
    }
