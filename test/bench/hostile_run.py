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
from pathlib import Path
from typing import Any, Callable

import hostile_images
import hostile_others
import numpy as np
from hostile_judge import PACE_S, TRIES, Judge
from hostile_robot import Robot, log_lines, stamp_of
from hostile_scene import Scene
from hostile_setups import SETUPS, Setup

from kd6d_ros.benchmark.accuracy import make_judge
from kd6d_ros.benchmark.machine import machine_record
from kd6d_ros.benchmark.recording import TopicChoice, open_recording
from kd6d_ros.benchmark.report import write_text
from kd6d_ros.cli.output import format_table
from kd6d_ros.errors import BagError, Kd6dError
from kd6d_ros.inference.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]
LOOKS = 4
"""Looks at the node per set-up."""
MEMORY_MB = 60.0
"""Most growth of the node: one image of 50 megapixels would be 150."""
FAULTS = ('Traceback', 'a fault of this package', 'a callback failed')
CLOCK = 'Seconds value must not be negative'
KNOWN = (CLOCK, 'is not a valid Parameter.Type')
"""What rclpy raises about a /clock before the beginning of time and a parameter of no type; the node reports both."""


class Attack:
    """Everything about one run."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.robot, self.scene = judge, judge.robot, judge.scene
        (self.name,) = judge.corners

    def run(self, messages: int) -> None:
        """Send at least so many messages, in all set-ups."""
        for setup in SETUPS:
            self.robot.reconfigure(**setup.parameters)
            self._wait_for(setup)
            self.judge.choose(setup)
            if setup is SETUPS[0]:
                # A node that has seen no image yet is smaller.
                self.robot.memory.clear()
            self.judge.look(setup)
            kinds = self._kinds(setup)
            count = -(-messages // len(SETUPS))
            order = [kind for _ in range(-(-count // len(kinds))) for kind in self.scene.rng.permutation(list(kinds))]
            for number, kind in enumerate(order[:count]):
                kinds[kind][0]()
                if (number + 1) % -(-count // LOOKS) == 0:
                    self.judge.look(setup)
            self._name_all(setup, {kind: kinds[kind] for kind in set(order[:count])})
            self.judge.look(setup)

    def _kinds(self, setup: Setup) -> dict[str, tuple[Callable[[], None], str]]:
        """Kind of message -> what sends one, and what diagnostics must say."""

        def kind(name: str, text: str, send: Callable[[str], None]) -> None:
            def once() -> None:
                self.judge.tally.sent[f'{setup.name}: {name}'] += 1
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
        if setup.parameters.get('use_sim_time'):
            kind('clock that jumps', CLOCK, lambda name: self._clock())
        kind('nonsense call', '', lambda name: self.robot.calls.nonsense(self.scene.rng))
        return kinds

    def _wait_for(self, setup: Setup) -> None:
        end = time.monotonic() + 30
        roles = (setup.transport, 'info', *(['boxes'] if setup.boxes else []))
        while any(self.robot.publishers[role].get_subscription_count() < 1 for role in roles):
            assert time.monotonic() < end, 'the node does not subscribe'
            self.robot.spin(0.05)

    def _expect(self, stamp: tuple[int, int], name: str, refused: bool) -> None:
        self.judge.tally.bad[stamp] = name
        if refused:
            self.judge.tally.refused.add(stamp)

    def _bad_image(self, setup: Setup, name: str) -> None:
        make = hostile_images.compressed if setup.transport == 'compressed' else hostile_images.raw
        image = make(self.scene, name)
        self._expect(stamp_of(image), name, bool(setup.images[name][1]) and name not in hostile_images.TIMES)
        self.judge.send(setup, image, self.scene.info(self.scene.header()))

    def _bad_info(self, setup: Setup, name: str) -> None:
        info, header = hostile_others.info(self.scene, name)
        self._expect((header.stamp.sec, header.stamp.nanosec), name, True)
        self.judge.send(setup, self.judge.image(setup, self.scene.pick(self.scene.clear), header), info)

    def _bad_boxes(self, setup: Setup, name: str) -> None:
        boxes, header = hostile_others.boxes(self.scene, name, self.name)
        if header is not None:
            self._expect((header.stamp.sec, header.stamp.nanosec), name, False)
            image = self.judge.image(setup, self.scene.pick(self.scene.empty), header)
            self.judge.send(setup, image, self.scene.info(self.scene.header()))
        self.robot.send('boxes', boxes, PACE_S)

    def _broken(self, role: str) -> None:
        shot, header = self.scene.pick(self.scene.empty), self.scene.header()
        make = {
            'image': lambda: self.scene.raw(shot, header),
            'compressed': lambda: self.scene.compressed(shot, header),
            'info': lambda: self.scene.info(header),
            'boxes': lambda: self.scene.boxes(self.scene.clear[0], header, self.judge.corners),
        }[role]
        self.robot.send(role, hostile_others.wreck(make(), self.scene.rng), PACE_S)

    def _clock(self) -> None:
        self.robot.send('clock', hostile_others.clock(self.scene.rng), PACE_S)

    def _transforms(self) -> None:
        self.robot.send('tf', hostile_others.transforms(self.scene, self.robot.child_frame), PACE_S)

    def _name_all(self, setup: Setup, kinds: dict[str, Any]) -> None:
        """Diagnostics must have named every kind; a busy node may have missed some messages, which come again."""
        for name, (send, text) in kinds.items():
            for _ in range(TRIES):
                if not text or self.robot.names(text):
                    break
                send()
                self.robot.spin(1.5)
            else:
                self.judge.tally.unnamed.append(f'{setup.name}: {name}')


def rows(attack: Attack, asked: int) -> list[tuple[str, Any, str, bool]]:
    """(what, value, what must hold, whether it does)."""
    tally, robot = attack.judge.tally, attack.robot
    start, end, most = robot.memory[0], robot.memory[-1], max(robot.memory)
    total, looks = sum(tally.sent.values()), tally.right + len(tally.wrong) + tally.silent
    faults = unforeseen(robot.process.log)
    return [
        ('messages sent', total, f'>= {asked}', total >= asked),
        ('kinds of messages', len(tally.sent), '', True),
        ('node alive', 'yes' if robot.process.running() else 'no', 'yes', robot.process.running()),
        ('good images with the right pose', f'{tally.right} of {looks}', 'all', tally.right == looks > 0),
        ('poses or answers about malformed messages', len(tally.phantoms), '0', not tally.phantoms),
        ('poses in sound pictures without the object', len(tally.alarms), '', True),
        ('calls without an answer', f'{robot.calls.lost} of {robot.calls.asked}', '0', robot.calls.lost == 0),
        ('kinds that diagnostics did not name', len(tally.unnamed), '0', not tally.unnamed),
        ('faults in the log', len(faults), '0', not faults),
        ('memory: start / end [MB]', f'{start:.1f} / {end:.1f}', f'< +{MEMORY_MB:g}', end - start < MEMORY_MB),
        ('memory: most [MB]', f'{most:.1f}', f'< +{MEMORY_MB:g}', most - start < MEMORY_MB),
    ]


def unforeseen(log: Path) -> list[str]:
    """Lines of the node's log about faults."""
    return [line for line in log_lines(log, *FAULTS) if not any(words in line for words in KNOWN)]


def attack_once(messages: int, seed: int, out: Path, bundle: Path, bag: Path) -> dict[str, Any]:
    """One run; figures and verdict as plain values."""
    loaded = load_bundle(bundle)
    recording = open_recording(bag, TopicChoice(), loaded.names)
    scorers = make_judge(loaded, recording).scorers()
    if not scorers:
        raise BagError(f'{bag}: says nothing about an object of {bundle}')
    name = min(scorers)
    scene = Scene(recording, np.random.default_rng(seed))
    profile = ROOT / 'config' / 'fastdds_localhost.xml'
    with Robot(bundle, name, out, profile) as robot:
        robot.calls.wait(60.0)
        attack = Attack(Judge(robot, scene, scorers[name], {name: loaded.object(name).keypoints}))
        attack.run(messages)
        table = rows(attack, messages)
    return {
        'seed': seed,
        'lines': [
            {'what': what, 'value': value, 'limit': limit, 'holds': holds} for what, value, limit, holds in table
        ],
        'holds': all(row[-1] for row in table),
        'kinds': dict(attack.judge.tally.sent),
        'wrong': attack.judge.tally.wrong,
        'phantoms': attack.judge.tally.phantoms,
        'alarms': attack.judge.tally.alarms,
        'unnamed': attack.judge.tally.unnamed,
        'faults': unforeseen(out / 'node.log')[:20],
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
    try:
        record = attack_once(options.messages, options.seed, options.out, options.bundle, options.bag)
    except Kd6dError as error:
        print(f'hostile_run: {error}', file=sys.stderr)
        return 2
    lines = [(row['what'], row['value'], row['limit'], 'yes' if row['holds'] else 'NO') for row in record['lines']]
    print(format_table(('', 'value', 'must be', 'holds'), lines))
    for key in ('wrong', 'phantoms', 'alarms', 'unnamed', 'faults'):
        for text in record[key]:
            print(f'{key}: {text}', file=sys.stderr)
    if options.json is not None:
        write_text(options.json, json.dumps(record, indent=2) + '\n')
    return 0 if record['holds'] else 1


if __name__ == '__main__':
    sys.exit(main())
