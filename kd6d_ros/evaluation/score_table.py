"""Instance scores in columns: a million of them take 160 MB, and every summary is a few sums over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, List, Optional

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.evaluation.scores import InstanceScore
    from kd6d_ros.types import AnyArray

CHUNK = 4096

FIELDS = np.dtype(
    [
        *[(name, np.int64) for name in ('scene_id', 'image_id', 'obj_id')],
        ('estimated', np.bool_),
        ('hit_add', np.bool_),
        *[
            (name, np.float64)
            for name in (
                'visible', 'mssd_recall', 'mspd_recall', 'vsd_recall', 'hit_add_s', 'auc_add', 'auc_add_s',
                'mssd', 'mspd', 'rotation', 'translation',
            )
        ],
    ]
)  # fmt: skip
"""A row per instance; NaN where a value is unknown. *_recall: share of the thresholds at which it was found."""


def _row(score: InstanceScore) -> Any:
    def number(value: Optional[float]) -> float:
        return float('nan') if value is None else float(value)

    return (
        score.scene_id,
        score.image_id,
        score.obj_id,
        score.estimated,
        score.hit_add,
        number(score.visible_fraction),
        float(np.mean(score.hits_mssd)),
        float(np.mean(score.hits_mspd)),
        float('nan') if score.hits_vsd is None else float(np.mean(score.hits_vsd)),
        number(score.hit_add_s),
        score.auc_add,
        number(score.auc_add_s),
        score.mssd,
        score.mspd,
        score.rotation,
        score.translation,
    )


def score_table(scores: Iterable[InstanceScore] | AnyArray) -> AnyArray:
    """Structured array (N,) of FIELDS; a table is handed back as it is."""
    if isinstance(scores, np.ndarray):
        return scores
    chunks: List[AnyArray] = []
    rows: List[Any] = []
    for score in scores:
        rows.append(_row(score))
        if len(rows) == CHUNK:
            chunks.append(np.array(rows, FIELDS))
            rows = []
    return np.concatenate([*chunks, np.array(rows, FIELDS)])
