"""config/sros2_policy.xml: well-formed, and exactly what the running node has on the graph."""

import fnmatch
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / 'config' / 'sros2_policy.xml'
FAKE_TF2 = str(Path(__file__).resolve().parent / 'fake_tf2')
NODE = 'pose_estimator'
QUALIFIERS = {
    'topics': ('topic', {'publish', 'subscribe'}),
    'services': ('service', {'request', 'reply'}),
    'actions': ('action', {'call', 'execute'}),
}
"""Of policy.xsd in sros2, version 0.2.0: element -> its children and its attributes."""
ENDS = {'service': ('cancel_goal', 'get_result', 'send_goal'), 'publisher': ('feedback', 'status')}
"""What an action server has below `<action>/_action/`."""
ONLY_SOMEWHERE = {('service', '/pose_estimator/get_type_description')}
"""Jazzy has it, Humble does not."""


@pytest.fixture(scope='module')
def policy():
    return ElementTree.parse(POLICY).getroot()


def profile_of(policy, path):
    (enclave,) = [item for item in policy.iter('enclave') if item.get('path') == path]
    (profile,) = enclave.iter('profile')
    return profile


def full_name(name, profile):
    """As permissions.xsl of sros2 expands it."""
    namespace = profile.get('ns').rstrip('/') + '/'
    if name.startswith('/'):
        return name
    return f'{namespace}{profile.get("node")}{name[1:]}' if name.startswith('~') else namespace + name


def allowed(profile):
    """(role, name) of everything that a profile allows, with actions as topics and services."""
    found = set()
    for group in profile:
        child, _ = QUALIFIERS[group.tag]
        names = [full_name(item.text, profile) for item in group.iter(child)]
        for verb in group.attrib:
            role = {'publish': 'publisher', 'subscribe': 'subscriber', 'reply': 'service'}.get(verb, verb)
            if verb == 'execute':
                found |= {(kind, f'{name}/_action/{end}') for name in names for kind in ENDS for end in ENDS[kind]}
            else:
                found |= {(role, name) for name in names}
    return found


def test_the_policy_has_the_form_that_sros2_reads(policy):
    assert (policy.tag, policy.attrib) == ('policy', {'version': '0.2.0'})
    (enclaves,) = policy
    assert enclaves.tag == 'enclaves'
    assert [item.get('path') for item in enclaves] == ['/pose_estimator', '/pose_operator']
    for enclave in enclaves:
        (profiles,) = enclave
        (profile,) = profiles
        assert (enclave.tag, profiles.tag, profile.tag) == ('enclave', 'profiles', 'profile')
        assert profile.attrib == {'ns': '/', 'node': NODE}
        for group in profile:
            child, verbs = QUALIFIERS[group.tag]
            assert set(group.attrib) <= verbs
            assert set(group.attrib.values()) == {'ALLOW'}
            assert [item.tag for item in group] == [child] * len(group)
            names = [item.text for item in group]
            assert len(set(names)) == len(names)
            assert all(name and name == name.strip() for name in names)


def test_only_the_names_of_objects_are_left_open(policy):
    names = [item.text for tag, _ in QUALIFIERS.values() for item in policy.iter(tag)]
    assert {name for name in names if set(name) & set('*?[]')} == {'~/poses/*', '~/poses_cov/*'}


def test_an_operator_asks_for_nothing_that_the_node_does_not_have(policy):
    node, operator = (profile_of(policy, path) for path in ('/pose_estimator', '/pose_operator'))

    def names(profile, tag, verb):
        return {item.text for group in profile.iter(tag) if verb in group.attrib for item in group}

    assert names(operator, 'services', 'request') <= names(node, 'services', 'reply')
    assert names(operator, 'actions', 'call') <= names(node, 'actions', 'execute')
    own = {name for name in names(operator, 'topics', 'subscribe') if name.startswith('~')}
    assert own <= names(node, 'topics', 'publish')


def graph_of(peer):
    """(role, name) of everything that the node has."""
    roles = ('publisher', 'subscriber', 'service', 'client')
    found = set()
    for role in roles:
        ask = getattr(peer.node, f'get_{role}_names_and_types_by_node')
        found |= {(role, name) for name, _ in ask(NODE, '/')}
    return found


@pytest.mark.ros
def test_the_policy_is_what_the_node_uses(policy, start, new_peer):
    start('-r', f'__node:={NODE}', path=FAKE_TF2)
    peer = new_peer(f'/{NODE}')
    seen = set()
    for values in (
        {'bundle': 'fake:covariance,objects=mug+can', 'image_transport': 'raw', 'use_detections': False},
        {'image_transport': 'compressed', 'use_detections': True, 'use_sim_time': True, 'workspace_frame': 'table'},
    ):
        peer.release()
        assert all(successful for successful, _ in peer.set(**values))
        assert peer.change('configure', 'activate') == [True, True]
        seen |= wait_for_graph(peer)
    # Opened with the first covariance, and while somebody else publishes on /tf.
    seen |= {('publisher', f'/{NODE}/poses_cov/mug'), ('subscriber', '/tf')}
    may = allowed(profile_of(policy, '/pose_estimator'))
    patterns = {(role, name) for role, name in may if '*' in name}

    def fits(entry):
        return entry in may or any(role == entry[0] and fnmatch.fnmatch(entry[1], name) for role, name in patterns)

    assert {entry for entry in seen if not fits(entry)} == set()
    unused = {entry for entry in may - patterns - seen if entry not in ONLY_SOMEWHERE} | {
        entry
        for entry in patterns
        if not any(role == entry[0] and fnmatch.fnmatch(name, entry[1]) for role, name in seen)
    }
    assert unused == set()


@pytest.mark.ros
def test_without_its_enclave_the_node_does_not_start(ros, tmp_path):
    command = [sys.executable, '-m', 'kd6d_ros.ros.main', '--ros-args', '--enclave', '/pose_estimator']
    security = {'ENABLE': 'true', 'STRATEGY': 'Enforce', 'KEYSTORE': str(tmp_path / 'keystore')}
    environment = {**os.environ, **{f'ROS_SECURITY_{name}': value for name, value in security.items()}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=ROOT)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('pose_estimator:')]
    assert 'cannot start: ' in line
    assert "SECURITY ERROR: directory '" in line
    assert 'Traceback' not in done.stderr


def wait_for_graph(peer):
    """What the node has, once it does not change any more."""
    before, now = None, graph_of(peer)
    while now != before or ('subscriber', '/camera_info') not in now:
        peer.spin(1.0)
        before, now = now, graph_of(peer)
    return now
