"""Whether a node under attack is still right: good images in between, and what was published about the others."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hostile_images
import numpy as np
from hostile_robot import Robot, stamp_of
from hostile_scene import CAMERA, Scene
from hostile_setups import Setup

from kd6d_ros.benchmark.scoring import ADD_LIMIT, Scorer
from kd6d_ros.geometry.transforms import rotation_from_xyzw
from kd6d_ros.types import RigidTransform

PACE_S = 0.03
"""After each message; a camera of 30 Hz."""
TRIES = 30
"""So often a message is sent again that a busy node may have missed."""
GOOD = 3
"""Good images per look at the node."""
KEEP = 4
"""One frame in so many is a good one."""


@dataclass
class Tally:
    """What was seen so far."""

    sent: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    silent: int = 0
    unnamed: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    """Poses in sound pictures that do not show the object: the network's own mistakes."""
    good: set[tuple[int, int]] = field(default_factory=set)
    bad: dict[tuple[int, int], str] = field(default_factory=dict)
    """Stamps of other images, and what they are."""
    refused: set[tuple[int, int]] = field(default_factory=set)
    """Those that the node must not even answer."""


class Judge:
    """Sends good images to a node, and counts what it says."""

    def __init__(self, robot: Robot, scene: Scene, scorer: Scorer, corners: dict[str, Any]) -> None:
        """`corners` (8, 3) [m] by object name, for the detections."""
        self.robot, self.scene, self.scorer, self.corners = robot, scene, scorer, corners
        self.tally = Tally()

    def send(self, setup: Setup, image: Any, info: Any) -> None:
        self.robot.send('info', info, 0.01)
        self.robot.send(setup.transport, image, PACE_S)

    def image(self, setup: Setup, shot: Any, header: Any) -> Any:
        return (self.scene.compressed if setup.transport == 'compressed' else self.scene.raw)(shot, header)

    def choose(self, setup: Setup) -> None:
        """Keep the frames that this set-up gets right best while nobody disturbs it."""
        errors = {}
        for number, shot in enumerate(self.scene.candidates):
            answer = self._answer(setup, shot)
            found = [] if answer is None else self._errors(answer, shot)
            errors[number] = found[0] if len(found) == 1 else np.inf
        best = sorted(errors, key=lambda number: errors[number])[: max(1, len(errors) // KEEP)]
        assert errors[best[-1]] < ADD_LIMIT, f'the node gets too few frames right: {sorted(errors.values())}'
        self.scene.clear = [self.scene.candidates[number] for number in best]

    def look(self, setup: Setup) -> None:
        """Good images: each must give one right pose."""
        for _ in range(GOOD):
            shot = self.scene.pick(self.scene.clear)
            answer = self._answer(setup, shot)
            if answer is None:
                self.tally.silent += 1
            else:
                self._score(answer, shot, setup)
        self._judge()

    def _answer(self, setup: Setup, shot: Any) -> Any:
        return next(filter(None, (self._good(setup, shot) for _ in range(TRIES))), None)

    def _good(self, setup: Setup, shot: Any) -> Any:
        """Send a good image; the detections that answer it, or None."""
        header = self.scene.header(CAMERA)
        stamp = (header.stamp.sec, header.stamp.nanosec)
        self.tally.good.add(stamp)
        self.send(setup, self.image(setup, shot, header), self.scene.info(self.scene.header()))
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
            errors.append(self.scorer.error(pose, truth.cam_from_obj) / self.scorer.diameter)
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
        for key, items in (*got.items(), ('get_pose', self.robot.calls.transforms)):
            for item in items:
                empty = key == 'detections' and not item.detections and stamp_of(item) not in self.tally.refused
                if stamp_of(item) not in self.tally.good and not empty:
                    name = self.tally.bad.get(stamp_of(item), 'broken bytes')
                    found = self.tally.alarms if name in hostile_images.SOUND else self.tally.phantoms
                    found.append(f'{key} about {name}')
        self.robot.calls.transforms.clear()
        for messages in got.values():
            messages.clear()
