"""Declares the table of params.py on a node, reports what is wrong with the overrides, guards changes."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult

from kd6d_ros.errors import Kd6dError
from kd6d_ros.ros.params import (
    QOS_PREFIX,
    ParameterSpec,
    all_specs,
    coerce,
    expected,
    settings_from,
    unknown_message,
    workspace_bounds,
)


class ParameterServer:
    """The parameters of one node.

    `problems`: one line for each override of a wrong type or value; the node then refuses to configure.
    `unknown`: one line for each override that nobody declared.
    """

    def __init__(
        self, node: Any, is_configured: Callable[[], bool], changed: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._node, self._is_configured, self._changed = node, is_configured, changed
        self._specs = all_specs()
        self.problems: Dict[str, str] = {}
        self.unknown: List[str] = []
        overrides = dict(getattr(node, '_parameter_overrides', {}))
        for spec in self._specs.values():
            self._declare(spec, overrides)
        # Those of QoS are declared by rclpy, and only when their topic is opened.
        self._qos = [name for name in overrides if name.startswith(QOS_PREFIX)]
        for name in overrides:
            if not node.has_parameter(name) and name not in self._qos:
                self.unknown.append(unknown_message(name, self._specs))
        node.add_on_set_parameters_callback(self._check)
        # What was accepted is applied afterwards, where the distribution tells us (Iron and later).
        register = getattr(node, 'add_post_set_parameters_callback', None)
        self._has_post = register is not None
        if register is not None:
            register(self._apply)

    def values(self) -> Dict[str, Any]:
        """Current values by name."""
        return {name: self._node.get_parameter(name).value for name in self._specs}

    def value(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def unknown_qos(self, known: Iterable[str]) -> List[str]:
        """One line for each override of a QoS that is not among the `known` ones."""
        right = list(known)
        wrong = [name for name in self._qos if name not in right and not self._node.has_parameter(name)]
        return [unknown_message(name, right, least=0.0) for name in wrong]

    def _declare(self, spec: ParameterSpec, overrides: Dict[str, Any]) -> None:
        value = spec.default
        if spec.name in overrides:
            try:
                value = coerce(spec, overrides[spec.name].value)
            except Kd6dError as error:
                self.problems[spec.name] = str(error)
        stored = list(value) if isinstance(value, tuple) else value
        self._node.declare_parameter(spec.name, stored, descriptor(spec), ignore_override=True)

    def _apply(self, _parameters: Sequence[Any]) -> None:
        # rclpy also comes here when a topic is opened, since that declares its qos_overrides.
        with self._node.parameter_lock:
            self._changed(self.values())

    def _check(self, parameters: Sequence[Any]) -> SetParametersResult:
        """Accept or refuse a change, with the reason."""
        if not all(item.name for item in parameters):
            # rclpy takes that for a declared one.
            return SetParametersResult(successful=False, reason='a parameter without a name cannot be set')
        mine = [item for item in parameters if item.name in self._specs]
        try:
            values = self.values()
            for item in mine:
                spec = self._specs[item.name]
                if not spec.dynamic and self._is_configured():
                    reason = f'parameter {item.name} takes effect at configure: clean up the node first'
                    return SetParametersResult(successful=False, reason=reason)
                values[item.name] = coerce(spec, item.value)
            settings_from(values)
            workspace_bounds(values)
        except Kd6dError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for item in mine:
            self.problems.pop(item.name, None)
        if mine and not self._has_post:
            self._changed(values)
        return SetParametersResult(successful=True)


def descriptor(spec: ParameterSpec, **when: str) -> ParameterDescriptor:
    """What `ros2 param describe` shows; `when` as in ``ParameterSpec.describe``."""
    described = ParameterDescriptor(name=spec.name, description=spec.describe(**when))
    # A list of names and one string are both fine, and so are whole numbers among others.
    described.dynamic_typing = spec.name == 'objects' or isinstance(spec.default, tuple)
    if spec.choices:
        described.additional_constraints = f'one of: {", ".join(spec.choices)}'
    if spec.low is not None and spec.high is not None:
        if isinstance(spec.default, tuple):
            described.additional_constraints = expected(spec)
        elif isinstance(spec.default, float):
            floats = FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high), step=0.0)
            described.floating_point_range = [floats]
        elif isinstance(spec.default, int):
            described.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)]
    return described
