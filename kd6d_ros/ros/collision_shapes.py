"""Shapes of collision objects: the mesh of a bundle, thinned out, or the box of a detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from geometry_msgs.msg import Point, Pose
from shape_msgs.msg import Mesh as MeshMessage
from shape_msgs.msg import MeshTriangle, SolidPrimitive

from kd6d_ros.ros.markers import thin_out
from kd6d_ros.ros.messages import pose_message
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from kd6d_ros.types import FloatArray, Mesh

SAME_M = 1e-3
"""Boxes whose numbers differ by less [m] are the same shape: detectors that measure the box jitter."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What collides, in the object's frame: a mesh, or a box with sides `size` (3,) [m] at `obj_from_box`."""

    mesh: Optional[MeshMessage] = None
    size: Optional[FloatArray] = None
    obj_from_box: Optional[RigidTransform] = None

    def is_like(self, other: Shape) -> bool:
        """Whether a consumer that has `other` needs to know this one."""
        if self.size is None or other.size is None or self.obj_from_box is None or other.obj_from_box is None:
            return self.mesh is other.mesh
        apart = np.abs(self.obj_from_box.matrix() - other.obj_from_box.matrix())
        return bool(np.abs(self.size - other.size).max() < SAME_M and apart.max() < SAME_M)

    def fill(self, message: Any) -> None:
        """Put the shape into a moveit_msgs/CollisionObject."""
        if self.mesh is not None:
            message.meshes, message.mesh_poses = [self.mesh], [Pose()]
        elif self.size is not None and self.obj_from_box is not None:
            sides = [float(side) for side in self.size]
            message.primitives = [SolidPrimitive(type=SolidPrimitive.BOX, dimensions=sides)]
            message.primitive_poses = [pose_message(self.obj_from_box)]


def mesh_shape(mesh: Mesh, most: int) -> Shape:
    """The mesh with at most `most` triangles; vertices that none of them uses are left out."""
    faces = thin_out(mesh.vertices, mesh.faces, most)
    used, corners = np.unique(faces, return_inverse=True)
    points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in mesh.vertices[used]]
    triangles = [MeshTriangle(vertex_indices=row) for row in corners.reshape(-1, 3).astype(np.uint32)]
    return Shape(mesh=MeshMessage(triangles=triangles, vertices=points))
