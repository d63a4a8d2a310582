"""Mesh files: formats, colours, textures, decimation, and every way a file can be bad."""

from __future__ import annotations

import struct

import numpy as np
import pytest

pytest.importorskip('trimesh')
pytest.importorskip('PIL')

from PIL import Image

from kd6d_ros.data.mesh_files import decimate, load_mesh, mesh_ply, sample_texture
from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.meshes import diameter
from kd6d_ros.geometry.ply import read_ply

SQUARE = [(0, 0, 0), (100, 0, 0), (100, 80, 0), (0, 80, 0)]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30)]
UV = [(0, 0), (1, 0), (1, 1), (0, 1)]


def write_ply(path, vertices=SQUARE, colours=None, uv=None, faces=((0, 1, 2), (0, 2, 3)), texture=None):
    lines = ['ply', 'format ascii 1.0']
    if texture:
        lines.append(f'comment TextureFile {texture}')
    lines += [f'element vertex {len(vertices)}', *(f'property float {axis}' for axis in 'xyz')]
    if colours:
        lines += [f'property uchar {name}' for name in ('red', 'green', 'blue')]
    if uv:
        lines += ['property float texture_u', 'property float texture_v']
    lines += [f'element face {len(faces)}', 'property list uchar int vertex_indices', 'end_header']
    for index, vertex in enumerate(vertices):
        row = [*vertex, *(colours[index] if colours else ()), *(uv[index] if uv else ())]
        lines.append(' '.join(str(value) for value in row))
    lines += [' '.join(str(value) for value in (len(face), *face)) for face in faces]
    path.write_text('\n'.join(lines) + '\n')
    return path


def write_texture(path):
    """Four quarters: top left red, top right green, bottom left blue, bottom right white."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :32, 0] = 255
    picture[:32, 32:, 1] = 255
    picture[32:, :32, 2] = 255
    picture[32:, 32:] = 255
    Image.fromarray(picture).save(path)
    return picture


def write_obj(folder, mtl='material.mtl', texture='skin.png'):
    folder.mkdir(exist_ok=True)
    lines = [f'mtllib {mtl}', *(f'v {x / 1000} {y / 1000} {z}' for x, y, z in SQUARE)]
    lines += [f'vt {u} {v}' for u, v in UV]
    lines += ['usemtl skin', 'f 1/1 2/2 3/3', 'f 1/1 3/3 4/4']
    (folder / 'textured.obj').write_text('\n'.join(lines) + '\n')
    (folder / 'material.mtl').write_text(f'newmtl skin\nKd 1 1 1\nmap_Kd {texture}\n')
    return folder / 'textured.obj'


def test_ply_with_vertex_colours_in_millimetres(tmp_path):
    mesh = load_mesh(write_ply(tmp_path / 'a.ply', colours=COLOURS), 0.001)
    np.testing.assert_allclose(mesh.vertices, np.array(SQUARE) / 1000)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.colours, COLOURS)
    assert mesh.texture is None
    assert mesh.vertices.dtype == np.float64
    assert mesh.colours.dtype == np.uint8


def test_quads_become_triangles(tmp_path):
    mesh = load_mesh(write_ply(tmp_path / 'a.ply', faces=((0, 1, 2, 3),)), 0.001)
    assert mesh.faces.shape == (2, 3)
    assert mesh.colours is None


def test_bop_ply_with_a_texture(tmp_path):
    picture = write_texture(tmp_path / 'obj_000001.png')
    path = write_ply(tmp_path / 'obj_000001.ply', uv=UV, texture='obj_000001.png')
    mesh = load_mesh(path, 0.001)
    np.testing.assert_array_equal(mesh.texture, picture)
    assert mesh.uv.shape == (len(mesh.vertices), 2)
    # v points up: the vertex at the origin has the bottom left corner of the picture, which is blue.
    colours = sample_texture(mesh)
    corner = int(np.argmin(np.linalg.norm(mesh.vertices, axis=1)))
    assert colours[corner].tolist() == [0, 0, 255]
    far = int(np.argmax(mesh.vertices.sum(axis=1)))
    assert colours[far].tolist() == [0, 255, 0]


def test_obj_with_material_and_texture(tmp_path):
    path = write_obj(tmp_path / 'object')
    picture = write_texture(tmp_path / 'object' / 'skin.png')
    mesh = load_mesh(path)
    np.testing.assert_array_equal(mesh.texture, picture)
    assert diameter(mesh.vertices) == pytest.approx(np.hypot(0.1, 0.08))
    np.testing.assert_allclose(np.abs(mesh.normals[:, 2]), 1.0)


def test_names_in_latin_1(tmp_path):
    path = write_obj(tmp_path / 'object')
    write_texture(tmp_path / 'object' / 'skin.png')
    path.write_bytes(b'# B\xf6rse\n' + path.read_bytes())
    (path.parent / 'material.mtl').write_bytes(b'# gr\xfcn\n' + (path.parent / 'material.mtl').read_bytes())
    assert load_mesh(path).texture.shape == (64, 64, 3)


def test_binary_stl(tmp_path):
    triangle = struct.pack('<12fH', 0, 0, 1, 0, 0, 0, 50, 0, 0, 0, 40, 0, 0)
    (tmp_path / 'a.STL').write_bytes(b'\0' * 80 + struct.pack('<I', 1) + triangle)
    mesh = load_mesh(tmp_path / 'a.STL', 0.001)
    assert mesh.faces.shape == (1, 3)
    assert mesh.colours is None
    assert diameter(mesh.vertices) == pytest.approx(np.hypot(0.05, 0.04))


def test_missing_texture_is_an_error(tmp_path):
    path = write_ply(tmp_path / 'a.ply', uv=UV, texture='gone.png')
    with pytest.raises(MeshError, match=r"a\.ply: names 'gone\.png', which is not there; put it beside the mesh"):
        load_mesh(path, 0.001)
    with pytest.raises(MeshError, match=r"names 'skin\.png', which is not there"):
        load_mesh(write_obj(tmp_path / 'object'))
    with pytest.raises(MeshError, match=r"names 'other\.mtl', which is not there"):
        load_mesh(write_obj(tmp_path / 'object', mtl='other.mtl'))


@pytest.mark.parametrize('name', ['../secret.png', '/etc/hostname', '..\\secret.png'])
def test_texture_outside_the_folder_is_refused(tmp_path, name):
    write_texture(tmp_path / 'secret.png')
    with pytest.raises(MeshError, match='outside its own folder'):
        load_mesh(write_obj(tmp_path / 'object', texture=name))


def test_link_out_of_the_folder_is_refused(tmp_path):
    write_texture(tmp_path / 'secret.png')
    path = write_obj(tmp_path / 'object')
    (path.parent / 'skin.png').symlink_to(tmp_path / 'secret.png')
    with pytest.raises(MeshError, match='outside its own folder'):
        load_mesh(path)


def test_broken_and_huge_textures(tmp_path):
    path = write_obj(tmp_path / 'object')
    skin = path.parent / 'skin.png'
    write_texture(skin)
    whole = skin.read_bytes()
    huge = bytearray(whole)
    huge[16:24] = (60000).to_bytes(4, 'big') * 2
    skin.write_bytes(bytes(huge))
    with pytest.raises(MeshError, match=r'texture of 60000 x 60000 pixels; the limit is 8192 x 8192'):
        load_mesh(path)
    skin.write_bytes(b'no picture')
    with pytest.raises(MeshError, match=r'skin\.png: not a picture that can be used as a texture'):
        load_mesh(path)
    skin.write_bytes(whole[:80])
    with pytest.raises(MeshError, match='texture cannot be decoded'):
        load_mesh(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('v 0 0 0\nv 1 0 0\nv 0 1 0\n', 'no faces'),
        ('v 0 0 0\nv nan 0 0\nv 0 0.1 0\nf 1 2 3\n', 'NaN'),
        ('v 0 0 0\nv 100 0 0\nv 0 10 0\nf 1 2 3\n', r'mesh is 100\.5 m across .*millimetres'),
        ('v 0 0 0\nv 0.0001 0 0\nv 0 0.0001 0\nf 1 2 3\n', 'scaled to metres twice'),
        ('v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n', 'no extent'),
        ('', 'no faces|not a readable'),
        ('hello', 'no faces|not a readable'),
    ],
)
def test_bad_meshes(tmp_path, content, message):
    path = tmp_path / 'mug.obj'
    path.write_text(content)
    with pytest.raises(MeshError, match=message) as caught:
        load_mesh(path)
    assert 'mug.obj' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_bad_ply_files(tmp_path):
    path = tmp_path / 'a.ply'
    write_ply(path, faces=((0, 1, 2), (0, 2, 9)))
    with pytest.raises(MeshError, match=r'a\.ply: a face names vertex 9 of 4'):
        load_mesh(path, 0.001)
    text = write_ply(path).read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(MeshError, match=r'a\.ply'):
        load_mesh(path, 0.001)
    path.write_bytes(b'ply\nformat binary_little_endian 1.0\nelement vertex 9999999999\nproperty float x\nend_header\n')
    with pytest.raises(MeshError, match=r'a\.ply'):
        load_mesh(path, 0.001)


def test_bad_arguments(tmp_path):
    with pytest.raises(MeshError, match='no such file'):
        load_mesh(tmp_path / 'none.ply')
    with pytest.raises(MeshError, match=r'not a mesh file that is read here \(\.ply, \.obj, \.stl\)'):
        load_mesh(tmp_path / 'scene.glb')
    with pytest.raises(MeshError, match='scale 0 to metres'):
        load_mesh(tmp_path / 'a.ply', 0)


def sphere(faces_wanted=5000):
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
    colours = np.where(ball.vertices[:, 2:] > 0, [[255, 0, 0]], [[0, 0, 255]]).astype(np.uint8)
    from kd6d_ros.types import Mesh

    assert len(ball.faces) >= faces_wanted
    return Mesh(np.array(ball.vertices), np.array(ball.faces), colours=colours)


def test_decimation_keeps_shape_and_colours():
    pytest.importorskip('fast_simplification')
    mesh = sphere()
    small = decimate(mesh, 800)
    assert 700 <= len(small.faces) <= 800
    np.testing.assert_allclose(np.linalg.norm(small.vertices, axis=1), 0.05, atol=0.0015)
    clear = np.abs(small.vertices[:, 2]) > 0.01
    up = small.vertices[clear, 2] > 0
    np.testing.assert_array_equal(small.colours[clear, 0] == 255, up)
    assert decimate(mesh, 10**6) is mesh
    with pytest.raises(MeshError, match='expected at least 4'):
        decimate(mesh, 2)


def rounded_shapes():
    """Torus, capsule and a squashed ball of 4000 to 5200 faces."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
    ball.apply_scale([1.0, 0.7, 0.3])
    torus = trimesh.creation.torus(0.05, 0.015, major_sections=64, minor_sections=32)
    capsule = trimesh.creation.capsule(0.06, 0.02, count=[48, 48])
    return {'ball': ball, 'torus': torus, 'capsule': capsule}


@pytest.mark.parametrize('shape', ['ball', 'torus', 'capsule'])
@pytest.mark.parametrize('textured', [False, True])
def test_a_decimated_mesh_stays_inside_the_box_of_the_original(shape, textured):
    """Decimation moves corners outwards to keep the volume; keypoints and diameters must not grow with it."""
    pytest.importorskip('fast_simplification')
    from kd6d_ros.types import Mesh

    whole = rounded_shapes()[shape]
    assert 4000 <= len(whole.faces) <= 5200
    vertices = np.array(whole.vertices)
    uv = (vertices[:, :2] - vertices[:, :2].min(axis=0)) / np.ptp(vertices[:, :2], axis=0)
    look = {'uv': uv, 'texture': np.full((8, 8, 3), 50, np.uint8)} if textured else {}
    small = decimate(Mesh(vertices, np.array(whole.faces), **look), 300)
    assert 200 <= len(small.faces) <= 300
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    assert (small.vertices.min(axis=0) >= low).all()
    assert (small.vertices.max(axis=0) <= high).all()
    np.testing.assert_allclose(np.ptp(small.vertices, axis=0), high - low, rtol=0.08)


@pytest.mark.slow
def test_all_real_meshes(shared_data):
    for path in sorted([*shared_data.glob('lmo/models/*.ply'), *shared_data.glob('lm_more/models/*.ply')]):
        mesh = load_mesh(path, 0.001)
        assert 0.05 < diameter(mesh.vertices) < 0.4, path
        assert mesh.colours.shape == mesh.vertices.shape
    for path in sorted(shared_data.glob('ycb/*/*.obj')):
        mesh = load_mesh(path)
        assert 0.05 < diameter(mesh.vertices) < 0.4, path
        assert mesh.texture.shape == (1024, 1024, 3)
        assert 0 <= mesh.uv.min() <= mesh.uv.max() <= 1
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)


def texture_error(mesh, reference, rng):
    """Mean difference in colour between a textured box map and points drawn on its surface."""
    from kd6d_ros.types import Mesh

    weights = rng.dirichlet([1, 1, 1], len(mesh.faces))
    points = (weights[..., None] * mesh.vertices[mesh.faces]).sum(axis=1)
    uv = (weights[..., None] * mesh.uv[mesh.faces]).sum(axis=1)
    got = sample_texture(Mesh(points, mesh.faces, uv=uv, texture=mesh.texture)).astype(float)
    return np.abs(got - reference(points)).mean()


def test_decimation_keeps_the_texture_of_a_cylinder_with_a_seam():
    """The picture wraps around: at the seam two coordinates meet, and no triangle may span the picture."""
    pytest.importorskip('fast_simplification')
    from kd6d_ros.types import Mesh

    columns, rows = 97, 60
    angle, height = np.linspace(0, 2 * np.pi, columns), np.linspace(0, 0.1, rows)
    a, h = np.meshgrid(angle, height)
    vertices = np.stack([0.05 * np.cos(a), 0.05 * np.sin(a), h], axis=-1).reshape(-1, 3)
    vertices[columns - 1 :: columns] = vertices[::columns]  # the seam closes exactly
    uv = np.stack([a / (2 * np.pi), h / 0.1], axis=-1).reshape(-1, 2)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + columns + 1], axis=1),
            np.stack([corner, corner + columns + 1, corner + columns], axis=1),
        ]
    )
    texture = np.zeros((256, 256, 3), np.uint8)
    texture[..., 0] = np.arange(256)[None]
    texture[..., 1] = 255 - np.arange(256)[:, None]

    def truth(points):
        turn = np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * np.pi) / (2 * np.pi)
        return np.stack([turn * 255, points[:, 2] / 0.1 * 255, np.zeros(len(points))], axis=1)

    mesh = Mesh(vertices, faces, uv=uv, texture=texture)
    small = decimate(mesh, 1500)
    assert 1200 <= len(small.faces) <= 1500
    assert len(small.vertices) < 1200
    assert texture_error(small, truth, np.random.default_rng(0)) < 4.0
    spread = np.ptp(small.uv[small.faces][..., 0], axis=1)
    assert spread.max() < 0.2
    np.testing.assert_allclose(np.linalg.norm(small.normals, axis=1), 1, atol=1e-9)
    baked = decimate(mesh, 1500, bake_texture=True)
    assert baked.texture is None
    assert baked.colours.shape == baked.vertices.shape


@pytest.mark.parametrize('textured', [False, True])
def test_a_mesh_written_as_ply_comes_back_in_metres_with_its_colours(tmp_path, textured):
    if textured:
        write_texture(tmp_path / 'skin.png')
        mesh = load_mesh(write_obj(tmp_path))
        colours = sample_texture(mesh)
    else:
        mesh = load_mesh(write_ply(tmp_path / 'square.ply', colours=COLOURS), scale_to_metres=0.001)
        colours = mesh.colours
    written = tmp_path / 'obj_000001.ply'
    written.write_bytes(mesh_ply(mesh))
    again = read_ply(written, 0.001)
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-8)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    np.testing.assert_array_equal(again.colours, colours)
    assert mesh_ply(mesh) == written.read_bytes()
