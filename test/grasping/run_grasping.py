"""Pick the demo object from the table in simulation, with poses of three kinds, and count.

    make grasp        or        python test/grasping/run_grasping.py --trials 200 --seed 61 --out runs/grasping

truth: the pose in the simulation, the upper limit. node: what the real node publishes over DDS for images of a camera
at the wrist. off: the true pose, 20 mm and 15 degrees off in random directions, the control. All three have the same
trials. docs/grasping.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from grasp_looks import CERTAIN_M, FIRST_LOOKS, close_views, in_world, search_views, together
from grasp_node import NoAnswerError, NodeClient
from grasp_physics import PickResult, Simulation, scene_xml
from grasp_plan import choose_grasp, load_grasps
from grasp_scene import STREAM, TABLE, GraspWorld, Trial

from kd6d_ros.errors import Kd6dError
from kd6d_ros.geometry.transforms import rotation_from_vector, transform_distance
from kd6d_ros.types import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grasp_looks import Seen

ROOT = Path(__file__).resolve().parents[2]
ARMS = ('truth', 'node', 'off')
OFF_M, OFF_RAD = 0.020, math.radians(15.0)
TRIALS_PER_WORLD = 10


@dataclass(frozen=True)
class Row:
    """One trial of one arm; errors of the pose that the hand went for, None without one."""

    arm: str
    world: int
    trial: int
    outcome: str
    grasp: str = ''
    error_mm: float | None = None
    error_deg: float | None = None
    searched: int = 0
    looks: int = 0
    rise_m: float = 0.0
    slip_m: float = 0.0


class Eye:
    """A camera at the wrist: searches the table, then looks closely from several sides."""

    def __init__(self, world: GraspWorld, simulation: Simulation, client: NodeClient, name: str) -> None:
        self._world, self._simulation, self._client, self._name = world, simulation, client, name
        self.searched = self.looks = 0

    def find(self, trial: Trial) -> RigidTransform | None:
        """world_from_obj that several looks agree on; None when the whole table has none."""
        self.searched = self.looks = 0
        for view in search_views(TABLE):
            self.searched += 1
            for first in self._see(trial, view):
                pose = self._look_closely(trial, first)
                if pose is not None:
                    return pose
        return None

    def _look_closely(self, trial: Trial, first: Seen) -> RigidTransform | None:
        seen: list[Seen] = []
        for number, view in enumerate(close_views(first.world_from_obj.translation), start=1):
            self.looks += 1
            seen += self._see(trial, view)
            pose = together(seen) if number >= FIRST_LOOKS else None
            if pose is not None and pose.uncertainty_m < CERTAIN_M:
                return pose.world_from_obj
        return None

    def _see(self, trial: Trial, cam_from_world: RigidTransform) -> list[Seen]:
        """What the node publishes for one image from here; nothing older and nothing else."""
        where = self._simulation.world_from_obj
        image = self._world.image(trial, where, cam_from_world, self.searched * 100 + self.looks)
        poses = self._client.poses(image, self._world.camera, self._name)
        return [in_world(pose, covariance, cam_from_world) for pose, covariance in poses]


def off(pose: RigidTransform, rng: np.random.Generator) -> RigidTransform:
    """A pose OFF_M away, and turned by OFF_RAD about its origin, each in a random direction."""
    shift, axis = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    return RigidTransform(rotation_from_vector(OFF_RAD * axis) @ pose.rotation, pose.translation + OFF_M * shift)


class Experiment:
    """All trials of some arms; `client` is needed for the arm 'node'."""

    def __init__(self, seed: int, arms: Sequence[str], client: NodeClient | None = None) -> None:
        self._seed, self._arms, self._client = seed, arms, client
        self._object, self._grasps = load_grasps()

    def run(self, trials: int, say: Callable[[str], None]) -> list[Row]:
        """Rows of `trials` trials of every arm, in worlds of TRIALS_PER_WORLD."""
        rows: list[Row] = []
        for number in range(math.ceil(trials / TRIALS_PER_WORLD)):
            world = GraspWorld(self._seed, number)
            try:
                simulation = Simulation(scene_xml(world.rover.mesh, TABLE, [piece.geom for piece in world.pieces]))
                for index in range(min(TRIALS_PER_WORLD, trials - number * TRIALS_PER_WORLD)):
                    rows += self._trial(world, simulation, number, index)
                    counts = [f'{arm} {sum(_good(row, arm) for row in rows)}' for arm in self._arms]
                    say(f'{len(rows) // len(self._arms)} of {trials}: {", ".join(counts)}')
            finally:
                world.release()
        return rows

    def _trial(self, world: GraspWorld, simulation: Simulation, number: int, index: int) -> list[Row]:
        trial = world.trial(index)
        rows = []
        for arm in self._arms:
            simulation.place(trial.world_from_obj, trial.clutter)
            truth = simulation.world_from_obj
            pose, seen = self._pose(arm, world, simulation, trial)
            result, name = PickResult('no pose'), ''
            if pose is not None:
                grasp = choose_grasp(self._grasps, pose)
                result = PickResult('no grasp') if grasp is None else simulation.pick(grasp)
                name = grasp.name if grasp else ''
            apart = transform_distance(pose, truth) if pose else None
            error = {'error_mm': 1000 * apart[0], 'error_deg': math.degrees(apart[1])} if apart else {}
            more = {**seen, **error, 'rise_m': result.rise, 'slip_m': result.slip}
            rows.append(Row(arm, number, index, result.outcome, name, **more))
        return rows

    def _pose(self, arm: str, world: GraspWorld, simulation: Simulation, trial: Trial) -> tuple[Any, dict[str, Any]]:
        if arm == 'truth':
            return simulation.world_from_obj, {}
        if arm == 'off':
            rng = np.random.default_rng((STREAM, self._seed, world.number, trial.number, 0, 0))
            return off(simulation.world_from_obj, rng), {}
        assert self._client is not None
        eye = Eye(world, simulation, self._client, self._object)
        try:
            pose = eye.find(trial)
        except NoAnswerError as error:
            print(f'world {world.number}, trial {trial.number}: {error}', file=sys.stderr)
            pose = None
        return pose, {'searched': eye.searched, 'looks': eye.looks}


def _good(row: Row, arm: str) -> bool:
    return row.arm == arm and row.outcome == 'lifted'


def table(rows: Sequence[Row], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Successes of each arm with the 95 % interval of Wilson, in percent, and how the others ended."""
    return [_summary(arm, [row for row in rows if row.arm == arm]) for arm in arms]


def _summary(arm: str, rows: Sequence[Row]) -> dict[str, Any]:
    from scipy.stats import binomtest

    lifted = sum(_good(row, arm) for row in rows)
    interval = binomtest(lifted, len(rows)).proportion_ci(0.95, method='wilson')
    errors = np.array([(row.error_mm, row.error_deg) for row in rows if row.error_mm is not None])
    return {
        'arm': arm,
        'trials': len(rows),
        'lifted': lifted,
        'percent': 100 * lifted / len(rows),
        'wilson_95': [100 * interval.low, 100 * interval.high],
        'failures': dict(Counter(row.outcome for row in rows if row.outcome != 'lifted')),
        'median_error_mm_deg': np.median(errors, axis=0).tolist() if len(errors) else None,
        'p95_error_mm_deg': np.percentile(errors, 95, axis=0).tolist() if len(errors) else None,
        'mean_searched': float(np.mean([row.searched for row in rows])),
        'mean_looks': float(np.mean([row.looks for row in rows])),
    }


def show(results: Sequence[dict[str, Any]]) -> str:
    """The table as text."""
    lines = [f'{"poses":<7}{"trials":>7}{"lifted":>8}{"%":>7}  {"95 % (Wilson)":<15}{"median error":<18}failures']
    for item in results:
        error = '{:.1f} mm {:.1f} deg'.format(*item['median_error_mm_deg']) if item['median_error_mm_deg'] else '-'
        failures = ', '.join(f'{count} {name}' for name, count in item['failures'].items()) or 'none'
        interval = '{:.1f} .. {:.1f}'.format(*item['wilson_95'])
        numbers = f'{item["arm"]:<7}{item["trials"]:>7}{item["lifted"]:>8}{item["percent"]:>7.1f}'
        lines.append(f'{numbers}  {interval:<15}{error:<18}{failures}')
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code (2: the user's mistake, in one line)."""
    parser = argparse.ArgumentParser(prog='run_grasping.py', description=__doc__.split('\n\n')[0])
    parser.add_argument('--trials', type=int, default=200, metavar='N', help='of each kind of pose (default: 200)')
    parser.add_argument('--seed', type=int, default=61, help='of worlds and trials (default: 61)')
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=ARMS, help='kinds of poses (default: all)')
    parser.add_argument('--bundle', type=Path, default=ROOT / 'models' / 'demo', help='default: models/demo')
    parser.add_argument(
        '--out', type=Path, default=Path('runs/grasping'), help="folder for grasping.json and the node's log"
    )
    args = parser.parse_args(arguments)
    if args.trials < 1 or args.seed < 0:
        parser.error('--trials must be at least 1 and --seed at least 0')
    started = time.monotonic()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        rows = _run(args)
    except (Kd6dError, RuntimeError, OSError) as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 2
    results = table(rows, args.arms)
    report = {
        'seed': args.seed, 'bundle': str(args.bundle), 'trials_per_world': TRIALS_PER_WORLD,
        'seconds': time.monotonic() - started, 'results': results, 'rows': [asdict(row) for row in rows],
    }  # fmt: skip
    aside = args.out / '.grasping.json.tmp'
    aside.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    aside.replace(args.out / 'grasping.json')
    print(show(results))
    return 0


def _run(args: argparse.Namespace) -> list[Row]:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if 'node' not in args.arms:
        return Experiment(args.seed, args.arms).run(args.trials, say)
    with NodeClient(args.bundle.resolve(), args.out) as client:
        return Experiment(args.seed, args.arms, client).run(args.trials, say)


if __name__ == '__main__':
    sys.exit(main())
