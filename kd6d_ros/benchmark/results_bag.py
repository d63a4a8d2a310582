"""The poses of every row as an MCAP bag that RViz and Foxglove open beside the bag with the images.

Topics: /bench/ground_truth and /bench/<row>/detections (Detection3DArray), /bench/<row>/poses/<object> (PoseStamped,
one message per instance), /tf with the frames <row>/<instance> below the camera's frame. Stamps are the images'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence, Tuple

from kd6d_ros.benchmark import bag_messages, messages
from kd6d_ros.benchmark.bag_file import BagFile

if TYPE_CHECKING:
    from pathlib import Path

    from kd6d_ros.benchmark.recording import Recording
    from kd6d_ros.benchmark.records import FrameLog

ROOM = '/bench'


def write_results_bag(path: Path, recording: Recording, rows: Mapping[str, Sequence[FrameLog]]) -> None:
    """Write the poses by row (`Variant.slug`), in order of the images' stamps.

    Raises:
        BagError: the target exists or cannot be written.
    """
    events: list[Tuple[int, str, FrameLog]] = [
        (frame.stamp_ns, row, frame) for row, frames in rows.items() for frame in frames
    ]
    written = set()
    with BagFile(path) as bag:
        for stamp, row, frame in sorted(events, key=lambda item: item[:2]):
            head = bag_messages.header(stamp, recording.frame_ids[stamp])
            if stamp not in written and stamp in recording.truth:
                truth = bag_messages.truth_array(head, recording.truth[stamp])
                bag.write(f'{ROOM}/ground_truth', messages.DETECTIONS_3D, stamp, truth)
            written.add(stamp)
            array = bag_messages.pose_array(head, frame.poses)
            bag.write(f'{ROOM}/{row}/detections', messages.DETECTIONS_3D, stamp, array)
            for pose in frame.poses:
                message = bag_messages.pose_stamped(head, pose.cam_from_obj)
                bag.write(f'{ROOM}/{row}/poses/{pose.object_name}', messages.POSE_STAMPED, stamp, message)
            if frame.poses:
                transforms = [
                    bag_messages.transform_stamped(head, f'{row}/{pose.instance_id}', pose.cam_from_obj)
                    for pose in frame.poses
                ]
                bag.write('/tf', messages.TF, stamp, bag_messages.tf_message(transforms))
