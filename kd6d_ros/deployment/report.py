"""The accuracy report of an export: what each precision costs and brings, measured here."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.benchmark.latency import summarise
from kd6d_ros.benchmark.machine import machine_record
from kd6d_ros.deployment.accuracy import REFERENCE, paired_drop
from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.bundle_records import Measured
from kd6d_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from kd6d_ros.inference.engines.precision_choice import MOST_DROP_POINTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kd6d_ros.deployment.accuracy import Accuracy
    from kd6d_ros.deployment.export_data import ExportData
    from kd6d_ros.deployment.precisions import Files
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""

ROUNDS, WARM_UP = 30, 3


def judge(
    bundle: Bundle, files: Files, data: ExportData, allowed: Sequence[str], progress: Progress
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """What each file of a network costs and brings, for the manifest; and the report.

    Args:
        allowed: precisions that may lose any accuracy.

    Raises:
        ConfigError: one of the others loses too much. DatasetError: nothing usable to measure on.
    """
    engines = {name: OnnxRuntimeEngine(bundle, path, name) for name, path in files.paths.items()}
    accuracies = data.accuracies(engines, progress)
    check_drops(accuracies, allowed)
    results = measured(latencies(bundle, engines), accuracies)
    facts = {'calibration': data.calibration(files.facts), 'evaluation': data.evaluation(accuracies)}
    return results, report_record(bundle, engines, files.paths, results, accuracies, facts)


def latencies(bundle: Bundle, engines: Mapping[str, Engine]) -> dict[str, float]:
    """Median time [ms] of one crop of noise by precision; they run in turn, so that they share what else the machine
    does."""
    size, rng = bundle.network.crop_size, np.random.default_rng(0)
    image = rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    classes = np.ones((1, len(bundle.objects)), dtype=bool)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(WARM_UP + ROUNDS):
        for name, engine in engines.items():
            start = perf_counter()
            engine.run(image, classes)
            if number >= WARM_UP:
                times[name].append(perf_counter() - start)
    summaries = {name: summarise(values) for name, values in times.items()}
    return {name: round(1e3 * item.p50, 3) for name, item in summaries.items() if item is not None}


def measured(times: Mapping[str, float], accuracies: Mapping[str, Accuracy]) -> dict[str, Measured]:
    """What goes into the manifest, by precision."""
    out = {}
    for name, milliseconds in times.items():
        accuracy = accuracies.get(name)
        if accuracy is None:
            out[name] = Measured(milliseconds)
            continue
        drop = paired_drop(accuracies[REFERENCE].hits, accuracy.hits)
        error = accuracy.keypoint_error_px
        out[name] = Measured(
            milliseconds,
            len(accuracy.hits),
            round(accuracy.recall, 4),
            round(drop.points, 2),
            None if error is None else round(error, 3),
        )
    return out


def check_drops(accuracies: Mapping[str, Accuracy], allowed: Sequence[str]) -> None:
    """Raises:
    ConfigError: a precision loses more than MOST_DROP_POINTS points and is not in `allowed`.
    """
    for name, accuracy in accuracies.items():
        reference = accuracies[REFERENCE]
        drop = paired_drop(reference.hits, accuracy.hits)
        if drop.points > MOST_DROP_POINTS and name not in allowed:
            raise ConfigError(
                f'{name} finds {100 * accuracy.recall:.1f} % of {len(accuracy.hits)} held-out objects, fp32 '
                f'{100 * reference.recall:.1f} %: {drop.points:.1f} points less (95 % interval {drop.low:.1f} to '
                f'{drop.high:.1f}), at most {MOST_DROP_POINTS:g} are allowed; nothing was written. '
                f'More --calibration-images may help; --allow-drop {name} writes it all the same'
            )


def report_record(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    paths: Mapping[str, Path],
    results: Mapping[str, Measured],
    accuracies: Mapping[str, Accuracy],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Plain values for report.json.

    Args:
        facts: 'calibration' and 'evaluation', what they were made on; None where they were not.
    """
    rows = {}
    for name, path in paths.items():
        rows[name] = {'bytes': path.stat().st_size, 'engine': engines[name].description, **vars(results[name])}
        if name in accuracies:
            drop = paired_drop(accuracies[REFERENCE].hits, accuracies[name].hits)
            rows[name]['posed'] = round(float(accuracies[name].posed.mean()), 4)
            rows[name]['drop_95'] = [round(drop.low, 2), round(drop.high, 2)]
    return {
        'bundle': bundle.name,
        'crop_macs': bundle.network.crop_macs,
        'frame_macs': bundle.network.frame_macs,
        'precisions': rows,
        **facts,
        'machine': machine_record(),
    }


TABLE_HEADER = ('precision', 'MB', 'ms/crop', 'recall %', 'drop', '95 %', 'keypoints px')


def table_rows(record: Mapping[str, Any]) -> list[list[Any]]:
    """Rows for people, one per precision of a report."""
    rows = []
    for name, row in record['precisions'].items():
        recall, drop, error, interval = (
            row.get(key) for key in ('recall', 'drop_points', 'keypoint_error_px', 'drop_95')
        )
        rows.append([
            name,
            f'{row["bytes"] / 1e6:.2f}',
            f'{row["latency_ms"]:.2f}',
            '-' if recall is None else f'{100 * recall:.1f}',
            '-' if drop is None else f'{drop:+.1f}',
            '-' if interval is None else f'{interval[0]:+.1f} .. {interval[1]:+.1f}',
            '-' if error is None else f'{error:.2f}',
        ])  # fmt: skip
    return rows
