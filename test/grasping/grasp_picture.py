"""The picture of docs/grasping.md: what the camera at the wrist sees, and the simulation while the object is held.

MUJOCO_GL=egl python test/grasping/grasp_picture.py docs/images/grasping.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import mujoco
import numpy as np
from grasp_looks import close_views
from grasp_physics import Simulation, scene_xml
from grasp_plan import choose_grasp, load_grasps
from grasp_scene import TABLE, GraspWorld

HEIGHT, WIDTH = 300, 400
SEED, WORLD, TRIAL = 60, 0, 0


def main(out: Path) -> int:
    world = GraspWorld(SEED, WORLD)
    simulation = Simulation(scene_xml(world.rover.mesh, TABLE, [piece.geom for piece in world.pieces]))
    trial = world.trial(TRIAL)
    simulation.place(trial.world_from_obj, trial.clutter)
    pose = simulation.world_from_obj
    seen = world.image(trial, pose, close_views(pose.translation)[0], 1)
    world.release()
    grasp = choose_grasp(load_grasps()[1], pose)
    if grasp is None or not simulation.pick(grasp).lifted:
        print('grasp_picture.py: the object was not lifted: choose another trial', file=sys.stderr)
        return 1
    camera = mujoco.MjvCamera()
    camera.lookat[:] = simulation.world_from_obj.translation
    camera.distance, camera.azimuth, camera.elevation = 0.50, 75.0, -35.0
    model = simulation.model
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.45, 0.5
    model.geom_rgba[model.geom_bodyid == model.body('object').id] = (0.95, 0.6, 0.2, 1.0)
    with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
        renderer.update_scene(simulation.data, camera)
        held = renderer.render()
    both = np.concatenate([cv2.resize(seen, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), held], axis=1)
    cv2.imwrite(str(out), both[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return 0


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))
