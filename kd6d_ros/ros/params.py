"""The node's parameters: one table, part of it taken from EstimatorSettings. No ROS in here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, Optional, Tuple

import numpy as np

from kd6d_ros.errors import ConfigError
from kd6d_ros.inference.engines.select import ENGINES
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.ros.cv_bridge_probe import DECODERS

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray

AUTO = 'auto'
ANYWHERE_M = 1000.0
"""A workspace that reaches this far on all sides is none."""
QOS_PREFIX = 'qos_overrides.'


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: type from `default` (a tuple: so many numbers); `low`, `high` inclusive; `choices` for strings.

    `dynamic`: may change while the node runs. Others take effect at configure and are refused while the
    node is configured.
    """

    name: str
    default: Any
    description: str
    low: Optional[float] = None
    high: Optional[float] = None
    choices: Tuple[str, ...] = ()
    dynamic: bool = False

    def describe(self, otherwise: str = 'Takes effect at configure.') -> str:
        """Description with choices and when it takes effect; `otherwise` is said where that is not at any time."""
        text = self.description
        if self.choices:
            text += f' One of: {", ".join(self.choices)}.'
        return f'{text} {"Can change at any time." if self.dynamic else otherwise}'


NODE_PARAMETERS = (
    ParameterSpec('bundle', '', 'Model bundle: a name (as in models/) or the path of a folder.'),
    ParameterSpec(
        'meshes',
        '',
        'Folder with meshes for the markers: obj_000001.ply ... in millimetres (BOP). Empty: those of the bundle.',
    ),
    ParameterSpec('engine', AUTO, 'Inference engine; auto takes the fastest that is ready here.', choices=ENGINES),
    ParameterSpec('precision', AUTO, "One of the bundle's; auto: the fastest that this machine computes as measured."),
    ParameterSpec('threads', 0, 'CPU threads of the engine; 0 leaves the choice to it.', 0, 256),
    ParameterSpec('image_transport', 'raw', 'Which image topic to read.', choices=('raw', 'compressed')),
    ParameterSpec(
        'image_rectified',
        False,
        'True: the image is rectified and P of CameraInfo counts. False: it is raw and K and D count.',
    ),
    ParameterSpec('image_decoder', AUTO, 'What decodes raw images.', choices=DECODERS),
    ParameterSpec(
        'max_image_pixels', 50_000_000, 'Larger images are refused before decoding (width x height).', 1, 2_000_000_000
    ),
    ParameterSpec('use_detections', False, 'Take 2D boxes from detections_in instead of searching the image.'),
    ParameterSpec(
        'tf_prefix', AUTO, "Prefix of TF child frames; auto is the node's namespace ('/left' gives 'left/')."
    ),
    ParameterSpec('publish_tf', True, 'Publish object frames on /tf.', dynamic=True),
    ParameterSpec(
        'image_timeout_s',
        2.0,
        'Diagnostics report a missing image or CameraInfo after this many seconds.',
        0.1,
        3600.0,
        dynamic=True,
    ),
    ParameterSpec(
        'time_jump_s',
        1.0,
        'A stamp further back than this many seconds is a new start and resets tracking.',
        0.0,
        3600.0,
    ),
    ParameterSpec(
        'streaming', True, 'Look at every image from the start; false waits for ~/enable and for requests (~/get_pose).'
    ),
    ParameterSpec(
        'max_wait_s',
        0.1,
        'An image that waited in the node for more than this many seconds is dropped.',
        0.001,
        3600.0,
        dynamic=True,
    ),
    ParameterSpec(
        'max_image_age_s',
        0.0,
        'An image whose stamp is older than this many seconds is dropped; 0 takes any.',
        0.0,
        3600.0,
        dynamic=True,
    ),
    ParameterSpec(
        'workspace_frame', '', "Frame of the workspace box; empty: the camera's. Another one needs tf2_ros and its /tf."
    ),
    ParameterSpec(
        'workspace_min',
        (-ANYWHERE_M,) * 3,
        'Lower corner x, y, z of the box in which an object must be to be published, in metres.',
        -ANYWHERE_M,
        ANYWHERE_M,
        dynamic=True,
    ),
    ParameterSpec(
        'workspace_max',
        (ANYWHERE_M,) * 3,
        'Upper corner x, y, z of that box in metres.',
        -ANYWHERE_M,
        ANYWHERE_M,
        dynamic=True,
    ),
    ParameterSpec(
        'marker_lifetime_s',
        0.5,
        'Seconds after which RViz removes a marker that is not renewed.',
        0.0,
        3600.0,
        dynamic=True,
    ),
)


LOADED_ONCE = ('objects', 'fit_outline')
"""Settings for which something is loaded while the node is configured."""


def setting_specs() -> Tuple[ParameterSpec, ...]:
    """EstimatorSettings as parameters; `objects` is a list of names or one comma-separated string."""
    specs = []
    for item in fields(EstimatorSettings):
        meta = item.metadata
        names = item.name == 'objects'
        specs.append(
            ParameterSpec(
                item.name,
                '' if names else item.default,
                str(meta['description']) + (' A list, or one string with commas.' if names else ''),
                meta['min'],
                meta['max'],
                dynamic=item.name not in LOADED_ONCE,
            )
        )
    return tuple(specs)


def all_specs() -> Dict[str, ParameterSpec]:
    return {spec.name: spec for spec in NODE_PARAMETERS + setting_specs()}


def coerce(spec: ParameterSpec, value: Any) -> Any:
    """`value` as the type of the parameter; a whole number is accepted where a number is wanted.

    Raises:
        ConfigError: wrong type, out of range or not among the choices; names what is expected.
    """
    kind = type(spec.default)
    if spec.name == 'objects' and isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return list(value)
    if kind is tuple:
        return _numbers(spec, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # `type`, since True is an int in Python and not in ROS.
    in_range = kind in (bool, str) or spec.low is None or spec.high is None
    if type(value) is not kind or not (in_range or spec.low <= value <= spec.high):
        raise ConfigError(f'parameter {spec.name}: expected {expected(spec)}, got {value!r}')
    if spec.choices and value not in spec.choices:
        raise ConfigError(f'parameter {spec.name}: expected {expected(spec)}, got {value!r}')
    return value


def _numbers(spec: ParameterSpec, value: Any) -> Any:
    """A list of as many numbers as the default has."""
    given = [] if isinstance(value, (str, bytes)) or not hasattr(value, '__iter__') else list(value)
    # Not `bool`: True is an int in Python. NaN is in no range.
    fits = [isinstance(item, (int, float)) and not isinstance(item, bool) for item in given]
    if len(given) != len(spec.default) or not all(fits) or not all(spec.low <= item <= spec.high for item in given):  # type: ignore[operator]
        raise ConfigError(f'parameter {spec.name}: expected {expected(spec)}, got {given or value!r}')
    return tuple(float(item) for item in given)


def expected(spec: ParameterSpec) -> str:
    """What a parameter takes, in words."""
    if isinstance(spec.default, tuple):
        return f'{len(spec.default)} numbers {spec.low:g} .. {spec.high:g}'
    if spec.choices:
        return f'one of {", ".join(spec.choices)}'
    word = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a string'}[type(spec.default)]
    if spec.low is not None and spec.high is not None and not isinstance(spec.default, (bool, str)):
        word += f' {spec.low:g} .. {spec.high:g}'
    return word


def unknown_message(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """What to say about a parameter nobody declared; names alike by `least`, 0 to 1, are proposed."""
    near = difflib.get_close_matches(name, list(known), 1, least)
    hint = f'did you mean {near[0]}?' if near else 'see ros2 param list'
    return f'parameter {name} is not known and has no effect: {hint}'


def object_names(value: Any) -> Tuple[str, ...]:
    """Names out of the parameter `objects`: a list or one string with commas; empty means all."""
    parts = value.split(',') if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def settings_from(values: Mapping[str, Any]) -> EstimatorSettings:
    """EstimatorSettings out of parameter values by name.

    Raises:
        ConfigError: a value that the settings refuse.
    """
    chosen = {item.name: values[item.name] for item in fields(EstimatorSettings) if item.name in values}
    if 'objects' in chosen:
        chosen['objects'] = object_names(chosen['objects'])
    return EstimatorSettings(**chosen)


def workspace_bounds(values: Mapping[str, Any]) -> Optional[Tuple[FloatArray, FloatArray]]:
    """Corners (3,) [m] of the workspace out of parameter values by name; None when there is no box.

    Raises:
        ConfigError: the corners are not in order.
    """
    low = np.asarray(values['workspace_min'], dtype=np.float64)
    high = np.asarray(values['workspace_max'], dtype=np.float64)
    if not (low < high).all():
        raise ConfigError(
            f'parameter workspace_min: {low.tolist()} must be less than workspace_max {high.tolist()} on every axis'
        )
    if (low == -ANYWHERE_M).all() and (high == ANYWHERE_M).all():
        return None
    return low, high


def tf_prefix(value: str, namespace: str) -> str:
    """Prefix of TF child frames for a node in `namespace`."""
    if value != AUTO:
        return value
    inner = namespace.strip('/')
    return f'{inner}/' if inner else ''
