"""Time and memory of `kd6d evaluate` on a large target list that is made for it.

    python test/bench/evaluation_bench.py [--targets 100000] [--workers 2] [--json FILE]

The set: images with six objects of 5,000 vertices (two with a continuous symmetry, one with a discrete one), one of
them twice; an estimate per instance, more or less wrong, by a fixed seed. It has no depth, so no VSD. Exit code 1 when
the time or the memory for 100,000 targets would exceed what is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kd6d_ros.benchmark import machine
from kd6d_ros.benchmark.processes import python_module
from kd6d_ros.cli.output import format_table
from kd6d_ros.evaluation.results_csv import HEADER
from kd6d_ros.geometry.transforms import random_rotation, rotation_from_vector

FULL = 100_000
LIMIT_S, LIMIT_MB = 600.0, 2000.0
"""For FULL targets."""
SCENE_IMAGES, OBJECTS, VERTICES = 500, 6, 5000
K = [572.4, 0, 325.3, 0, 573.6, 242.0, 0, 0, 1]
HALF_TURN = [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def write_models(folder: Path, rng: np.random.Generator) -> None:
    """Ellipsoids of 100 mm; 1 and 2 are round about z, 3 has a half turn."""
    folder.mkdir(parents=True)
    infos = {}
    for obj_id in range(1, OBJECTS + 1):
        size = np.array([40.0, 40.0, 50.0]) if obj_id <= 2 else np.array([50.0, 30.0 + obj_id, 20.0])
        points = rng.normal(size=(VERTICES, 3))
        points *= size / np.linalg.norm(points, axis=1, keepdims=True)
        head = f'ply\nformat ascii 1.0\nelement vertex {VERTICES}\n'
        head += 'property float x\nproperty float y\nproperty float z\n'
        head += 'element face 1\nproperty list uchar int vertex_indices\nend_header\n'
        body = '\n'.join('{:.4f} {:.4f} {:.4f}'.format(*point) for point in points)
        (folder / f'obj_{obj_id:06d}.ply').write_text(f'{head}{body}\n3 0 1 2\n')
        box = {f'{kind}_{axis}': value for kind, value in (('min', -50), ('size', 100)) for axis in 'xyz'}
        infos[str(obj_id)] = {'diameter': 100.0, **box}
        if obj_id <= 2:
            infos[str(obj_id)]['symmetries_continuous'] = [{'axis': [0, 0, 1], 'offset': [0, 0, 0]}]
        elif obj_id == 3:
            infos[str(obj_id)]['symmetries_discrete'] = [HALF_TURN]
    (folder / 'models_info.json').write_text(json.dumps(infos))


def write_set(root: Path, targets: int) -> Path:
    """The dataset with its target list; return the result file."""
    rng = np.random.default_rng(7)
    write_models(root / 'models', rng)
    picture = root / 'blank.png'
    cv2.imwrite(str(picture), np.zeros((480, 640, 3), np.uint8))
    listed: list[dict[str, int]] = []
    results = root / 'results.csv'
    with results.open('w') as lines:
        lines.write(HEADER + '\n')
        while len(listed) < targets:
            listed += write_scene(root, len(listed), targets, lines, rng)
    (root / 'targets.json').write_text(json.dumps(listed))
    return results


def write_scene(root: Path, done: int, targets: int, lines: Any, rng: np.random.Generator) -> list[dict[str, int]]:
    scene_id = done // (SCENE_IMAGES * OBJECTS) + 1
    folder = root / 'test' / f'{scene_id:06d}'
    (folder / 'rgb').mkdir(parents=True)
    cameras, truths, infos, listed = {}, {}, {}, []
    for image_id in range(SCENE_IMAGES):
        if done + len(listed) >= targets:
            break
        os.link(root / 'blank.png', folder / 'rgb' / f'{image_id:06d}.png')
        cameras[str(image_id)] = {'cam_K': K, 'depth_scale': 1.0}
        rows = []
        for place in range(min(OBJECTS, targets - done - len(listed))):
            count = 2 if place == 3 else 1
            listed.append({'scene_id': scene_id, 'im_id': image_id, 'obj_id': place + 1, 'inst_count': count})
            rows += [write_instance(scene_id, image_id, place + 1, lines, rng) for _ in range(count)]
        truths[str(image_id)] = rows
        infos[str(image_id)] = [
            {'visib_fract': round(float(rng.random()), 3), 'bbox_obj': [1, 1, 9, 9], 'bbox_visib': [1, 1, 9, 9],
             'px_count_all': 9, 'px_count_valid': 9, 'px_count_visib': 9} for _ in rows
        ]  # fmt: skip
    for name, value in (('scene_camera', cameras), ('scene_gt', truths), ('scene_gt_info', infos)):
        (folder / f'{name}.json').write_text(json.dumps(value))
    return listed


def write_instance(scene_id: int, image_id: int, obj_id: int, lines: Any, rng: np.random.Generator) -> dict[str, Any]:
    """A line of results about a true pose; returns the pose."""
    rotation, place = random_rotation(rng), rng.uniform([-200, -150, 500], [200, 150, 1200])
    spread = rng.choice([0.02, 0.1, 1.0])
    found = rotation @ rotation_from_vector(rng.normal(size=3) * spread)
    where = place + rng.normal(size=3) * 30 * spread
    cells = (' '.join(f'{value:.7g}' for value in values) for values in (found.reshape(-1), where))
    lines.write(f'{scene_id},{image_id},{obj_id},{rng.random():.4f},{",".join(cells)},0.05\n')
    return {'obj_id': obj_id, 'cam_R_m2c': rotation.reshape(-1).tolist(), 'cam_t_m2c': place.tolist()}


def main() -> int:
    """Make the set, evaluate it in a process of its own, print what that took."""
    parser = argparse.ArgumentParser(description='Time and memory of kd6d evaluate on a large target list.')
    parser.add_argument('--targets', type=int, default=FULL, help=f'length of the list (default: {FULL})')
    parser.add_argument('--workers', type=int, default=2, help='processes of kd6d evaluate (default: 2)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='kd6d_evaluation_') as folder:
        root = Path(folder)
        results = write_set(root, options.targets)
        scores = root / 'scores.json'
        command = python_module('kd6d_ros.cli.main', 'evaluate', '--dataset', str(root), '--results', str(results))
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command += ['--targets', str(root / 'targets.json'), '--workers', str(options.workers), '--json', str(scores)]
        subprocess.run(command, check=True)
        seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        overall = json.loads(scores.read_text())['overall']
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record = {
        'machine': machine.machine_record(),
        'targets': options.targets,
        'workers': options.workers,
        'instances': overall['targets'],
        'seconds': seconds,
        'cpu_seconds': cpu,
        'largest_process_mb': after.ru_maxrss * 1024 / 1e6,
        'ar_mssd': overall['ar_mssd'],
        'ar_mspd': overall['ar_mspd'],
        'add_recall': overall['add_recall'],
    }
    print(format_table(('figure', 'value'), [(name, value) for name, value in record.items() if name != 'machine']))
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    # The parent holds no more than the largest child.
    memory_mb = record['largest_process_mb'] * (options.workers + 1)
    figures = ((f'{LIMIT_S:g} s', seconds * FULL / options.targets, LIMIT_S), (f'{LIMIT_MB:g} MB', memory_mb, LIMIT_MB))
    missed = [name for name, value, limit in figures if value > limit]
    if missed:
        print(f'limits missed, for {FULL} targets: {", ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
