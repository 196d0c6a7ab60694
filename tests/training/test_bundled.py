"""A bundle's weights learn again."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, IDENTITY, STARTER, Bundle, load_bundle, write_bundle
from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import BundleError, ConfigError
from engine.mel import COLUMNS, MelSettings, WindowPlacement
from export.build import build
from tests.networks import fill, inputs, tiny_generator
from training.audio_encoder import AudioEncoder
from training.bundled import (
    TOLERANCE,
    audio_weights_for,
    measure_statistics,
    read_generator,
    weights_for,
)
from training.checkpoint import load_checkpoint, save_checkpoint
from training.generator import Generator, mask_pose
from training.pairs import Batch

pytestmark = pytest.mark.models

PLACEMENT = WindowPlacement(-0.075)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bundle_of(model: Generator, folder: Path) -> Bundle:
    """What export makes of a generator."""
    save_checkpoint(
        folder / "model.pt",
        config=model.config.to_dict(),
        model=model.state_dict(),
        mel=MelSettings().to_dict(),
        placement=replace(PLACEMENT, columns=model.config.audio_columns).to_dict(),
        crop=geometry_to_dict(UprightGeometry()),
        training={"licence": "CC0", "training_data": "none"},
    )
    return build(load_checkpoint(folder / "model.pt"), folder / "bundle")[0]


def batch(seed: int = 0, columns: int = COLUMNS) -> Batch:
    """Two samples of three random frames."""
    mel, frames, _ = inputs(6, seed=seed, columns=columns)
    _, _, identity = inputs(2, seed=seed)
    nothing = torch.zeros(0)
    return Batch(mel, frames, identity, nothing, nothing)


def painted(model: Generator, of: Batch) -> torch.Tensor:
    identity = of.identity.repeat_interleave(3, dim=0)
    pose = mask_pose(of.frames, model.config.masked_from)
    with torch.no_grad():
        frames: torch.Tensor = model(of.mel, pose, identity).frames
    return frames


def through_graphs(bundle: Bundle, of: Batch) -> torch.Tensor:
    identity = of.identity.repeat_interleave(3, dim=0).numpy()
    feed = {
        "mel": of.mel.numpy(),
        "pose": mask_pose(of.frames, bundle.masked_from).numpy(),
        "identity": identity,
        **OpenVinoNetwork(bundle, IDENTITY, 1)({"identity": identity}),
    }
    wanted = bundle.graphs[GENERATOR].inputs
    frames = OpenVinoNetwork(bundle, GENERATOR, 1)({name: feed[name] for name in wanted})["frames"]
    return torch.from_numpy(frames)


def test_starter_is_read_as_it_paints() -> None:
    bundle = load_bundle(STARTER)
    model = read_generator(bundle)
    assert (model.config.width, model.config.rows) == (bundle.width, bundle.rows)
    of = batch(seed=7, columns=bundle.placement.columns)
    torch.testing.assert_close(
        painted(model, of), through_graphs(bundle, of), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize(
    "form",
    [
        {"head": "warp", "rows": (40, 96), "masked_from": 40, "emphasis": 1.3, "max_flow": 0.15},
        {"head": "rgb", "shortcuts": False},
        {"head": "rgb", "audio_columns": 28},
    ],
)
def test_form_is_found_in_the_graphs(form: dict[str, Any], tmp_path: Path) -> None:
    known = tiny_generator(seed=3, **form)
    known.freeze_audio_encoder()
    model = read_generator(bundle_of(known, tmp_path))
    found, wanted = model.config.to_dict(), known.config.to_dict()
    # Any width that gives the same channels will do.
    assert {**found, "audio_width": 0} == {**wanted, "audio_width": 0}
    of = batch(columns=known.config.audio_columns)
    torch.testing.assert_close(painted(model, of), painted(known, of), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(model.rest, known.rest)


def test_statistics_are_those_of_the_samples_and_change_no_picture() -> None:
    model = tiny_generator(head="warp", rows=(40, 96), masked_from=40)
    model.freeze_audio_encoder()
    of = batch()
    before, audio = painted(model, of), copy.deepcopy(model.audio_encoder.state_dict())
    seen = []
    layer = model.merge.conv_block[1]
    assert isinstance(layer, nn.BatchNorm2d)
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    measure_statistics(model, [of])
    handle.remove()

    torch.testing.assert_close(painted(model, of), before, rtol=0, atol=1e-5)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    torch.testing.assert_close(layer.running_mean, seen[0].mean(dim=(0, 2, 3)))
    variance = seen[0].var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(layer.running_var, variance, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(audio[n], t) for n, t in model.audio_encoder.state_dict().items())
    assert not model.training


def test_training_begins_where_the_bundle_stands() -> None:
    """By the statistics of the very samples that were measured, but for the audio encoder's."""
    model = tiny_generator(head="warp", rows=(40, 96), masked_from=40)
    model.freeze_audio_encoder()
    of = batch()
    raw = copy.deepcopy(model)
    # As many identity references as frames, so that a step counts what measuring has counted.
    every = replace(of, identity=of.identity.repeat_interleave(3, dim=0))
    measure_statistics(model, [every])
    before = painted(model, of)
    assert (painted(model.train(), of) - before).abs().max() < 0.02
    assert (painted(raw.train(), of) - before).abs().max() > 0.05


def changed(bundle: Bundle, folder: Path, name: str, factor: float) -> Bundle:
    """The same with other numbers in one tensor of its generator."""
    folder.mkdir()
    for graph in bundle.graphs.values():
        (folder / graph.file).write_bytes((bundle.folder / graph.file).read_bytes())
    path = folder / bundle.graphs[GENERATOR].file
    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            values = np.asarray(numpy_helper.to_array(tensor) * factor)
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(graph, path)
    return write_bundle(replace(bundle, folder=folder))


def test_bundle_that_paints_otherwise_is_refused(tmp_path: Path) -> None:
    model = tiny_generator(head="warp", rows=(40, 96), masked_from=40, emphasis=1.3)
    model.freeze_audio_encoder()
    bundle = bundle_of(model, tmp_path)
    # Where its pixels lie is no weight: the graph keeps its own, the network has the right ones.
    moved = changed(bundle, tmp_path / "moved", "model._pixels", 1.1)
    with pytest.raises(BundleError, match="paints something else than its weights do"):
        read_generator(moved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "wav2lip"}, "holds a wav2lip, which can't be trained on"),
        ({"precision": "int8"}, "are rounded to int8"),
        ({"width": 0.5}, "do not hold the weights of a two-encoder-warp"),
    ],
)
def test_foreign_bundle_is_refused(
    tiny_bundle: Bundle, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        read_generator(replace(tiny_bundle, **change))


def test_run_of_another_form_does_not_start_from_a_bundle(tiny_bundle: Bundle) -> None:
    form = read_generator(tiny_bundle).config
    kept = weights_for(tiny_bundle.folder, replace(form, emphasis=2.0, audio_columns=34))
    assert kept
    assert not any(name.startswith("audio_encoder.") for name in kept)
    with pytest.raises(ConfigError, match="has not the form that this run has"):
        weights_for(tiny_bundle.folder, replace(form, max_flow=0.1))


def test_audio_encoder_of_a_bundle_must_fit(tiny_bundle: Bundle) -> None:
    folder, placement = tiny_bundle.folder, tiny_bundle.placement
    encoder = AudioEncoder(0.02)
    fill(encoder, 9)
    encoder.load_state_dict(audio_weights_for(folder, encoder, placement))
    mel, _, _ = inputs(2)
    with torch.no_grad():
        heard = encoder.eval()(mel)
        torch.testing.assert_close(heard, read_generator(tiny_bundle).audio_encoder(mel))
    with pytest.raises(ConfigError, match="not the width"):
        audio_weights_for(folder, AudioEncoder(0.5), placement)
    with pytest.raises(ConfigError, match="learnt with mel windows at"):
        audio_weights_for(folder, encoder, WindowPlacement(-0.1))
