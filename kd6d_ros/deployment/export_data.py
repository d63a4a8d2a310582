"""What an export is calibrated and measured on, found and checked before the work begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kd6d_ros.deployment.accuracy import measure_accuracy
from kd6d_ros.deployment.calibration_images import check_source, from_bag, from_renders, is_bag
from kd6d_ros.deployment.precisions import INT8, PRECISIONS
from kd6d_ros.deployment.rendered_views import RenderedViews, check_disjoint
from kd6d_ros.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from kd6d_ros.deployment.accuracy import Accuracy
    from kd6d_ros.deployment.bundle_precisions import PrecisionsRequest
    from kd6d_ros.deployment.export import ExportRequest
    from kd6d_ros.deployment.rendered_views import Place
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.types import ImageArray

    AnyRequest: TypeAlias = ExportRequest | PrecisionsRequest


@dataclass(frozen=True)
class ExportData:
    """Sources of a request; a set of views comes with the places in it that are used."""

    request: AnyRequest
    bundle: Bundle
    bag: Path | None = None
    calibration_views: RenderedViews | None = None
    used: list[Place] = field(default_factory=list)
    evaluation_views: RenderedViews | None = None
    judges: list[Place] = field(default_factory=list)

    def inputs(self) -> list[ImageArray]:
        """To calibrate on; empty where nothing was asked for.

        Raises:
            DatasetError, BagError: nothing usable there.
        """
        count = self.request.calibration_images
        if self.bag is not None:
            return from_bag(self.bag, self.bundle, count)
        if self.calibration_views is None:
            return []
        return from_renders(self.calibration_views, self.used, self.bundle, count)

    def accuracies(
        self, engines: Mapping[str, Engine], progress: Callable[[str, int, int], None]
    ) -> dict[str, Accuracy]:
        """By precision; empty where there is nothing to measure on."""
        if self.evaluation_views is None:
            return {}
        return measure_accuracy(
            self.bundle, engines, self.evaluation_views, self.judges, self.request.evaluate_instances,
            lambda done, total: progress('accuracy, object', done, total),
        )  # fmt: skip

    def calibration(self, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """For the report."""
        source = self.request.calibration
        return {'source': source.name, **facts} if source is not None and facts else None

    def evaluation(self, accuracies: Mapping[str, Accuracy]) -> dict[str, Any] | None:
        """For the report."""
        if self.evaluation_views is None:
            return None
        objects = len(next(iter(accuracies.values())).hits)
        split = self.judges[0].split
        return {'source': self.evaluation_views.dataset.root.name, 'split': split, 'objects': objects}


def check_request(request: AnyRequest) -> None:
    """Raises:
    ConfigError: an unknown precision, a number out of range, or nothing to calibrate on.
    """
    for option, names in (('--precisions', request.precisions), ('--allow-drop', request.allow_drop)):
        unknown = [name for name in names if name not in PRECISIONS]
        if unknown:
            raise ConfigError(f'{option} {unknown[0]}: this version writes {", ".join(PRECISIONS)}')
    if not request.precisions:
        raise ConfigError(f'--precisions: name at least one of {", ".join(PRECISIONS)}')
    if not 8 <= request.calibration_images <= 10_000 or not 1 <= request.evaluate_instances <= 1_000_000:
        raise ConfigError('--calibration-images must be within 8..10000, --evaluate-instances within 1..1000000')
    int8 = [name for name in request.precisions if name in INT8]
    if int8 and request.calibration is None:
        raise ConfigError(f'--precisions {int8[0]}: needs --calibration, rendered images (kd6d synth) or a bag')


def open_data(request: AnyRequest, bundle: Bundle, validation_fraction: float) -> ExportData:
    """Open what a request names.

    Raises:
        ConfigError: no such folder, an empty one, other objects, the same images twice, or nothing to measure on.
        DatasetError: not a BOP folder.
    """

    def opened(folder: Path) -> RenderedViews:
        return RenderedViews(folder, bundle.objects, validation_fraction)

    source = request.calibration
    if source is not None:
        check_source(source)
    bag = source if source is not None and is_bag(source) else None
    calibration = opened(source) if source is not None and bag is None else None
    used = calibration.to_calibrate() if calibration else []
    evaluation = opened(request.evaluate) if request.evaluate is not None else None
    if evaluation is None and calibration is not None and used and used[0].split.startswith('train'):
        evaluation = calibration
    judges = evaluation.to_evaluate() if evaluation else []
    if calibration is not None and evaluation is not None:
        check_disjoint(calibration, used, evaluation, judges)
    blind = [name for name in request.precisions if name != 'fp32' and name not in request.allow_drop]
    if evaluation is None and blind:
        raise ConfigError(
            f'--precisions {blind[0]}: needs --evaluate BOP_DIR to say what it costs; '
            f'--allow-drop {blind[0]} writes it without a measurement'
        )
    return ExportData(request, bundle, bag, calibration, used, evaluation, judges)
