"""A robot for the tests: the real node as a process, and a peer that plays camera and consumer over DDS.

On this host only: loopback discovery, a ROS_DOMAIN_ID of its own, and UDP bound to 127.0.0.1.
"""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kd6d_ros.benchmark.processes import claim_domain

ROOT = Path(__file__).resolve().parents[2]
PROFILE = str(ROOT / 'config' / 'fastdds_localhost.xml')
DOMAIN = claim_domain()
ENVIRONMENT = {
    'ROS_DOMAIN_ID': str(DOMAIN),
    'ROS_LOCALHOST_ONLY': '1',
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    'FASTRTPS_DEFAULT_PROFILES_FILE': PROFILE,
    'FASTDDS_DEFAULT_PROFILES_FILE': PROFILE,
    'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]),
    'PYTHONUNBUFFERED': '1',
}
K = (600.0, 0.0, 320.0, 0.0, 600.0, 240.0, 0.0, 0.0, 1.0)
FRAME = 'camera_optical_frame'
PATIENCE = 120.0
"""[s] No test waits that long unless something hangs: a machine that runs tests may be slow and busy."""
ASK_AGAIN_S = 2.0
"""A question that was not answered by then is asked again, see `Peer.ask`."""


class NodeProcess:
    """The fake node of this folder (see fake_node.py), the real one or another executable, as a process; its log is in
    a file."""

    def __init__(self, log: Path, *arguments: str, real: bool = False, path: str = '', module: str = '') -> None:
        """`path`: a folder with modules that only this node can import; `module`: that of another executable."""
        self.log = log
        self._file = log.open('w')
        module = module or ('kd6d_ros.ros.main' if real else '')
        program = ('-m', module) if module else (str(ROOT / 'test' / 'ros' / 'fake_node.py'),)
        self.process = subprocess.Popen(
            [sys.executable, *program, '--ros-args', *arguments],
            env={
                **os.environ,
                **ENVIRONMENT,
                'PYTHONPATH': os.pathsep.join(filter(None, [path, ENVIRONMENT['PYTHONPATH']])),
            },
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    def text(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        """Exit code after SIGINT."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self._file.close()
        return self.process.returncode


class Peer:
    """Camera, consumer and operator of one node, by its full name."""

    def __init__(self, target: str) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage
        from vision_msgs.msg import Detection3DArray

        self.target = target
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node('peer', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self.image = self.node.create_publisher(Image, '/camera/image', reliable)
        self.compressed = self.node.create_publisher(CompressedImage, '/camera/image/compressed', reliable)
        self.info = self.node.create_publisher(CameraInfo, '/camera/info', reliable)
        self.got = {}
        for key, kind, topic in (
            ('detections', Detection3DArray, f'{target}/detections'),
            ('pose', PoseStamped, f'{target}/poses/mug'),
            ('tf', TFMessage, '/tf'),
            ('diagnostics', DiagnosticArray, '/diagnostics'),
        ):
            self.listen(key, kind, topic)
        self._clients = self._make_clients()
        self._stamp = 1_000 * 10**9

    def _make_clients(self):
        """Clients by name. get_state is the last one, so the node knows the others when it has answered that."""
        from lifecycle_msgs.srv import ChangeState, GetState
        from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters

        kinds = {
            'change_state': ChangeState,
            'set_parameters': SetParameters,
            'get_parameters': GetParameters,
            'describe_parameters': DescribeParameters,
            'get_state': GetState,
        }
        return {name: self.node.create_client(kind, f'{self.target}/{name}') for name, kind in kinds.items()}

    def listen(self, key, kind, topic):
        self.got[key] = []
        return self.node.create_subscription(kind, topic, self.got[key].append, 50)

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def wait(self, condition, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f'not within {seconds} s: {what}'
            self.executor.spin_once(timeout_sec=0.02)

    def send_request(self, name, request):
        """Future of the response of a service of the node."""
        self.wait(self._clients[name].service_is_ready, f'service {name}')
        return self._clients[name].call_async(request)

    def ask(self, name, request):
        """Response to a request that may be sent twice.

        A service can be called as soon as this side knows it. When the other side does not know this one yet, it
        waits for a tenth of a second and then drops the answer ('client will not receive response').
        """
        futures, due = [], 0.0
        end = time.monotonic() + PATIENCE
        while not any(future.done() for future in futures):
            assert time.monotonic() < end, f'not within {PATIENCE} s: answer of {name}'
            if time.monotonic() >= due:
                futures.append(self.send_request(name, request))
                due = time.monotonic() + ASK_AGAIN_S
            self.executor.spin_once(timeout_sec=0.02)
        return next(future.result() for future in futures if future.done())

    def release(self):
        """Bring the node to unconfigured."""
        steps = {'active': ('deactivate', 'cleanup'), 'inactive': ('cleanup',), 'unconfigured': ()}
        assert all(self.change(*steps[self.state()]))

    def change(self, *labels):
        """Run lifecycle transitions by label; the list of success flags."""
        return [self.finish(self.begin(label)) for label in labels]

    def begin(self, label):
        """Future of a lifecycle transition."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        # Sent once, so its answer must not get lost: the node must know where it goes.
        self.state()
        request = ChangeState.Request(transition=Transition(id=getattr(Transition, f'TRANSITION_{label.upper()}')))
        return self.send_request('change_state', request)

    def finish(self, future):
        self.wait(future.done, 'answer of change_state')
        return future.result().success

    def state(self):
        from lifecycle_msgs.srv import GetState

        return self.ask('get_state', GetState.Request()).current_state.label

    def get(self, name):
        """A parameter as it comes, rcl_interfaces/ParameterValue."""
        from rcl_interfaces.srv import GetParameters

        return self.ask('get_parameters', GetParameters.Request(names=[name])).values[0]

    def set(self, **values):
        """(successful, reason) of each parameter, set in this order."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        out = []
        for name, value in values.items():
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            result = self.ask('set_parameters', request).results[0]
            out.append((result.successful, result.reason))
        return out

    def reconfigure(self, **values):
        """Bring the node to active with these parameters, from whatever state it is in."""
        self.release()
        for result in self.set(**values):
            assert result[0], result
        assert self.change('configure', 'activate') == [True, True]
        topic = self.compressed if values.get('image_transport') == 'compressed' else self.image
        self.wait(lambda: topic.get_subscription_count() and self.info.get_subscription_count(), 'subscriptions')
        self.forget()

    def forget(self):
        """Clear what was received."""
        for messages in self.got.values():
            messages.clear()

    def values(self, section):
        """Key and value pairs of a section in the next diagnostics."""
        self.got['diagnostics'].clear()
        self.wait(lambda: self.status(section), 'diagnostics')
        return {item.key: item.value for item in self.status(section).values}

    def settle(self, waiting=0):
        """Return when no image came for a second, and that many wait in the node: all that was sent has its answer."""
        end = time.monotonic() + PATIENCE
        before, now = None, self.values('input')
        while (now['images arrived'], now['images waiting']) != (before, str(waiting)):
            assert time.monotonic() < end, f'still busy: {now}'
            before, now = now['images arrived'], self.values('input')

    def stamp(self, ns=None):
        """The next stamp, 33 ms after the last, or the given one [ns]."""
        from builtin_interfaces.msg import Time

        if ns is None:
            self._stamp += 33_000_000
            ns = self._stamp
        return Time(sec=ns // 10**9, nanosec=ns % 10**9)

    def make_image(self, stamp=None, frame=FRAME):
        from sensor_msgs.msg import Image

        image = Image(width=64, height=48, encoding='rgb8', step=192)
        image.header.stamp, image.header.frame_id = stamp or self.stamp(), frame
        image.data = array.array('B', bytes(64 * 48 * 3))
        return image

    def make_info(self, stamp=None, frame=FRAME):
        from sensor_msgs.msg import CameraInfo

        info = CameraInfo(width=64, height=48, distortion_model='plumb_bob', d=[0.0] * 5, k=np.array(K))
        info.p = np.array([600.0, 0, 320, 0, 0, 600, 240, 0, 0, 0, 1, 0])
        info.header.frame_id = frame
        if stamp is not None:
            info.header.stamp = stamp
        return info

    def send(self, image, info=None):
        """Publish CameraInfo, then the image a moment later, so that the pair is taken together."""
        self.info.publish(info or self.make_info(image.header.stamp))
        self.spin(0.01)
        (self.compressed if hasattr(image, 'format') else self.image).publish(image)

    def repeat(self, step, condition, what):
        """Do something until a condition is true."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f'not within {PATIENCE} s: {what}'
            step()

    def send_until(self, condition, what, make=None, info=None):
        """Send images, as `make` gives them, until a condition is true."""

        def step():
            self.send((make or self.make_image)(), info and info())
            self.spin(0.05)

        self.repeat(step, condition, what)

    def send_until_detections(self, make=None):
        """Send good images until one was processed; its Detection3DArray."""
        self.got['detections'].clear()
        self.send_until(lambda: self.got['detections'], 'an image was processed', make)
        return self.got['detections'][0]

    def status(self, section):
        """The last status of a section out of /diagnostics."""
        name = f'{self.target.strip("/")}: {section}'
        for message in reversed(self.got['diagnostics']):
            for status in message.status:
                if status.name == name:
                    return status
        return None

    def texts(self):
        """Everything that /diagnostics has said since the lists were cleared."""
        out = []
        for message in self.got['diagnostics']:
            for status in message.status:
                out += [status.message, *(item.value for item in status.values)]
        return '\n'.join(out)

    def close(self):
        import rclpy

        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture(scope='session')
def ros():
    """Skips without ROS; keeps this process on this host as well."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: make test installs it, or source ROS 2')
    pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not built: run test/interfaces/build.py')
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not built: run test/interfaces/build.py')
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@contextmanager
def starter(tmp_path_factory):
    """Starts node processes and ends them all."""
    started = []

    def make(*arguments, **how):
        log = tmp_path_factory.mktemp('node') / 'log.txt'
        started.append(NodeProcess(log, *arguments, **how))
        return started[-1]

    try:
        yield make
    finally:
        for process in started:
            process.stop()


@contextmanager
def meeter():
    """Makes peers and closes them all."""
    peers = []

    def make(target):
        peers.append(Peer(target))
        return peers[-1]

    try:
        yield make
    finally:
        for peer in peers:
            peer.close()


# Each ends with its test or module: everybody on this host discovers everybody, which a small machine feels.


@pytest.fixture
def start(ros, tmp_path_factory):
    with starter(tmp_path_factory) as make:
        yield make


@pytest.fixture
def new_peer(ros):
    with meeter() as make:
        yield make


@pytest.fixture(scope='module')
def module_start(ros, tmp_path_factory):
    with starter(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope='module')
def module_peer(ros):
    with meeter() as make:
        yield make


@pytest.fixture(scope='session')
def node(ros, tmp_path_factory):
    """One long-lived node in the namespace /left, unconfigured at first."""
    with starter(tmp_path_factory) as make:
        yield make(
            *('-r', '__ns:=/left', '-r', 'image:=/camera/image', '-r', 'camera_info:=/camera/info'),
            *('-p', 'min_scor:=0.5', '-p', 'min_distance:=1'),
        )


@pytest.fixture(scope='session')
def peer(node):
    with meeter() as make:
        yield make('/left/pose_estimator')
