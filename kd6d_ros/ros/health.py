"""Checks and figures of the node that go to /diagnostics once per second."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from kd6d_ros.benchmark.processes import PROFILE_VARIABLES
from kd6d_ros.ros.diagnostics import ERROR, WARN
from kd6d_ros.ros.factory import describe

if TYPE_CHECKING:
    from kd6d_ros.ros.inputs import Inputs

LOSS_SHARE = 0.05
"""Lost images are reported from this share of those that were sent."""

PERCENTILES = ('p50', 'p95', 'p99')

WORDS = {'image': 'image', 'camera_info': 'CameraInfo', 'detections_in': 'detections'}


def check_inputs(node: Any) -> None:
    """Report what does not come and images lost before they arrived; clear what is over."""
    inputs: Optional[Inputs] = node.inputs
    if inputs is None:
        for kind in ('losses', *(f'no {role}' for role in WORDS)):
            node.problems.clear(kind)
        return
    timeout = node.parameters.value('image_timeout_s')
    now = monotonic()
    ages = {'image': now - (inputs.image_at or inputs.started)}
    # A CameraInfo counts for all images that follow, so only the first one can be late.
    ages['camera_info'] = 0.0 if inputs.info_at else now - inputs.started
    if 'detections_in' in inputs.topics:
        ages['detections_in'] = now - (inputs.boxes_at or inputs.started)
    for role, age in ages.items():
        if age > timeout:
            node.problem(f'no {role}', 'input', ERROR, _missing(inputs, role, age), lasting=True)
        else:
            node.problems.clear(f'no {role}')
    arrived, lost = inputs.arrived, inputs.losses.lost
    if lost > max(3, LOSS_SHARE * (arrived + lost)):
        cure = loss_cure(inputs.topics['image'].endswith('/compressed'), os.environ)
        text = f'{lost} images were lost before they arrived (gaps in the stamps; {arrived} arrived): {cure}'
        node.problem('losses', 'input', WARN, text, lasting=True)
    else:
        node.problems.clear('losses')


def loss_cure(compressed: bool, environment: Mapping[str, str]) -> str:
    """What to try against lost images that is not in use yet."""
    cures = []
    if 'fastrtps' in environment.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'):
        mine = any(environment.get(name) for name in PROFILE_VARIABLES)
        cures.append(f'give {"" if mine else "this node and "}the camera driver the Fast DDS profile of this package')
    if not compressed:
        cures.append('use image_transport:=compressed')
    cures.append('lower the rate or the size of the images')
    return ', or '.join(cures)


def _missing(inputs: Inputs, role: str, age: float) -> str:
    topic, publishers = inputs.topics[role], inputs.publishers(role)
    start = f'no {WORDS[role]} for {age:.0f} s'
    if publishers == 0 and role == 'image' and inputs.other_transport():
        wanted = 'raw' if topic.endswith('/compressed') else 'compressed'
        return f'{start}: nobody publishes {topic} but {inputs.other_transport()} exists: set image_transport:={wanted}'
    if publishers == 0:
        return f'{start}: nobody publishes {topic}: remap {role} to the right topic (ros2 topic list)'
    return (
        f'{start}: {topic} has {publishers} publisher(s) but nothing arrives: check that they run, their QoS, and '
        'their Fast DDS profile'
    )


def window_figures(node: Any) -> Dict[str, str]:
    """The same figures for ~/timing: counts since activation, rates [1/s], percentiles [s] over the last images."""
    statistics, inputs = node.statistics, node.inputs
    out = {'images_in_hz': f'{statistics.rate("arrived"):.3f}', 'images_out_hz': f'{statistics.rate("processed"):.3f}'}
    if inputs is not None:
        out['images_arrived'] = str(inputs.arrived)
        out['images_lost'] = str(inputs.losses.lost)
        out['images_replaced'] = str(node.worker.dropped + inputs.replaced)
    for name in ('processed', 'asked', 'refused'):
        out[f'images_{name}'] = str(statistics.get(name))
    for start in ('dropped ', 'rejected '):
        for reason, count in sorted(statistics.counts(start).items()):
            out[(start + reason).replace(' ', '_')] = str(count)
    for stage, values in statistics.percentiles().items():
        out.update({f'{stage}_{name}_s': f'{value:.6f}' for name, value in zip(PERCENTILES, values, strict=True)})
    if node.loaded is not None:
        out.update(engine=node.loaded.engine, precision=node.loaded.precision)
    return out


def sections(node: Any) -> Dict[str, Dict[str, str]]:
    """Key and value pairs of each section."""
    statistics = node.statistics
    state = 'active' if node.inputs is not None else 'unconfigured' if node.loaded is None else 'inactive'
    first = {'state': state, 'image_decoder': node.decoder}
    if node.loaded is not None:
        first.update(describe(node.loaded))
    second: Dict[str, str] = {}
    inputs: Optional[Inputs] = node.inputs
    if inputs is not None:
        second = {f'{role} topic': topic for role, topic in inputs.topics.items()}
        second.update({f'{role} publishers': str(inputs.publishers(role)) for role in inputs.topics})
        second['images arrived'] = str(inputs.arrived)
        second['images lost before arrival'] = str(inputs.losses.lost)
        # Each image that arrived is processed, or one of these.
        second['images replaced by a newer one'] = str(node.worker.dropped + inputs.replaced)
        second['images refused'] = str(statistics.get('refused'))
        for reason, count in sorted(statistics.counts('dropped ').items()):
            second[f'images dropped: {reason}'] = str(count)
        second['images looked at on request'] = str(statistics.get('asked'))
        second['images per second in'] = f'{statistics.rate("arrived"):.2f}'
        second['images waiting'] = str(node.worker.waiting + inputs.waiting)
        if 'detections_in' in inputs.topics:
            second['images without detections'] = str(inputs.unmatched)
            second['detections without image'] = str(inputs.stray)
    third = {
        'images processed': str(statistics.get('processed')),
        'images per second': f'{statistics.rate("processed"):.2f}',
        'requests waiting': str(node.asking.book.waiting),
        'poses published': str(statistics.get('poses')),
    }
    for reason, count in sorted(statistics.counts('rejected ').items()):
        third[f'rejected: {reason}'] = str(count)
    percentiles = statistics.percentiles()
    for stage, values in percentiles.items():
        third[f'{stage} p50 / p95 / p99 (ms)'] = ' / '.join(f'{value * 1e3:.2f}' for value in values)
    if percentiles and 'age' not in percentiles:
        third['age p50 / p95 / p99 (ms)'] = 'unknown'
    return {'node': first, 'input': second, 'estimation': third}
