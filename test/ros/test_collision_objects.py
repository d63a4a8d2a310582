"""Detections to collision objects over DDS: the executable in a process of its own, detector and planner here."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'models' / 'demo'
FAKE_TF2 = str(Path(__file__).resolve().parent / 'fake_tf2')
MODULE = 'kd6d_ros.ros.collision_main'
CAMERA = 'camera_optical_frame'
PLACE = (0.1, -0.2, 0.7)
TURN = (0.5, 0.5, 0.5, 0.5)
ADD, REMOVE, MOVE = b'\x00', b'\x01', b'\x03'
HASH = 'RIHS01_74b0acd6d56be032bf4f764b2c2633f50588b5fb2bd71e97206c59052747cf7e'
"""Of moveit_msgs/CollisionObject as rosidl computes it for every package of Jazzy, comments left out."""


@pytest.fixture(scope='module', autouse=True)
def definitions(ros):
    pytest.importorskip('moveit_msgs.msg', reason='moveit_msgs is not built: run test/interfaces/build.py')


class Planner:
    """Plays the detector and the planning scene of one node."""

    def __init__(self, peer):
        from moveit_msgs.msg import CollisionObject
        from vision_msgs.msg import Detection3DArray

        self.peer, self._array = peer, Detection3DArray
        self.detections = peer.node.create_publisher(Detection3DArray, f'{peer.target}/in', 10)
        peer.listen('objects', CollisionObject, f'{peer.target}/out')
        peer.wait(self.detections.get_subscription_count, 'the node')

    @property
    def got(self):
        return self.peer.got['objects']

    def detection(self, object_id='mug_0', class_id='mug', place=PLACE, turn=TURN, size=(0.2, 0.1, 0.06), lift=0.05):
        """The box lies `lift` above the object's origin, along its z."""
        from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
        from vision_msgs.msg import Detection3D, ObjectHypothesisWithPose

        def pose(x, y, z):
            orientation = Quaternion(x=turn[0], y=turn[1], z=turn[2], w=turn[3])
            return Pose(position=Point(x=x, y=y, z=z), orientation=orientation)

        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, 0.9
        result.pose.pose = pose(*place)
        detection = Detection3D(id=object_id, results=[result])
        # The rotation TURN takes z to x.
        detection.bbox.center = pose(place[0] + lift, place[1], place[2])
        detection.bbox.size = Vector3(x=size[0], y=size[1], z=size[2])
        return detection

    def send(self, *detections, frame=CAMERA):
        """Stamp of the message."""
        stamp = self.publish(*detections, frame=frame)
        self.peer.spin(0.02)
        return stamp

    def publish(self, *detections, frame=CAMERA):
        message = self._array(detections=list(detections))
        message.header.stamp, message.header.frame_id = self.peer.stamp(), frame
        self.detections.publish(message)
        return message.header.stamp

    def until(self, condition, what, *detections, **how):
        """Send the same again and again until a condition is true."""
        self.peer.repeat(lambda: self.send(*detections, **how), condition, what)

    def operations(self, object_id):
        return [message.operation for message in self.got if message.id == object_id]


@pytest.fixture
def run(start, new_peer):
    """Starts the node under a name, with parameters; its process and its planner."""

    def make(name, *parameters, **how):
        arguments = [part for parameter in parameters for part in ('-p', parameter)]
        topics = ('-r', f'detections:=/{name}/in', '-r', f'collision_object:=/{name}/out')
        process = start('-r', f'__node:={name}', *topics, *arguments, module=MODULE, **how)
        return process, Planner(new_peer(f'/{name}'))

    return make


def refused(start, *parameters, **how):
    """The one line of a node that does not start."""
    process = start(*(part for parameter in parameters for part in ('-p', parameter)), module=MODULE, **how)
    assert process.process.wait(60) == 2
    # rcl itself warns of ROS_LOCALHOST_ONLY.
    (line,) = [line for line in process.text().splitlines() if not line.startswith('[WARN]')]
    return line


def test_our_definitions_are_those_of_moveit(ros):
    """Field for field; where the build leaves a type hash (Iron and later), that as well."""
    from moveit_msgs.msg import CollisionObject

    assert CollisionObject.get_fields_and_field_types() == {
        'header': 'std_msgs/Header',
        'pose': 'geometry_msgs/Pose',
        'id': 'string',
        'type': 'object_recognition_msgs/ObjectType',
        'primitives': 'sequence<shape_msgs/SolidPrimitive>',
        'primitive_poses': 'sequence<geometry_msgs/Pose>',
        'meshes': 'sequence<shape_msgs/Mesh>',
        'mesh_poses': 'sequence<geometry_msgs/Pose>',
        'planes': 'sequence<shape_msgs/Plane>',
        'plane_poses': 'sequence<geometry_msgs/Pose>',
        'subframe_names': 'sequence<string>',
        'subframe_poses': 'sequence<geometry_msgs/Pose>',
        'operation': 'octet',
    }
    operations = {name: getattr(CollisionObject, name) for name in ('ADD', 'REMOVE', 'APPEND', 'MOVE')}
    assert operations == {'ADD': b'\x00', 'REMOVE': b'\x01', 'APPEND': b'\x02', 'MOVE': b'\x03'}
    import moveit_msgs

    for parent in Path(moveit_msgs.__file__).parents:
        description = parent / 'share' / 'moveit_msgs' / 'msg' / 'CollisionObject.json'
        if description.is_file():
            hashes = {
                item['type_name']: item['hash_string'] for item in json.loads(description.read_text())['type_hashes']
            }
            assert hashes['moveit_msgs/msg/CollisionObject'] == HASH


def test_an_object_is_added_moved_and_removed(run):
    _, planner = run('box', 'shape:=box', 'ttl_s:=0.6', 'period_s:=0.0')
    detection = planner.detection()
    planner.until(lambda: MOVE in planner.operations('mug_0'), 'a MOVE', detection)
    first = planner.got[0]
    later = next(item for item in planner.got if item.operation == MOVE)
    assert (first.operation, first.id, first.header.frame_id) == (ADD, 'mug_0', CAMERA)
    assert (first.pose.position.x, first.pose.position.y, first.pose.position.z) == pytest.approx(PLACE)
    turn = first.pose.orientation
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx(TURN)
    (box,) = first.primitives
    assert (box.type, list(box.dimensions)) == (box.BOX, pytest.approx([0.2, 0.1, 0.06]))
    place = first.primitive_poses[0].position
    assert (place.x, place.y, place.z) == pytest.approx((0.0, 0.0, 0.05))
    assert not first.meshes
    # A MOVE has a pose and no shape, and its own stamp.
    assert not later.primitives
    assert later.header.stamp != first.header.stamp
    # Not seen any more: messages without it do not keep it.
    planner.until(lambda: planner.got[-1].operation == REMOVE, 'a REMOVE')
    assert planner.got[-1].id == 'mug_0'
    planner.until(lambda: planner.got[-1].operation == ADD, 'another ADD', detection)
    assert len(planner.got[-1].primitives) == 1


def test_every_instance_is_an_object_of_its_own(run):
    _, planner = run('many', 'shape:=box', 'period_s:=0.0', 'id_prefix:=left/')
    # The second is of a tracker that gives bare numbers, with two opinions.
    other = planner.detection('17', 'can', (0.3, 0.0, 0.9))
    other.results.append(planner.detection('', 'cup').results[0])
    other.results[1].hypothesis.score = 0.1
    wanted = {'left/mug_0', 'left/mug_1', 'left/can_17'}
    both = (planner.detection(), planner.detection('mug_1', place=(0.0, 0.2, 0.8)), other)
    planner.until(lambda: {item.id for item in planner.got} >= wanted, 'all objects', *both)
    assert {item.id for item in planner.got} == wanted
    added = next(item for item in planner.got if item.id == 'left/mug_1')
    assert added.operation == ADD
    assert (added.pose.position.x, added.pose.position.y, added.pose.position.z) == pytest.approx((0.0, 0.2, 0.8))


def test_the_mesh_of_the_bundle_is_the_shape(run):
    if not (DEMO / 'bundle.yaml').is_file():
        pytest.skip('models/demo is not in this checkout')
    from kd6d_ros.inference.bundle import load_bundle, load_mesh

    mesh = load_mesh(load_bundle(DEMO), 'toy_rover')
    process, planner = run('mesh', f'bundle:={DEMO}', 'period_s:=3600.0')
    rover = planner.detection('toy_rover_0', 'toy_rover')
    mug = planner.detection()
    planner.until(lambda: {item.id for item in planner.got} == {'toy_rover_0', 'mug_0'}, 'both objects', rover, mug)
    message = next(item for item in planner.got if item.id == 'toy_rover_0')
    (shape,) = message.meshes
    assert len(message.mesh_poses) == 1
    got = np.array([[point.x, point.y, point.z] for point in shape.vertices])
    corners = np.array([item.vertex_indices for item in shape.triangles])
    assert np.allclose(got[corners], mesh.vertices[mesh.faces])
    # What has no mesh gets its box, and somebody is told.
    assert len(next(item for item in planner.got if item.id == 'mug_0').primitives) == 1
    assert 'mug has no mesh here: the box of its detection' in process.text()


def test_a_large_mesh_is_thinned_out(ros):
    from kd6d_ros.ros.collision_shapes import mesh_shape
    from kd6d_ros.types import Mesh

    rows, columns, radius = 150, 200, 0.05
    polar, around = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, rows), np.linspace(0, 2 * np.pi, columns), indexing='ij'
    )
    ball = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=-1)
    vertices = radius * ball.reshape(-1, 3)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    faces = np.concatenate([corner + np.array([0, 1, columns]), corner + np.array([1, columns + 1, columns])])
    message = mesh_shape(Mesh(vertices, faces), 5000).mesh
    assert 2000 < len(message.triangles) <= 5000 < len(faces)
    corners = np.array([item.vertex_indices for item in message.triangles])
    assert len(np.unique(corners)) == len(message.vertices) == corners.max() + 1 < len(vertices)
    # What docs/grasping.md says: at most a hundredth of the ball's size is cut off.
    places = np.array([[point.x, point.y, point.z] for point in message.vertices])
    centres = places[corners].mean(axis=1)
    assert radius - np.linalg.norm(centres, axis=1).min() < 0.01 * 2 * radius


def test_the_document_has_every_parameter(ros):
    from kd6d_ros.ros.collision_objects import SPECS
    from kd6d_ros.ros.params import expected

    text = (ROOT / 'docs' / 'grasping.md').read_text(encoding='utf-8')
    for spec in SPECS.values():
        default = "''" if spec.default == '' else spec.default
        when = 'any time' if spec.dynamic else 'at the start'
        row = f'| `{spec.name}` | `{default}` | {expected(spec)} | {spec.description} | {when} |'
        assert row in text, row


def test_what_makes_no_sense_is_refused_by_name_and_the_node_goes_on(run):
    process, planner = run('wrong', 'shape:=box', 'period_s:=0.0')
    nan, inf = float('nan'), float('inf')
    nobody, unset = (
        planner.detection('mug_6'),
        planner.detection('mug_7', place=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0, 1.0)),
    )
    nobody.results.clear()
    wrong = {
        'mug_1: its pose is not finite': planner.detection('mug_1', place=(nan, 0.0, 1.0)),
        'mug_2: its pose is not finite': planner.detection('mug_2', turn=(inf, 0.0, 0.0, 1.0)),
        'mug_3: its pose has a quaternion that is no rotation': planner.detection('mug_3', turn=(0.0, 0.0, 0.0, 0.0)),
        'mug_4: its box has sides': planner.detection('mug_4', size=(0.1, nan, 0.1)),
        'mug_5: its box has sides': planner.detection('mug_5', size=(0.1, 0.0, 0.1)),
        "'mug_6' has no hypothesis": nobody,
        'mug_7: its pose is not set': unset,
        'a detection of mug has no id': planner.detection(''),
        'has an empty class_id': planner.detection('x', ''),
        'mug_0 comes twice': planner.detection(),
    }
    good = planner.detection()
    planner.until(
        lambda: planner.got and all(text in process.text() for text in wrong), 'all reasons', good, *wrong.values()
    )
    planner.until(lambda: 'no frame_id' in process.text(), 'the reason', good, frame='')
    assert {item.id for item in planner.got} == {'mug_0'}
    assert {item.header.frame_id for item in planner.got} == {CAMERA}
    # Said once, not with every image.
    assert process.text().count('mug_1: its pose is not finite') == 1
    assert 'Traceback' not in process.text()
    planner.got.clear()
    planner.until(lambda: planner.got, 'a message', good)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_scene_is_empty_when_the_node_has_ended(run, number):
    process, planner = run('ends', 'shape:=box', 'ttl_s:=600.0')
    both = [planner.detection(), planner.detection('mug_1')]
    planner.until(lambda: {message.id for message in planner.got} == {'mug_0', 'mug_1'}, 'objects', *both)
    process.process.send_signal(number)
    planner.peer.wait(lambda: [planner.operations(name)[-1] for name in ('mug_0', 'mug_1')] == [REMOVE] * 2, 'REMOVE')
    assert process.process.wait(60) == 0
    assert 'Traceback' not in process.text()


def test_a_planner_that_comes_later_is_told_everything(run, new_peer):
    _, planner = run('late', 'shape:=box', 'ttl_s:=600.0')
    planner.until(lambda: planner.got, 'an ADD', planner.detection())
    late = Planner(new_peer('/late'))
    late.peer.wait(lambda: late.got, 'an ADD')
    assert (late.got[0].operation, late.got[0].id) == (ADD, 'mug_0')
    assert len(late.got[0].primitives) == 1


def test_a_planner_that_comes_while_an_object_moves_gets_it_before_its_first_move(run, new_peer):
    from moveit_msgs.msg import CollisionObject

    _, planner = run('comes', 'shape:=box', 'ttl_s:=600.0', 'period_s:=0.0')
    planner.until(lambda: planner.got, 'an ADD', planner.detection())
    firsts = []
    for _ in range(8):
        late, patience = new_peer('/comes'), time.monotonic() + 60
        late.listen('objects', CollisionObject, '/comes/out')
        while not late.got['objects'] and time.monotonic() < patience:
            planner.publish(planner.detection())
            late.spin(0.002)
        firsts.append(late.got['objects'][0].operation)
    # DDS may know the newcomer in the very moment between the last look and the MOVE.
    assert firsts.count(ADD) >= 6, firsts


def test_on_hold_nothing_moves_and_nothing_is_forgotten(run):
    from std_srvs.srv import SetBool

    _, planner = run('hold', 'shape:=box', 'ttl_s:=0.5', 'period_s:=0.0')
    planner.until(lambda: planner.got, 'an ADD', planner.detection())
    peer = planner.peer
    peer._clients['enable'] = peer.node.create_client(SetBool, '/hold/enable')
    answer = peer.ask('enable', SetBool.Request(data=False))
    assert (answer.success, answer.message) == (True, 'on hold: objects stay where they are; 1 objects')
    peer.spin(0.2)
    planner.got.clear()
    end = time.monotonic() + 1.2
    peer.repeat(lambda: planner.send(planner.detection(place=(0.0, 0.0, 0.5))), lambda: time.monotonic() > end, 'time')
    assert planner.got == []
    assert peer.ask('enable', SetBool.Request(data=True)).success
    planner.until(lambda: planner.got, 'a message', planner.detection(place=(0.0, 0.0, 0.5)))
    assert (planner.got[0].operation, planner.got[0].pose.position.z) == (MOVE, 0.5)


def test_objects_come_in_the_frame_that_is_wanted_as_it_was_at_the_image(run):
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from tf2_msgs.msg import TFMessage

    process, planner = run('framed', 'shape:=box', 'target_frame:=world', path=FAKE_TF2)
    good = planner.detection()
    planner.until(lambda: 'no transform from camera_optical_frame to world' in process.text(), 'the reason', good)
    assert planner.got == []
    transform = TransformStamped(child_frame_id=CAMERA)
    transform.header.frame_id = 'world'
    transform.transform.translation.z = 1.0
    transform.transform.rotation.x, transform.transform.rotation.w = 1.0, 0.0  # upside down
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    planner.peer.node.create_publisher(TFMessage, '/tf_static', latched).publish(TFMessage(transforms=[transform]))
    planner.until(lambda: planner.got, 'an ADD', good)
    message = planner.got[0]
    assert message.header.frame_id == 'world'
    place = message.pose.position
    assert (place.x, place.y, place.z) == pytest.approx((0.1, 0.2, 0.3))


def test_parameters_are_described_checked_and_changed(run):
    from rcl_interfaces.srv import DescribeParameters

    process, planner = run('params', 'shape:=box', 'ttl_s:=60.0', 'tl_s:=3.0')
    peer = planner.peer
    (described,) = peer.ask('describe_parameters', DescribeParameters.Request(names=['ttl_s'])).descriptors
    assert described.description.startswith('An object that was not seen for this many seconds is removed.')
    assert (described.floating_point_range[0].from_value, described.read_only) == (0.05, False)
    assert 'parameter tl_s is not known and has no effect: did you mean ttl_s?' in process.text()
    planner.until(lambda: planner.got, 'an ADD', planner.detection())
    (low,) = peer.set(ttl_s=0.0)
    (late,) = peer.set(shape='mesh')
    assert not low[0]
    assert not late[0]
    assert peer.get('shape').string_value == 'box'
    assert peer.set(ttl_s=0.1)[0][0]
    peer.wait(lambda: planner.got[-1].operation == REMOVE, 'a REMOVE')


def test_a_node_that_cannot_work_says_why_in_one_line(start, tmp_path):
    assert refused(start).endswith('parameter bundle is empty: set it to the bundle with the meshes, or set shape:=box')
    assert 'no_such_bundle: no such bundle' in refused(start, 'bundle:=no_such_bundle')
    assert "parameter shape: expected one of mesh, box, got 'ball'" in refused(start, 'shape:=ball')
    assert 'parameter ttl_s: expected a number 0.05 .. 3600, got -1.0' in refused(start, 'shape:=box', 'ttl_s:=-1.0')
    (tmp_path / 'tf2_ros.py').write_text('raise ImportError("not here")')
    line = refused(start, 'shape:=box', 'target_frame:=world', path=str(tmp_path))
    assert line.startswith('collision_objects: cannot start: parameter target_frame needs tf2_ros')
    assert line.endswith('sudo apt install ros-$ROS_DISTRO-tf2-ros-py')
