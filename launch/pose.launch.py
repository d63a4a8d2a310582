"""Start the pose estimator and bring it to active.

    ros2 launch kd6d_ros pose.launch.py bundle:=demo image_topic:=/camera/image_raw

The topics of common drivers:

  RealSense (realsense2_camera):  image_topic:=/camera/camera/color/image_raw
                                  camera_info_topic:=/camera/camera/color/camera_info
  ZED (zed_wrapper):              image_topic:=/zed/zed_node/rgb/image_rect_color image_rectified:=true
                                  camera_info_topic:=/zed/zed_node/rgb/camera_info
  usb_cam, v4l2_camera:           image_topic:=/image_raw camera_info_topic:=/camera_info

An argument that is left empty takes its value from params_file.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from kd6d_ros.benchmark.processes import PROFILE_VARIABLES

# This file is in share/kd6d_ros/launch when installed and in launch/ of the repository otherwise; config/ is
# beside it in both places.
CONFIG = Path(__file__).resolve().parent.parent / 'config'
BOOL = ['true', 'false']
FAST_DDS = ('rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp')

ARGUMENTS = [
    DeclareLaunchArgument('name', default_value='pose_estimator', description='Name of the node.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node; also the default prefix of its TF frames.'
    ),
    DeclareLaunchArgument(
        'params_file', default_value=str(CONFIG / 'pose.yaml'), description='YAML file with parameters of the node.'
    ),
    DeclareLaunchArgument(
        'bundle',
        default_value='',
        description='Model bundle: a name or the path of a folder. Empty: as in params_file.',
    ),
    DeclareLaunchArgument(
        'image_topic',
        default_value='/camera/image_raw',
        description='Topic of the raw image; with image_transport:=compressed "/compressed" is appended.',
    ),
    DeclareLaunchArgument(
        'camera_info_topic', default_value='/camera/camera_info', description='Topic of the CameraInfo of that image.'
    ),
    DeclareLaunchArgument(
        'detections_topic',
        default_value='detections_in',
        description='Topic of 2D boxes (vision_msgs/Detection2DArray), read when use_detections is true.',
    ),
    DeclareLaunchArgument(
        'image_transport',
        default_value='',
        choices=['', 'raw', 'compressed'],
        description='Which image topic to read. Empty: as in params_file.',
    ),
    DeclareLaunchArgument(
        'image_rectified',
        default_value='',
        choices=['', *BOOL],
        description='true: rectified image, P counts; false: raw image, K and D count. Empty: as in params_file.',
    ),
    DeclareLaunchArgument(
        'objects',
        default_value='',
        description='Names of the objects to look for, with commas between them. Empty: as in params_file.',
    ),
    DeclareLaunchArgument(
        'tf_prefix', default_value='', description='Prefix of the TF frames of objects. Empty: as in params_file.'
    ),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=BOOL, description='Take the time from /clock (bags, simulation).'
    ),
    DeclareLaunchArgument(
        'autostart', default_value='true', choices=BOOL, description='Configure and activate the node.'
    ),
    DeclareLaunchArgument(
        'log_level',
        default_value='info',
        choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severity of log messages.',
    ),
    DeclareLaunchArgument('rviz', default_value='false', choices=BOOL, description='Start RViz as well.'),
    DeclareLaunchArgument(
        'rviz_config', default_value=str(CONFIG / 'pose.rviz'), description='Configuration file of RViz.'
    ),
    DeclareLaunchArgument(
        'rviz_frame',
        default_value='',
        description="Fixed frame of RViz, such as the camera's optical frame. Empty: as in rviz_config.",
    ),
]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context):
    """The actions, once the values of the arguments are known."""
    value = {item.name: LaunchConfiguration(item.name).perform(context) for item in ARGUMENTS}
    if not Path(value['params_file']).is_file():
        # launch_ros takes a path that is no file for YAML text, or fails much later.
        raise RuntimeError(f'params_file {value["params_file"]}: no such file')
    environment = dds_environment(context.environment)
    simulated = {'use_sim_time': value['use_sim_time'] == 'true'}
    node = LifecycleNode(
        package='kd6d_ros',
        executable='pose_estimator',
        name=value['name'],
        namespace=value['namespace'],
        parameters=[value['params_file'], simulated, typed(overrides(value))],
        remappings=[
            ('image', value['image_topic']),
            ('camera_info', value['camera_info_topic']),
            ('detections_in', value['detections_topic']),
        ],
        arguments=['--ros-args', '--log-level', value['log_level']],
        additional_env=environment,
        output='screen',
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=rviz_arguments(value),
        parameters=[simulated],
        additional_env=environment,
        condition=IfCondition(value['rviz']),
    )
    return [node, *bring_up(node, IfCondition(value['autostart'])), rviz]


def overrides(value):
    """Parameters whose arguments were given."""
    given = {name: value[name] for name in ('bundle', 'image_transport', 'objects', 'tf_prefix') if value[name]}
    if value['image_rectified']:
        given['image_rectified'] = value['image_rectified'] == 'true'
    return given


def rviz_arguments(value):
    return ['-d', value['rviz_config'], *(['-f', value['rviz_frame']] if value['rviz_frame'] else [])]


def typed(given):
    """The same, with strings that stay strings: launch_ros would read a bundle called 1 or no as YAML."""
    strings = {'bundle', 'image_transport', 'tf_prefix'}
    return {name: ParameterValue(item, value_type=str) if name in strings else item for name, item in given.items()}


def bring_up(node, condition):
    """Configure the node, and activate it when that succeeded."""
    configure = EmitEvent(event=change(node, Transition.TRANSITION_CONFIGURE), condition=condition)
    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state='configuring',
        goal_state='inactive',
        entities=[EmitEvent(event=change(node, Transition.TRANSITION_ACTIVATE))],
    )
    return [RegisterEventHandler(activate, condition=condition), configure]


def change(node, transition):
    return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)


def dds_environment(environment):
    """The Fast DDS profile of this package, unless the user has one or another RMW."""
    if environment.get('RMW_IMPLEMENTATION', '') not in ('', *FAST_DDS):
        return {}
    if any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return {name: str(CONFIG / 'fastdds_profile.xml') for name in PROFILE_VARIABLES}
