"""The outlines of a bundle's objects, fitted to candidates that have passed the gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Sequence

from kd6d_ros.inference import gates
from kd6d_ros.inference.object_meshes import object_meshes
from kd6d_ros.inference.outline import OutlineModel
from kd6d_ros.inference.outline_fit import fit_outline

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.inference.measure import Frame
    from kd6d_ros.types import Mesh

PURPOSE = 'fit_outline'

TYPICAL = 0.9
"""Size of an object in the image over that of its diameter, whatever way it is turned."""


class Outlines:
    """Made once, as the meshes are simplified for it."""

    def __init__(self, bundle: Bundle, names: Sequence[str], meshes: Optional[Mapping[str, Mesh]] = None) -> None:
        """`meshes`: by object; None: those of the bundle.

        Raises:
            BundleError: an object without a mesh.
        """
        given = {} if meshes is None else {name: meshes[name] for name in names if name in meshes}
        missing = [name for name in names if name not in given]
        found = {**given, **object_meshes(bundle, missing, PURPOSE)}
        self._models: Dict[str, OutlineModel] = {name: OutlineModel(mesh) for name, mesh in found.items()}

    def fit(self, frame: Frame, candidate: Candidate) -> Candidate:
        """The candidate with the pose whose outline fits best; as it is where the outline says nothing.

        Score, inliers and reprojection error stay: they say how well the network agrees with itself.
        """
        mask = None if candidate.predictions is None else candidate.predictions.mask
        model = self._models[candidate.model.name]
        with frame.timed('outline'):
            depth = max(float(candidate.cam_from_obj.translation[2]), 1e-6)
            size = TYPICAL * candidate.model.diameter * float(frame.camera.matrix[0, 0]) / depth
            pose = fit_outline(model, frame.image, frame.camera, candidate.cam_from_obj, size, mask)
            box = None if pose is None else gates.projected_box(candidate.model, pose, frame.camera)
        if pose is None or box is None:
            return candidate
        return replace(candidate, cam_from_obj=pose, box=box)
