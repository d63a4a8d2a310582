"""The demo's film: a smooth path with no jumps, truth that agrees with the masks, the same pixels again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip('moderngl')

from kd6d_ros.data import demo_film
from kd6d_ros.geometry.transforms import transform_distance


def test_smooth_passes_through_its_keys_and_never_overshoots() -> None:
    for keys in (demo_film.KEYS, demo_film.PADDLE):
        for row in keys:
            np.testing.assert_allclose(demo_film.smooth(keys, row[0]), row[1:], atol=1e-12)
        for before, after in pairwise(keys):
            for time in np.linspace(before[0], after[0], 20):
                value = demo_film.smooth(keys, time)
                low, high = np.minimum(before[1:], after[1:]), np.maximum(before[1:], after[1:])
                assert (value >= low - 1e-9).all()
                assert (value <= high + 1e-9).all()


def test_the_camera_moves_without_jumps() -> None:
    views = [demo_film.cam_from_world(index / demo_film.RATE_HZ) for index in range(demo_film.FRAMES)]
    steps = [transform_distance(a.inverse(), b.inverse()) for a, b in pairwise(views)]
    assert max(distance for distance, _ in steps) < 0.05
    assert np.degrees(max(angle for _, angle in steps)) < 6.0


@pytest.mark.render
def test_frames_repeat_and_masks_agree_with_the_story() -> None:
    from kd6d_ros.errors import MissingDependencyError

    try:
        first = list(demo_film.film((0, 85, 180)))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    again = next(iter(demo_film.film((85,))))
    np.testing.assert_array_equal(first[1].image, again.image)
    assert first[0].visible_fraction == pytest.approx(1.0, abs=0.01)
    assert 0.3 < first[1].occluded_fraction < 0.6
    assert first[1].visible_fraction == pytest.approx(1 - first[1].occluded_fraction, abs=0.01)
    assert first[2].visible_fraction == 0.0
    # The room is all around: no pixel stays black.
    assert min(int(frame.image.sum(axis=2).min()) for frame in first) > 0
