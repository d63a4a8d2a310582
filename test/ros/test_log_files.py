"""bag_player and recorder: a log that cannot be written, a bag that cannot be played, end in one line."""

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


def source_of(folder, topics):
    """A bag with these topics, as TopicInfo by name."""

    class Source:
        path = folder

        def __init__(self, path): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def topics(self):
            return topics

    return Source


def test_stamps_of_messages_without_a_header_cannot_be_moved(ros, tmp_path, monkeypatch, capfd):
    from kd6d_ros.benchmark.bag_source import TopicInfo
    from kd6d_ros.ros import bag_player

    topics = {'/tf': TopicInfo('tf2_msgs/msg/TFMessage', 3), '/image': TopicInfo('sensor_msgs/msg/Image', 3)}
    monkeypatch.setattr(bag_player, 'BagSource', source_of(tmp_path, topics))
    assert bag_player.main([str(tmp_path), '--restamp']) == 2
    one_line(
        capfd.readouterr(), 'bag_player: --restamp: /tf (tf2_msgs/msg/TFMessage) has no header: leave it out, --topics'
    )
    assert bag_player.main([str(tmp_path), '--duration', '0']) == 2
    one_line(capfd.readouterr(), 'bag_player: --duration 0: must be above 0')


def test_the_player_says_where_it_cannot_log(ros, tmp_path, monkeypatch, capfd):
    from kd6d_ros.ros import bag_player

    monkeypatch.setattr(bag_player, 'BagSource', source_of(tmp_path, {}))
    assert bag_player.main([str(tmp_path), '--log', str(tmp_path / 'no' / 'log')]) == 2
    one_line(capfd.readouterr(), f'bag_player: --log {tmp_path}/no/log: cannot be written: No such file or directory')


def test_the_recorder_says_where_it_cannot_log(ros, tmp_path, monkeypatch, capfd):
    from kd6d_ros.ros import recorder

    monkeypatch.setattr(recorder.signal, 'signal', lambda *_: None)
    assert recorder.main(['--log', str(tmp_path / 'no' / 'log')]) == 2
    one_line(capfd.readouterr(), f'recorder: --log {tmp_path}/no/log: cannot be written: No such file or directory')
