"""Calls of services and of the action that make no sense; each must be answered."""

from __future__ import annotations

import numpy as np
from service_calls import Caller

WORDS = ('', 'nobody', 'x' * 5000, '../..', '\x1b[31m', 'toy_rover', 'toy_rover_99999', 'toy_rover_-1', "it's", '/')


class NonsenseCaller(Caller):
    """Asks what no client should."""

    def nonsense(self, rng: np.random.Generator) -> None:
        """One call of a random kind."""
        (self._goal, self._values, self._names, self._transition)[int(rng.integers(4))](rng)

    def _goal(self, rng: np.random.Generator) -> None:
        goal = self.lookup.Goal(source_frame=_word(rng), target_frame=_word(rng))
        goal.timeout.sec = int(rng.choice([0, -1, -(2**31), 2**31 - 1]))
        goal.timeout.nanosec = int(rng.choice([0, 2**32 - 1]))
        goal.source_time.sec = int(rng.choice([0, -5, 2**31 - 1]))
        goal.advanced = bool(rng.integers(2))
        self.get_pose(goal, 5.0)

    def _values(self, rng: np.random.Generator) -> None:
        from rcl_interfaces.msg import Parameter, ParameterValue

        values = (
            ParameterValue(type=3, double_value=float('nan')),
            ParameterValue(type=3, double_value=float('-inf')),
            ParameterValue(type=2, integer_value=-(2**63)),
            ParameterValue(type=4, string_value=_word(rng)),
            ParameterValue(type=9, string_array_value=[_word(rng)] * 500),
            ParameterValue(type=8, double_array_value=[float('nan')] * 3),
            ParameterValue(type=0),
            ParameterValue(type=77),
        )
        names = ('min_score', 'workspace_min', 'bundle', 'objects', 'max_wait_s', 'threads', 'nobody', '', 'track')
        request = self.kinds['set_parameters'].Request()
        name, value = names[int(rng.integers(len(names)))], values[int(rng.integers(len(values)))]
        request.parameters = [Parameter(name=name, value=value)]
        response = self.call('set_parameters', request)
        if response and response.results and response.results[0].successful:
            raise AssertionError(f'{name} was set to {value}')

    def _names(self, rng: np.random.Generator) -> None:
        name = ('get_parameters', 'describe_parameters')[int(rng.integers(2))]
        self.call(name, self.kinds[name].Request(names=['bundle', _word(rng)] * int(rng.integers(1, 200))))

    def _transition(self, rng: np.random.Generator) -> None:
        request = self.kinds['change_state'].Request()
        # configure (1) and activate (3) are not for an active node; the others are none.
        request.transition.id = int(rng.choice([1, 3, 0, 99, 255]))
        request.transition.label = _word(rng)
        response = self.call('change_state', request)
        if response and response.success:
            raise AssertionError(f'transition {request.transition.id} was made')


def _word(rng: np.random.Generator) -> str:
    return WORDS[int(rng.integers(len(WORDS)))]
