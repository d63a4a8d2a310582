"""bag_player and recorder: a log that cannot be written, and a bag that is not there, end in one line."""

import pytest

pytestmark = pytest.mark.ros


def one_line(captured, text):
    # The middleware may have remarks of its own.
    lines = [line for line in captured.err.splitlines() if not line.startswith('[')]
    assert len(lines) == 1, lines
    assert text in lines[0]


def test_a_missing_bag_leaves_no_log(ros, tmp_path, capfd):
    from kd6d_ros.ros import bag_player

    log = tmp_path / 'log.jsonl'
    assert bag_player.main([str(tmp_path / 'none.mcap'), '--log', str(log)]) == 2
    one_line(capfd.readouterr(), 'none.mcap')
    assert not log.exists()


def test_the_player_says_where_it_cannot_log(ros, tmp_path, monkeypatch, capfd):
    from kd6d_ros.ros import bag_player

    class Source:
        path = tmp_path

        def __init__(self, path): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def topics(self):
            return {}

    monkeypatch.setattr(bag_player, 'BagSource', Source)
    assert bag_player.main([str(tmp_path), '--log', str(tmp_path / 'no' / 'log')]) == 2
    one_line(capfd.readouterr(), f'bag_player: --log {tmp_path}/no/log: cannot be written: No such file or directory')


def test_the_recorder_says_where_it_cannot_log(ros, tmp_path, monkeypatch, capfd):
    from kd6d_ros.ros import recorder

    monkeypatch.setattr(recorder.signal, 'signal', lambda *_: None)
    assert recorder.main(['--log', str(tmp_path / 'no' / 'log')]) == 2
    one_line(capfd.readouterr(), f'recorder: --log {tmp_path}/no/log: cannot be written: No such file or directory')
