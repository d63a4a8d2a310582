"""What the renderer takes and gives: plain immutable records, NumPy only.

Everything lives in the camera frame (x right, y down, z forward, metres); light directions point from the
scene *towards* the light; colours of lights are linear RGB, textures and vertex colours are sRGB bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kd6d_ros.types import AnyArray, Float32Array, FloatArray, ImageArray, Mesh, RigidTransform

MAX_LIGHTS = 4


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface answers light (metallic-roughness model with GGX highlights).

    colour_matrix (3, 3) and colour_offset (3,) act on the linear base colour (hue, saturation, brightness);
    specular scales the 4 % reflectance of dielectrics; texture (H, W, 3) sRGB replaces the mesh's own;
    uv_scale repeats it.
    """

    roughness: float = 0.6
    metallic: float = 0.0
    specular: float = 1.0
    colour_matrix: FloatArray = field(default_factory=lambda: np.eye(3))
    colour_offset: FloatArray = field(default_factory=lambda: np.zeros(3))
    texture: ImageArray | None = None
    uv_scale: float = 1.0
    ignore_vertex_colours: bool = False


@dataclass(frozen=True, eq=False)
class RenderItem:
    """One mesh in the scene. `obj_id` is what the id buffer holds: 1..65535, unique per instance where
    instances must be told apart; 0 means 'occludes, but is nobody' (table, distractor).
    `scale` (3,) stretches the mesh about its origin before `cam_from_obj`."""

    mesh: Mesh
    cam_from_obj: RigidTransform
    material: Material = field(default_factory=Material)
    obj_id: int = 0
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    casts_shadow: bool = True


@dataclass(frozen=True, eq=False)
class Light:
    """`vector` (3,): unit direction towards the light, or its position [m] when `point`.

    colour (3,) linear radiance scale; a point light is normalised to `colour` at `reference_m`.
    """

    vector: FloatArray
    colour: FloatArray
    point: bool = False
    reference_m: float = 1.0


@dataclass(frozen=True, eq=False)
class Lights:
    """At most MAX_LIGHTS lights; the first casts shadows if it is directional and `shadows` is set.

    Ambient light is a hemisphere: `sky` and `ground` (3,) linear, `up` (3,) unit. `softness_px` is the
    shadow filter's radius in shadow-map pixels, `shadow_strength` how much of the key light is taken away.
    """

    lights: tuple[Light, ...]
    sky: FloatArray = field(default_factory=lambda: np.full(3, 0.35))
    ground: FloatArray = field(default_factory=lambda: np.full(3, 0.2))
    up: FloatArray = field(default_factory=lambda: np.array([0.0, -1.0, 0.0]))
    shadows: bool = True
    softness_px: float = 1.5
    shadow_strength: float = 1.0


@dataclass(frozen=True, eq=False)
class RenderedFrame:
    """rgb (H, W, 3) uint8 sRGB; depth (H, W) float32 [m], 0 = background; ids (H, W) uint16 of the front
    surface (0 = background or an item with obj_id 0)."""

    rgb: ImageArray
    depth: Float32Array
    ids: AnyArray
