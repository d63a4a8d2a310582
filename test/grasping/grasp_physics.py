"""The simulation: a table, the demo object and a floating parallel gripper in MuJoCo.

The object's collision geometry are the boxes and cylinders that its mesh is made of. The hand is driven by position
controllers with limited forces; only contact and friction hold the object. Metres, kilograms, seconds, radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from kd6d_ros.geometry.transforms import quaternion_xyzw, rotation_from_xyzw
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from grasp_plan import PlannedGrasp

    from kd6d_ros.types import Mesh

STEP_S = 0.002
OBJECT_MASS = 0.25
FRICTION = 0.8
"""Coulomb's, of all contacts: rubber on plastic."""
WIDEST = 0.094
"""Opening of the fingers at the ends of their joints: 20 mm wider than the widest place that is grasped."""
FINGER_FORCE = 25.0
"""[N] at each finger."""
ARM_FORCE = 80.0
"""[N] The arm's motors give no more, for each axis."""
STOP_FORCE = 20.0
"""[N] Pushed back harder than this on its way down, the arm stops: the hand has hit something."""
REACH, LIFT = 0.12, 0.12
"""Length of the straight approach, and how high the object is lifted."""
APPROACH_S, CLOSE_S, LIFT_S, HOLD_S = 0.8, 0.5, 1.0, 1.0
FINGER = (0.018, 0.008, 0.100)
"""Width, thickness and length of a finger."""
AWAY = (0.0, 0.0, -5.0)
CHECK_STEPS = 5
"""Contacts are looked at once in so many steps."""
ARM = ('x', 'y', 'z', 'yaw', 'pitch', 'roll')


@dataclass(frozen=True)
class PickResult:
    """How a pick ended: 'lifted', or the step that failed; `rise` [m] of the object, `slip` [m] in the hand while
    it was held."""

    outcome: str
    rise: float = 0.0
    slip: float = 0.0

    @property
    def lifted(self) -> bool:
        return self.outcome == 'lifted'


def parts(mesh: Mesh) -> list[np.ndarray]:
    """Vertices (n, 3) [m] of each closed piece of a mesh."""
    points, index = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    label = np.arange(len(points))
    faces = index.reshape(-1)[mesh.faces]
    while True:
        least = label[faces].min(axis=1)
        before = label.copy()
        for corner in range(3):
            np.minimum.at(label, faces[:, corner], least)
        if (label == before).all():
            return [points[label == value] for value in np.unique(label)]


def part_geom(points: np.ndarray) -> str:
    """MJCF of a piece: a box if it has eight corners, else a cylinder along the axis on which it has two places."""
    low, high = points.min(axis=0), points.max(axis=0)
    half, centre = (high - low) / 2, (low + high) / 2
    if len(points) == 8:
        return f'<geom type="box" class="object" pos="{_text(centre)}" size="{_text(half)}"/>'
    axis = min(range(3), key=lambda k: len(np.unique(points[:, k])))
    radius = np.delete(half, axis).max()
    ends = [centre.copy(), centre.copy()]
    ends[0][axis], ends[1][axis] = low[axis], high[axis]
    return f'<geom type="cylinder" class="object" fromto="{_text(np.concatenate(ends))}" size="{radius:.6g}"/>'


def scene_xml(mesh: Mesh, table: Sequence[float], clutter: Sequence[str] = ()) -> str:
    """MJCF of everything. `table`: centre x, y and size x, y, thickness; `clutter`: geoms of still things."""
    x, y, length, width, thickness = table
    gap, (wide, thick, long) = WIDEST / 2, FINGER
    pieces = '\n'.join(part_geom(points) for points in parts(mesh))
    arm = ''.join(f'<joint name="{name}" type="slide" axis="{axis}" damping="5"/>' for name, axis in _AXES[:3])
    arm += ''.join(f'<joint name="{name}" type="hinge" axis="{axis}" damping="0.2"/>' for name, axis in _AXES[3:])
    motors = ''.join(
        f'<position name="{name}" joint="{name}" kp="8000" kv="220" forcerange="-{ARM_FORCE} {ARM_FORCE}"/>'
        for name, _ in _AXES[:3]
    )
    motors += ''.join(
        f'<position name="{name}" joint="{name}" kp="60" kv="2" forcerange="-8 8"/>' for name, _ in _AXES[3:]
    )
    fingers = ''.join(
        f'<body name="{name}" pos="0 {side * (gap + thick / 2)} {-long / 2}" gravcomp="1">'
        f'<joint name="{name}" type="slide" axis="0 {-side} 0" range="0 {gap}" damping="4"/>'
        f'<geom name="{name}" type="box" size="{wide / 2} {thick / 2} {long / 2}" mass="0.05" class="hand"/></body>'
        for name, side in (('left', 1), ('right', -1))
    )
    still = ''.join(f'<body name="clutter{n}" mocap="true">{geom}</body>' for n, geom in enumerate(clutter))
    return f"""
<mujoco>
  <option timestep="{STEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default>
    <default class="object"><geom friction="{FRICTION} 0.005 0.0001" condim="4" density="1"/></default>
    <default class="hand"><geom friction="{FRICTION} 0.005 0.0001" condim="4" rgba="0.2 0.2 0.25 1"/></default>
  </default>
  <worldbody>
    <light pos="0 -0.5 1.5" dir="0 0.3 -1"/>
    <geom name="table" type="box" pos="{x} {y} {-thickness / 2}" size="{length / 2} {width / 2} {thickness / 2}"
      friction="{FRICTION} 0.005 0.0001" rgba="0.6 0.45 0.3 1"/>
    {still}
    <body name="object"><freejoint/>{pieces}</body>
    <body name="hand" pos="0 0 0" gravcomp="1">{arm}
      <geom type="box" pos="0 0 {-long - 0.02}" size="0.03 {gap + thick} 0.02" mass="0.6" class="hand"/>
      {fingers}
    </body>
  </worldbody>
  <equality><joint joint1="left" joint2="right" solref="0.005 1"/></equality>
  <actuator>{motors}
    <position name="grip" joint="left" kp="4000" kv="60" forcerange="-{2 * FINGER_FORCE} {2 * FINGER_FORCE}"/>
  </actuator>
</mujoco>"""


# Rotation of the hand: yaw about z, then pitch about y, then roll about x; a hand at rest has its z up.
_AXES = (('x', '1 0 0'), ('y', '0 1 0'), ('z', '0 0 1'), ('yaw', '0 0 1'), ('pitch', '0 1 0'), ('roll', '1 0 0'))


class Simulation:
    """One world that trials are run in, one after the other."""

    def __init__(self, xml: str) -> None:
        self.model = mujoco.MjModel.from_xml_string(xml)
        body = self.model.body('object')
        scale = OBJECT_MASS / self.model.body_mass[body.id]
        self.model.body_mass[body.id] *= scale
        self.model.body_inertia[body.id] *= scale
        self.data = mujoco.MjData(self.model)
        mujoco.mj_setConst(self.model, self.data)
        self._object = int(self.model.jnt_qposadr[body.jntadr[0]])
        self._arm = [int(self.model.joint(name).qposadr[0]) for name in ARM]
        self._left, self._right = (int(self.model.joint(name).qposadr[0]) for name in ('left', 'right'))

    @property
    def world_from_obj(self) -> RigidTransform:
        """Where the object is now."""
        numbers = self.data.qpos[self._object : self._object + 7]
        return RigidTransform(rotation_from_xyzw(numbers[[4, 5, 6, 3]]), numbers[:3])

    def place(self, world_from_obj: RigidTransform, clutter: Mapping[int, RigidTransform] | None = None) -> None:
        """Put the object and the clutter somewhere, the hand far above, and let the object come to rest.

        Args:
            clutter: places by number; pieces that have none are out of the way.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.mocap_pos[:] = AWAY
        for number, pose in (clutter or {}).items():
            x, y, z, w = quaternion_xyzw(pose.rotation)
            body = self.model.body(f'clutter{number}').mocapid[0]
            self.data.mocap_pos[body], self.data.mocap_quat[body] = pose.translation, (w, x, y, z)
        x, y, z, w = quaternion_xyzw(world_from_obj.rotation)
        self.data.qpos[self._object : self._object + 7] = (*world_from_obj.translation, w, x, y, z)
        self._set_hand(RigidTransform(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0])), WIDEST)
        self._run(0.3)

    def pick(self, grasp: PlannedGrasp) -> PickResult:
        """Approach, close, lift, hold."""
        start = self.world_from_obj
        for outcome in self._steps(grasp):
            if outcome:
                return PickResult(outcome, self._rise(start))
        held = self._in_hand()
        self._run(HOLD_S)
        slip = float(np.abs(self._in_hand() - held).max())
        rise = self._rise(start)
        if rise < 0.8 * LIFT:
            return PickResult('not lifted', rise, slip)
        if slip > 0.005 or self._touching() < 2:
            return PickResult('slipped', rise, slip)
        return PickResult('lifted', rise, slip)

    def _steps(self, grasp: PlannedGrasp) -> Iterator[str]:
        """Runs the motion; gives what went wrong after each step, '' for nothing."""
        end = grasp.world_from_hand
        back = RigidTransform(end.rotation, end.translation - REACH * end.rotation[:, 2])
        self._set_hand(back, grasp.opening)
        yield self._move(back, end, APPROACH_S, stops=True)
        self._close()
        yield '' if self._touching() == 2 else 'missed'
        up = RigidTransform(end.rotation, end.translation + np.array([0.0, 0.0, LIFT]))
        yield self._move(end, up, LIFT_S)

    def _set_hand(self, world_from_hand: RigidTransform, opening: float) -> None:
        target = _arm_target(world_from_hand)
        self.data.qpos[self._arm] = target
        closed = (WIDEST - opening) / 2
        self.data.qpos[[self._left, self._right]] = closed
        self.data.ctrl[:] = (*target, closed)

    def _move(self, start: RigidTransform, end: RigidTransform, seconds: float, stops: bool = False) -> str:
        """A straight line without a turn, gently begun and ended."""
        path = end.translation - start.translation
        forward = path / np.linalg.norm(path)
        for step, share in enumerate(np.linspace(0.0, 1.0, round(seconds / STEP_S))):
            smooth = share * share * (3 - 2 * share)
            self.data.ctrl[:3] = start.translation + smooth * path
            mujoco.mj_step(self.model, self.data)
            if stops and step % CHECK_STEPS == 0 and self._pushed_back(forward) > STOP_FORCE:
                return 'hit something'
        return ''

    def _pushed_back(self, forward: np.ndarray) -> float:
        """Force [N] of what the fingers and the hand touch, against the motion."""
        total = np.zeros(3)
        wrench = np.zeros(6)
        hand = {self.model.body(name).id for name in ('hand', 'left', 'right')}
        for index, contact in enumerate(self.data.contact[: self.data.ncon]):
            bodies = [self.model.geom_bodyid[geom] for geom in contact.geom]
            inside = [body in hand for body in bodies]
            if any(inside) and not all(inside):
                mujoco.mj_contactForce(self.model, self.data, index, wrench)
                push = contact.frame.reshape(3, 3).T @ wrench[:3]
                total += push if inside[1] else -push
        return float(-total @ forward)

    def _close(self) -> None:
        begin = self.data.ctrl[6]
        for share in np.linspace(0.0, 1.0, round(CLOSE_S / STEP_S)):
            # Beyond the middle, so that the fingers press as hard as they can.
            self.data.ctrl[6] = begin + share * (WIDEST / 2 + 0.03 - begin)
            mujoco.mj_step(self.model, self.data)
        self._run(0.2)

    def _touching(self) -> int:
        """How many fingers touch the object."""
        body = self.model.body('object').id
        fingers = {self.model.geom(name).id for name in ('left', 'right')}
        touched = set()
        for contact in self.data.contact[: self.data.ncon]:
            for one, other in (contact.geom, contact.geom[::-1]):
                if one in fingers and self.model.geom_bodyid[other] == body:
                    touched.add(int(one))
        return len(touched)

    def _in_hand(self) -> np.ndarray:
        """Position (3,) of the object in the hand's frame."""
        hand = self.data.body('hand')
        return hand.xmat.reshape(3, 3).T @ (self.data.body('object').xpos - hand.xpos)

    def _rise(self, start: RigidTransform) -> float:
        return float(self.world_from_obj.translation[2] - start.translation[2])

    def _run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            mujoco.mj_step(self.model, self.data)


def _arm_target(world_from_hand: RigidTransform) -> tuple[float, ...]:
    """Positions of the arm's joints; roll of half a turn is a hand that looks down."""
    r = world_from_hand.rotation
    pitch = math.asin(max(-1.0, min(1.0, -r[2, 0])))
    yaw, roll = math.atan2(r[1, 0], r[0, 0]), math.atan2(r[2, 1], r[2, 2])
    return (*world_from_hand.translation, yaw, pitch, roll)


def _text(numbers: Sequence[float]) -> str:
    return ' '.join(f'{value:.6g}' for value in numbers)
