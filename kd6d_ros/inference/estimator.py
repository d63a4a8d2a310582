"""The only way from an image to poses: the node, the benchmark and the evaluation all call this.

    image + camera -> where? (tracked region, given detections, or the whole frame) -> crop -> network
      -> cells of one instance -> PnP -> gates -> best of each object (-> fit to the outline -> gates)
      -> identity over time -> PoseEstimate

Nothing that fails a gate is returned, nothing is carried over from an earlier image, and every refusal is
in ``report``.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import numpy as np

from kd6d_ros.inference import gates
from kd6d_ros.inference.decode import box_iou
from kd6d_ros.inference.gates import Candidate
from kd6d_ros.inference.inner_loops import ARRAYS
from kd6d_ros.inference.input_checks import check_input, usable_box
from kd6d_ros.inference.measure import Frame, Measurer, Request
from kd6d_ros.inference.outlines import Outlines
from kd6d_ros.inference.records import FrameReport
from kd6d_ros.inference.search_plan import SearchPlan
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.inference.tracking import NOTES, Tracker
from kd6d_ros.inference.uncertainty import Uncertainty
from kd6d_ros.types import PoseEstimate

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.workspace import Workspace
    from kd6d_ros.types import Camera, Detection, ImageArray

SAME_INSTANCE = 0.5
"""Two poses of one object whose projected boxes overlap more than this (IoU) are the same instance."""

SPARE_DETECTIONS = 2
"""Boxes of one object beyond max_instances that are tried, because the best-scored box can be wrong."""

KNOWN = {'tracked': 'tracked', 'measure': 'found'}
"""Mode of an image in which a region of this mode was known from earlier images."""


class PoseEstimator:
    """Estimates the poses of a bundle's objects, image after image. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: Optional[EstimatorSettings] = None,
        keep_evidence: bool = False,
        outlines: Optional[Outlines] = None,
    ) -> None:
        """
        Args:
            keep_evidence: the report holds the evidence of every returned pose, as calibration needs it.
            outlines: for ``EstimatorSettings.fit_outline``; None: of the bundle's own meshes.

        Raises:
            ConfigError: settings name an object that the bundle does not know.
            BundleError: a covariance that this version cannot read, or no mesh to fit the outline of.
        """
        self.bundle, self.engine = bundle, engine
        self.settings = (settings or EstimatorSettings()).resolved(bundle.decode)
        # No covariance was calibrated on poses that were fitted to outlines.
        self._uncertainty = Uncertainty(bundle, engine.precision, keep_evidence, unlike=self.settings.fit_outline)
        names = self.settings.objects or bundle.names
        self._wanted = [bundle.index(name) for name in names]
        decode = replace(bundle.decode, score_threshold=self.settings.score_threshold)
        self._outlines = (outlines or Outlines(bundle, names)) if self.settings.fit_outline else None
        loops = ARRAYS if self._outlines is None else self._outlines.loops
        self._measurer = Measurer(bundle, engine, self.settings, decode, loops)
        self._tracker = Tracker(self.settings)
        self._plan = SearchPlan(self.settings, bundle.network)
        self._report = FrameReport()
        self.workspace: Optional[Workspace] = None
        """Where objects may be, for the next images; None: anywhere."""

    @property
    def report(self) -> FrameReport:
        """What happened in the last call of ``estimate``."""
        return self._report

    @property
    def can_find(self) -> bool:
        """Whether this bundle and these settings allow a search of the whole frame."""
        return self.settings.find and self.bundle.network.frame_size is not None

    def reset(self) -> None:
        """Forget all instances and the last stamp (a new recording, or images without order in time)."""
        self._tracker.reset()
        self._plan.reset()

    def estimate(
        self,
        image: ImageArray,
        camera: Camera,
        stamp: float,
        detections: Optional[Sequence[Detection]] = None,
    ) -> List[PoseEstimate]:
        """Poses of the objects in one image.

        Args:
            image: (H, W, 3) uint8 RGB, of the size of `camera`.
            camera: intrinsics of the image.
            stamp: acquisition time [s]. The last stamp again is ignored (no pose); one that goes back drops
                all instances first.
            detections: 2D boxes to measure (of unknown or unselected objects: skipped); None lets the
                estimator look by itself, an empty list means that there is nothing to measure.

        Raises:
            ImageError: wrong shape or type of the image.
            CameraError: image and camera of different sizes.
            ConfigError: the stamp is not finite.
            EngineError: the engine failed.
        """
        start = perf_counter()
        check_input(image, camera, stamp)
        self._report = FrameReport(stamp=stamp)
        frame = Frame(image, camera, self.workspace)
        time = self._tracker.advance(stamp)
        if time == 'repeated':
            self._report = FrameReport(stamp=stamp, mode='ignored', note='stamp repeated: image ignored')
            return []
        note = NOTES.get(time, '')
        if note:
            self._plan.reset()
        self._plan.advance(stamp)
        mode, candidates = self._look(frame, stamp, detections)
        poses = self._publishable(frame, candidates)
        frame.stages['total'] = perf_counter() - start
        self._report = FrameReport(
            stamp, mode, frame.stages, tuple(frame.rejections), tuple(frame.regions), len(poses), note,
            self._uncertainty.evidence,
        )  # fmt: skip
        return poses

    def _look(
        self, frame: Frame, stamp: float, detections: Optional[Sequence[Detection]]
    ) -> Tuple[str, List[Candidate]]:
        """Candidates that passed the gates, and the mode."""
        if detections is not None:
            return 'detections', self._detected(frame, detections)
        accepted: List[Candidate] = []
        if self.settings.track and not (self.can_find and self._plan.search_alone(self._tracker.seen() > 0)):
            accepted = self._known(frame, stamp)
        modes = [KNOWN[mode] for mode in KNOWN if any(region.mode == mode for region in frame.regions)]
        wanted = self._to_search(accepted, bool(frame.regions))
        if wanted:
            modes.append('frame')
            accepted += self._found(frame, wanted, accepted)
        return '+'.join(modes) or 'idle', accepted

    def _known(self, frame: Frame, stamp: float) -> List[Candidate]:
        """Measure every object where it is expected, and what the last search found."""
        requests = []
        for track in self._tracker.tracks:
            box = gates.projected_box(track.model, track.expected(stamp), frame.camera)
            if box is None:
                continue
            requests.append(Request(self.bundle.index(track.model.name), box, 'tracked', track.number))
        tracked = self._measurer.crops(frame, requests)
        found = [item for item in self._measurer.crops(frame, self._plan.next_finds()) if item is not None]
        finds = self._refined(frame, found, self.settings.refine_crops - 1)
        return self._gated(frame, [*tracked, *finds])

    def _to_search(self, accepted: Sequence[Candidate], measured: bool) -> List[int]:
        """Classes to look for in the whole frame: those not seen, and at times those with room for more."""
        if not self.can_find:
            return []
        out = []
        for index in self._wanted:
            missing = not accepted and self._plan.search_beside(measured)
            room = self._count(index, accepted) < self.settings.max_instances
            if missing or self._lost(index, accepted) or (self._plan.due and room):
                out.append(index)
        return out

    def _count(self, index: int, accepted: Sequence[Candidate]) -> int:
        return sum(item.model is self.bundle.objects[index] for item in accepted)

    def _lost(self, index: int, accepted: Sequence[Candidate]) -> bool:
        """Whether fewer of a class were accepted than were seen in the last image."""
        return self._count(index, accepted) < self._tracker.seen(self.bundle.objects[index].name)

    def _found(self, frame: Frame, wanted: Sequence[int], known: Sequence[Candidate]) -> List[Candidate]:
        """Find in the whole frame, then measure each new instance where it was seen; a doubtful one may wait."""
        now, rough, later = [], [], []
        may_wait = self.settings.refine_crops > 0 and self._plan.may_wait(any(self._lost(i, known) for i in wanted))
        most = self.settings.max_instances + self.settings.search_places - 1 + len(known)
        for place in self._measurer.whole(frame, wanted, most):
            name = self.bundle.objects[place.class_index].name
            boxes = [place.box] if place.rough is None else [place.box, place.rough.box]
            if any(k.model.name == name and box_iou(k.box, box) > SAME_INSTANCE for k in known for box in boxes):
                continue
            request = Request(place.class_index, place.box, 'measure', prior=place.score)
            if may_wait and not self._passes(frame, place.rough):
                later.append(request)
            else:
                now.append(request)
                rough.append(place.rough)
        self._plan.searched(later)
        return self._gated(frame, self._measure_again(frame, now, rough, self.settings.refine_crops))

    def _detected(self, frame: Frame, detections: Sequence[Detection]) -> List[Candidate]:
        """Measure the best-scored boxes of each object, then the best of them once more around the pose each gave."""
        most = self.settings.max_instances
        wanted = [self._boxes_of(frame, index, detections) for index in self._wanted]
        first = self._measurer.crops(frame, [request for own in wanted for request in own[:most]])
        found = [item for item in first if item is not None]
        spare = [request for own in wanted for request in own[most : most + SPARE_DETECTIONS]]
        spare = [request for request in spare if self._may_win(frame, request, found)]
        found += [item for item in self._measurer.crops(frame, spare) if item is not None]
        found.sort(key=lambda item: (not self._passes(frame, item), -item.likelihood))
        return self._gated(frame, self._refined(frame, self._best_of_each(frame, found), self.settings.refine_crops))

    def _boxes_of(self, frame: Frame, index: int, detections: Sequence[Detection]) -> List[Request]:
        """The usable boxes of a class, best score first."""
        named = [item for item in detections if item.object_name == self.bundle.objects[index].name]
        own = [item for item in named if usable_box(item.box)]
        for _ in range(len(named) - len(own)):
            frame.reject(self.bundle.objects[index].name, gates.BAD_BOX, 0.0, 0.0, 'detections')
        own.sort(key=lambda item: -item.score)
        scored = any(item.score > 0 for item in own)  # some detectors give none
        priors = [item.score if scored else 1.0 for item in own]
        boxes = [np.asarray(item.box, dtype=np.float64) for item in own]
        return [Request(index, box, 'detections', prior=prior) for box, prior in zip(boxes, priors, strict=True)]

    def _may_win(self, frame: Frame, request: Request, found: Sequence[Candidate]) -> bool:
        """Whether what is in this box could be likelier than what was found, were its score the highest there is."""
        model = self.bundle.objects[request.class_index]
        likely = [item.likelihood for item in found if item.model is model and self._passes(frame, item)]
        return len(likely) < self.settings.max_instances or request.prior > min(likely)

    def _refined(self, frame: Frame, first: List[Candidate], times: int) -> List[Optional[Candidate]]:
        """Measure `times` more in crops around what was seen."""
        requests = [
            Request(self.bundle.index(item.model.name), item.around, 'measure', prior=item.prior) for item in first
        ]
        return self._measure_again(frame, requests, first, times)

    def _measure_again(
        self, frame: Frame, requests: List[Request], first: Sequence[Optional[Candidate]], times: int
    ) -> List[Optional[Candidate]]:
        """Repeat the measurement in crops around where each object is now (``Candidate.around``) and keep the better of
        each pair."""
        best = list(first)
        for _ in range(times):
            second = self._measurer.crops(frame, requests)
            best = [
                gates.better(*pair, self.settings, frame.camera, frame.workspace)
                for pair in zip(best, second, strict=True)
            ]
            requests = [
                request if item is None else replace(request, box=item.around)
                for request, item in zip(requests, best, strict=True)
            ]
        return best

    def _gated(self, frame: Frame, candidates: Sequence[Optional[Candidate]]) -> List[Candidate]:
        return [item for item in candidates if item is not None and not self._refused(frame, item)]

    def _passes(self, frame: Frame, item: Optional[Candidate]) -> bool:
        return gates.passes(item, self.settings, frame.camera, frame.workspace)

    def _refused(self, frame: Frame, item: Candidate) -> bool:
        """Whether a gate refuses the candidate, which is then in the frame's report."""
        rejection = gates.check(item, self.settings, frame.camera, frame.workspace)
        if rejection is not None:
            frame.rejections.append(rejection)
        return rejection is not None

    def _best_of_each(self, frame: Frame, ordered: Sequence[Candidate]) -> List[Candidate]:
        """The instances of the first ones, as many of an object as are wanted, each with its best measurement."""
        kept: List[Candidate] = []
        for item in ordered:
            same = [index for index, other in enumerate(kept) if other.model.name == item.model.name]
            overlaps = [box_iou(kept[index].box, item.box) for index in same]
            overlap = max(overlaps, default=0.0)
            if overlap > SAME_INSTANCE:
                frame.reject(item.model.name, gates.DUPLICATE, overlap, SAME_INSTANCE, item.mode)
                twin = same[overlaps.index(overlap)]
                kept[twin] = self._better_of(frame, kept[twin], item)
            elif len(same) >= self.settings.max_instances:
                # One that would not be published anyway is none too many.
                if not self._refused(frame, item):
                    frame.reject(item.model.name, gates.TOO_MANY, len(same) + 1, self.settings.max_instances, item.mode)
            else:
                kept.append(item)
        return kept

    def _better_of(self, frame: Frame, first: Candidate, second: Candidate) -> Candidate:
        """The better measurement of one instance; a tracked one keeps its identity."""
        if first.track is not None:
            return first
        pair = [(self._passes(frame, item), item.quality) for item in (first, second)]
        return second if pair[1] > pair[0] else first

    def _publishable(self, frame: Frame, candidates: Sequence[Candidate]) -> List[PoseEstimate]:
        """Drop doubles and surplus instances, fit what is left to its outline, give identities."""
        order = sorted(candidates, key=lambda item: (item.track is None, -item.likelihood))
        kept = self._best_of_each(frame, order)
        if self._outlines is not None:
            kept = self._gated(frame, self._outlines.fit_all(frame, kept, self._measurer.threads))
        published = []
        for item, (track, pose) in zip(kept, self._tracker.commit(kept), strict=True):
            if pose is None:
                limit = self.settings.filter_max_jump * item.model.diameter
                apart = np.linalg.norm(item.cam_from_obj.translation - track.pose.translation)
                frame.reject(item.model.name, gates.OUTLIER, float(apart), limit, item.mode)
            else:
                published.append((item, track.instance_id, pose))
        with frame.timed('covariance'):
            covariances = self._uncertainty.of([(item, pose) for item, _, pose in published], frame.camera)
        return [
            PoseEstimate(
                object_name=item.model.name,
                instance_id=instance_id,
                cam_from_obj=pose,
                score=item.score,
                inliers=item.inliers,
                correspondences=item.correspondences,
                reprojection_error_px=item.rms,
                covariance=covariance,
            )
            for (item, instance_id, pose), covariance in zip(published, covariances, strict=True)
        ]
