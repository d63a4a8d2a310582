"""`kd6d synth`: a BOP training set from meshes. Image i depends only on the inputs, the seed and i.

Workers take image ids in any order; BopSceneWriter makes each image atomic, so an interrupted run resumes
and any number of workers gives the same bytes. OUT/synth.json remembers what the set was made from; a run
with other inputs is refused rather than mixed in.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd6d_ros.errors import ConfigError, DatasetError
from kd6d_ros.types import Camera

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kd6d_ros.data.bop_write import BopSceneWriter, ImageRecord, InstanceRecord
    from kd6d_ros.data.renderer.records import RenderItem
    from kd6d_ros.data.renderer.renderer import Renderer
    from kd6d_ros.data.scenes.assets import Assets
    from kd6d_ros.data.scenes.recipe import SynthRecipe
    from kd6d_ros.types import AnyArray, Mesh, ObjectModel

IMAGES_PER_SCENE = 1000
SPLIT = 'train'
BATCH = 8
"""Images that a worker takes at a time."""


@dataclass(frozen=True, eq=False)
class SynthJob:
    """All that a worker needs."""

    out: Path
    seed: int
    recipe: SynthRecipe
    camera: Camera
    models: tuple[ObjectModel, ...]
    distractors: tuple[Mesh, ...]
    backgrounds: tuple[Path, ...]


def image_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of image `index`: independent of all others and of the worker."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))


class ImageMaker:
    """Makes the images of one job in one process: owns the renderer and the pools."""

    def __init__(self, job: SynthJob) -> None:
        import cv2

        from kd6d_ros.data.renderer.renderer import Renderer
        from kd6d_ros.data.scenes.assets import make_assets

        cv2.setNumThreads(1)
        self._job = job
        self._assets: Assets = make_assets(job.models, job.distractors, job.backgrounds, job.recipe.scene, job.seed)
        self._renderer: Renderer = Renderer(job.camera.width, job.camera.height)
        self._writers: dict[int, BopSceneWriter] = {}

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.release()

    def make(self, index: int) -> ImageRecord:
        """Image `index` of the set, as the writer takes it."""
        from kd6d_ros.data.bop_write import ImageRecord
        from kd6d_ros.data.scenes.sampler import sample_scene
        from kd6d_ros.data.sensor import apply_sensor

        job = self._job
        rng = image_rng(job.seed, index)
        scene = sample_scene(rng, self._assets, job.recipe, job.camera)
        frame = self._renderer.render(job.camera, scene.items, scene.lights, scene.background)
        masks = self._renderer.full_masks(job.camera, scene.target_items)
        instances = []
        for number, (target, item, mask) in enumerate(zip(scene.targets, scene.target_items, masks, strict=True)):
            if mask.any():
                instances.append(self._instance(target.model.obj_id, item, mask, frame.ids == number + 1))
        image = apply_sensor(rng, frame.rgb, job.recipe.sensor)
        return ImageRecord(index % IMAGES_PER_SCENE, job.camera, image, frame.depth, tuple(instances))

    def write(self, index: int) -> int:
        """Make and write image `index`; returns it."""
        from kd6d_ros.data.bop_write import BopSceneWriter

        scene = index // IMAGES_PER_SCENE
        if scene not in self._writers:
            folder = scene_folder(self._job.out, scene)
            self._writers[scene] = BopSceneWriter(folder, quality=self._job.recipe.jpeg_quality)
        self._writers[scene].write(self.make(index))
        return index

    def _instance(self, obj_id: int, item: RenderItem, mask: AnyArray, visible: AnyArray) -> InstanceRecord:
        from kd6d_ros.data.bop_write import InstanceRecord

        camera = self._job.camera
        touches_edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        points = item.cam_from_obj.apply(item.mesh.vertices)
        if not touches_edge or points[:, 2].min() <= 0.02:
            return InstanceRecord(obj_id, item.cam_from_obj, mask, visible)
        pixels = (points / points[:, 2:]) @ camera.matrix.T
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        zoom = min(1.0, float(np.min((np.array([camera.width, camera.height]) - 4) / (high - low + 4))))
        matrix = camera.matrix.copy()
        matrix[:2] *= zoom
        matrix[:2, 2] += 2 - zoom * low
        whole = self._renderer.full_mask(Camera(matrix, camera.width, camera.height), item)
        total = max(round(float(whole.sum()) / zoom**2), int(mask.sum()))
        return InstanceRecord(obj_id, item.cam_from_obj, mask, visible, np.append(low, high), total)


def scene_folder(out: Path, scene: int) -> Path:
    return out / SPLIT / f'{scene:06d}'


WORDS = {
    'meshes_sha256': 'shape of a mesh',
    'looks_sha256': 'colour, texture or normal of a mesh',
    'backgrounds': 'list of backgrounds',
    'backgrounds_sha256': 'content of a background',
}
"""How a message calls an entry of the fingerprint; the others speak for themselves."""

LATER = ('looks_sha256', 'backgrounds_sha256')
"""Entries that sets of version 0.1.0 do not have; such a set resumes without this comparison."""


def fingerprint(job: SynthJob) -> dict[str, Any]:
    """What decides the pixels: recipe, seed, camera, objects and digests of meshes and backgrounds."""
    shapes, looks, backgrounds = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    # Meshes as they are rendered, not their files: that covers materials and pictures wherever they came from,
    # and a comment or a faster compression of a texture leaves the set what it is.
    for mesh in [model.mesh for model in job.models] + list(job.distractors):
        if mesh is not None:
            shapes.update(np.ascontiguousarray(mesh.vertices, 'f4').tobytes())
            shapes.update(np.ascontiguousarray(mesh.faces, 'i4').tobytes())
            for array in (mesh.colours, mesh.texture, mesh.uv, mesh.normals):
                _add(looks, array)
    # Whole files: one reading costs little beside rendering, which reads a photo for each image. Times of
    # change would differ in a copy of the same folder, and sizes miss a photo that was repainted.
    for path in job.backgrounds:
        backgrounds.update(hashlib.sha256(path.read_bytes()).digest())
    return {
        'seed': job.seed,
        'recipe': json.loads(json.dumps(asdict(job.recipe))),
        'camera': [*job.camera.matrix.ravel().tolist(), job.camera.width, job.camera.height],
        'objects': [[model.obj_id, model.name] for model in job.models],
        'meshes_sha256': shapes.hexdigest(),
        'looks_sha256': looks.hexdigest(),
        'backgrounds': [path.name for path in job.backgrounds],
        'backgrounds_sha256': backgrounds.hexdigest(),
    }


def _add(digest: hashlib._Hash, array: AnyArray | None) -> None:
    """Take an array (its shape too, so that neighbours cannot trade numbers) or its absence into a digest."""
    if array is None:
        digest.update(b'none')
        return
    plain = np.ascontiguousarray(array, 'u1' if array.dtype == np.uint8 else 'f4')
    digest.update(f'{plain.shape}'.encode() + plain.tobytes())


@dataclass(frozen=True)
class SynthResult:
    """`images` in the set, of which `made` now, at `images_per_second` (after the start; None if too few)."""

    images: int
    made: int
    images_per_second: float | None


def run_synth(job: SynthJob, images: int, workers: int, report: Callable[[str], None] | None = None) -> SynthResult:
    """Write images 0..images-1 of the set, as far as they are not there yet.

    Raises:
        ConfigError: OUT holds a set made from other inputs.
        MissingDependencyError: no renderer. DatasetError: a worker died.
    """
    from kd6d_ros.data.bop_write import BopSceneWriter

    say = report or (lambda line: print(line, file=sys.stderr, flush=True))
    _check_out(job)
    missing = []
    for scene in range((images + IMAGES_PER_SCENE - 1) // IMAGES_PER_SCENE):
        writer = BopSceneWriter(scene_folder(job.out, scene), quality=job.recipe.jpeg_quality)
        ids = range(scene * IMAGES_PER_SCENE, min(images, (scene + 1) * IMAGES_PER_SCENE))
        done = writer.done()
        missing += [index for index in ids if index % IMAGES_PER_SCENE not in done]
    say(f'synth: {images - len(missing)} of {images} images are there, {len(missing)} to make')
    progress = _Progress(len(missing), 1 if workers <= 1 else BATCH * workers, say)
    if missing:
        if workers <= 1:
            maker = ImageMaker(job)
            try:
                for index in missing:
                    maker.write(index)
                    progress.add(1)
            finally:
                maker.close()
        else:
            _run_pool(job, missing, workers, progress)
    rate = progress.rate()
    for scene in range((images + IMAGES_PER_SCENE - 1) // IMAGES_PER_SCENE):
        count = min(images - scene * IMAGES_PER_SCENE, IMAGES_PER_SCENE)
        BopSceneWriter(scene_folder(job.out, scene)).finalise(range(count))
    return SynthResult(images, len(missing), rate)


def _check_out(job: SynthJob) -> None:
    from kd6d_ros.data.bop_write import write_aside

    path = job.out / 'synth.json'
    present = fingerprint(job)
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding='utf-8'))
            if not isinstance(before, dict):
                raise ValueError('not a JSON object')
        except ValueError as error:
            raise ConfigError(f'{path}: damaged ({error}); choose another --out or delete this one') from error
        compared = [key for key in present if key in before or key not in LATER]
        different = sorted(WORDS.get(key, key) for key in compared if before.get(key) != present[key])
        if different:
            raise ConfigError(
                f'{job.out} holds images made with another {", another ".join(different)}: '
                'choose another --out, or repeat the arguments of the first run to resume it'
            )
        return
    if (job.out / SPLIT).exists():
        raise ConfigError(f'{job.out} holds a split {SPLIT!r} that kd6d synth did not make: choose another --out')
    job.out.mkdir(parents=True, exist_ok=True)
    write_aside(path, (json.dumps(present, indent=1) + '\n').encode())


class _Progress:
    """Counts images and tells the rate, which leaves out the start and the first `warm_up` images."""

    def __init__(self, total: int, warm_up: int, say: Callable[[str], None]) -> None:
        self._total = total
        self._warm_up = warm_up
        self._say = say
        self._done = self._counted = 0
        self._start = self._last = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._done <= self._warm_up:
            self._start = now
        else:
            self._counted += count
        if now - self._last > 5.0 or self._done == self._total:
            rate = self.rate()
            left = f', {(self._total - self._done) / rate:.0f} s left' if rate else ''
            self._say(f'synth: {self._done}/{self._total} images, {rate or 0.0:.1f} images/s{left}')
            self._last = now

    def rate(self) -> float | None:
        """Images per second; None before anything was counted."""
        seconds = time.monotonic() - self._start
        return self._counted / seconds if self._counted and seconds > 0 else None


_MAKER: ImageMaker | None = None


def _start_worker(job: SynthJob) -> None:
    global _MAKER  # noqa: PLW0603 - one maker per worker process
    from kd6d_ros.data.renderer.context import limit_mesa_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, after the image at hand
    limit_mesa_threads(0)
    _MAKER = ImageMaker(job)


def _work(indices: list[int]) -> int:
    assert _MAKER is not None
    for index in indices:
        _MAKER.write(index)
    return len(indices)


def _run_pool(job: SynthJob, missing: Sequence[int], workers: int, progress: _Progress) -> None:
    from kd6d_ros.data.renderer.context import open_context

    open_context().release()  # says what to install, where a worker could only die
    batches = [list(missing[k : k + BATCH]) for k in range(0, len(missing), BATCH)]
    pool = ProcessPoolExecutor(workers, get_context('spawn'), _start_worker, (job,))
    try:
        pending: set[Future[int]] = {pool.submit(_work, batch) for batch in batches}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                progress.add(future.result())
    except BrokenProcessPool as error:
        raise DatasetError(
            'a synth worker ended early (no EGL device, or out of memory): run again with --workers 1 to see why'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
