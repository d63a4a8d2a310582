"""What the node makes of a bundle: objects with the meshes that the markers show."""

import numpy as np
import pytest

from kd6d_ros.errors import ConfigError, MeshError
from kd6d_ros.inference.bundle import write_bundle
from kd6d_ros.inference.bundle_records import DecodeSpec, LevelSpec, NetworkSpec
from kd6d_ros.ros.factory import with_mesh
from kd6d_ros.types import Mesh, ObjectModel

CORNERS = np.array([[x, y, z] for x in (0, 0.1) for y in (0, 0.1) for z in (0, 0.1)])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
PLY = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 4
property list uchar int vertex_indices
end_header
0 0 0
200 0 0
0 200 0
0 0 200
3 0 2 1
3 0 1 3
3 0 3 2
3 1 2 3
"""


@pytest.fixture
def bundle(tmp_path):
    engine = tmp_path / 'any.onnx'
    engine.write_bytes(b'not looked into')
    return write_bundle(
        tmp_path / 'b',
        name='b',
        objects=[ObjectModel('mug', 1, 0.17, CORNERS), ObjectModel('can', 2, 0.17, CORNERS)],
        network=NetworkSpec(128, 1.5, (640, 480), 256, tuple(LevelSpec(s, 4.0 * s) for s in (8, 16, 32))),
        decode=DecodeSpec(),
        engines={'fp32': engine},
        licence='Apache-2.0',
        origin='made here',
        meshes={'mug': Mesh(CORNERS[[0, 1, 2, 4]], FACES)},
    )


def test_objects_carry_the_meshes_of_the_bundle(bundle):
    mesh = with_mesh(bundle, 'mug', '').mesh
    np.testing.assert_allclose(mesh.vertices, CORNERS[[0, 1, 2, 4]], atol=1e-7)
    assert with_mesh(bundle, 'can', '').mesh is None


def test_meshes_of_a_folder_are_in_millimetres(bundle, tmp_path):
    (tmp_path / 'obj_000001.ply').write_text(PLY)
    assert with_mesh(bundle, 'mug', str(tmp_path)).mesh.vertices.max() == pytest.approx(0.2)
    with pytest.raises(MeshError, match=r'obj_000002\.ply'):
        with_mesh(bundle, 'can', str(tmp_path))
    with pytest.raises(ConfigError, match=r'meshes: /nowhere is no folder: set it to one with obj_000001\.ply'):
        with_mesh(bundle, 'mug', '/nowhere')
