"""The advice on lost images names what is not in use yet."""

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')

from kd6d_ros.ros.health import loss_cure

PROFILE = {'FASTDDS_DEFAULT_PROFILES_FILE': '/etc/profile.xml'}


@pytest.mark.parametrize(
    ('compressed', 'environment', 'named', 'left_out'),
    [
        (False, {}, ['this node and the camera driver', 'image_transport'], []),
        (False, PROFILE, ['the camera driver', 'image_transport'], ['this node']),
        (True, PROFILE, ['the camera driver', 'rate'], ['this node', 'image_transport']),
        (True, {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, ['rate'], ['Fast DDS', 'image_transport']),
        (False, {'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}, ['Fast DDS'], []),
    ],
)
def test_the_cure_is_not_what_is_there_already(compressed, environment, named, left_out):
    cure = loss_cure(compressed, environment)
    assert all(word in cure for word in named)
    assert not any(word in cure for word in left_out)
