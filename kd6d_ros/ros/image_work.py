"""One image from the worker's slot to the topics: is it still worth it, what is in it, who gets told.

Every image that comes here is counted once: as processed, looked at on request, refused, or dropped with a reason.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Dict

from kd6d_ros.errors import CameraError, ImageError, Kd6dError
from kd6d_ros.ros import admission
from kd6d_ros.ros.diagnostics import ERROR, WARN, kind_of
from kd6d_ros.ros.frames import FrameError
from kd6d_ros.ros.health import window_figures
from kd6d_ros.ros.pipeline import stamp_ns

if TYPE_CHECKING:
    from kd6d_ros.ros.outputs import Outputs
    from kd6d_ros.ros.pipeline import Frame, FramePipeline, Outcome

CLOCKS = 'clocks'
"""Kind of the problem that stamps and clock disagree."""


def offer_image(node: Any, frame: Frame) -> None:
    """Give an image to the worker when somebody wants it."""
    if node.asking.wanted:
        node.worker.offer(frame)
    else:
        node.statistics.count(f'dropped {admission.OFF}')


def handle_image(node: Any, pipeline: FramePipeline, outputs: Outputs, frame: Frame) -> None:
    """Work on one image; in the worker's thread."""
    asking, waited = node.asking, monotonic() - frame.received
    if _dropped(node, frame, waited):
        return
    try:
        outcome = pipeline.process(frame, waited)
    except Kd6dError as error:
        node.statistics.mark('refused')
        section = 'input' if isinstance(error, (ImageError, CameraError, FrameError)) else 'estimation'
        node.problem(kind_of(str(error)), section, ERROR, str(error))
        asking.book.failed(str(error))
        return
    if outcome.reset:
        asking.book.forget()
    asking.sight(stamp_ns(outcome.header), outcome.header.frame_id, outcome.poses, outcome.rejections)
    for rejection in outcome.rejections:
        node.statistics.count(f'rejected {rejection.reason}')
    if not asking.streaming:
        node.statistics.mark('asked')
    elif node.publishing:
        _publish(node, outputs, outcome)
        if outcome.note:
            node.problem('note', 'estimation', WARN, outcome.note)


def _dropped(node: Any, frame: Frame, waited: float) -> bool:
    """Whether an image that waited so long [s] is not worked on; counts it."""
    stamp = stamp_ns(frame.message.header)
    now = node.get_clock().now().nanoseconds
    age, value = admission.age_of(stamp, now), node.parameters.value
    if age is not None or stamp <= 0:  # a zero stamp is refused for itself
        node.problems.clear(CLOCKS)
    else:
        node.problem(CLOCKS, 'input', WARN, admission.disagreement(stamp, now), lasting=True)
    drop = admission.too_late(waited, value('max_wait_s'), age, value('max_image_age_s'))
    if drop is None and not node.asking.wanted:
        drop = admission.Drop(admission.OFF, '')
    if drop is None:
        return False
    node.statistics.count(f'dropped {drop.reason}')
    if drop.text:
        node.problem(f'dropped {drop.reason}', 'input', WARN, drop.text)
    node.asking.book.failed(drop.text)
    return True


def _publish(node: Any, outputs: Outputs, outcome: Outcome) -> None:
    value = node.parameters.value
    stages: Dict[str, float] = dict(outcome.stages)
    stages.update(outputs.publish(outcome, value('publish_tf'), value('marker_lifetime_s')))
    age = admission.age_of(stamp_ns(outcome.header), node.get_clock().now().nanoseconds)
    if age is not None:
        stages['age'] = age
    node.statistics.mark('processed')
    node.statistics.count('poses', len(outcome.poses))
    node.statistics.times(stages)
    if outputs.timing_wanted:
        outputs.publish_timing(outcome.header, node.label, stages, window_figures(node))
