"""Regions in, candidate poses out: crop, run the network, decode, solve. No policy and no memory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np

from kd6d_ros.inference import gates
from kd6d_ros.inference.crop import Crop
from kd6d_ros.inference.decode import box_iou
from kd6d_ros.inference.gates import Candidate
from kd6d_ros.inference.inner_loops import ARRAYS, InnerLoops
from kd6d_ros.inference.instance_reader import make_reader
from kd6d_ros.inference.records import STAGES, RegionReport, Rejection
from kd6d_ros.inference.side_by_side import SideBySide

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle, DecodeSpec
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.inference.instance_reader import Instance
    from kd6d_ros.inference.settings import EstimatorSettings
    from kd6d_ros.inference.workspace import Workspace
    from kd6d_ros.types import Camera, FloatArray, ImageArray, LocalPredictions


@dataclass(frozen=True, eq=False)
class Request:
    """Measure one object in a crop around `box` (4,) [image px]; prior: how sure it is that it is there, 0 to 1."""

    class_index: int
    box: FloatArray
    mode: str
    track: Optional[int] = None
    prior: float = 1.0


class Place(NamedTuple):
    """Where a search of the whole frame saw an object: its class, the box (4,) [image px] to measure, the score there,
    and the rough pose or None."""

    class_index: int
    box: FloatArray
    score: float
    rough: Optional[Candidate]


@dataclass(eq=False)
class Frame:
    """One image on its way: what was looked at, refused and how long each stage took."""

    image: ImageArray
    camera: Camera
    workspace: Optional[Workspace] = None
    stages: Dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rejections: List[Rejection] = field(default_factory=list)
    regions: List[RegionReport] = field(default_factory=list)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.stages[stage] += perf_counter() - start

    def part(self) -> Frame:
        """A record of its own for a part that is worked on beside others."""
        return Frame(self.image, self.camera, self.workspace)

    def gather(self, parts: Sequence[Frame], seconds: float) -> None:
        """Take over what is in `parts`, which took so long together: each stage its share of that."""
        spent = {stage: sum(part.stages[stage] for part in parts) for stage in STAGES}
        share = seconds / max(sum(spent.values()), 1e-9)
        for stage, value in spent.items():
            self.stages[stage] += value * share
        for part in parts:
            self.rejections += part.rejections
            self.regions += part.regions

    def reject(self, name: str, reason: str, value: float, limit: float, mode: str) -> None:
        self.rejections.append(Rejection(name, reason, float(value), float(limit), mode))

    def look(self, mode: str, name: Optional[str], box: FloatArray) -> None:
        x0, y0, x1, y1 = (float(v) for v in box)
        self.regions.append(RegionReport(mode, name, (x0, y0, x1, y1)))


class Measurer:
    """Measures poses in given regions of a frame, and finds rough ones in the whole frame."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: EstimatorSettings,
        decode: DecodeSpec,
        loops: InnerLoops = ARRAYS,
    ) -> None:
        self._bundle, self._engine, self._settings = bundle, engine, settings
        self._reader, self._score_threshold = make_reader(bundle, decode, loops.minimise), decode.score_threshold
        self.threads = SideBySide(engine.side_by_side)

    def crops(self, frame: Frame, requests: Sequence[Request]) -> List[Optional[Candidate]]:
        """One candidate (or None, with a rejection in the frame) for each request."""
        if self.threads.threads == 1:  # an engine that likes all of them at once
            return self._batch(frame, requests)
        groups = self.threads.map(frame, self._batch, [[request] for request in requests])
        return [candidate for group in groups for candidate in group]

    def _batch(self, frame: Frame, requests: Sequence[Request]) -> List[Optional[Candidate]]:
        boxes = [self._box(frame, request) for request in requests]
        network = self._bundle.network
        with frame.timed('preprocess'):
            crops = [
                None if box is None else Crop.around_box(box, network.crop_padding, network.crop_size) for box in boxes
            ]
            images = [crop.extract(frame.image) for crop in crops if crop is not None]
        if not images:
            return [None] * len(requests)
        active = [request for request, crop in zip(requests, crops, strict=True) if crop is not None]
        classes = np.zeros((len(active), len(self._bundle.objects)), dtype=bool)
        classes[np.arange(len(active)), [request.class_index for request in active]] = True
        with frame.timed('inference'):
            cells = iter(self._engine.run(np.stack(images), classes))
        return [
            None if crop is None else self._one(frame, request, crop, next(cells))
            for request, crop in zip(requests, crops, strict=True)
        ]

    def _box(self, frame: Frame, request: Request) -> Optional[FloatArray]:
        """The box of a request, cut to three times the image (a huge box would only cost time); None, with a
        rejection, when it does not touch the image."""
        name = self._bundle.objects[request.class_index].name
        size = np.array([frame.camera.width, frame.camera.height], dtype=np.float64)
        box = np.clip(np.asarray(request.box, dtype=np.float64), np.tile(-size, 2), np.tile(2 * size, 2))
        share = gates.visible_share(box, frame.camera)
        if not share > 0:
            frame.reject(name, gates.OUTSIDE, share, 0.0, request.mode)
            return None
        frame.look(request.mode, name, box)
        return box

    def _one(self, frame: Frame, request: Request, crop: Crop, cells: LocalPredictions) -> Optional[Candidate]:
        with frame.timed('decode'):
            most = min(self._settings.max_instances, 3)
            instances = self._reader.instances(cells, request.class_index, crop, most, whole=False)
        if not instances:
            name = self._bundle.objects[request.class_index].name
            best = self._reader.best_score(cells, request.class_index)
            frame.reject(name, gates.NO_CELLS, best, self._score_threshold, request.mode)
            return None
        here = crop.to_network(np.asarray(request.box, dtype=np.float64).reshape(2, 2)).reshape(4)
        found = max(instances, key=lambda item: box_iou(item.box(), here)) if len(instances) > 1 else instances[0]
        return self._solve(frame, cells, found, crop, request)

    def _solve(
        self,
        frame: Frame,
        cells: LocalPredictions,
        found: Instance,
        crop: Crop,
        request: Request,
    ) -> Optional[Candidate]:
        mode = request.mode
        model = self._bundle.objects[found.class_index]
        settings = self._settings
        if mode != 'detections' and found.score < settings.min_score:  # a search meets many: not worth a solver
            if mode != 'frame':  # which only says where to measure
                frame.reject(model.name, gates.SCORE, found.score, settings.min_score, mode)
            return None
        with frame.timed('pnp'):
            threshold = max(settings.inlier_threshold_px, settings.inlier_threshold_relative * found.size / crop.scale)
            result, predictions = self._reader.solve(cells, found, crop, frame.camera, threshold)
            box = None if result is None else gates.projected_box(model, result.cam_from_obj, frame.camera)
        if result is None or box is None:
            frame.reject(model.name, gates.NO_POSE, 0.0, threshold, mode)
            return None
        return Candidate(
            model=model,
            cam_from_obj=result.cam_from_obj,
            score=found.score,
            inliers=result.count,
            correspondences=result.inliers.size,
            rms=result.rms,
            box=box,
            around=_next_box(found, crop, box),
            mode=mode,
            track=request.track,
            predictions=predictions,
            prior=request.prior,
        )

    def whole(self, frame: Frame, wanted: Sequence[int], max_instances: int) -> List[Place]:
        """Search the whole frame for some classes: the places of each, likeliest first."""
        size = self._bundle.network.frame_size
        assert size is not None, 'the estimator asks for a search only when the network can'
        classes = np.zeros((1, len(self._bundle.objects)), dtype=bool)
        classes[0, list(wanted)] = True
        with frame.timed('preprocess'):
            crop = Crop.letterbox((frame.camera.width, frame.camera.height), size)
            image = crop.extract(frame.image)[None]
        everything = np.array([-0.5, -0.5, frame.camera.width - 0.5, frame.camera.height - 0.5])
        frame.look('frame', None, everything)
        with frame.timed('inference'):
            cells = self._engine.run(image, classes)[0]
        out: List[Place] = []
        for index in wanted:
            with frame.timed('decode'):
                instances = self._reader.instances(cells, index, crop, max_instances, whole=True)
            for found in instances:
                rough = self._solve(frame, cells, found, crop, Request(index, everything, 'frame', prior=found.score))
                box = _next_box(found, crop) if rough is None else rough.around
                out.append(Place(index, box, found.score, rough))
        return out


def _next_box(found: Instance, crop: Crop, of_pose: Optional[FloatArray] = None) -> FloatArray:
    """Box (4,) [image px] for the next crop. The corners that a network sees say better where an object is than the
    pose that came out, which may be far off; a mask that ends where something stands before the object does not
    (docs/results.md)."""
    if of_pose is not None and not found.knows_hidden_parts:
        return of_pose
    return crop.to_image(found.box().reshape(2, 2)).reshape(4)
