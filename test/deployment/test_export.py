"""Export: the ONNX file computes what PyTorch does, at crop and frame size, and the bundle carries the facts."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed: pip install kd6d_ros[train]')

from kd6d_ros.cli.main import main  # noqa: E402
from kd6d_ros.deployment.equality import check_equal  # noqa: E402
from kd6d_ros.deployment.export import ExportRequest, export_bundle  # noqa: E402
from kd6d_ros.deployment.onnx_export import rounded_weights  # noqa: E402
from kd6d_ros.distillation.settings import AdlpSettings, DistillationSettings, NaiveSettings  # noqa: E402
from kd6d_ros.errors import ConfigError, EngineError  # noqa: E402
from kd6d_ros.inference.bundle import load_bundle, load_mesh  # noqa: E402
from kd6d_ros.inference.engines.select import make_engine  # noqa: E402
from kd6d_ros.networks.deployed_graph import DeployedGraph  # noqa: E402
from kd6d_ros.networks.keypoint_network import KeypointNetwork  # noqa: E402
from kd6d_ros.networks.macs import count_macs  # noqa: E402
from kd6d_ros.networks.spec import NetworkSpec  # noqa: E402
from kd6d_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from kd6d_ros.training.recipe import DataRecipe, InputRecipe, Recipe  # noqa: E402
from kd6d_ros.types import ContinuousSymmetry, ObjectModel, RigidTransform, Symmetries  # noqa: E402

CORNERS = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)])


def make_checkpoint(path, norm='group'):
    torch.manual_seed(3)
    spec = NetworkSpec('darknet_tiny_h', (16, 32), 64, 1, norm, classes=2)
    network = KeypointNetwork(spec).eval()
    torch.nn.init.normal_(network.head.score.weight, std=0.3)
    torch.nn.init.normal_(network.head.offsets.weight, std=0.05)
    half_turn = RigidTransform(np.diag([-1.0, -1.0, 1.0]), np.array([0.001, 0, 0]))
    round_z = ContinuousSymmetry(np.array([0, 0, 1.0]), np.array([0, 0.002, 0]))
    objects = (
        ObjectModel('box', 4, 0.123, CORNERS, Symmetries((half_turn,)), 'A box'),
        ObjectModel('can', 9, 0.2, CORNERS * 2, Symmetries((), (round_z,)), 'A can'),
    )
    recipe = Recipe(
        'two', network=spec, input=InputRecipe(96, 1.5, (160, 128), 64), data=DataRecipe('somewhere/secret')
    )
    facts = {'parameters': 7, 'commit': 'abc', 'validation': {'recall': 0.5, 'accepted': 0.75, 'looked_at': 80}}
    save_checkpoint(path, Checkpoint(network, recipe, objects, facts))
    return network


def test_checkpoint_round_trip(tmp_path):
    network = make_checkpoint(tmp_path / 'final.pt')
    again = load_checkpoint(tmp_path / 'final.pt')
    for key, value in network.state_dict().items():
        # Matrices are kept in half precision, everything else exactly.
        tolerance = {'rtol': 2**-11, 'atol': 6e-8} if value.ndim > 1 else {'rtol': 0.0, 'atol': 0.0}
        torch.testing.assert_close(again.network.state_dict()[key], value, **tolerance)
    box, can = again.objects
    assert (box.name, box.obj_id, box.display_name, box.diameter) == ('box', 4, 'A box', 0.123)
    np.testing.assert_allclose(box.symmetries.discrete[0].translation, [0.001, 0, 0])
    np.testing.assert_allclose(can.symmetries.continuous[0].offset, [0, 0.002, 0])
    np.testing.assert_allclose(can.keypoints, CORNERS * 2)
    assert list(tmp_path.iterdir()) == [tmp_path / 'final.pt']


@pytest.mark.parametrize('norm', ['group', 'batch'])
def test_bundle_computes_what_pytorch_does(tmp_path, norm):
    make_checkpoint(tmp_path / 'final.pt', norm)
    bundle = export_bundle(ExportRequest(tmp_path / 'final.pt', tmp_path / 'two', licence='CC0', origin='made here'))
    network = rounded_weights(load_checkpoint(tmp_path / 'final.pt').network)
    engine = make_engine(load_bundle(tmp_path / 'two'), threads=1)
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 160, 3), dtype=np.uint8)
    cells = engine.run(image, np.array([[True, True]]))[0]
    with torch.no_grad():
        graph = DeployedGraph(network, 64)
        _, score, _, _, keypoints = graph(torch.from_numpy(image), torch.ones(1, 2, dtype=torch.bool))
    np.testing.assert_allclose(cells.score, score[0].numpy(), atol=1e-4)
    best = 8
    np.testing.assert_allclose(cells.keypoints[:best], keypoints[0, :best].numpy(), atol=0.1)
    assert bundle.names == ('box', 'can')
    assert bundle.network.frame_size == (160, 128)
    assert bundle.expected['held_out_renders_recall_0.1d'] == 0.5
    assert 'secret' not in (tmp_path / 'two' / 'bundle.yaml').read_text()
    assert bundle.network.crop_macs == count_macs(network, 96, 96).total
    assert load_bundle(tmp_path / 'two').network.frame_macs == count_macs(network, 160, 128).total
    size = (tmp_path / 'two' / 'model_fp32.onnx').stat().st_size
    parameters = sum(p.numel() for p in network.parameters())
    assert size < 2 * parameters + 150_000  # two bytes per weight


def test_a_recommended_score_goes_into_the_bundle(tmp_path, capsys):
    make_checkpoint(tmp_path / 'final.pt')
    command = ['export', '--checkpoint', str(tmp_path / 'final.pt'), '--out', str(tmp_path / 'two')]
    assert main([*command, '--min-score', '0.35']) == 0
    assert load_bundle(tmp_path / 'two').decode.min_score == 0.35
    assert main(command) == 0
    assert load_bundle(tmp_path / 'two').decode.min_score is None
    capsys.readouterr()
    assert main([*command, '--min-score', '35']) == 2
    assert '--min-score 35: expected 0 to 1' in capsys.readouterr().err


def test_the_manifest_says_how_the_student_was_taught(tmp_path):
    make_checkpoint(tmp_path / 'final.pt')
    assert main(['export', '--checkpoint', str(tmp_path / 'final.pt'), '--out', str(tmp_path / 'plain')]) == 0
    assert load_bundle(tmp_path / 'plain').training['method'] == 'plain student'
    checkpoint = load_checkpoint(tmp_path / 'final.pt')
    settings = DistillationSettings('secret/place/t.pt', adlp=AdlpSettings(weight=0.1), naive=NaiveSettings(weight=0.2))
    taught = replace(checkpoint, recipe=replace(checkpoint.recipe, distillation=settings),
                     facts={**checkpoint.facts, 'teacher': {'backbone': 'darknet53', 'parameters': 9}})  # fmt: skip
    save_checkpoint(tmp_path / 'taught.pt', taught)
    assert main(['export', '--checkpoint', str(tmp_path / 'taught.pt'), '--out', str(tmp_path / 'taught')]) == 0
    training = load_bundle(tmp_path / 'taught').training
    assert training['method'] == 'student distilled with ADLP and naive'
    assert training['teacher'] == {'backbone': 'darknet53', 'parameters': 9}
    assert training['recipe']['distillation']['teacher'] == 't.pt'
    assert 'secret' not in (tmp_path / 'taught' / 'bundle.yaml').read_text()


def test_rounding_the_weights_to_half_precision_changes_little(tmp_path):
    network = make_checkpoint(tmp_path / 'final.pt')
    image = torch.randint(0, 255, (1, 3, 96, 96)).float()
    with torch.no_grad():
        exact, rounded = network(image), rounded_weights(network)(image)
    assert (exact.logits.sigmoid() - rounded.logits.sigmoid()).abs().max() < 0.02
    assert (exact.keypoints - rounded.keypoints).abs().median() < 0.2


def test_a_graph_that_differs_is_refused(tmp_path):
    make_checkpoint(tmp_path / 'final.pt')
    bundle = export_bundle(ExportRequest(tmp_path / 'final.pt', tmp_path / 'two'))
    network = load_checkpoint(tmp_path / 'final.pt').network
    with torch.no_grad():
        network.head.score.bias += 0.5
    with pytest.raises(EngineError, match='differs from PyTorch at 2x96x96'):
        check_equal(network, tmp_path / 'two' / 'model_fp32.onnx', replace(bundle, folder=tmp_path / 'two'))


def test_command_and_its_mistakes(tmp_path, capsys):
    make_checkpoint(tmp_path / 'final.pt')
    checkpoint, out = str(tmp_path / 'final.pt'), str(tmp_path / 'models' / 'two')
    assert main(['export', '--checkpoint', checkpoint, '--out', out]) == 0
    assert 'box, can' in capsys.readouterr().out
    before = {p.name: p.read_bytes() for p in (tmp_path / 'models' / 'two').iterdir()}
    (tmp_path / 'damaged.pt').write_bytes(b'PK\x03\x04 not a checkpoint')
    for arguments, message in (
        (['--checkpoint', str(tmp_path / 'no.pt'), '--out', out], 'no such checkpoint'),
        (['--checkpoint', str(tmp_path / 'damaged.pt'), '--out', out], 'not a readable checkpoint'),
        (['--checkpoint', checkpoint, '--out', out, '--precisions', 'int3'], 'int3'),
    ):
        assert main(['export', *arguments]) == 2
        line = capsys.readouterr().err.strip()
        assert message in line
        assert '\n' not in line
    assert {p.name: p.read_bytes() for p in (tmp_path / 'models' / 'two').iterdir()} == before


def write_box(path, low, high, scale=1.0):
    """A box [m] as a PLY file in units of 1 / `scale` m."""
    trimesh = pytest.importorskip('trimesh', reason="mesh files need pip install 'kd6d_ros[synth]'")
    box = trimesh.creation.box(bounds=[low, high])
    box.apply_scale(scale)
    box.visual.vertex_colors = np.tile([200, 40, 40, 255], (len(box.vertices), 1))
    path.parent.mkdir(exist_ok=True)
    box.export(path)


BOX_HALF, CAN_HALF = np.array([0.05, 0.03, 0.02]), np.array([0.1, 0.06, 0.04])
SIZES = {4: 2 * float(np.linalg.norm(BOX_HALF)), 9: 2 * float(np.linalg.norm(CAN_HALF))}


def bop_folder(folder, idents=(4, 9, 12), stretch=1.0):
    """A BOP models folder [mm] without names; object 12 is one that the checkpoint does not know."""
    infos = {}
    for ident in idents:
        half = 1000 * stretch * {4: BOX_HALF, 9: CAN_HALF, 12: BOX_HALF}[ident]
        write_box(folder / f'obj_{ident:06d}.ply', -half, half)
        low = dict(zip(('min_x', 'min_y', 'min_z'), (-half).tolist(), strict=True))
        size = dict(zip(('size_x', 'size_y', 'size_z'), (2 * half).tolist(), strict=True))
        infos[str(ident)] = {'diameter': 2 * float(np.linalg.norm(half)), **low, **size}
    (folder / 'models_info.json').write_text(json.dumps(infos))
    return folder


@pytest.fixture
def sized(tmp_path):
    """A checkpoint whose diameters are those of `bop_folder`."""
    path = tmp_path / 'final.pt'
    make_checkpoint(path)
    whole = load_checkpoint(path)
    objects = tuple(replace(item, diameter=SIZES[item.obj_id]) for item in whole.objects)
    save_checkpoint(path, replace(whole, objects=objects))
    return path


def export(checkpoint, out, meshes):
    return main(['export', '--checkpoint', str(checkpoint), '--out', str(out), '--meshes', str(meshes)])


def test_meshes_of_a_bop_folder_without_names_are_found_by_id(tmp_path, sized):
    assert export(sized, tmp_path / 'b', bop_folder(tmp_path / 'models')) == 0
    bundle = load_bundle(tmp_path / 'b')
    assert sorted(bundle.meshes) == ['box', 'can']
    for name, half in (('box', BOX_HALF), ('can', CAN_HALF)):
        mesh = load_mesh(bundle, name)
        np.testing.assert_allclose(mesh.vertices.max(axis=0), half, atol=1e-6)
        assert (mesh.colours == [200, 40, 40]).all()


def test_meshes_of_a_plain_folder_are_found_by_name(tmp_path, sized):
    write_box(tmp_path / 'models' / 'can.ply', -CAN_HALF, CAN_HALF)
    write_box(tmp_path / 'models' / 'box.ply', -BOX_HALF, BOX_HALF)
    write_box(tmp_path / 'models' / 'zebra.ply', -BOX_HALF, BOX_HALF)
    assert export(sized, tmp_path / 'b', tmp_path / 'models') == 0
    assert load_mesh(load_bundle(tmp_path / 'b'), 'can').vertices[:, 0].max() == pytest.approx(0.1)


def test_the_texture_of_a_mesh_becomes_colours_of_its_vertices(tmp_path, sized):
    image = pytest.importorskip('PIL.Image')
    bop_folder(tmp_path / 'models')
    image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).save(tmp_path / 'models' / 'skin.png')
    corners = [(x, y, z) for x in (-50, 50) for y in (-30, 30) for z in (-20, 20)]
    faces = [(0, 1, 2), (1, 3, 2), (4, 6, 5), (5, 6, 7), (0, 4, 1), (1, 4, 5), (2, 3, 6), (3, 7, 6)]
    lines = ['ply', 'format ascii 1.0', 'comment TextureFile skin.png', 'element vertex 8']
    lines += [f'property float {name}' for name in ('x', 'y', 'z', 'texture_u', 'texture_v')]
    lines += [f'element face {len(faces)}', 'property list uchar int vertex_indices', 'end_header']
    lines += [f'{x} {y} {z} 0.5 0.5' for x, y, z in corners] + [f'3 {a} {b} {c}' for a, b, c in faces]
    (tmp_path / 'models' / 'obj_000004.ply').write_text('\n'.join(lines) + '\n')
    assert export(sized, tmp_path / 'b', tmp_path / 'models') == 0
    assert (load_mesh(load_bundle(tmp_path / 'b'), 'box').colours == [10, 200, 30]).all()


@pytest.mark.parametrize(
    ('idents', 'stretch', 'message'),
    [
        ((4, 12), 1.0, "has no mesh of object 'can' (id 9) of the checkpoint; give the models folder"),
        (
            (4, 9),
            1.03,
            "the mesh of object 'box' (id 4) is 127.0 mm across, the checkpoint was trained on one of 123.3",
        ),
    ],
)
def test_a_missing_mesh_or_one_of_another_size_is_one_line(tmp_path, sized, capsys, idents, stretch, message):
    assert export(sized, tmp_path / 'b', bop_folder(tmp_path / 'models', idents, stretch)) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert '\n' not in line
    assert not (tmp_path / 'b').exists()


def test_meshes_that_differ_by_less_than_the_tolerance_are_taken(tmp_path, sized):
    assert export(sized, tmp_path / 'b', bop_folder(tmp_path / 'models', (4, 9), 1.015)) == 0


def test_pickled_code_in_a_checkpoint_is_not_run(tmp_path):
    marker = tmp_path / 'ran'

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), 'w'))

    torch.save({'format': Evil()}, tmp_path / 'evil.pt')
    with pytest.raises(ConfigError, match='not a readable checkpoint'):
        load_checkpoint(tmp_path / 'evil.pt')
    assert not marker.exists()


def test_the_padding_of_the_crops_may_differ_from_training(tmp_path, sized):
    command = ['export', '--checkpoint', str(sized), '--out', str(tmp_path / 'b'), '--crop-padding']
    assert main([*command, '1.15']) == 0
    assert load_bundle(tmp_path / 'b').network.crop_padding == 1.15


@pytest.mark.parametrize('padding', ['0.5', '9', 'nan'])
def test_a_padding_without_sense_is_one_line(tmp_path, sized, capsys, padding):
    command = ['export', '--checkpoint', str(sized), '--out', str(tmp_path / 'b'), '--crop-padding']
    assert main([*command, padding]) == 2
    assert 'expected 1 to 4' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()
