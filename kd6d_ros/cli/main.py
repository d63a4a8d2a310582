"""The `kd6d` command: finds the commands that exist and turns a user's mistake into one line.

Every command is a module of this package with ``add_parser(subparsers)``, which adds one parser and sets its
``handler`` (a function of the parsed arguments that returns an exit code or None). These modules import
nothing but the standard library at import time; a handler imports its room when it runs, so that `--help`
works on a bare robot and starts at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from typing import Any, NoReturn, Optional, Sequence

from kd6d_ros import __version__
from kd6d_ros.cli.missing import cure_for
from kd6d_ros.cli.output import check_json_target
from kd6d_ros.errors import Kd6dError

COMMANDS = {
    'synth': 'synth',
    'codes': 'codes',
    'train': 'train',
    'distill': 'distill',
    'study': 'study',
    'export': 'export',
    'calibrate': 'calibrate',
    'engine': 'engine',
    'info': 'info',
    'predict': 'predict',
    'estimate': 'estimate',
    'evaluate': 'evaluate',
    'analyse': 'analyse',
    'bench': 'bench',
    'bench-node': 'bench_node',
    'make-bag': 'make_bag',
    'demo': 'demo',
}
"""Command name -> module in this package; a command is listed once its module exists."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line that points at `--help`."""

    flags_first = False
    """For a command whose options take no value: they may then also stand between its positional arguments."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.flags_first and args is not None:
            args = sorted(args, key=lambda text: not text.startswith('-'))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f'{self.prog}: error: {message} (see {self.prog} --help)\n')


def available_commands() -> dict[str, str]:
    """Commands whose module exists: name -> full module name."""
    modules = {name: f'kd6d_ros.cli.{module}' for name, module in COMMANDS.items()}
    return {name: module for name, module in modules.items() if importlib.util.find_spec(module)}


def build_parser(only: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser of all commands, or of the command `only` (which then is the only module imported)."""
    parser = OneLineParser(
        prog='kd6d',
        description='6D object poses for ROS 2: from a mesh to a pose on a topic.',
        epilog='Example: kd6d info models/demo. Every command has --help with units and an example.',
    )
    parser.add_argument('--version', action='version', version=f'kd6d {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, module in available_commands().items():
        if only in (None, name):
            importlib.import_module(module).add_parser(subparsers)
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; return its exit code (0 done, 2 the user's mistake, 130 interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = arguments[0] if arguments else ''
    name = first if first in available_commands() else None
    try:
        parsed = build_parser(only=name).parse_args(arguments)
        check_json_target(getattr(parsed, 'json', None))
        return int(parsed.handler(parsed) or 0)
    except Kd6dError as error:
        return _complain(name, str(error))
    except ImportError as error:
        cure = cure_for(error)
        if cure is None:
            raise
        return _complain(name, cure)
    except BrokenPipeError:
        # The reader (`| head`) has gone: keep the interpreter from complaining again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            raise
        return _complain(name, f'{error.filename}: {(error.strerror or str(error)).lower()}')
    except KeyboardInterrupt:
        sys.stderr.write(f'\nkd6d {name}: interrupted\n' if name else '\nkd6d: interrupted\n')
        return EXIT_INTERRUPTED


def _complain(name: Optional[str], message: str) -> int:
    """Write one line on standard error and return the exit code of a user's mistake."""
    sys.stdout.flush()
    line = ' '.join(message.split())
    sys.stderr.write(f'kd6d {name}: error: {line}\n' if name else f'kd6d: error: {line}\n')
    return EXIT_USER_ERROR


if __name__ == '__main__':
    sys.exit(main())
