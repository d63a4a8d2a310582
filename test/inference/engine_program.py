"""`kd6d engine` in a process of its own, with the fake TensorRT: engine_program.py SETTINGS.json ARGUMENTS...

Settings: log (file), padding (bytes), sleep_s (each build), hang ('build' or 'write': touch the file `reached` there
and wait to be killed), limit (most bytes of a file that the process may write).
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from fake_tensorrt import FakeTensorRt

from kd6d_ros.cli import main as cli
from kd6d_ros.inference.engines import engine_cache, select


def main() -> int:
    # A shell starts what it puts in the background with Ctrl-C ignored, and so may whatever runs these tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = json.loads(Path(sys.argv[1]).read_text())

    def wait_to_be_killed(*_):
        Path(settings['reached']).touch()
        time.sleep(60)

    def before():
        time.sleep(settings.get('sleep_s', 0))
        if settings.get('hang') == 'build':
            wait_to_be_killed()

    if settings.get('hang') == 'write':
        engine_cache.os.fsync = wait_to_be_killed
    if 'limit' in settings:
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings['limit'], settings['limit']))
    backend = FakeTensorRt(padding=settings.get('padding', 0), log=settings.get('log'), before=before)
    select.new_backend = lambda: backend
    return cli.main(['engine', *sys.argv[2:]])


if __name__ == '__main__':
    os.umask(0o022)
    sys.exit(main())
