"""The launch file, read by the real launch and launch_ros where they are installed."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def module():
    pytest.importorskip('launch_ros', reason='launch_ros is not on PyPI: it comes with ROS 2')
    spec = importlib.util.spec_from_file_location('pose_launch', ROOT / 'launch' / 'pose.launch.py')
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def context(module):
    from launch import LaunchContext

    context = LaunchContext()
    for item in module.ARGUMENTS:
        item.execute(context)
    return context


def test_every_argument_is_declared_at_the_top_with_a_description(module):
    description = module.generate_launch_description()
    arguments = {item.name: item for item in description.get_launch_arguments()}
    assert set(arguments) == {item.name for item in module.ARGUMENTS}
    for item in arguments.values():
        # launch appends the choices.
        assert item.description.partition(' Valid choices')[0].endswith('.'), item.name
        assert item.default_value is not None, item.name
    assert arguments['image_transport'].choices == ['', 'raw', 'compressed']
    assert {'name', 'namespace', 'params_file', 'bundle', 'image_topic', 'camera_info_topic'} <= set(arguments)
    assert {'objects', 'tf_prefix', 'use_sim_time', 'autostart', 'log_level', 'rviz'} <= set(arguments)


def test_default_files_exist(module):
    for item in module.ARGUMENTS:
        for substitution in item.default_value:
            text = getattr(substitution, 'text', '')
            assert not text.endswith(('.yaml', '.rviz')) or Path(text).is_file(), text


def test_only_given_arguments_override_the_parameter_file(module):
    values = dict.fromkeys((item.name for item in module.ARGUMENTS), '')
    assert module.overrides(values) == {}
    values.update(bundle='lmo', image_rectified='false', objects='mug,can')
    assert module.overrides(values) == {'bundle': 'lmo', 'image_rectified': False, 'objects': 'mug,can'}


def test_the_profile_is_set_unless_the_user_has_one_or_another_rmw(module):
    both = module.dds_environment({})
    assert set(both) == {'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'}
    assert all(Path(value).name == 'fastdds_profile.xml' and Path(value).is_file() for value in both.values())
    assert module.dds_environment({'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}) == both
    assert module.dds_environment({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}) == {}
    assert module.dds_environment({'FASTRTPS_DEFAULT_PROFILES_FILE': '/mine.xml'}) == {}
    assert module.dds_environment({'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'}) == {}


def test_starting_gives_the_node_the_bring_up_and_rviz(module, context):
    from launch.actions import EmitEvent, RegisterEventHandler
    from launch_ros.actions import LifecycleNode

    actions = module.start(context)
    kinds = [type(item) for item in actions]
    assert kinds[0] is LifecycleNode
    assert RegisterEventHandler in kinds
    assert EmitEvent in kinds
    assert all(item.condition is not None for item in actions[1:])


def test_rviz_keeps_the_frame_of_its_file_unless_one_is_given(module):
    assert module.rviz_arguments({'rviz_config': 'a.rviz', 'rviz_frame': ''}) == ['-d', 'a.rviz']
    given = module.rviz_arguments({'rviz_config': 'a.rviz', 'rviz_frame': 'left_optical_frame'})
    assert given == ['-d', 'a.rviz', '-f', 'left_optical_frame']


def test_a_parameter_file_that_is_not_there_is_named(module, context):
    context.launch_configurations['params_file'] = '/nowhere/pose.yaml'
    with pytest.raises(RuntimeError, match=r'params_file /nowhere/pose\.yaml: no such file'):
        module.start(context)


def test_a_bundle_that_looks_like_a_number_stays_a_name(module, context):
    from launch_ros.utilities import evaluate_parameters, normalize_parameters

    given = module.typed({'bundle': '1', 'tf_prefix': 'no', 'image_rectified': True})
    (values,) = evaluate_parameters(context, normalize_parameters([given]))
    assert values == {'bundle': '1', 'tf_prefix': 'no', 'image_rectified': True}
