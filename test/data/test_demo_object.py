"""The demo object: right size, no symmetry, outward faces, the same bytes every time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.data.demo_object import OBJECT_NAME, TEXTURE_SIDE, build_demo_object, main, write_demo_object
from kd6d_ros.data.demo_paint import Canvas, pack_tiles
from kd6d_ros.errors import MeshError


def test_size_and_budget() -> None:
    mesh = build_demo_object()
    extent = np.ptp(mesh.vertices, axis=0)
    assert 0.08 <= extent.max() <= 0.20
    assert len(mesh.faces) < 3000
    np.testing.assert_allclose(mesh.vertices.min(axis=0), -mesh.vertices.max(axis=0), atol=1e-6)
    assert mesh.texture is not None
    assert mesh.texture.shape == (TEXTURE_SIDE, TEXTURE_SIDE, 3)


def test_every_face_looks_outward_along_its_normals() -> None:
    mesh = build_demo_object()
    assert mesh.normals is not None
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    facing = (np.cross(b - a, c - a) * mesh.normals[mesh.faces].mean(axis=1)).sum(axis=1)
    assert facing.min() > 0
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_half_turns_do_not_map_the_shape_to_itself(axis: int) -> None:
    vertices = np.unique(build_demo_object().vertices, axis=0)
    turned = vertices * np.where(np.arange(3) == axis, 1.0, -1.0)
    nearest = np.linalg.norm(turned[:, None] - vertices[None], axis=2).min(axis=1)
    assert nearest.max() > 0.005


def test_files_are_deterministic_and_complete(tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    write_demo_object(tmp_path / 'a')
    write_demo_object(tmp_path / 'b')
    assert digests(tmp_path / 'a') == digests(tmp_path / 'b')
    assert set(digests(tmp_path / 'a')) == {
        'demo_object.obj',
        'demo_object.mtl',
        'demo_object.png',
        'objects.yaml',
    }
    assert OBJECT_NAME in (tmp_path / 'a' / 'objects.yaml').read_text()


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'taken').write_text('x')
    with pytest.raises(MeshError, match='cannot write the demo object'):
        write_demo_object(tmp_path / 'taken')
    assert main([str(tmp_path / 'taken')]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_tiles_never_overlap_and_too_many_are_refused() -> None:
    sizes = [(30, 20), (50, 20), (10, 40), (64, 8)]
    used = np.zeros((128, 128), dtype=int)
    for (x, y), (width, height) in zip(pack_tiles(sizes, 128, 2), sizes, strict=True):
        used[y - 2 : y + height + 2, x - 2 : x + width + 2] += 1
    assert used.max() == 1
    with pytest.raises(ValueError, match='do not fit'):
        pack_tiles([(100, 100)] * 3, 128, 0)


def test_text_fills_its_rectangle_and_nothing_else() -> None:
    canvas = Canvas(np.zeros((70, 50, 3), dtype=np.uint8))
    canvas.text('7', (0.0, 0.0, 1.0, 1.0), (255, 0, 0))
    assert canvas.pixels[:10, :, 0].min() == 255
    assert canvas.pixels[-10:, :10, 0].max() == 0
