"""config/pose.yaml, written from the table of parameters so that the two cannot drift apart.

python -m kd6d_ros.ros.parameter_file > config/pose.yaml
"""

from __future__ import annotations

import textwrap
from typing import Any, List, Sequence

from kd6d_ros.ros.params import NODE_PARAMETERS, ParameterSpec, expected, setting_specs

HEAD = """\
# Parameters of the pose estimator at their defaults; only `bundle` is chosen here. Seconds, metres, pixels.
# Use a copy: ros2 launch kd6d_ros pose.launch.py params_file:=<your copy>
# Written by: python -m kd6d_ros.ros.parameter_file > config/pose.yaml
/**:
  ros__parameters:
"""
SHIPPED_BUNDLE = 'demo'


def parameter_file() -> str:
    """The whole YAML file."""
    lines = ['# The node. Where nothing else is said, a change takes effect at configure.']
    lines += _entries(NODE_PARAMETERS)
    lines += ['', '# The estimator.']
    lines += _entries(setting_specs())
    return HEAD + ''.join(f'    {line}'.rstrip() + '\n' for line in lines)


def markdown_table() -> str:
    """The same for the documentation."""
    rows = ['| parameter | default | takes | meaning | when |', '|---|---|---|---|---|']
    for spec in NODE_PARAMETERS + setting_specs():
        when = 'any time' if spec.dynamic else 'configure'
        cells = (f'`{spec.name}`', f'`{_literal(spec.default)}`', expected(spec), spec.description, when)
        rows.append(f'| {" | ".join(cells)} |')
    return '\n'.join(rows) + '\n'


def _entries(specs: Sequence[ParameterSpec]) -> List[str]:
    lines = []
    for spec in specs:
        text = spec.description
        if spec.choices:
            text += f' One of: {", ".join(spec.choices)}.'
        if spec.dynamic:
            text += ' (any time)'
        lines += [f'# {line}' for line in textwrap.wrap(text, 105)]
        value = SHIPPED_BUNDLE if spec.name == 'bundle' else spec.default
        lines.append(f'{spec.name}: {_literal(value)}')
    return lines


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value) if value != '' else "''"


if __name__ == '__main__':
    print(parameter_file(), end='')
