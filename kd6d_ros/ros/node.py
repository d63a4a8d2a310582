"""The lifecycle node `pose_estimator`: parameters, states, and who talks to whom.

Callbacks only put messages into the worker's slot; decoding, inference and publishing happen in the
worker's thread, so services and lifecycle keep answering while the engine runs.
"""

from __future__ import annotations

import traceback
from concurrent.futures import TimeoutError  # noqa: A004  (the built-in one from Python 3.11)
from functools import partial
from typing import Any, Mapping, Optional

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from kd6d_ros.errors import ConfigError, Kd6dError
from kd6d_ros.inference.settings import EstimatorSettings
from kd6d_ros.ros import qos
from kd6d_ros.ros.cv_bridge_probe import choose_decoder
from kd6d_ros.ros.diagnostics import ERROR, WARN, Problems, Statistics, diagnostics_message, fault_text, log_at
from kd6d_ros.ros.factory import Factory, Loaded, describe, load_estimator
from kd6d_ros.ros.frames import Frames, WorkspaceBox
from kd6d_ros.ros.get_pose import Asking
from kd6d_ros.ros.health import check_inputs, sections
from kd6d_ros.ros.image_work import CLOCKS, handle_image, offer_image
from kd6d_ros.ros.inputs import Inputs, input_topics
from kd6d_ros.ros.lifecycle import AnsweringLifecycleNode, failure_text
from kd6d_ros.ros.messages import aliases
from kd6d_ros.ros.outputs import Outputs
from kd6d_ros.ros.parameter_server import ParameterServer
from kd6d_ros.ros.params import settings_from, tf_prefix
from kd6d_ros.ros.pipeline import Frame, FramePipeline
from kd6d_ros.ros.watch import TfWatch, check_surroundings
from kd6d_ros.ros.worker import LatestItemWorker, WorkerStoppedError

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DRAIN_S = 10.0
"""Longest wait for the image in work when the node is deactivated."""


class PoseEstimatorNode(AnsweringLifecycleNode):
    """Publishes poses of known objects from images; see docs/use_on_a_robot.md."""

    def __init__(self, name: str = 'pose_estimator', factory: Factory = load_estimator, **kwargs: Any) -> None:
        """`factory` makes the estimator at configure; `kwargs` go to rclpy's Node."""
        super().__init__(name, **kwargs)
        self._factory = factory
        self.problems, self.statistics = Problems(), Statistics()
        self.label = self.get_fully_qualified_name().strip('/')
        self.loaded: Optional[Loaded] = None
        self.inputs: Optional[Inputs] = None
        self.decoder = ''
        self._outputs: Optional[Outputs] = None
        self._pipeline: Optional[FramePipeline] = None
        self._settings: Optional[EstimatorSettings] = None
        self._configuring = self.publishing = self.ended = False
        self.parameters = ParameterServer(
            self, lambda: self._configuring or self.loaded is not None, self._apply_settings
        )
        for index, text in enumerate(self.parameters.unknown):
            self.problem(f'unknown parameter {index}', 'node', WARN, text, lasting=True)
        self.worker: LatestItemWorker[Frame] = LatestItemWorker(self._process, self._crashed)
        self.frames = Frames(self)
        self.asking = Asking(self, self.frames)
        self._tf_watch = TfWatch(self)
        self._diagnostics = Node.create_publisher(self, DiagnosticArray, '/diagnostics', qos.output_profile())
        # A steady clock: with use_sim_time and no /clock a ROS timer would never fire.
        self._timer = self.create_timer(
            1.0,
            self._publish_diagnostics,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # States

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load bundle and engine in the worker's thread; on a mistake log it and stay unconfigured."""
        self.problems.clear('configure')
        with self.parameter_lock:
            self._configuring = True
        try:
            if self.parameters.problems:
                raise ConfigError('; '.join(self.parameters.problems.values()))
            self._configure()
        except Kd6dError as error:
            self._release()
            self.problem('configure', 'node', ERROR, f'configure failed: {error}', lasting=True, always=True)
            return FAILURE
        except WorkerStoppedError:
            return FAILURE
        except Exception as error:
            self._release()
            self.get_logger().error(traceback.format_exc())
            text = f'configure failed: {fault_text(error)}'
            self.problem('configure', 'node', ERROR, text, lasting=True, always=True)
            return FAILURE
        finally:
            self._configuring = False
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and accept images."""
        pipeline, loaded = self._pipeline, self.loaded
        if pipeline is None or loaded is None:
            return FAILURE
        with self.parameter_lock:
            # They may have changed while configure ran.
            self._apply_settings(self.parameters.values())
        self.worker.call(pipeline.reset)
        self.statistics.reset()
        self.problems.clear_group('qos subscription')
        boxes = aliases(loaded.models.values()) if self.parameters.value('use_detections') else None
        # Before the subscriptions, whose first image may come at once.
        self.publishing = True
        self.worker.open()
        self.asking.start(loaded.models, self.tf_prefix(), self.parameters.value('streaming'))
        try:
            self.inputs = Inputs(self, self._compressed(), boxes, partial(offer_image, self), self._incompatible)
        except ConfigError as error:
            self._drain()
            self.problem('activate', 'node', ERROR, f'activate failed: {error}', lasting=True, always=True)
            return FAILURE
        self.problems.clear('activate')
        self._tf_watch.start(self._outputs)
        self._check_search(pipeline)
        self.get_logger().info(f'active: {describe(loaded)["objects"]} from {self.inputs.topics["image"]}')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and wait for the image in work; nothing is published after this returns."""
        self._drain()
        self.problems.clear(CLOCKS)
        # Nothing says when the other side is gone or has changed its mind, so what was said ends here.
        self.problems.clear_group('qos ')
        self.problems.clear('search')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._drain()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where configure can be tried again."""
        self._drain()
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        # A bundle that is being loaded, or an engine that is being built, is not waited for.
        patience = 0.2 if self.worker.give_up() else DRAIN_S
        self._drain(patience)
        self._release(patience)
        self.asking.destroy()
        self.ended = self.worker.stop(patience)
        super().destroy_node()

    # Work

    def _configure(self) -> None:
        values = self.parameters.values()
        settings = settings_from(values)
        self.decoder, reason, decode = choose_decoder(values['image_decoder'])
        if values['workspace_frame']:
            self.frames.open(f'workspace_frame {values["workspace_frame"]!r}')
        loaded: Loaded = self.worker.call(lambda: self._factory(values, settings))
        self._outputs = Outputs(self, loaded.models, self.tf_prefix(), self._incompatible)
        self._pipeline = FramePipeline(
            loaded.estimator,
            decode,
            values['image_rectified'],
            values['max_image_pixels'],
            values['time_jump_s'],
            WorkspaceBox(values['workspace_frame'], self.parameters.value, self.frames),
        )
        self._settings = settings
        self.loaded = loaded
        self._check_overrides(self._outputs)
        self.get_logger().info(f'bundle {loaded.bundle}; {loaded.engine}; images by {self.decoder} ({reason})')

    def _check_overrides(self, outputs: Outputs) -> None:
        """Name qos_overrides that mean none of the topics; which there are is known from the bundle on."""
        topics = qos.override_names(outputs.topics, input_topics(self, self._compressed()).values())
        for index, text in enumerate(self.parameters.unknown_qos(topics)):
            self.problem(f'override {index}', 'node', WARN, text, lasting=True)

    def _check_search(self, pipeline: FramePipeline) -> None:
        """Warn while no pose can ever come: neither boxes nor a search say where an object is."""
        if self.parameters.value('use_detections') or pipeline.estimator.can_find:
            self.problems.clear('search')
            return
        reason = 'this bundle cannot search an image' if self.parameters.value('find') else 'find is false'
        text = f'nothing tells the node where to look ({reason}): set find or use_detections'
        self.problem('search', 'estimation', WARN, text, lasting=True)

    def _drain(self, patience: float = DRAIN_S) -> None:
        self.asking.stop()
        self._tf_watch.stop()
        if self.inputs is not None:
            self.inputs.destroy()
            self.inputs = None
        if not self.worker.close(patience):
            self.get_logger().warning(f'the image in work took longer than {patience:g} s: its poses are not published')
        self.publishing = False
        if self._outputs is not None:
            self._outputs.clear_markers()

    def _release(self, patience: float = DRAIN_S) -> None:
        """Undo configure."""
        self.problems.clear_group('qos ')
        self.problems.clear_group('override ')
        self.frames.close()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        try:
            self.worker.call(self._forget, patience)
        except (TimeoutError, RuntimeError):  # still busy, or stopped
            self._forget()

    def _forget(self) -> None:
        """Let go of the engine, in the thread that owns it."""
        self._pipeline = self.loaded = None

    def _process(self, frame: Frame) -> None:
        """One image, in the worker's thread."""
        pipeline, outputs = self._pipeline, self._outputs
        if pipeline is not None and outputs is not None:
            handle_image(self, pipeline, outputs, frame)

    def _crashed(self, error: BaseException) -> None:
        """An error nobody foresaw must not end the worker."""
        if not self.context.ok():
            return  # shut down while an image was in work: publishing fails then, and nobody is at fault
        self.statistics.mark('refused')
        if self.problem('fault', 'estimation', ERROR, fault_text(error)):
            self.get_logger().error(''.join(traceback.format_exception(type(error), error, error.__traceback__)))

    def _apply_settings(self, values: Mapping[str, Any]) -> None:
        """Give changed settings to the estimator, between two images; the caller holds `parameter_lock`."""
        loaded = self.loaded
        if loaded is None or self._pipeline is None:
            return
        settings, pipeline = settings_from(values), self._pipeline
        if settings == self._settings:
            # Another parameter changed; a new estimator would forget its tracks.
            return
        self._settings = settings

        def swap() -> None:
            pipeline.estimator = loaded.rebuild(settings)
            if self.inputs is not None:
                self._check_search(pipeline)

        self.worker.submit(swap)

    # Reports

    def problem(
        self, kind: str, section: str, level: int, text: str, lasting: bool = False, always: bool = False
    ) -> bool:
        """Note a problem for diagnostics and log it, throttled unless `always`; True when it was logged."""
        due = self.problems.report(kind, section, level, text, lasting) or always
        if due:
            log_at(self.get_logger(), level, text)
        return due

    def callback_failed(self, error: BaseException) -> None:
        self.problem(f'callback {type(error).__name__}', 'node', ERROR, failure_text(error))

    def _incompatible(self, topic: str, role: str, policy: str) -> None:
        """`role`: what this node has on the topic, 'subscription' or 'publisher'."""
        section = 'input' if role == 'subscription' else 'node'
        self.problem(f'qos {role} {topic}', section, ERROR, qos.incompatible_text(topic, role, policy), lasting=True)

    def tf_prefix(self) -> str:
        return tf_prefix(self.parameters.value('tf_prefix'), self.get_namespace())

    def _compressed(self) -> bool:
        return bool(self.parameters.value('image_transport') == 'compressed')

    def _publish_diagnostics(self) -> None:
        check_inputs(self)
        check_surroundings(self)
        self._tf_watch.tick()
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics_message(stamp, self.label, self.problems, sections(self)))
