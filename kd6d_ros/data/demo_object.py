"""The demo object: a toy rover, made here from boxes and cylinders with a painted texture.

It has no symmetry: front and rear wheels differ in size, the load sits to one side, and every face carries
its own colours, shapes and letters. Object frame: x forward, y left, z up, origin in the centre of the
bounding box, metres. The same file comes out on every machine; nothing in it is anybody else's work.

    python -m kd6d_ros.data.demo_object OUT        writes demo_object.obj, .mtl, .png and objects.yaml
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

import numpy as np

from kd6d_ros.data import demo_faces as faces
from kd6d_ros.data.demo_mesh import Patch, box, cylinder, painted_mesh
from kd6d_ros.errors import MeshError

if TYPE_CHECKING:
    from kd6d_ros.types import Mesh

OBJECT_NAME = 'toy_rover'
TEXTURE_SIDE = 1024
PIXELS_PER_METRE = 2500.0


def _parts() -> List[Patch]:
    patches = box((0.0, 0.0, 0.040), (0.132, 0.074, 0.042), faces.HULL)
    patches += box((0.032, 0.004, 0.080), (0.048, 0.060, 0.038), faces.CABIN)
    patches += box((-0.036, 0.016, 0.074), (0.050, 0.036, 0.026), faces.CRATE)
    patches += cylinder((-0.062, -0.020, 0.074), (0.056, 0.0, 0.0), 0.015, faces.TANK)
    patches += cylinder((0.040, -0.012, 0.099), (0.0, 0.0, 0.012), 0.013, faces.BEACON)
    for x, y, radius, painters in (
        (0.040, 0.037, 0.027, faces.WHEEL_FRONT_LEFT),
        (0.040, -0.037, 0.027, faces.WHEEL_FRONT_RIGHT),
        (-0.042, 0.037, 0.021, faces.WHEEL_REAR_LEFT),
        (-0.042, -0.037, 0.021, faces.WHEEL_REAR_RIGHT),
    ):
        outward = 0.016 if y > 0 else -0.016
        patches += cylinder((x, y, radius), (0.0, outward, 0.0), radius, painters)
    return patches


def build_demo_object() -> Mesh:
    """The rover as a Mesh with uv (v up) and texture (1024, 1024, 3) uint8 RGB."""
    mesh = painted_mesh(_parts(), TEXTURE_SIDE, PIXELS_PER_METRE)
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    return replace(mesh, vertices=np.round(mesh.vertices - centre, 7))


def _obj_text(mesh: Mesh) -> str:
    assert mesh.uv is not None
    assert mesh.normals is not None
    lines = [f'# {OBJECT_NAME}: made by kd6d_ros.data.demo_object, Apache-2.0, metres']
    lines += ['mtllib demo_object.mtl', f'o {OBJECT_NAME}', 'usemtl painted']
    lines += ['v {:.7f} {:.7f} {:.7f}'.format(*row) for row in mesh.vertices]
    lines += ['vt {:.7f} {:.7f}'.format(*row) for row in mesh.uv]
    lines += ['vn {:.6f} {:.6f} {:.6f}'.format(*row) for row in mesh.normals]
    lines += ['f ' + ' '.join(f'{i}/{i}/{i}' for i in face) for face in mesh.faces + 1]
    return '\n'.join(lines) + '\n'


MATERIAL = """newmtl painted
Ka 1.0 1.0 1.0
Kd 1.0 1.0 1.0
Ks 0.1 0.1 0.1
Ns 20.0
d 1.0
illum 2
map_Kd demo_object.png
"""

OBJECTS_YAML = f"""# Made by kd6d_ros.data.demo_object. Without symmetry.
unit: m
objects:
  1: {{name: {OBJECT_NAME}, display_name: Toy rover, mesh: demo_object.obj}}
"""


def write_demo_object(folder: Path) -> Path:
    """Write mesh, material, texture and objects.yaml into `folder` (made if missing); return the mesh's path.

    Raises:
        MeshError: the folder cannot be written.
    """
    import cv2

    folder = Path(folder)
    mesh = build_demo_object()
    assert mesh.texture is not None
    encoded, png = cv2.imencode('.png', mesh.texture[:, :, ::-1])
    if not encoded:
        raise MeshError('demo_object.png: this OpenCV cannot write PNG; install opencv-python-headless')
    contents = {
        'demo_object.png': png.tobytes(),
        'demo_object.mtl': MATERIAL.encode(),
        'demo_object.obj': _obj_text(mesh).encode(),
        'objects.yaml': OBJECTS_YAML.encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            aside = folder / f'.{name}.tmp'
            aside.write_bytes(content)
            os.replace(aside, folder / name)
    except OSError as error:
        raise MeshError(f'{folder}: cannot write the demo object ({error.strerror}); choose another folder') from None
    return folder / 'demo_object.obj'


def main(arguments: Sequence[str]) -> int:
    """Write the object into the one folder given."""
    if len(arguments) != 1 or arguments[0].startswith('-'):
        print('usage: python -m kd6d_ros.data.demo_object OUT_FOLDER', file=sys.stderr)
        return 2
    try:
        print(write_demo_object(Path(arguments[0])))
    except MeshError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
