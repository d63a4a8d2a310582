"""From parameters to a loaded estimator: bundle, engine, PoseEstimator. The seam that tests replace."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Sequence

from kd6d_ros.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.ros.pipeline import Estimator
    from kd6d_ros.types import ObjectModel

OBJECT_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*')


@dataclass(frozen=True, eq=False)
class Loaded:
    """An estimator that is ready: `models` by name in class order, one line each about bundle and engine;
    `rebuild` makes an estimator on the same engine with other settings."""

    models: Mapping[str, ObjectModel]
    estimator: Estimator
    bundle: str
    engine: str
    rebuild: Callable[[EstimatorSettings], Estimator]
    precision: str = ''
    folder: str = ''
    """What really runs, and where the bundle lies; empty when unknown."""


Factory = Callable[[Mapping[str, Any], 'EstimatorSettings'], Loaded]
"""(parameter values by name, settings) -> Loaded; raises the errors of the package."""


def load_estimator(values: Mapping[str, Any], settings: EstimatorSettings) -> Loaded:
    """The real one: finds the bundle, checks it, loads the engine and runs it once.

    Raises:
        BundleError, EngineError, ConfigError...: one line with the cure.
    """
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.engines.select import make_engine
    from kd6d_ros.inference.estimator import PoseEstimator
    from kd6d_ros.inference.locate import find_bundle
    from kd6d_ros.inference.outlines import Outlines

    if not values['bundle']:
        raise ConfigError('parameter bundle is empty: set it to the name or the folder of a model bundle')
    bundle = load_bundle(find_bundle(values['bundle']))
    engine = make_engine(bundle, values['engine'], values['precision'], values['threads'] or None)

    names = settings.objects or bundle.names
    models = {name: with_mesh(bundle, name, values['meshes']) for name in names}
    check_names(models)
    meshes = {name: model.mesh for name, model in models.items() if model.mesh is not None}
    outlines = Outlines(bundle, list(names), meshes) if settings.fit_outline else None

    def build(chosen: EstimatorSettings) -> Estimator:
        return PoseEstimator(bundle, engine, chosen, outlines=outlines)

    warm_up = getattr(engine, 'warm_up', None)
    if warm_up is not None:
        warm_up()
    name = f'{bundle.name} ({bundle.folder})'
    runs = engine.description if outlines is None else f'{engine.description}; outline: {outlines.loops.description}'
    return Loaded(models, build(settings), name, runs, build, engine.precision, str(bundle.folder or ''))


def with_mesh(bundle: Bundle, name: str, folder: str) -> ObjectModel:
    """An object with the mesh of `folder` (obj_000001.ply... in millimetres), or the bundle's when that is ''.

    Raises:
        BundleError, ConfigError, MeshError: the mesh cannot be read.
    """
    from kd6d_ros.inference.object_meshes import object_mesh

    return replace(bundle.object(name), mesh=object_mesh(bundle, name, folder))


def check_names(names: Sequence[str] | Mapping[str, Any]) -> None:
    """
    Raises:
        BundleError: a name that cannot be part of a ROS topic name.
    """
    for name in names:
        if not OBJECT_NAME.fullmatch(name):
            raise BundleError(
                f'object name {name!r} is not allowed in a ROS topic: use letters, digits and _, a letter first'
            )


def describe(loaded: Loaded) -> Dict[str, str]:
    """Key and value pairs for diagnostics."""
    return {
        'bundle': loaded.bundle,
        'engine': loaded.engine,
        'precision': loaded.precision or 'unknown',
        'objects': ', '.join(loaded.models),
    }
