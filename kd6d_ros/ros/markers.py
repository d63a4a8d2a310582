"""RViz markers of the poses: the mesh of the bundle, or its box; deleted when an instance is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Set, Tuple

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from kd6d_ros.ros.messages import pose_message
from kd6d_ros.ros.overlay import COLOURS

if TYPE_CHECKING:
    from kd6d_ros.types import Mesh, ObjectModel, PoseEstimate

MAX_TRIANGLES = 1500
"""More than this is thinned out: every corner is sent with every message."""

ALPHA = 0.8


class MarkerMaker:
    """Makes one MarkerArray per image and remembers what is on screen."""

    def __init__(self, models: Mapping[str, ObjectModel]) -> None:
        self._models = models
        self._order = {name: index for index, name in enumerate(models)}
        self._shapes: Dict[str, Tuple[List[Point], List[ColorRGBA]]] = {}
        self._shown: Set[Tuple[str, int]] = set()

    def make(self, header: Any, poses: Iterable[PoseEstimate], lifetime_s: float) -> MarkerArray:
        """ADD for each pose, DELETE for each instance that was shown before and is not among them."""
        markers, now = [], set()
        for pose in poses:
            marker = self._marker(header, pose)
            marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
            now.add((marker.ns, marker.id))
            markers.append(marker)
        for namespace, number in sorted(self._shown - now):
            markers.append(Marker(header=header, ns=namespace, id=number, action=Marker.DELETE))
        self._shown = now
        return MarkerArray(markers=markers)

    def clear(self, header: Any) -> MarkerArray:
        """Removes all that is shown."""
        self._shown = set()
        return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])

    def _marker(self, header: Any, pose: PoseEstimate) -> Marker:
        model = self._models[pose.object_name]
        marker = Marker(header=header, ns=pose.object_name, id=_number(pose.instance_id), action=Marker.ADD)
        marker.pose = pose_message(pose.cam_from_obj)
        marker.color = _colour(COLOURS[self._order[pose.object_name] % len(COLOURS)])
        if model.mesh is None:
            _as_cube(marker, pose, model)
            return marker
        marker.type = Marker.TRIANGLE_LIST
        marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
        if model.name not in self._shapes:
            self._shapes[model.name] = _triangles(model.mesh)
        marker.points, marker.colors = self._shapes[model.name]
        return marker


def _as_cube(marker: Marker, pose: PoseEstimate, model: ObjectModel) -> None:
    low, high = model.keypoints.min(axis=0), model.keypoints.max(axis=0)
    centre = pose.cam_from_obj.apply(((low + high) / 2)[None])[0]
    size = np.maximum(high - low, 1e-4)
    marker.type = Marker.CUBE
    marker.pose.position = Point(x=float(centre[0]), y=float(centre[1]), z=float(centre[2]))
    marker.scale = Vector3(x=float(size[0]), y=float(size[1]), z=float(size[2]))


def _number(instance_id: str) -> int:
    digits = instance_id.rpartition('_')[2]
    return int(digits) & 0x7FFFFFFF if digits.isdigit() else 0


def _colour(rgb: Tuple[int, int, int]) -> ColorRGBA:
    red, green, blue = (float(value) / 255 for value in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=ALPHA)


def _triangles(mesh: Mesh) -> Tuple[List[Point], List[ColorRGBA]]:
    """Corners of at most MAX_TRIANGLES triangles, and their colours if the mesh has some."""
    faces = thin_out(mesh.vertices, mesh.faces, MAX_TRIANGLES)
    corners = faces.reshape(-1)
    points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in mesh.vertices[corners]]
    if mesh.colours is None:
        return points, []
    return points, [_colour((int(r), int(g), int(b))) for r, g, b in mesh.colours[corners]]


def thin_out(vertices: Any, faces: Any, most: int) -> Any:
    """Faces (F, 3) with F <= `most`: vertices in one cell of a coarser and coarser grid become one."""
    cells = 64
    low, extent = vertices.min(axis=0), max(float(np.ptp(vertices, axis=0).max()), 1e-9)
    out = np.asarray(faces)
    while len(out) > most and cells > 2:
        grid = np.floor((vertices - low) / extent * (cells - 1e-6)).astype(np.int64)
        key = (grid[:, 0] * cells + grid[:, 1]) * cells + grid[:, 2]
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        out = first[inverse.reshape(-1)][faces]
        whole = (out[:, 0] != out[:, 1]) & (out[:, 1] != out[:, 2]) & (out[:, 2] != out[:, 0])
        out = np.unique(out[whole], axis=0)
        cells = int(cells * 0.8)
    return out
