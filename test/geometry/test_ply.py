"""The PLY reader: both encodings, what BOP files carry, and every kind of broken file."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd6d_ros.errors import MeshError
from kd6d_ros.geometry.ply import read_ply

VERTICES = np.array([[0, 0, 0], [100, 0, 0], [0, 50, 0], [0, 0, 25.5]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]])

HEADER = """ply
format {form} 1.0
comment made for a test
obj_info nothing
element vertex 4
property float x
property float y
property float z
property float nx
property float ny
property float nz
property uchar red
property uchar green
property uchar blue
property uchar alpha
element face 4
property list uchar int vertex_indices
end_header
"""


def ascii_file():
    lines = [f'{x} {y} {z} 0 0 1 {r} {g} {b} 255' for (x, y, z), (r, g, b) in zip(VERTICES, COLOURS, strict=True)]
    lines += [f'3 {a} {b} {c}' for a, b, c in FACES]
    return (HEADER.format(form='ascii') + '\n'.join(lines) + '\n').encode()


def binary_file(order='<'):
    form = 'binary_little_endian' if order == '<' else 'binary_big_endian'
    body = b''.join(struct.pack(f'{order}6f4B', *v, 0, 0, 1, *c, 255) for v, c in zip(VERTICES, COLOURS, strict=True))
    body += b''.join(struct.pack(f'{order}B3i', 3, *face) for face in FACES)
    return HEADER.format(form=form).encode() + body


@pytest.fixture
def write(tmp_path):
    def write_file(data):
        path = tmp_path / 'mug.ply'
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write_file


@pytest.mark.parametrize('data', [ascii_file(), binary_file('<'), binary_file('>')], ids=['ascii', 'le', 'be'])
def test_all_encodings_read_the_same(write, data):
    mesh = read_ply(write(data), 0.001)
    np.testing.assert_allclose(mesh.vertices, VERTICES * 0.001, atol=1e-12)
    np.testing.assert_array_equal(mesh.faces, FACES)
    np.testing.assert_array_equal(mesh.colours, COLOURS)
    np.testing.assert_array_equal(mesh.normals, [[0, 0, 1]] * 4)
    assert mesh.faces.dtype == np.int64
    assert mesh.colours.dtype == np.uint8
    assert mesh.uv is None


def test_windows_line_ends(write):
    mesh = read_ply(write(ascii_file().replace(b'\n', b'\r\n')))
    np.testing.assert_allclose(mesh.vertices, VERTICES)


POLYGONS = """ply
format {form} 1.0
element vertex 5
property double x
property double y
property double z
property float s
property float t
element face 2
property uchar flags
property list uchar uint vertex_index
property list uchar float texcoord
end_header
"""


def test_polygons_become_fans_and_other_lists_are_skipped(write):
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1)]
    text = ''.join(f'{x} {y} {z} 0.25 0.75\n' for x, y, z in points)
    text += '7 4 0 1 2 3 2 0.5 0.5\n7 3 0 1 4 0\n'
    mesh = read_ply(write(POLYGONS.format(form='ascii') + text))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])
    np.testing.assert_allclose(mesh.uv, [[0.25, 0.75]] * 5)
    assert mesh.colours is None
    body = b''.join(struct.pack('<3d2f', *point, 0.25, 0.75) for point in points)
    body += struct.pack('<BB4IB2f', 7, 4, 0, 1, 2, 3, 2, 0.5, 0.5) + struct.pack('<BB3IB', 7, 3, 0, 1, 4, 0)
    binary = read_ply(write(POLYGONS.format(form='binary_little_endian').encode() + body))
    np.testing.assert_array_equal(binary.faces, mesh.faces)
    np.testing.assert_allclose(binary.vertices, mesh.vertices)


def test_a_point_cloud_has_no_faces(write):
    text = 'ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n'
    assert read_ply(write(text + '1 2 3\n')).faces.shape == (0, 3)


def test_float_colours_are_scaled(write):
    names = ('x', 'y', 'z', 'red', 'green', 'blue')
    columns = ''.join(f'property float {name}\n' for name in names)
    text = f'ply\nformat binary_little_endian 1.0\nelement vertex 1\n{columns}end_header\n'
    mesh = read_ply(write(text.encode() + struct.pack('<6f', 0, 0, 1, 1.0, 0.5, 0.0)))
    np.testing.assert_array_equal(mesh.colours, [[255, 128, 0]])


GOOD = ascii_file().decode()


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'', 'not a PLY file'),
        (b'solid cube\n', 'not a PLY file'),
        (b'ply\nformat ascii 1.0\n', 'no end_header line'),
        (GOOD.replace('format ascii 1.0\n', ''), 'no format line'),
        (GOOD.replace('format ascii', 'format morse'), 'line 2: cannot understand PLY header "format morse 1.0"'),
        (GOOD.replace('float nz', 'quad nz'), 'line 11: cannot understand PLY header "property quad nz"'),
        (GOOD.replace('vertex 4', 'vertex -4'), 'line 5: cannot understand'),
        (GOOD.replace('element vertex 4\n', ''), 'line 5: cannot understand PLY header "property float x"'),
        (GOOD.replace('vertex 4', 'vertex 4000'), 'data ends early'),
        (GOOD.replace('face 4', 'face 999999999999'), r'999999999999 of "face" do not fit'),
        (GOOD.replace('property float x', 'property float w'), 'no vertices with x, y and z'),
        (GOOD.replace('100.0', 'nan'), 'vertex 1 has NaN'),
        (GOOD.replace('100.0', 'x1'), 'not a number'),
        (GOOD.replace('3 0 2 1', '3 0 2 9'), 'a face names vertex 9 of 4'),
        (GOOD.replace('3 0 2 1', '3 0 2 -1'), 'a face names vertex -1 of 4'),
        (GOOD.replace('3 0 2 1', '-3 0 2 1'), 'a PLY face claims -3 corners'),
        (binary_file()[:-3], 'data ends early'),
        (binary_file()[:-60], 'data ends early'),
        (GOOD.replace('property float nx', 'property list uchar float nx'), 'with list properties'),
    ],
)
def test_broken_files_end_in_one_line(write, data, message):
    with pytest.raises(MeshError, match=message) as caught:
        read_ply(write(data))
    assert str(caught.value).startswith(str(caught.value).split('mug.ply')[0] + 'mug.ply')
    assert '\n' not in str(caught.value)


def test_missing_and_oversized_files(tmp_path, write, monkeypatch):
    with pytest.raises(MeshError, match=r'absent\.ply: cannot be read: No such file'):
        read_ply(tmp_path / 'absent.ply')
    with pytest.raises(MeshError, match='cannot be read'):
        read_ply(tmp_path)
    monkeypatch.setattr('kd6d_ros.geometry.ply.MAX_FILE_BYTES', 100)
    with pytest.raises(MeshError, match='decimate the mesh'):
        read_ply(write(ascii_file()))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([ascii_file(), binary_file()]), st.data())
def test_random_damage_never_escapes_as_another_error(write, data, draw):
    """Whatever is overwritten, cut or inserted: a mesh or a MeshError, quickly."""
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(damaged) - 1))
        kind = draw.draw(st.sampled_from(['overwrite', 'cut', 'insert']))
        junk = draw.draw(st.binary(min_size=1, max_size=6))
        if kind == 'overwrite':
            damaged[place : place + len(junk)] = junk
        elif kind == 'cut':
            del damaged[place : place + 5]
        else:
            damaged[place:place] = junk
    path = write(bytes(damaged))
    message, mesh = '', None
    try:
        mesh = read_ply(path)
    except MeshError as error:
        message = str(error)
    assert len(message.splitlines()) == (mesh is None)
    if mesh is not None:
        assert np.isfinite(mesh.vertices).all()
        assert len(mesh.faces) == 0 or mesh.faces.max() < len(mesh.vertices)
