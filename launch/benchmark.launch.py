"""A bag through the running node: where images were lost, how old poses were, how good they are, offline parity.

    ros2 launch kd6d_ros benchmark.launch.py bag:=models/demo_bag bundle:=demo out:=runs/bench_node

It runs `kd6d bench-node`, which starts the node, the package's own player and a recorder on this host only, in a
ROS_DOMAIN_ID of their own, and ends with a table, report.html, result.json and a bag with the poses in `out`.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Bag folder, .mcap or .db3 file.'),
    DeclareLaunchArgument('bundle', default_value='demo', description='Model bundle: a name or the path of a folder.'),
    DeclareLaunchArgument('out', default_value='bench_node', description='New folder for report, JSON, bag and logs.'),
    DeclareLaunchArgument('rate', default_value='1.0', description='Speed of the replay, 1.0 = as recorded.'),
    DeclareLaunchArgument('precision', default_value='fp32', description="One of the bundle's precisions."),
    DeclareLaunchArgument('engine', default_value='auto', description='Inference engine.'),
    DeclareLaunchArgument('threads', default_value='', description='CPU threads of the network. Empty: as it likes.'),
    DeclareLaunchArgument('image', default_value='', description='Image topic. Empty: the only one of the bag.'),
    DeclareLaunchArgument('camera_info', default_value='', description='CameraInfo topic. Empty: beside the image.'),
    DeclareLaunchArgument('truth', default_value='', description='Topic with the ground truth. Empty: found.'),
    DeclareLaunchArgument('models', default_value='', description='BOP models for a bundle without meshes.'),
]
OPTIONAL = ('threads', 'image', 'camera_info', 'truth', 'models')


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context):
    """The command, and the end of the launch with it."""
    value = {item.name: LaunchConfiguration(item.name).perform(context) for item in ARGUMENTS}
    # No Node: that would append --ros-args, which a command that is no node does not take.
    kd6d = ExecutableInPackage('kd6d', 'kd6d_ros')
    run = ExecuteProcess(name='kd6d', cmd=[kd6d, *command(value)], output='screen')
    return [RegisterEventHandler(OnProcessExit(target_action=run, on_exit=ended)), run]


def ended(event, context):
    """End the launch, with exit code 1 if the command failed."""
    if event.returncode:
        raise RuntimeError(f'kd6d bench-node ended with code {event.returncode}, see above')
    return EmitEvent(event=Shutdown(reason='the benchmark has ended'))


def command(value):
    """Arguments of `kd6d`; what is empty is left out."""
    given = [name for name in value if name not in OPTIONAL or value[name]]
    return ['bench-node', *(word for name in given for word in (f'--{name.replace("_", "-")}', value[name]))]
