"""The table of a comparison: figures of a row's record as text, `-` where there is none."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

Figure = Tuple[str, Callable[[Mapping[str, Any]], Any]]


def _part(*names: str, scale: float = 1.0, digits: int = 2) -> Callable[[Mapping[str, Any]], Optional[str]]:
    """Reads record[a][b]... times `scale`; None where a step is missing."""

    def read(record: Mapping[str, Any]) -> Optional[str]:
        value: Any = record
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else f'{scale * value:.{digits}f}'

    return read


DEGREES = float(180 / np.pi)

SPEED: Tuple[Figure, ...] = (
    ('p50 ms', _part('latency_ms', 'p50')),
    ('p90', _part('latency_ms', 'p90')),
    ('p95', _part('latency_ms', 'p95')),
    ('p99', _part('latency_ms', 'p99')),
    ('max', _part('latency_ms', 'max')),
    ('times first', _part('times_the_first', digits=3)),
    ('images/s', _part('throughput_hz', digits=1)),
    ('CPU ms', _part('cpu_ms', digits=1)),
    ('memory MB', _part('peak_memory_mb', digits=0)),
    ('GPU MB', _part('gpu_memory_mb', digits=0)),
)
ACCURACY: Tuple[Figure, ...] = (
    ('ADD(-S) %', _part('add_recall', scale=100, digits=1)),
    ('AUC %', _part('add_auc', scale=100, digits=1)),
    ('5cm5deg %', _part('recall_5cm_5deg', scale=100, digits=1)),
    ('5px %', _part('recall_projection_5px', scale=100, digits=1)),
    ('trans mm', _part('translation_m', 'p50', scale=1000, digits=1)),
    ('rot deg', _part('rotation_rad', 'p50', scale=DEGREES, digits=2)),
    ('jitter mm', _part('jitter', 'translation_m', scale=1000, digits=2)),
    ('false', lambda record: record.get('false_poses')),
)


def dropped(record: Mapping[str, Any]) -> Optional[str]:
    """Images lost at the camera's rate, by the simulated queue."""
    camera = record.get('camera')
    return None if camera is None else f'{camera["dropped"]} of {camera["of"]} at {camera["hz"]:.3g} Hz'


def coverage(record: Mapping[str, Any]) -> Optional[str]:
    """Share of poses within the 50, 90 and 95 % regions of their covariance."""
    found: Optional[Dict[str, List[float]]] = record.get('coverage')
    return None if found is None else ' / '.join(f'{100 * value:.0f}' for value in found['pose'])


MORE: Tuple[Figure, ...] = (('dropped', dropped), ('covered 50/90/95 %', coverage))


def table(records: Sequence[Mapping[str, Any]], figures: Sequence[Figure]) -> Tuple[List[str], List[List[Any]]]:
    """(header, rows): a line per record."""
    header = ['row', *(name for name, _ in figures)]
    return header, [[record['row'], *(read(record) for _, read in figures)] for record in records]


def stage_table(records: Sequence[Mapping[str, Any]]) -> Tuple[List[str], List[List[Any]]]:
    """(header, rows): a line per row and stage."""
    names = ('p50', 'p90', 'p95', 'p99', 'max')
    rows: List[List[Any]] = []
    for record in records:
        for stage, values in record['stages_ms'].items():
            rows.append([f'{record["row"]}: {stage}', *(f'{values[name]:.2f}' for name in names)])
    return ['row: stage', *(f'{name} ms' for name in names)], rows
