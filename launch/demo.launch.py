"""The demo under ROS 2: the pose estimator on the shipped bag, on this host only.

    ros2 launch kd6d_ros demo.launch.py loop:=true

In a second terminal, in the demo's own domain:

    export ROS_DOMAIN_ID=77 ROS_LOCALHOST_ONLY=1
    ros2 topic echo /pose_estimator/poses/toy_rover
    ros2 topic echo /tf

Without loop:=true everything ends when the bag has been played. `kd6d demo` adds the score and the report.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

# share/kd6d_ros when installed, the repository otherwise.
ROOT = Path(__file__).resolve().parent.parent
BOOL = ['true', 'false']
FRAME = 'demo_camera_optical_frame'
PROFILE = ROOT / 'config' / 'fastdds_localhost.xml'

ARGUMENTS = [
    DeclareLaunchArgument(
        'bag',
        default_value=str(ROOT / 'models' / 'demo_bag'),
        description='Bag to play: compressed images on /camera/image_raw/compressed and /camera/camera_info.',
    ),
    DeclareLaunchArgument('bundle', default_value='demo', description='Model bundle: a name or the path of a folder.'),
    DeclareLaunchArgument('rate', default_value='1.0', description='Speed of the replay, 1.0 = as recorded.'),
    DeclareLaunchArgument(
        'loop', default_value='false', choices=BOOL, description='Play the bag again and again; else end with it.'
    ),
    DeclareLaunchArgument(
        'domain_id',
        default_value='77',
        description='ROS_DOMAIN_ID of the demo, apart from every robot; set the same where you listen.',
    ),
    DeclareLaunchArgument('rviz', default_value='false', choices=BOOL, description='Start RViz as well.'),
]


def generate_launch_description():
    """Only this host, its own domain; then pose.launch.py and the player."""
    isolation = {
        'ROS_DOMAIN_ID': LaunchConfiguration('domain_id'),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOCALHOST_ONLY': '1',
        # pose.launch.py leaves a profile that is set alone.
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(PROFILE),
        'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE),
    }
    pose = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(ROOT / 'launch' / 'pose.launch.py')),
        launch_arguments={
            'bundle': LaunchConfiguration('bundle'),
            'image_topic': '/camera/image_raw',
            'camera_info_topic': '/camera/camera_info',
            'image_transport': 'compressed',
            'rviz': LaunchConfiguration('rviz'),
            'rviz_frame': FRAME,
        }.items(),
    )
    return LaunchDescription(
        [
            *ARGUMENTS,
            *[SetEnvironmentVariable(name, value) for name, value in isolation.items()],
            pose,
            OpaqueFunction(function=play),
        ]
    )


def play(context):
    """The player, which waits for the node to subscribe."""
    value = {item.name: LaunchConfiguration(item.name).perform(context) for item in ARGUMENTS}
    player = Node(
        package='kd6d_ros',
        executable='bag_player',
        arguments=[
            value['bag'],
            '--rate',
            value['rate'],
            '--wait-for-subscribers',
            '1',
            '--verbose',
            # As from a camera: the node knows the age of an image, and TF never jumps back when the bag begins anew.
            '--restamp',
            *(['--loop'] if value['loop'] == 'true' else []),
        ],
        output='screen',
    )
    end = RegisterEventHandler(
        OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason='the bag has been played'))]),
        condition=UnlessCondition(LaunchConfiguration('loop')),
    )
    return [end, player]
