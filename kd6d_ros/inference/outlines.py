"""The outlines of a bundle's objects, fitted to candidates that have passed the gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.inference import gates
from kd6d_ros.inference.evidence import FEATURES, disagreement
from kd6d_ros.inference.inner_loops import best_loops
from kd6d_ros.inference.object_meshes import object_meshes
from kd6d_ros.inference.outline import OutlineModel
from kd6d_ros.inference.outline_fit import fit_outline
from kd6d_ros.inference.side_by_side import SideBySide
from kd6d_ros.inference.uncertainty import candidate_evidence

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.inference.measure import Frame
    from kd6d_ros.types import Camera, FloatArray, Mesh

PURPOSE = 'fit_outline'

TYPICAL = 0.9
"""Size of an object in the image over that of its diameter, whatever way it is turned."""

SAME_ERROR = 30.0
"""The network's predictions are wrong together: this many count as one. Chosen between 4 and 100 on renders of LM-O's
objects and on other worlds of the demo object: fewer hold poses too tightly, more let good ones be spoilt."""

DOUBT = 0.25
"""What the network's doubt about a fitted pose (``evidence.disagreement``) counts against the outline's agreement.
Chosen between 0 and 1 on renders of LM-O's objects."""

UNCONTESTED = 0.8
"""A fit with this agreement needs no other one beside it; nearly all that a second fit gains is gained below."""


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
        self.loops = best_loops()
        self._models: Dict[str, OutlineModel] = {name: OutlineModel(mesh) for name, mesh in found.items()}

    def fit_all(self, frame: Frame, candidates: Sequence[Candidate], threads: SideBySide) -> List[Candidate]:
        """``fit`` of each; side by side where loops let go of Python's lock, which arrays hold on to."""
        return (threads if self.loops.parallel else SideBySide(1)).map(frame, self.fit, candidates)

    def fit(self, frame: Frame, candidate: Candidate) -> Candidate:
        """The candidate with the pose whose outline fits best; as it is where the outline says nothing.

        Of two measurements of an instance the second one is fitted too where the first fits not very well, and the one
        that image and network agree with most is taken.
        Score, inliers and reprojection error stay: they say how well the network agrees with itself.
        """
        with frame.timed('outline'):
            first = self._fitted(frame, candidate)
            if candidate.rival is None or (first is not None and first[1] >= UNCONTESTED):
                return candidate if first is None else first[0]
            found = [fit for fit in (first, self._fitted(frame, candidate.rival)) if fit is not None]
            if not found:
                return candidate
            predictions = candidate.predictions
            assert predictions is not None, 'the measurer keeps them'
            doubts = [disagreement(predictions, item.cam_from_obj, frame.camera) for item, _ in found]
            best = int(np.argmax([fit[1] - DOUBT * doubt for fit, doubt in zip(found, doubts, strict=True)]))
        return replace(found[best][0], track=candidate.track)

    def _fitted(self, frame: Frame, candidate: Candidate) -> Optional[Tuple[Candidate, float]]:
        """One measurement with its fitted pose, and how far the outline agrees with that."""
        assert candidate.predictions is not None, 'the measurer keeps them'
        start, camera = candidate.cam_from_obj, frame.camera
        size = TYPICAL * candidate.model.diameter * float(camera.matrix[0, 0]) / max(start.translation[2], 1e-6)
        found = fit_outline(
            self._models[candidate.model.name], frame.image, camera, start, size,
            candidate.predictions.mask, _certainty(candidate, camera), self.loops,
        )  # fmt: skip
        box = None if found is None else gates.projected_box(candidate.model, found.pose, camera)
        if found is None or box is None:
            return None
        return replace(candidate, cam_from_obj=found.pose, box=box, rival=None), found.agreement


def _certainty(candidate: Candidate, camera: Camera) -> FloatArray:
    """Information (6, 6) by rotation and translation, from how the network's predictions agree with its pose."""
    evidence = candidate_evidence(candidate, camera)
    residual = float(np.exp(evidence.features[FEATURES.index('surface_residual')])) * candidate.size
    order = [3, 4, 5, 0, 1, 2]  # evidence has the translation first
    out: FloatArray = evidence.hessian[np.ix_(order, order)] / (SAME_ERROR * residual**2)
    return out
