"""What the node costs besides the engine: time from decoded image to published pose, memory, start-up.

The figures come from the node itself (`~/timing`) and from /proc while it runs on a bag over DDS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional

from kd6d_ros.benchmark.latency import LatencySummary, summarise

if TYPE_CHECKING:
    from kd6d_ros.benchmark.session import SessionLog

LIMITS = {'overhead_p50_ms': 6.0, 'memory_mb': 350.0, 'start_to_active_s': 3.0}
"""What the node has to stay below (one object, 640x480, tracked region)."""


def tracked_overheads(log: SessionLog) -> List[float]:
    """decoded_to_published minus inference [s], for images that had a pose and follow one that had a pose.

    Those are the images in which a tracked region was measured; whole-frame searches are left out.
    """
    with_pose = {event['stamp_ns']: bool(event['poses']) for event in log.events if event['kind'] == 'detections'}
    values, before = [], False
    for event in sorted((e for e in log.events if e['kind'] == 'timing'), key=lambda e: int(e['stamp_ns'])):
        now = with_pose.get(event['stamp_ns'], False)
        stages = event['stages']
        if now and before and 'decoded_to_published_s' in stages and 'inference_s' in stages:
            values.append(float(stages['decoded_to_published_s']) - float(stages['inference_s']))
        before = now
    return values


def overhead_record(log: SessionLog) -> Dict[str, Any]:
    """The node's figures as plain values, with the limits they are held against."""
    summary: Optional[LatencySummary] = summarise(tracked_overheads(log))
    figures = {
        'overhead_p50_ms': None if summary is None else round(1e3 * summary.p50, 3),
        'memory_mb': None if log.memory_mb is None else round(log.memory_mb, 1),
        'start_to_active_s': round(log.start_to_active_s, 3),
    }
    return {
        **figures,
        'overhead_p95_ms': None if summary is None else round(1e3 * summary.p95, 3),
        'images': 0 if summary is None else summary.count,
        'torch_loaded': log.torch_loaded,
        'limits': dict(LIMITS),
        'within_limits': log.torch_loaded is not True
        and all(value is not None and value < LIMITS[name] for name, value in figures.items()),
    }
