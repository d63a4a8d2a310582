"""The covariance of the poses of one image, and the evidence that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from kd6d_ros.inference import gates
from kd6d_ros.inference.covariance import after_symmetry, read_model, record_of
from kd6d_ros.inference.evidence import CodePredictions, gather, gather_codes

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.evidence import Evidence
    from kd6d_ros.inference.gates import Candidate
    from kd6d_ros.types import Camera, FloatArray, RigidTransform


class Uncertainty:
    """Covariances for a bundle that was calibrated, none for another one."""

    def __init__(self, bundle: Bundle, precision: str, keep_evidence: bool, unlike: bool = False) -> None:
        """
        Args:
            precision: what the engine really computes in.
            unlike: the poses are not of the kind that the bundle was calibrated on, so none gets a covariance.

        Raises:
            BundleError: the bundle's covariance cannot be read.
        """
        calibrated = bundle.covariance is not None and not unlike
        record = record_of(bundle.covariance or {}, precision)
        self._model = read_model(record, bundle.name) if calibrated else None
        self._keep = keep_evidence
        self.evidence: Tuple[Evidence, ...] = ()
        """Of the last call, in the order of its poses; empty unless it is kept."""

    def of(self, published: Sequence[Tuple[Candidate, RigidTransform]], camera: Camera) -> List[Optional[FloatArray]]:
        """(6, 6) for each candidate with the pose that is published for it, or None."""
        self.evidence = ()
        if self._model is None and not self._keep:
            return [None] * len(published)
        found = [candidate_evidence(item, camera) for item, _ in published]
        if self._keep:
            self.evidence = tuple(found)
        if self._model is None:
            return [None] * len(published)
        return [self._one(*pair, seen) for pair, seen in zip(published, found, strict=True)]

    def _one(self, item: Candidate, pose: RigidTransform, evidence: Evidence) -> Optional[FloatArray]:
        assert self._model is not None
        found = self._model.predict(evidence, item.cam_from_obj, item.model.name)
        if found is None or not item.model.symmetries:
            return found
        return after_symmetry(found, pose.translation - item.cam_from_obj.translation)


def candidate_evidence(item: Candidate, camera: Camera) -> Evidence:
    """What the local predictions of a candidate say about its pose."""
    assert item.predictions is not None, 'the measurer keeps them'
    ratio = item.inliers / max(item.correspondences, 1)
    visible = gates.visible_share(item.box, camera)
    seen = (item.cam_from_obj, camera, item.size, ratio, visible)
    if isinstance(item.predictions, CodePredictions):
        return gather_codes(item.predictions, *seen)
    return gather(item.predictions, *seen)
