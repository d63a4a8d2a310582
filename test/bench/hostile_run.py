"""Messages that no robot should send, thousands of them, to the real node over DDS; then whether it is still right.

    python test/bench/hostile_run.py [--messages 2000] [--seed 0] [--out runs/hostile] [--json FILE]

In four set-ups of one node (compressed, raw, rectified images; detections from outside) every kind of message comes
in a random order, with nonsense calls of its services and bytes that are no message. In between, images of the demo bag
must give the right pose (ADD below 0.1 diameter). Exit code 1 when a line of the table does not hold.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import hostile_images
import hostile_others
import numpy as np
from hostile_robot import Robot, log_lines, stamp_of
from hostile_scene import CAMERA, Scene

from kd6d_ros.benchmark import live
from kd6d_ros.benchmark.machine import machine_record
from kd6d_ros.benchmark.objects import vertices_of
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.benchmark.scoring import ADD_LIMIT
from kd6d_ros.cli.output import format_table
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.inference.bundle import load_bundle
from kd6d_ros.types import RigidTransform

ROOT = Path(__file__).resolve().parents[2]
PACE_S = 0.03
"""After each message; a camera of 30 Hz."""
TRIES = 30
"""So often a good image is sent again, and a kind of message that diagnostics have not named."""
GOOD = 3
"""Good images per look at the node."""
LOOKS = 4
"""Looks at the node per set-up."""
MARGIN = 0.7
"""A frame is a good one when its error is below this share of the limit before anything bad was sent."""
MEMORY_MB = 60.0
"""Most growth of the node: one image of 50 megapixels would be 150."""
FAULTS = ('Traceback', 'a fault of this package', 'a callback failed')


@dataclass(frozen=True)
class Setup:
    """One configuration of the node, and what its images look like."""

    name: str
    parameters: dict[str, Any]
    transport: str
    infos: dict[str, Any]
    images: dict[str, Any]
    boxes: bool = False


SETUPS = (
    Setup(
        'compressed',
        {'image_transport': 'compressed', 'image_rectified': False, 'use_detections': False},
        'compressed',
        hostile_others.INFO,
        {**hostile_images.COMPRESSED, **hostile_images.TIMES},
    ),
    Setup(
        'raw',
        {'image_transport': 'raw'},
        'image',
        hostile_others.INFO,
        {**hostile_images.RAW, **hostile_images.TIMES},
    ),
    Setup(
        'rectified',
        {'image_rectified': True},
        'image',
        hostile_others.RECTIFIED,
        {'noise': hostile_images.RAW['noise'], **hostile_images.TIMES},
    ),
    Setup(
        'detections',
        {'image_transport': 'compressed', 'image_rectified': False, 'use_detections': True, 'max_wait_s': 1.0},
        'compressed',
        {},
        {},
        boxes=True,
    ),
)


@dataclass
class Tally:
    """What was seen so far."""

    sent: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    silent: int = 0
    unnamed: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    good: set[tuple[int, int]] = field(default_factory=set)
    refused: set[tuple[int, int]] = field(default_factory=set)
    """Stamps of images that the node must refuse."""


class Attack:
    """Everything about one run."""

    def __init__(self, robot: Robot, scene: Scene, scorers: dict[str, Any], corners: dict[str, Any]) -> None:
        self.robot, self.scene, self.scorers, self.corners = robot, scene, scorers, corners
        self.tally = Tally()
        (self.name,) = corners

    def run(self, messages: int) -> None:
        """Send at least so many messages, in all set-ups."""
        for setup in SETUPS:
            self.robot.reconfigure(**setup.parameters)
            self._wait_for(setup)
            if setup is SETUPS[0]:
                self._choose(setup)
            self._look(setup)
            kinds = self._kinds(setup)
            count = -(-messages // len(SETUPS))
            order = [kind for _ in range(-(-count // len(kinds))) for kind in self.scene.rng.permutation(list(kinds))]
            for number, kind in enumerate(order[:count]):
                kinds[kind][0]()
                if (number + 1) % -(-count // LOOKS) == 0:
                    self._look(setup)
            self._name_all(setup, {kind: kinds[kind] for kind in set(order[:count])})
            self._look(setup)

    def _choose(self, setup: Setup) -> None:
        """Keep the frames that the node gets right by a margin while nobody disturbs it; memory counts from here."""
        shown = self.scene.clear
        right = []
        for shot in shown:
            answer = next(filter(None, (self._good(setup, shot) for _ in range(TRIES))), None)
            errors = [] if answer is None else self._errors(answer, shot)
            if len(errors) == 1 and errors[0] < MARGIN * ADD_LIMIT:
                right.append(shot)
        assert right, f'the node gets none of {len(shown)} frames right'
        self.scene.clear = right
        self.robot.memory.clear()

    def _kinds(self, setup: Setup) -> dict[str, tuple[Callable[[], None], str]]:
        """Kind of message -> what sends one, and what diagnostics must say."""

        def kind(name: str, text: str, send: Callable[[str], None]) -> None:
            def once() -> None:
                self.tally.sent[f'{setup.name}: {name}'] += 1
                send(name)

            kinds[name] = once, text

        kinds: dict[str, tuple[Callable[[], None], str]] = {}
        for name, (_, text) in setup.images.items():
            kind(name, text, lambda name: self._bad_image(setup, name))
        for name, (_, text) in setup.infos.items():
            kind(name, text, lambda name: self._bad_info(setup, name))
        if setup.boxes:
            for name, (_, text) in hostile_others.BOXES.items():
                kind(name, text, lambda name: self._bad_boxes(setup, name))
            for name, text in hostile_others.ALONE.items():
                kind(name, text, lambda name: self._bad_boxes(setup, name))
        for role in (setup.transport, 'info', *(['boxes'] if setup.boxes else [])):
            kind(f'broken bytes on {role}', '', lambda name, role=role: self._broken(role))  # type: ignore[misc]
        kind('foreign transforms', '', lambda name: self._transforms())
        kind('nonsense call', '', lambda name: self.robot.calls.nonsense(self.scene.rng))
        return kinds

    def _wait_for(self, setup: Setup) -> None:
        end = time.monotonic() + 30
        roles = (setup.transport, 'info', *(['boxes'] if setup.boxes else []))
        while any(self.robot.publishers[role].get_subscription_count() < 1 for role in roles):
            assert time.monotonic() < end, 'the node does not subscribe'
            self.robot.spin(0.05)

    def _send(self, setup: Setup, image: Any, info: Any) -> None:
        self.robot.send('info', info, 0.01)
        self.robot.send(setup.transport, image, PACE_S)

    def _bad_image(self, setup: Setup, name: str) -> None:
        make = hostile_images.compressed if setup.transport == 'compressed' else hostile_images.raw
        image = make(self.scene, name)
        if setup.images[name][1] and name not in hostile_images.TIMES:
            self.tally.refused.add(stamp_of(image))
        self._send(setup, image, self.scene.info(self.scene.header()))

    def _bad_info(self, setup: Setup, name: str) -> None:
        info, header = hostile_others.info(self.scene, name)
        self.tally.refused.add((header.stamp.sec, header.stamp.nanosec))
        self._send(setup, self._image(setup, self.scene.pick(self.scene.clear), header), info)

    def _bad_boxes(self, setup: Setup, name: str) -> None:
        boxes, header = hostile_others.boxes(self.scene, name, self.name)
        if header is not None:
            image = self._image(setup, self.scene.pick(self.scene.empty), header)
            self._send(setup, image, self.scene.info(self.scene.header()))
        self.robot.send('boxes', boxes, PACE_S)

    def _broken(self, role: str) -> None:
        shot, header = self.scene.pick(self.scene.empty), self.scene.header()
        make = {
            'image': lambda: self.scene.raw(shot, header),
            'compressed': lambda: self.scene.compressed(shot, header),
            'info': lambda: self.scene.info(header),
            'boxes': lambda: self.scene.boxes(self.scene.clear[0], header, self.corners),
        }[role]
        self.robot.send(role, hostile_others.wreck(make(), self.scene.rng), PACE_S)

    def _transforms(self) -> None:
        self.robot.send('tf', hostile_others.transforms(self.scene, self.robot.child_frame), PACE_S)

    def _image(self, setup: Setup, shot: Any, header: Any) -> Any:
        return (self.scene.compressed if setup.transport == 'compressed' else self.scene.raw)(shot, header)

    def _look(self, setup: Setup) -> None:
        """Good images: each must give one right pose."""
        for _ in range(GOOD):
            shot = self.scene.pick(self.scene.clear)
            answer = next(filter(None, (self._good(setup, shot) for _ in range(TRIES))), None)
            if answer is None:
                self.tally.silent += 1
            else:
                self._score(answer, shot, setup)
        self._judge()

    def _good(self, setup: Setup, shot: Any) -> Any:
        """Send a good image; the detections that answer it, or None."""
        header = self.scene.header(CAMERA)
        stamp = (header.stamp.sec, header.stamp.nanosec)
        self.tally.good.add(stamp)
        self._send(setup, self._image(setup, shot, header), self.scene.info(self.scene.header()))
        if setup.boxes:
            self.robot.send('boxes', self.scene.boxes(shot, header, self.corners), 0.0)
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            answers = [item for item in self.robot.got['detections'] if stamp_of(item) == stamp]
            if answers:
                return answers[0]
            self.robot.spin(0.02)
        return None

    def _errors(self, answer: Any, shot: Any) -> list[float]:
        """ADD of each pose in an answer, in diameters."""
        (truth,) = shot.truth
        errors = []
        for item in answer.detections:
            p, q = item.results[0].pose.pose.position, item.results[0].pose.pose.orientation
            pose = RigidTransform(rotation_from_xyzw(np.array([q.x, q.y, q.z, q.w])), np.array([p.x, p.y, p.z]))
            errors.append(self.scorers[self.name].error(pose, truth.cam_from_obj) / self.scorers[self.name].diameter)
        return errors

    def _score(self, answer: Any, shot: Any, setup: Setup) -> None:
        errors = self._errors(answer, shot)
        if len(errors) == 1 and errors[0] < ADD_LIMIT:
            self.tally.right += 1
        else:
            what = f'{errors[0]:.2f} d' if errors else 'no pose'
            self.tally.wrong.append(f'{setup.name}: frame {shot.frame.stamp_ns}: {what}')

    def _judge(self) -> None:
        """Count what was published about images that are not good ones."""
        got = self.robot.got
        for key in ('pose', 'tf'):
            self.tally.phantoms += [key for item in got[key] if stamp_of(item) not in self.tally.good]
        for item in got['detections']:
            if stamp_of(item) not in self.tally.good and (item.detections or stamp_of(item) in self.tally.refused):
                self.tally.phantoms.append('detections')
        bad = [item for item in self.robot.calls.transforms if stamp_of(item) not in self.tally.good]
        self.tally.phantoms += ['get_pose' for _ in bad]
        self.robot.calls.transforms.clear()
        for messages in got.values():
            messages.clear()

    def _name_all(self, setup: Setup, kinds: dict[str, Any]) -> None:
        """Diagnostics must have named every kind; a busy node may have missed some messages, which come again."""
        for name, (send, text) in kinds.items():
            for _ in range(TRIES):
                if not text or self.robot.names(text):
                    break
                send()
                self.robot.spin(1.5)
            else:
                self.tally.unnamed.append(f'{setup.name}: {name}')


def rows(attack: Attack, asked: int) -> list[tuple[str, Any, str, bool]]:
    """(what, value, what must hold, whether it does)."""
    tally, robot = attack.tally, attack.robot
    start, end, most = robot.memory[0], robot.memory[-1], max(robot.memory)
    total, looks = sum(tally.sent.values()), tally.right + len(tally.wrong) + tally.silent
    faults = log_lines(robot.process.log, *FAULTS)
    return [
        ('messages sent', total, f'>= {asked}', total >= asked),
        ('kinds of messages', len(tally.sent), '', True),
        ('node alive', 'yes' if robot.process.running() else 'no', 'yes', robot.process.running()),
        ('good images with the right pose', f'{tally.right} of {looks}', 'all', tally.right == looks > 0),
        ('poses or answers about other images', len(tally.phantoms), '0', not tally.phantoms),
        ('calls without an answer', f'{robot.calls.lost} of {robot.calls.asked}', '0', robot.calls.lost == 0),
        ('kinds that diagnostics did not name', len(tally.unnamed), '0', not tally.unnamed),
        ('faults in the log', len(faults), '0', not faults),
        ('memory: start / end [MB]', f'{start:.1f} / {end:.1f}', f'< +{MEMORY_MB:g}', end - start < MEMORY_MB),
        ('memory: most [MB]', f'{most:.1f}', f'< +{MEMORY_MB:g}', most - start < MEMORY_MB),
    ]


def attack_once(messages: int, seed: int, out: Path, bundle: Path, bag: Path) -> dict[str, Any]:
    """One run; figures and verdict as plain values."""
    loaded, recording = load_bundle(bundle), live.open_recording(bag)
    models = {model.name: model for model in loaded.objects}
    names = live.names_to_score(recording, models)
    scorers = live.scorers_for(models, vertices_of(loaded, names))
    scene = Scene(recording, np.random.default_rng(seed))
    profile = ROOT / 'config' / 'fastdds_localhost.xml'
    with Robot(bundle, names[0], out, profile) as robot:
        robot.calls.wait(60.0)
        attack = Attack(robot, scene, scorers, {name: models[name].keypoints for name in names})
        attack.run(messages)
        table = rows(attack, messages)
    return {
        'seed': seed,
        'lines': [
            {'what': what, 'value': value, 'limit': limit, 'holds': holds} for what, value, limit, holds in table
        ],
        'holds': all(row[-1] for row in table),
        'kinds': dict(attack.tally.sent),
        'wrong': attack.tally.wrong,
        'phantoms': dict(Counter(attack.tally.phantoms)),
        'unnamed': attack.tally.unnamed,
        'faults': log_lines(out / 'node.log', *FAULTS)[:20],
        'machine': machine_record(),
    }


def main() -> int:
    """Attack, print the table, judge."""
    parser = argparse.ArgumentParser(description='Malformed and adversarial messages to the real node.')
    parser.add_argument('--messages', type=int, default=2000, help='at least so many')
    parser.add_argument('--seed', type=int, default=0, help='of everything random')
    parser.add_argument('--out', type=Path, default=Path('runs/hostile'), help='folder of the log')
    parser.add_argument('--bundle', type=Path, default=ROOT / 'models' / 'demo')
    parser.add_argument(
        '--bag', type=Path, default=ROOT / 'models' / 'demo_bag', help='with ground truth of one object'
    )
    parser.add_argument('--json', type=Path, default=None, metavar='FILE', help='the result as one JSON object')
    options = parser.parse_args()
    # The node must end with this program, however that ends.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    record = attack_once(options.messages, options.seed, options.out, options.bundle, options.bag)
    lines = [(row['what'], row['value'], row['limit'], 'yes' if row['holds'] else 'NO') for row in record['lines']]
    print(format_table(('', 'value', 'must be', 'holds'), lines))
    for key in ('wrong', 'unnamed', 'faults'):
        for text in record[key]:
            print(f'{key}: {text}', file=sys.stderr)
    if options.json is not None:
        write_text(options.json, json.dumps(record, indent=2) + '\n')
    return 0 if record['holds'] else 1


if __name__ == '__main__':
    sys.exit(main())
