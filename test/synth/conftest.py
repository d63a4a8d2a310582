"""Shared parts of the synth tests: a small camera, boxes, and a renderer or a skip."""

from __future__ import annotations

import numpy as np
import pytest

from kd6d_ros.types import Camera, Mesh

pytest.importorskip('moderngl', reason="the renderer needs pip install 'kd6d_ros[synth]'")


@pytest.fixture(scope='session')
def camera():
    """160 x 120 with a principal point well off the middle."""
    return Camera(np.array([[150.0, 0.0, 71.3], [0.0, 148.0, 64.8], [0.0, 0.0, 1.0]]), 160, 120)


@pytest.fixture(scope='session')
def renderer():
    from kd6d_ros.data.renderer.renderer import Renderer
    from kd6d_ros.errors import MissingDependencyError

    try:
        made = Renderer(160, 120)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    yield made
    made.release()


@pytest.fixture(scope='session')
def box():
    """A 10 x 16 x 6 cm box with vertex colours, faces outwards."""
    from kd6d_ros.data.scenes.shapes import box as unit_box

    unit = unit_box()
    colours = np.full((len(unit.vertices), 3), 200, np.uint8)
    return Mesh(unit.vertices * [0.10, 0.16, 0.06], unit.faces, colours, unit.normals)
