"""The node `collision_objects`: detections become the collision objects of a planning scene.

It reads a vision_msgs/Detection3DArray and publishes a moveit_msgs/CollisionObject for each instance: ADD when it is
new, MOVE while it is seen, REMOVE when it was not seen for a while and at the end. docs/grasping.md.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any, Callable, Deque, Dict, Iterable, Mapping, Set, Tuple

from moveit_msgs.msg import CollisionObject
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection3DArray

from kd6d_ros.errors import ConfigError, Kd6dError
from kd6d_ros.ros import qos
from kd6d_ros.ros.collision_input import DetectionError, Sight, box_of, sight_of
from kd6d_ros.ros.collision_scene import CollisionScene
from kd6d_ros.ros.collision_shapes import Shape, mesh_shape
from kd6d_ros.ros.frames import WAIT_S, FrameError, Frames
from kd6d_ros.ros.parameter_server import descriptor
from kd6d_ros.ros.params import QOS_PREFIX, ParameterSpec, coerce, unknown_message
from kd6d_ros.ros.pipeline import stamp_ns
from kd6d_ros.types import RigidTransform

SPECS = {
    spec.name: spec
    for spec in (
        ParameterSpec('bundle', '', 'Model bundle with the meshes: a name or the path of a folder.'),
        ParameterSpec(
            'meshes',
            '',
            'Folder with other meshes: obj_000001.ply ... in millimetres (BOP). Empty: those of the bundle.',
        ),
        ParameterSpec(
            'shape', 'mesh', 'Shape of an object: its mesh, or the box of its detection.', choices=('mesh', 'box')
        ),
        ParameterSpec('max_triangles', 5000, 'A mesh with more triangles is thinned out.', 4, 100_000),
        ParameterSpec(
            'target_frame', '', "Frame of the objects, for instance the planning frame; empty: the detections' own."
        ),
        ParameterSpec('id_prefix', '', 'Goes before every id: for several cameras, whose instances have equal names.'),
        ParameterSpec(
            'ttl_s', 2.0, 'An object that was not seen for this many seconds is removed.', 0.05, 3600.0, dynamic=True
        ),
        ParameterSpec(
            'period_s', 0.1, 'Least seconds between two messages about an object that moves.', 0.0, 3600.0, dynamic=True
        ),
    )
}
TICK_S = 0.02
QUEUE = 10
"""Most messages that wait for their transforms."""
NO_FRAME = 'INVALID_ARGUMENT_ERROR'
SAY_AGAIN_S = 10.0
"""A complaint about detections is repeated after this many seconds at the earliest."""
SETTLING_S = 1.0
"""DDS counts a newcomer before that one hears everything: so long each message about an object is an ADD."""
LAST_WORDS_S = 2.0
"""Longest wait for consumers to confirm the last REMOVE."""


class CollisionObjectsNode(Node):
    """Keeps a planning scene in step with what is seen."""

    def __init__(self, name: str = 'collision_objects', **kwargs: Any) -> None:
        """`kwargs` go to rclpy's Node.

        Raises:
            ConfigError, BundleError, MeshError: parameters or a bundle that cannot be used.
            MissingDependencyError: target_frame without tf2_ros.
        """
        super().__init__(name, **kwargs)
        self._values = self._declare()
        self._scene, self._frames = CollisionScene(), Frames(self)
        self._meshes: Dict[str, Shape] = {}
        self._waiting: Deque[Tuple[Detection3DArray, float]] = deque(maxlen=QUEUE)
        self._enabled, self._consumers, self._settled_s = True, 0, 0.0
        self._said: Dict[str, float] = {}
        if self._values['shape'] == 'mesh':
            self._meshes = _meshes(self._values)
        if self._values['target_frame']:
            self._frames.open('parameter target_frame')
        self._publisher = self._open(self.create_publisher, CollisionObject, 'collision_object', qos.scene_profile())
        self._open(self.create_subscription, Detection3DArray, 'detections', self._take, qos.input_profile())
        self.create_service(SetBool, '~/enable', self._enable)
        # A steady clock: with use_sim_time and no /clock a ROS timer would never fire.
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.add_on_set_parameters_callback(self._check)

    def finish(self) -> None:
        """Take every object out of the scene and wait until the consumers know."""
        self._publish(self._scene.clear())
        if self._publisher.get_subscription_count():
            self._publisher.wait_for_all_acked(Duration(seconds=LAST_WORDS_S))

    # Parameters

    def _declare(self) -> Dict[str, Any]:
        overrides = dict(getattr(self, '_parameter_overrides', {}))
        values = {}
        for name, spec in SPECS.items():
            values[name] = coerce(spec, overrides[name].value) if name in overrides else spec.default
            described = descriptor(spec, otherwise='Fixed at the start.')
            described.read_only = not spec.dynamic
            self.declare_parameter(name, values[name], described, ignore_override=True)
        for name in overrides:
            if not self.has_parameter(name) and not name.startswith(QOS_PREFIX):
                self.get_logger().warning(unknown_message(name, SPECS))
        return values

    def _check(self, parameters: Iterable[Any]) -> SetParametersResult:
        changed = {}
        for item in (item for item in parameters if item.name in SPECS):
            if not SPECS[item.name].dynamic:
                return SetParametersResult(successful=False, reason=f'parameter {item.name} is fixed at the start')
            try:
                changed[item.name] = coerce(SPECS[item.name], item.value)
            except ConfigError as error:
                return SetParametersResult(successful=False, reason=str(error))
        self._values.update(changed)
        return SetParametersResult(successful=True)

    def _open(self, create: Callable[..., Any], kind: Any, topic: str, *rest: Any) -> Any:
        with qos.overrides_of(topic):
            return create(kind, topic, *rest, qos_overriding_options=qos.overridable())

    # Detections

    def _take(self, message: Detection3DArray) -> None:
        if self._enabled:
            self._waiting.append((message, monotonic() + WAIT_S))
            self._try()

    def _try(self) -> None:
        """Use the messages that wait, in their order; one whose transform has not come yet stays for a while."""
        while self._waiting:
            message, deadline = self._waiting[0]
            try:
                header, target_from_frame = self._placed(message.header)
            except FrameError as error:
                if monotonic() < deadline and error.kind != NO_FRAME:
                    return
                self._complain(error.kind, f'detections were not used: {error}')
            else:
                self._use(message, header, target_from_frame)
            self._waiting.popleft()

    def _placed(self, header: Any) -> Tuple[Header, RigidTransform]:
        """Header for the objects of an image, and target_from_frame.

        Raises:
            FrameError: tf2 does not know the transform (yet).
        """
        if not header.frame_id:
            # A planning scene would take the camera for its own origin.
            raise FrameError(NO_FRAME, 'their header has no frame_id: set it in the camera driver')
        target = self._values['target_frame'] or header.frame_id
        transform = self._frames.lookup(target, header.frame_id, stamp_ns(header))
        return Header(stamp=header.stamp, frame_id=target), transform

    def _use(self, message: Detection3DArray, header: Any, target_from_frame: RigidTransform) -> None:
        now = monotonic()
        seen: Set[str] = set()
        for detection in message.detections:
            try:
                sight = sight_of(detection)
                if sight.object_id in seen:
                    raise DetectionError(f'{sight.object_id} comes twice in one message: ids must differ')
                shape = self._shape(detection, sight)
            except Kd6dError as error:
                self._complain(str(error).split(':')[0], f'a detection was not used: {error}')
                continue
            seen.add(sight.object_id)
            name, pose = self._values['id_prefix'] + sight.object_id, target_from_frame @ sight.frame_from_obj
            told = self._scene.see(name, header, pose, shape, now, self._values['period_s'])
            if told:
                self._tell_newcomers()  # at the last moment: a newcomer has to know an object before its first MOVE
                self._publish([self._scene.added(name) if monotonic() < self._settled_s else told])

    def _shape(self, detection: Any, sight: Sight) -> Shape:
        """
        Raises:
            DetectionError: the object has no mesh and its box is none.
        """
        if sight.class_id in self._meshes:
            return self._meshes[sight.class_id]
        if self._values['shape'] == 'mesh':
            self._complain(f'mesh of {sight.class_id}', f'{sight.class_id} has no mesh here: the box of its detection')
        return box_of(detection, sight)

    # Time

    def _tick(self) -> None:
        self._try()
        self._tell_newcomers()
        if self._enabled:
            self._publish(self._scene.expire(monotonic(), self._values['ttl_s']))

    def _tell_newcomers(self) -> None:
        consumers = self._publisher.get_subscription_count()
        if consumers > self._consumers:
            self._settled_s = monotonic() + SETTLING_S
            self._publish(self._scene.again())
        self._consumers = consumers

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """False: the scene stays as it is, for instance while the arm hides or holds the object."""
        self._enabled = request.data
        self._waiting.clear()
        self._scene.renew(monotonic())
        state = 'following detections' if request.data else 'on hold: objects stay where they are'
        response.success, response.message = True, f'{state}; {len(self._scene)} objects'
        return response

    def _publish(self, messages: Iterable[CollisionObject]) -> None:
        for message in messages:
            self._publisher.publish(message)

    def _complain(self, kind: str, text: str) -> None:
        """Warn, once in a while for each `kind`."""
        now = monotonic()
        if now - self._said.get(kind, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            if len(self._said) > 100:
                self._said.clear()  # kinds hold what detectors say, which may be anything
            self._said[kind] = now
            self.get_logger().warning(text)


def _meshes(values: Mapping[str, Any]) -> Dict[str, Shape]:
    """Shapes by object name, of those that have a mesh.

    Raises:
        BundleError, ConfigError, MeshError: see ``load_bundle`` and ``with_mesh``.
    """
    from kd6d_ros.inference.bundle import load_bundle
    from kd6d_ros.inference.locate import find_bundle
    from kd6d_ros.ros.factory import with_mesh

    if not values['bundle']:
        raise ConfigError('parameter bundle is empty: set it to the bundle with the meshes, or set shape:=box')
    bundle = load_bundle(find_bundle(values['bundle']))
    models = [with_mesh(bundle, name, values['meshes']) for name in bundle.names]
    return {model.name: mesh_shape(model.mesh, values['max_triangles']) for model in models if model.mesh is not None}
