"""Settings of the estimator: one table, from which the node declares its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Optional, Tuple

import numpy as np

from kd6d_ros.errors import ConfigError

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import DecodeSpec

MIN_SCORE = 0.6
"""Least score of a published pose where neither the settings nor the bundle say one."""


def _setting(default: Any, text: str, low: Optional[float] = None, high: Optional[float] = None) -> Any:
    return field(default=default, metadata={'description': text, 'min': low, 'max': high})


@dataclass(frozen=True)
class EstimatorSettings:
    """What the estimator may look for, where, and what it accepts.

    Every field carries metadata: 'description' (a sentence), 'min' and 'max' (inclusive, None = no bound).
    A score below 0 is left to the bundle, see ``resolved``.

    Raises:
        ConfigError: a value of the wrong type or out of range; names the field and the range.
    """

    objects: Tuple[str, ...] = _setting((), 'Names of the objects to look for; empty: all of the bundle.')
    track: bool = _setting(True, 'Follow an accepted pose in a crop around it in the next image.')
    find: bool = _setting(True, 'Search the whole image for objects that are not tracked.')
    search_period_s: float = _setting(
        0.5, 'Seconds between whole-image searches for what is missing while something is tracked.', 0.0, 3600.0
    )
    search_places: int = _setting(
        2, 'Places that a search measures for one missing object: the likeliest one is not always right.', 1, 8
    )
    max_instances: int = _setting(1, 'Most instances of one object in one image.', 1, 50)
    score_threshold: float = _setting(
        -1.0, 'Least score of a cell, 0 to 1; -1 takes the value of the bundle.', -1.0, 1.0
    )
    min_score: float = _setting(
        -1.0,
        f'Least score of a published pose, 0 to 1; -1 takes the value of the bundle, {MIN_SCORE:g} where it has none.',
        -1.0,
        1.0,
    )
    min_inliers: int = _setting(12, 'Least 2D-3D correspondences that agree with a pose.', 4, 10000)
    min_inlier_ratio: float = _setting(0.35, 'Least share of correspondences that agree.', 0.0, 1.0)
    inlier_threshold_px: float = _setting(
        3.0,
        'Pixels within which a correspondence agrees; the relative value counts if larger.',
        0.1,
        100.0,
    )
    inlier_threshold_relative: float = _setting(
        0.06, 'Share of the object size in the image within which a correspondence agrees.', 0.0, 0.5
    )
    max_reprojection_error_px: float = _setting(
        6.0,
        'Largest RMS reprojection error in image pixels; the relative value counts if larger.',
        0.1,
        100.0,
    )
    max_reprojection_error_relative: float = _setting(
        0.04, 'Largest RMS reprojection error as a share of the size of the object in the image.', 0.0, 0.5
    )
    min_distance: float = _setting(0.05, 'Least depth of the object origin in metres.', 0.001, 100.0)
    max_distance: float = _setting(10.0, 'Largest depth of the object origin in metres.', 0.01, 1000.0)
    min_visible: float = _setting(
        0.2, 'Least share of the projected 3D box that must lie in the image, 0 to 1.', 0.0, 1.0
    )
    refine_crops: int = _setting(
        1, 'How often a found or detected object is measured again, in a crop around where it was seen.', 0, 3
    )
    fit_outline: bool = _setting(
        False,
        'Fit the outline of the mesh to the image after PnP: a better distance for some milliseconds per object. '
        'Needs a mesh of every object.',
    )
    tracking_timeout_s: float = _setting(
        1.0, 'Seconds after which an object that was not seen loses its instance id.', 0.0, 3600.0
    )
    filter: bool = _setting(False, 'Smooth the poses of each instance over time and refuse outliers.')
    filter_time_s: float = _setting(
        0.1, 'Time constant of the filter in seconds: a moving object is seen that much late.', 0.001, 10.0
    )
    filter_max_jump: float = _setting(
        0.3, 'A pose this many diameters from where the object is expected is an outlier to the filter.', 0.01, 100.0
    )
    filter_max_turn: float = _setting(
        0.6, 'A pose turned by this many radians since the last one is an outlier to the filter.', 0.01, 3.2
    )
    filter_reset_count: int = _setting(
        3, 'This many outliers in a row that agree with each other are the truth: the filter starts anew.', 2, 100
    )

    def __post_init__(self) -> None:
        if isinstance(self.objects, str):
            raise ConfigError(f'setting objects: expected a list of names, got {self.objects!r}')
        object.__setattr__(self, 'objects', tuple(self.objects))
        for item in fields(self):
            if item.name != 'objects':
                _check(item.name, getattr(self, item.name), item.default, item.metadata)
        if self.min_distance >= self.max_distance:
            raise ConfigError(
                f'setting min_distance: {self.min_distance} m must be less than max_distance {self.max_distance} m'
            )

    def resolved(self, decode: DecodeSpec) -> EstimatorSettings:
        """The same with what is left to a bundle taken from its `decode`."""
        recommended = MIN_SCORE if decode.min_score is None else decode.min_score
        return replace(
            self,
            score_threshold=decode.score_threshold if self.score_threshold < 0 else self.score_threshold,
            min_score=recommended if self.min_score < 0 else self.min_score,
        )


def _check(name: str, value: Any, default: Any, metadata: Any) -> None:
    kind = type(default)
    numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    whole = numeric and float(value) == int(value) if numeric and np.isfinite(value) else False
    fits = isinstance(value, bool) if kind is bool else whole if kind is int else numeric
    if not fits:
        word = {bool: 'true or false', int: 'a whole number', float: 'a number'}[kind]
        raise ConfigError(f'setting {name}: expected {word}, got {value!r}')
    if kind is bool:
        return
    low, high = metadata['min'], metadata['max']
    if not low <= value <= high:
        raise ConfigError(f'setting {name}: expected {low:g} .. {high:g}, got {value!r}')
