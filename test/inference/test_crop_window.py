"""The blur before shrinking looks at the window only, and gives what blurring the whole image would."""

import cv2
import numpy as np
import pytest

from kd6d_ros.inference.crop import Crop


@pytest.mark.parametrize('centre', [(320, 240), (10, 470), (700, 240), (-300, -300)])
def test_prefilter_of_the_window_equals_that_of_the_whole_image(centre):
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    crop = Crop.square(centre, 400.0, 128)
    sigma = 0.5 * np.sqrt(1 / crop.scale**2 - 1)
    whole = cv2.warpAffine(
        cv2.GaussianBlur(image, (0, 0), sigma),
        crop.net_from_image(),
        (128, 128),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(114, 114, 114),
    )
    difference = np.abs(crop.extract(image).astype(int) - whole)
    assert difference.max() <= 2
