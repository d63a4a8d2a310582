"""One live run: the real node, a player and a recorder as separate processes over DDS on this host.

This room has no rclpy; it starts the programs of `kd6d_ros.ros` and reads their logs.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from kd6d_ros.benchmark.bag_source import BagTopics
from kd6d_ros.benchmark.processes import (
    ChildProcess,
    isolated_environment,
    maps_torch,
    memory_mb,
    python_module,
)
from kd6d_ros.benchmark.records import FrameLog
from kd6d_ros.benchmark.rows import published_pose
from kd6d_ros.errors import BagError

NODE_NAME = '/pose_estimator'
COMPRESSED_SUFFIX = '/compressed'
SENT = 'sent.jsonl'
"""What the player notes, in the folder of the logs."""
BRING_UP_S = 60.0
DRAIN_S = 1.5
READY_S = 120.0
"""Longest wait for a helper's first line."""


@dataclass(frozen=True)
class SessionPlan:
    """What to run: bundle folder, bag and its topics, folder for the logs, replay speed, further parameters
    of the node (name -> value as on its command line), a Fast DDS profile for the loopback interface."""

    bundle: Path
    bag: Path
    topics: BagTopics
    logs: Path
    rate: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict)
    profile: Optional[Path] = None
    longest_s: float = 600.0
    duration_s: Optional[float] = None
    """Play the bag over and over for so long, with stamps of now that grow; None: once, with its own stamps."""
    helper: Tuple[str, ...] = ()
    """A further program beside the others: its first line says that it is ready, SIGINT ends it."""
    node_program: Tuple[str, ...] = tuple(python_module('kd6d_ros.ros.main'))


@dataclass(frozen=True)
class SessionLog:
    """What the processes noted. sent: stamp [ns] -> monotonic [s]; events: the recorder's rows in order."""

    sent: Mapping[int, float]
    events: Tuple[Dict[str, Any], ...]
    bring_up_s: float
    start_to_active_s: float
    memory_mb: Optional[float]
    torch_loaded: Optional[bool]


def run_session(
    plan: SessionPlan, say: Callable[[str], None], each_second: Callable[[int], None] = lambda pid: None
) -> SessionLog:
    """Start recorder and node, bring the node to active, replay the bag, end everything.

    `each_second` gets the process id of the node, while the bag is played.

    Raises:
        BagError: a process did not start, answer or end well; the message names its log.
    """
    plan.logs.mkdir(parents=True, exist_ok=True)
    environment = isolated_environment(os.environ, plan.profile)
    children: List[ChildProcess] = []

    def start(name: str, command: List[str], pipe_output: bool = False) -> ChildProcess:
        child = ChildProcess(name, command, environment, plan.logs / f'{name}.log', pipe_output)
        children.append(child)
        return child

    try:
        started = time.monotonic()
        node = start('node', node_command(plan))
        recorded = plan.logs / 'recorded.jsonl'
        recorder = start('recorder', _recorder_command(recorded), pipe_output=True)
        ready = json.loads(recorder.read_line(2 * BRING_UP_S))
        active_s = time.monotonic() - started
        say(f'node active after {active_s:.1f} s; replaying {plan.bag} at {plan.rate:g} x')
        helper = start('helper', list(plan.helper), pipe_output=True) if plan.helper else None
        if helper is not None:
            helper.read_line(READY_S)
        sent = plan.logs / SENT
        player = start('player', _player_command(plan, sent))
        player.wait(plan.longest_s, lambda: each_second(node.pid))
        if helper is not None:
            helper.stop()
        time.sleep(DRAIN_S)
        if not node.running():
            raise BagError(f'the node ended during the replay: {node.last_words()} (see {node.log})')
        resident, torch = memory_mb(node.pid), maps_torch(node.pid)
        recorder.stop()
    finally:
        for child in reversed(children):
            child.stop()
    return SessionLog(
        sent={int(row['stamp_ns']): float(row['sent_s']) for row in read_json_lines(sent)},
        events=tuple(read_json_lines(recorded)),
        bring_up_s=float(ready['bring_up_s']),
        start_to_active_s=active_s,
        memory_mb=resident,
        torch_loaded=torch,
    )


def node_command(plan: SessionPlan) -> List[str]:
    """Command line of the real node for the bag's topics."""
    image, transport = plan.topics.image, 'raw'
    if image.endswith(COMPRESSED_SUFFIX):
        image, transport = image[: -len(COMPRESSED_SUFFIX)], 'compressed'
    parameters = {'bundle': str(plan.bundle), 'image_transport': transport, **plan.parameters}
    arguments = ['--ros-args']
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={value}']
    for name, topic in (('image', image), ('camera_info', plan.topics.camera_info)):
        arguments += ['-r', f'{name}:={topic}']
    return [*plan.node_program, *arguments]


def _recorder_command(log: Path) -> List[str]:
    return python_module('kd6d_ros.ros.recorder', '--log', str(log), '--node', NODE_NAME, '--bring-up', str(BRING_UP_S))


def _player_command(plan: SessionPlan, log: Path) -> List[str]:
    return python_module(
        'kd6d_ros.ros.bag_player',
        str(plan.bag),
        '--rate',
        str(plan.rate),
        '--topics',
        plan.topics.image,
        plan.topics.camera_info,
        '--wait-for-subscribers',
        '1',
        '--log',
        str(log),
        *(() if plan.duration_s is None else ('--loop', '--restamp', '--duration', str(plan.duration_s))),
    )


def read_json_lines(path: Path) -> List[Dict[str, Any]]:
    """All rows of a JSON-lines file.

    Raises:
        BagError: the file is missing or a line is not a JSON object.
    """
    rows: List[Dict[str, Any]] = []
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise BagError(f'{path}: cannot be read ({error.strerror})') from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise BagError(f'{path} line {number}: not a JSON object; the process that wrote it broke off')
        rows.append(row)
    return rows


def join_by_stamp(stamps: Iterable[int], log: SessionLog) -> List[FrameLog]:
    """One FrameLog per stamp [ns] of the bag's images, in order of time; their truth is left empty.

    Raises:
        BagError: detections with a stamp that no image of the bag has, or two for one image.
    """
    known = set(stamps)
    answers: Dict[int, Dict[str, Any]] = {}
    for event in log.events:
        if event['kind'] != 'detections':
            continue
        stamp = int(event['stamp_ns'])
        if stamp not in known:
            raise BagError(f'the node published detections with stamp {stamp} ns, which no image of the bag has')
        if stamp in answers:
            raise BagError(f'the node published detections for stamp {stamp} ns twice')
        answers[stamp] = event
    frames = []
    for stamp in sorted(known):
        answer = answers.get(stamp)
        received = None if answer is None else float(answer['received_s'])
        poses = () if answer is None else tuple(published_pose(row) for row in answer['poses'])
        frames.append(FrameLog(stamp, (), log.sent.get(stamp), received, poses))
    return frames


def processed_stamps(log: SessionLog) -> List[int]:
    """Stamps [ns] of the images that the node worked on, in its order: it answers each with detections."""
    return [int(event['stamp_ns']) for event in log.events if event['kind'] == 'detections']


def images_arrived(log: SessionLog) -> Optional[int]:
    """How many images reached the node, by its last diagnostics; None when it said nothing."""
    for event in reversed(log.events):
        if event['kind'] == 'diagnostics' and 'images arrived' in event['values']:
            return int(event['values']['images arrived'])
    return None


def consistency(log: SessionLog) -> Dict[str, int]:
    """How many poses came by each way; all three have to be equal."""
    kinds = [event['kind'] for event in log.events]
    in_detections = sum(len(event['poses']) for event in log.events if event['kind'] == 'detections')
    return {'detections': in_detections, 'pose_stamped': kinds.count('pose'), 'tf': kinds.count('tf')}


def stage_times(log: SessionLog) -> Dict[str, List[float]]:
    """Stage -> times [s] of all images, from the node's timing topic."""
    stages: Dict[str, List[float]] = {}
    for event in log.events:
        if event['kind'] == 'timing':
            for key, value in event['stages'].items():
                if value == 'unknown':  # the age, where stamps and clock disagree
                    continue
                stages.setdefault(key[:-2] if key.endswith('_s') else key, []).append(float(value))
    return stages
