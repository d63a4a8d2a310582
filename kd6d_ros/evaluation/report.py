"""Summaries of instance scores: overall, per object, by visibility, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.evaluation.scores import InstanceScore

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, FloatArray

VISIBILITY_BINS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Visible fractions; a bin holds its lower end, the last one also its upper end."""


@dataclass(frozen=True)
class Summary:
    """Scores in [0, 1] of a set of instances; NaN where the set is empty.

    targets: instances to be found; missing: those without an estimate. ar_mssd, ar_mspd: recall averaged
    over BOP's ten thresholds. add_recall: ADD (ADI for symmetric objects) below 0.1 diameter. The
    medians [mssd in diameters, mspd in px of an image 640 wide, rad, m] are over instances with an estimate.
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


@dataclass(frozen=True)
class EvaluationReport:
    """`overall.add_recall` counts all instances alike; `mean_add_recall` is its mean over the objects.

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

    def record(self) -> Dict[str, Any]:
        """For JSON: plain mappings; scores as fractions."""
        out = asdict(self)
        names = out.pop('names')
        out['by_object'] = {
            str(obj_id): {'name': names.get(obj_id, ''), **summary} for obj_id, summary in out['by_object'].items()
        }
        return out


def summarise(scores: Sequence[InstanceScore]) -> Summary:
    """Scores of a set of instances."""
    if not scores:
        return Summary(0, 0, *([float('nan')] * 7))
    found = [score for score in scores if score.estimated]
    return Summary(
        targets=len(scores),
        missing=len(scores) - len(found),
        ar_mssd=float(np.mean([score.hits_mssd for score in scores])),
        ar_mspd=float(np.mean([score.hits_mspd for score in scores])),
        add_recall=float(np.mean([score.hit_add for score in scores])),
        median_mssd=_median([score.mssd for score in found]),
        median_mspd=_median([score.mspd for score in found]),
        median_rotation_rad=_median([score.rotation for score in found]),
        median_translation_m=_median([score.translation for score in found]),
    )


def _median(values: List[float]) -> float:
    return float(np.median(values)) if values else float('nan')


def make_report(
    scores: Sequence[InstanceScore],
    names: Mapping[int, str],
    estimates: int,
    ignored_estimates: int = 0,
    seconds_per_image: Optional[float] = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> EvaluationReport:
    """Gather all tables.

    Args:
        names: object names for the table, by object id.
        estimates, ignored_estimates: how many were read, and how many of them were for no target.
        bootstrap: number of resamples of the images for 95 % intervals; 0 for none.
    """
    by_object = {
        obj_id: summarise([score for score in scores if score.obj_id == obj_id])
        for obj_id in sorted({score.obj_id for score in scores})
    }
    recalls = [summary.add_recall for summary in by_object.values()]
    return EvaluationReport(
        overall=summarise(scores),
        mean_add_recall=float(np.mean(recalls)) if recalls else float('nan'),
        by_object=by_object,
        by_visibility=_by_visibility(scores),
        names=dict(names),
        estimates=estimates,
        ignored_estimates=ignored_estimates,
        seconds_per_image=seconds_per_image,
        bootstrap=bootstrap,
        intervals=bootstrap_intervals(scores, bootstrap, seed) if bootstrap and scores else None,
    )


def _by_visibility(scores: Sequence[InstanceScore]) -> Dict[str, Summary]:
    bins: Dict[str, List[InstanceScore]] = {f'{100 * low:.0f}-{100 * high:.0f} %': [] for low, high in VISIBILITY_BINS}
    labels = list(bins)
    edges = [high for _, high in VISIBILITY_BINS[:-1]]
    for score in scores:
        if score.visible_fraction is None:
            bins.setdefault('unknown', []).append(score)
        else:
            bins[labels[int(np.searchsorted(edges, score.visible_fraction, side='right'))]].append(score)
    return {label: summarise(members) for label, members in bins.items()}


def bootstrap_intervals(scores: Sequence[InstanceScore], samples: int, seed: int) -> Dict[str, Tuple[float, float]]:
    """95 % percentile intervals of ar_mssd, ar_mspd and mean_add_recall, resampling whole images.

    Instances of one image share its light and clutter, so images and not instances are drawn. An object
    that a resample misses altogether is left out of that resample's mean.
    """
    sums = sums_by_image(scores)
    rng = np.random.default_rng(seed)
    values = np.array([resampled(sums, rng.integers(0, len(sums), len(sums))) for _ in range(samples)])
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(RESAMPLED)}


def sums_by_image(scores: Sequence[InstanceScore]) -> FloatArray:
    """Per image and object (I, O, 4): instances, and sums of the two recalls and of the ADD hits."""
    images = {key: i for i, key in enumerate(sorted({(s.scene_id, s.image_id) for s in scores}))}
    objects = {key: i for i, key in enumerate(sorted({s.obj_id for s in scores}))}
    sums = np.zeros((len(images), len(objects), 4))
    for score in scores:
        cell = images[score.scene_id, score.image_id], objects[score.obj_id]
        sums[cell] += [1, score.hits_mssd.mean(), score.hits_mspd.mean(), score.hit_add]
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


TABLE_HEADER = ('', 'targets', 'missing', 'AR_MSSD', 'AR_MSPD', 'ADD(-S) %', 'rot deg', 'trans mm')


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
        (summary.ar_mssd, 3),
        (summary.ar_mspd, 3),
        (100 * summary.add_recall, 1),
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

    lines = [
        f'AR_MSSD {figure(report.overall.ar_mssd, "ar_mssd")}   '
        f'AR_MSPD {figure(report.overall.ar_mspd, "ar_mspd")}   '
        f'mean ADD(-S)-0.1d over objects {figure(report.mean_add_recall, "mean_add_recall", 100, 1)} %',
        f'{report.overall.missing} of {report.overall.targets} targets have no estimate and count as failures; '
        f'{report.ignored_estimates} of {report.estimates} estimates are for no target',
    ]
    if report.intervals:
        lines.append(f'95 % intervals from {report.bootstrap} bootstrap samples of the images')
    if report.seconds_per_image is not None:
        lines.append(f'{report.seconds_per_image:.3f} s per image (as written in the results)')
    return lines
