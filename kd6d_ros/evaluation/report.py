"""Summaries of instance scores: overall, per object, by visibility, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from kd6d_ros.evaluation.score_table import score_table

if TYPE_CHECKING:
    from kd6d_ros.evaluation.scores import InstanceScore
    from kd6d_ros.types import AnyArray, FloatArray

    Scores = Iterable[InstanceScore] | AnyArray
    """Instance scores, or the table of them (``score_table``)."""

VISIBILITY_BINS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Visible fractions; a bin holds its lower end, the last one also its upper end."""


@dataclass(frozen=True)
class Summary:
    """Scores in [0, 1] of a set of instances; NaN where the set is empty or the score was not computed.

    targets: instances to be found; missing: those without an estimate. ar_mssd, ar_mspd, ar_vsd: recall averaged
    over BOP's thresholds; ar: mean of the three. add_recall: ADD (ADI for symmetric objects) below 0.1 diameter;
    add_auc: area under the curve of recall against ADD(-S) up to 0.1 m. add_s_recall, add_s_auc: the same of ADI for
    every object. The medians [mssd in diameters, mspd in px of an image 640 wide, rad, m] are over instances with an
    estimate.
    """

    targets: int
    missing: int
    ar_mssd: float
    ar_mspd: float
    add_recall: float
    median_mssd: float
    median_mspd: float
    median_rotation_rad: float
    median_translation_m: float
    ar_vsd: float = float('nan')
    ar: float = float('nan')
    add_auc: float = float('nan')
    add_s_recall: float = float('nan')
    add_s_auc: float = float('nan')


@dataclass(frozen=True)
class EvaluationReport:
    """`overall.add_recall` counts all instances alike; `mean_add_recall` is its mean over the objects, as is
    `mean_add_auc` of `add_auc`. vsd_note: why there is no VSD.

    intervals: metric -> (2.5 %, 97.5 %) percentiles over bootstrap samples of the images.
    """

    overall: Summary
    mean_add_recall: float
    by_object: Dict[int, Summary]
    by_visibility: Dict[str, Summary]
    names: Dict[int, str]
    estimates: int
    ignored_estimates: int
    seconds_per_image: Optional[float]
    bootstrap: int = 0
    intervals: Optional[Dict[str, Tuple[float, float]]] = None
    mean_add_auc: float = float('nan')
    vsd_note: str = ''

    def record(self) -> Dict[str, Any]:
        """For JSON: plain mappings; scores as fractions."""
        out = asdict(self)
        names = out.pop('names')
        out['by_object'] = {
            str(obj_id): {'name': names.get(obj_id, ''), **summary} for obj_id, summary in out['by_object'].items()
        }
        return out


def summarise(scores: Scores) -> Summary:
    """Scores of a set of instances."""
    table = score_table(scores)
    if not len(table):
        return Summary(0, 0, *([float('nan')] * 7))
    found = table[table['estimated']]
    recalls = [float(table[f'{name}_recall'].mean()) for name in ('mssd', 'mspd', 'vsd')]
    return Summary(
        targets=len(table),
        missing=len(table) - len(found),
        ar_mssd=recalls[0],
        ar_mspd=recalls[1],
        add_recall=float(table['hit_add'].mean()),
        median_mssd=_median(found['mssd']),
        median_mspd=_median(found['mspd']),
        median_rotation_rad=_median(found['rotation']),
        median_translation_m=_median(found['translation']),
        ar_vsd=recalls[2],
        ar=sum(recalls) / 3,
        add_auc=float(table['auc_add'].mean()),
        add_s_recall=float(table['hit_add_s'].mean()),
        add_s_auc=float(table['auc_add_s'].mean()),
    )


def _median(values: AnyArray) -> float:
    return float(np.median(values)) if len(values) else float('nan')


def make_report(
    scores: Scores,
    names: Mapping[int, str],
    estimates: int,
    ignored_estimates: int = 0,
    seconds_per_image: Optional[float] = None,
    bootstrap: int = 0,
    seed: int = 0,
    vsd_note: str = '',
) -> EvaluationReport:
    """Gather all tables.

    Args:
        names: object names for the table, by object id.
        estimates, ignored_estimates: how many were read, and how many of them were for no target.
        bootstrap: number of resamples of the images for 95 % intervals; 0 for none.
        vsd_note: why there is no VSD; empty where there is.
    """
    table = score_table(scores)
    by_object = {int(obj_id): summarise(table[table['obj_id'] == obj_id]) for obj_id in np.unique(table['obj_id'])}
    recalls = [summary.add_recall for summary in by_object.values()]
    areas = [summary.add_auc for summary in by_object.values()]
    return EvaluationReport(
        overall=summarise(table),
        mean_add_recall=float(np.mean(recalls)) if recalls else float('nan'),
        by_object=by_object,
        by_visibility=_by_visibility(table),
        names=dict(names),
        estimates=estimates,
        ignored_estimates=ignored_estimates,
        seconds_per_image=seconds_per_image,
        bootstrap=bootstrap,
        intervals=bootstrap_intervals(table, bootstrap, seed) if bootstrap and len(table) else None,
        mean_add_auc=float(np.mean(areas)) if areas else float('nan'),
        vsd_note=vsd_note,
    )


def _by_visibility(table: AnyArray) -> Dict[str, Summary]:
    edges = [high for _, high in VISIBILITY_BINS[:-1]]
    known = np.isfinite(table['visible'])
    bins = np.searchsorted(edges, table['visible'], side='right')
    out = {
        f'{100 * low:.0f}-{100 * high:.0f} %': summarise(table[known & (bins == index)])
        for index, (low, high) in enumerate(VISIBILITY_BINS)
    }
    if not known.all():
        out['unknown'] = summarise(table[~known])
    return out


def bootstrap_intervals(scores: Scores, samples: int, seed: int) -> Dict[str, Tuple[float, float]]:
    """95 % percentile intervals of ar_mssd, ar_mspd and mean_add_recall, resampling whole images.

    Instances of one image share its light and clutter, so images and not instances are drawn. An object
    that a resample misses altogether is left out of that resample's mean.
    """
    sums = sums_by_image(scores)
    rng = np.random.default_rng(seed)
    values = np.array([resampled(sums, rng.integers(0, len(sums), len(sums))) for _ in range(samples)])
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(RESAMPLED)}


def sums_by_image(scores: Scores) -> FloatArray:
    """Per image and object (I, O, 4): instances, and sums of the two recalls and of the ADD hits."""
    table = score_table(scores)
    pairs = np.stack([table['scene_id'], table['image_id']], axis=1)
    images, image_of = np.unique(pairs, axis=0, return_inverse=True)
    objects, object_of = np.unique(table['obj_id'], return_inverse=True)
    values = np.stack([np.ones(len(table)), table['mssd_recall'], table['mspd_recall'], table['hit_add']], axis=1)
    sums = np.zeros((len(images), len(objects), 4))
    np.add.at(sums, (image_of.reshape(-1), object_of.reshape(-1)), values)
    return sums


RESAMPLED = ('ar_mssd', 'ar_mspd', 'mean_add_recall')


def resampled(sums: FloatArray, images: AnyArray) -> Tuple[float, float, float]:
    """The values of RESAMPLED over some images, given by their rows in `sums` (``sums_by_image``)."""
    drawn = sums[images].sum(axis=0)
    count = drawn[:, 0]
    total = count.sum()
    present = count > 0
    recall = (drawn[present, 3] / count[present]).mean()
    return drawn[:, 1].sum() / total, drawn[:, 2].sum() / total, float(recall)


TABLE_HEADER = (
    '', 'targets', 'missing', 'AR_VSD', 'AR_MSSD', 'AR_MSPD', 'ADD(-S) %', 'ADD-S %', 'AUC %', 'rot deg', 'trans mm'
)  # fmt: skip


def table_rows(report: EvaluationReport) -> List[Tuple[Any, ...]]:
    """Rows under ``TABLE_HEADER``: objects, visibility, everything. Medians in degrees and millimetres."""
    rows = [
        _row(report.names.get(obj_id) or f'object {obj_id}', summary) for obj_id, summary in report.by_object.items()
    ]
    rows += [_row(f'visible {label}', summary) for label, summary in report.by_visibility.items()]
    rows.append(_row('all targets', report.overall))
    return rows


def _row(label: str, summary: Summary) -> Tuple[Any, ...]:
    numbers = (
        (summary.ar_vsd, 3),
        (summary.ar_mssd, 3),
        (summary.ar_mspd, 3),
        (100 * summary.add_recall, 1),
        (100 * summary.add_s_recall, 1),
        (100 * summary.add_auc, 1),
        (np.degrees(summary.median_rotation_rad), 1),
        (1000 * summary.median_translation_m, 1),
    )
    cells = (f'{value:.{digits}f}' if np.isfinite(value) else '-' for value, digits in numbers)
    return (label, summary.targets, summary.missing, *cells)


def closing_lines(report: EvaluationReport) -> List[str]:
    """The headline figures in words, with intervals where they were computed."""
    intervals = report.intervals or {}

    def figure(value: float, name: str, factor: float = 1.0, digits: int = 3) -> str:
        text = f'{value * factor:.{digits}f}'
        if name in intervals:
            low, high = (f'{end * factor:.{digits}f}' for end in intervals[name])
            text += f' [{low}, {high}]'
        return text

    overall = report.overall
    lines = [
        f'AR {overall.ar:.3f} = mean of AR_VSD {overall.ar_vsd:.3f} and the two below'
        if np.isfinite(overall.ar)
        else f'no AR: AR_VSD was not computed{f" ({report.vsd_note})" if report.vsd_note else ""}',
        f'AR_MSSD {figure(report.overall.ar_mssd, "ar_mssd")}   '
        f'AR_MSPD {figure(report.overall.ar_mspd, "ar_mspd")}   '
        f'mean ADD(-S)-0.1d over objects {figure(report.mean_add_recall, "mean_add_recall", 100, 1)} %',
        f'area under the curve of ADD(-S) up to 0.1 m, mean over objects {100 * report.mean_add_auc:.1f} %',
        f'{report.overall.missing} of {report.overall.targets} targets have no estimate and count as failures; '
        f'{report.ignored_estimates} of {report.estimates} estimates are for no target',
    ]
    if report.intervals:
        lines.append(f'95 % intervals from {report.bootstrap} bootstrap samples of the images')
    if report.seconds_per_image is not None:
        lines.append(f'{report.seconds_per_image:.3f} s per image (as written in the results)')
    return lines
