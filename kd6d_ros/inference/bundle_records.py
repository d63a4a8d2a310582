"""What a bundle is, in memory: the records that ``bundle.py`` reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

from kd6d_ros.errors import BundleError, ConfigError
from kd6d_ros.types import ObjectModel

if TYPE_CHECKING:
    from kd6d_ros.inference.surface_codes import CodeBook

SCHEMA = 3
"""Newest version of the manifest that this package reads and writes. 2 has precisions with a hyphen (int8-cpu) and the
group measured, 3 the kind dense."""

SCHEMA_OF_KIND = {'keypoints': 2, 'dense': 3}
"""What is written: no newer than the kind needs, so that robots with an older version read what they can."""

MANIFEST = 'bundle.yaml'
LAYOUTS = {'keypoints': 'nhwc_rgb_uint8', 'dense': 'nhwc_rgb_uint8_code_maps'}
"""Inputs and outputs of the network by kind of bundle; ``network_io`` says what they are."""
KINDS = tuple(LAYOUTS)


@dataclass(frozen=True)
class LevelSpec:
    """One pyramid level: `stride` and `anchor_size` in network pixels."""

    stride: int
    anchor_size: float


@dataclass(frozen=True)
class NetworkSpec:
    """Input sizes and levels of the network.

    crop_size: side of the square zoomed crop [network px]; crop_padding: crop side / longer side of the
    box; frame_size: (width, height) of the whole-frame input [network px], None when the network cannot
    search; max_cells: most candidate cells in one output; surface_stride: of the surface output's cells, None
    for a network without one; crop_macs, frame_macs: multiply-adds for one crop and for one whole frame, None
    where nobody counted; code_stride: of the code maps of a dense network, None for another one. A dense network has
    no levels, and max_cells is 0.
    """

    crop_size: int
    crop_padding: float
    frame_size: Optional[Tuple[int, int]]
    max_cells: int
    levels: Tuple[LevelSpec, ...]
    layout: str = LAYOUTS['keypoints']
    parameters: int = 0
    architecture: str = ''
    surface_stride: Optional[int] = None
    crop_macs: Optional[int] = None
    frame_macs: Optional[int] = None
    code_stride: Optional[int] = None

    @property
    def finest_stride(self) -> int:
        """Width and height of every input are multiples of this."""
        return self.code_stride or min(level.stride for level in self.levels)

    @property
    def anchor_sizes(self) -> Tuple[float, ...]:
        return tuple(level.anchor_size for level in self.levels)


@dataclass(frozen=True)
class DecodeSpec:
    """Which cells reach PnP: least score, cells per object and sharpness of the level allocation.

    min_score: recommended least score of a published pose, None for the estimator's default. It is here because
    one network scores its good poses lower than another. The score of a cell of a dense network is that of its mask;
    sharpness says nothing there.
    """

    score_threshold: float = 0.1
    cells_per_object: int = 10
    sharpness: float = 1.0
    min_score: Optional[float] = None


@dataclass(frozen=True)
class Measured:
    """What the exporter measured of one precision, None where it did not.

    latency_ms: median of one crop on the exporter's machine; objects: how many held-out objects the following are of;
    recall: share with ADD(-S) below 0.1 diameters; drop_points: recall lost against FP32 on the same objects
    [percentage points]; keypoint_error_px: mean distance of the keypoints from those of FP32 [network px].
    """

    latency_ms: Optional[float] = None
    objects: Optional[int] = None
    recall: Optional[float] = None
    drop_points: Optional[float] = None
    keypoint_error_px: Optional[float] = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle: everything the robot side knows about a network and its objects.

    engines maps a precision ('fp32'...) to a file of `folder`, meshes and codes an object name to one; `files` is the
    sha256 of every file. books: the surface codes in those files, in the order of the objects; a bundle of the kind
    dense has them. `training`, `expected` and `covariance` are free mappings of plain values. `measured` says of
    a precision what its file costs and brings.
    """

    name: str
    objects: Tuple[ObjectModel, ...]
    network: NetworkSpec
    decode: DecodeSpec
    folder: Path = Path()
    kind: str = 'keypoints'
    schema: int = SCHEMA
    engines: Mapping[str, str] = field(default_factory=dict)
    licence: str = ''
    origin: str = ''
    training: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Measured] = field(default_factory=dict)
    covariance: Optional[Mapping[str, Any]] = None
    meshes: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    books: Tuple[CodeBook, ...] = ()

    @property
    def names(self) -> Tuple[str, ...]:
        """Object names in class order (the order of the network's outputs)."""
        return tuple(item.name for item in self.objects)

    def index(self, name: str) -> int:
        """Class index of an object.

        Raises:
            ConfigError: the bundle does not know the object; names those it knows.
        """
        if name not in self.names:
            known = ', '.join(self.names)
            raise ConfigError(f'bundle {self.name!r} has no object {name!r}: it knows {known}')
        return self.names.index(name)

    def object(self, name: str) -> ObjectModel:
        return self.objects[self.index(name)]

    def engine_path(self, precision: str) -> Path:
        """File of the engine of a precision.

        Raises:
            BundleError: the bundle has no such precision; names those it has.
        """
        if precision not in self.engines:
            have = ', '.join(sorted(self.engines)) or 'none'
            raise BundleError(f'bundle {self.name!r} has no {precision!r} engine: it has {have}')
        return self.folder / self.engines[precision]

    def cpu_precision(self, precision: str) -> str:
        """The precision whose file a processor should run when `precision` is asked for: the INT8 file made for it,
        where the bundle has one, instead of that for TensorRT."""
        return 'int8-cpu' if precision == 'int8' and 'int8-cpu' in self.engines else precision

    def by_obj_id(self) -> Dict[int, ObjectModel]:
        """Objects by their BOP id."""
        return {item.obj_id: item for item in self.objects}
