"""A pose estimator over a folder of photos without ground truth: poses into one file, pictures to look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from kd6d_ros.data.image_files import SUFFIXES, image_size, read_rgb
from kd6d_ros.data.photo_pictures import draw_estimate, write_jpeg
from kd6d_ros.data.run_tally import RunTally
from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.geometry.transforms import quaternion_xyzw
from kd6d_ros.inference.estimator import PoseEstimator
from kd6d_ros.inference.object_meshes import object_meshes
from kd6d_ros.inference.outlines import PURPOSE, Outlines
from kd6d_ros.inference.settings import EstimatorSettings

if TYPE_CHECKING:
    from kd6d_ros.inference.bundle_records import Bundle
    from kd6d_ros.inference.engines.base import Engine
    from kd6d_ros.types import Camera, ImageArray, PoseEstimate


@dataclass(frozen=True)
class PhotoOptions:
    """images: folder of PNG, JPEG or TIFF files, or one such file; settings: those of the estimator, but for `track`,
    as every photo stands alone; meshes: BOP models folder for `fit_outline`, None: those of the bundle; limit: only
    the first photos by name."""

    images: Path
    settings: EstimatorSettings = field(default_factory=EstimatorSettings)
    meshes: Optional[Path] = None
    limit: Optional[int] = None


class PhotoRun:
    """Checks everything at once; ``run`` then goes over the photos.

    Raises:
        ConfigError: the bundle cannot search a whole image, or settings name an object that it does not know.
        DatasetError: no photos, or one whose size is not the camera's.
        BundleError: no mesh to fit the outline of.
        ImageError: a file that is no image.
    """

    def __init__(self, bundle: Bundle, camera: Camera, options: PhotoOptions) -> None:
        if bundle.network.frame_size is None:
            raise ConfigError(
                f'bundle {bundle.name!r} cannot search a whole image: train it with input.frame_size, or give boxes to '
                '`kd6d estimate --detections`'
            )
        self.bundle, self.camera, self.options = bundle, camera, options
        self.paths = _photos(options.images)[: options.limit]
        for path in self.paths:
            width, height = image_size(path)
            if (width, height) != (camera.width, camera.height):
                raise DatasetError(
                    f'{path}: has {width}x{height} px, the camera {camera.width}x{camera.height}: give the calibration '
                    'for images of this size'
                )
        names = options.settings.objects or bundle.names
        meshes = None if options.meshes is None else object_meshes(bundle, names, PURPOSE, options.meshes)
        self._outlines = Outlines(bundle, names, meshes) if options.settings.fit_outline else None
        self._tally = RunTally()
        self._poses: Counter[str] = Counter()
        self._with_pose = 0

    def run(
        self, engine: Engine, pictures: Path, progress: Optional[Callable[[int, int, float], None]] = None
    ) -> List[Dict[str, Any]]:
        """Estimate every photo and write its picture into a folder; what was found, as plain values, photo by photo.

        Raises:
            ImageError, EngineError: the run stops; some pictures have been written.
        """
        settings = replace(self.options.settings, track=False, find=True)
        estimator = PoseEstimator(self.bundle, engine, settings, outlines=self._outlines)
        pictures.mkdir(parents=True, exist_ok=True)
        out, start = [], perf_counter()
        for number, path in enumerate(self.paths, start=1):
            image = read_rgb(path)
            poses = self._estimate(estimator, image)
            out.append({'file': path.name, 'poses': [_record(pose) for pose in poses]})
            for pose in poses:
                draw_estimate(image, self.camera, self.bundle, pose.object_name, pose.score, pose.cam_from_obj)
            write_jpeg(pictures / f'{path.stem}.jpg', image)
            if progress is not None:
                progress(number, len(self.paths), perf_counter() - start)
        return out

    def _estimate(self, estimator: PoseEstimator, image: ImageArray) -> List[PoseEstimate]:
        poses = self._tally.estimate(estimator, image, self.camera)
        self._poses.update(pose.object_name for pose in poses)
        self._with_pose += bool(poses)
        return poses

    def summary(self) -> Dict[str, Any]:
        """Counts, and milliseconds per photo of pose estimation alone."""
        record: Dict[str, Any] = {
            'bundle': self.bundle.name, 'images': len(self.paths), 'images_with_a_pose': self._with_pose,
            'poses': sum(self._poses.values()), 'poses_by_object': dict(sorted(self._poses.items())),
        }  # fmt: skip
        return {**record, **self._tally.record()}


def _photos(place: Path) -> List[Path]:
    """Sorted by name; no two may give pictures of one name."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DatasetError(f'{place}: no such folder or image')
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DatasetError(f'{place}: holds no images; expected {", ".join(SUFFIXES)}')
    twice = [stem for stem, count in Counter(path.stem for path in found).items() if count > 1]
    if twice:
        raise DatasetError(f'{place}: two images are called {twice[0]}; their pictures would have one name')
    return found


def _record(pose: PoseEstimate) -> Dict[str, Any]:
    """Metres, quaternion x y z w, covariance (36,) row by row or None."""
    place: Tuple[float, ...] = tuple(float(v) for v in pose.cam_from_obj.translation)
    turn = tuple(float(v) for v in quaternion_xyzw(pose.cam_from_obj.rotation))
    return {
        'object': pose.object_name, 'score': round(float(pose.score), 4), 'position_m': place, 'orientation_xyzw': turn,
        'covariance': None if pose.covariance is None else pose.covariance.ravel().tolist(),
        'inliers': pose.inliers, 'correspondences': pose.correspondences,
        'reprojection_error_px': round(float(pose.reprojection_error_px), 3),
    }  # fmt: skip
