"""The painted mouth follows what is heard: in figures made by hand, and with the starter's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.bundle import load_bundle
from engine.dub import dub
from engine.errors import ConfigError
from engine.lips import correlation
from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from tests.training.test_train import CONFIG as TRAIN
from tests.training.toys import held_out_names, write_wav
from training.__main__ import main
from training.audio_encoder import EMBEDDING, AudioEncoder
from training.bundled import read_generator
from training.calibrate import Painted, apply, calibrate, correct
from training.checkpoint import load_checkpoint, save_checkpoint
from training.generator import Generator
from training.pretrain import ShapeHeads, frame_windows

pytestmark = pytest.mark.models

Floats = NDArray[np.float64]

LENGTH = int(1.4 * SAMPLE_RATE)
SPEECH = Path(__file__).parents[2] / "stream" / "assets" / "demo_speech.flac"


@pytest.fixture(scope="module")
def voice() -> tuple[list[Floats], Floats, Floats, Floats]:
    """Embeddings of four clips and of silence; the directions that are heard, and painted."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(8, EMBEDDING))
    clips = [np.maximum(0, random.normal(size=(75, 8)) @ mixing + 1) for _ in range(4)]
    heard, aside = random.normal(size=(2, EMBEDDING)) / EMBEDDING
    return clips, np.maximum(0, mixing[0]), heard, heard + 0.4 * aside


def painted_along(clips: list[Floats], heard: Floats, painted: Floats) -> list[Painted]:
    return [Painted(clip, clip @ heard, 0.05 + clip @ painted) for clip in clips]


def test_mouth_that_moves_linearly_follows_what_is_heard_in_other_clips_too(
    voice: tuple[list[Floats], Floats, Floats, Floats],
) -> None:
    clips, rest, heard, painted = voice
    found = correct(painted_along(clips[:3], heard, painted), rest)
    unseen = clips[3]
    moved = unseen + np.outer(unseen @ found.by, found.along)
    before = correlation(unseen @ heard, unseen @ painted)
    assert before < 0.95
    assert correlation(unseen @ heard, moved @ painted) > 1 - 0.1 * (1 - before)
    spread = (unseen @ painted).std()
    assert abs(rest @ found.by) * abs(found.along @ painted) < 0.05 * spread


def test_mouth_that_hardly_moves_is_one_sentence(
    voice: tuple[list[Floats], Floats, Floats, Floats],
) -> None:
    clips, rest, heard, painted = voice
    with pytest.raises(ConfigError, match=r"hardly moves with the sound yet.*train the generator"):
        correct(painted_along(clips, heard, 1e-3 * painted), rest)
    with pytest.raises(ConfigError, match="hardly moves"):
        correct(painted_along(clips, heard, -painted), rest)


def test_generator_hears_the_corrected_embedding(
    voice: tuple[list[Floats], Floats, Floats, Floats],
) -> None:
    clips, rest, heard, painted = voice
    found = correct(painted_along(clips, heard, painted), rest)
    torch.manual_seed(2)
    model = Generator(replace(TRAIN.generator, head="rgb")).eval().double()
    audio, along, by = map(torch.from_numpy, (clips[0][:3], found.along, found.by))
    pose, identity = torch.rand(2, 3, 3, 96, 96, dtype=torch.float64)
    with torch.inference_mode():
        maps = model.encode_identity(identity)
        moved = audio + (audio @ by)[:, None] * along
        wanted = model.decode(moved, pose, identity, maps).frames
        unmoved = model.decode(audio, pose, identity, maps).frames
        apply(model, found)
        frames = model.decode(audio, pose, identity, maps).frames
    off = (unmoved - wanted).abs().max()
    assert off > 1e-6  # it has not learnt to make much of an embedding
    assert (frames - wanted).abs().max() < 1e-3 * off


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """Three films of a portrait that the starter lets speak; none is a held-out clip."""
    folder = tmp_path_factory.mktemp("spoken")
    samples = read_audio(SPEECH, SAMPLE_RATE)
    Image.fromarray(astronaut).save(folder / "face.png")
    names = held_out_names(3, held_out=False)
    for name, start_s in zip(names, (1.0, 4.6, 7.0), strict=True):
        first = int(start_s * SAMPLE_RATE)
        write_wav(folder / "speech.wav", samples[first : first + LENGTH], SAMPLE_RATE)
        dub(
            folder / "face.png",
            folder / "speech.wav",
            folder / f"{name}.mp4",
            bundle=load_bundle(),
            threads=1,
        )
    return folder


@pytest.fixture(scope="module")
def starter(starter_generator: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The starter's generator as a checkpoint, and a lesson that hears openings of its own.

    That lesson takes loud speech for an opening, and half as much what varies second most in an
    embedding; the starter's own reading is not in a bundle.
    """
    bundle, audio = load_bundle(), tmp_path_factory.mktemp("lesson") / "audio.pt"
    model = read_generator(bundle)
    windows = frame_windows(read_audio(SPEECH, SAMPLE_RATE), 250, bundle.placement)
    heads = ShapeHeads(12)
    with torch.no_grad():
        embedding = model.audio_encoder(torch.from_numpy(windows))
        loud, spread = embedding.mean(dim=0) - model.rest, embedding - embedding.mean(dim=0)
        aside = torch.linalg.svd(spread, full_matrices=False).Vh[1]
        aside = -aside * aside[aside.abs().argmax()].sign()  # so that the mouth is to learn more
        reading = loud / (spread @ loud).std() + 0.5 * aside / (spread @ aside).std()
        heads.opening.weight.copy_(reading)
    save_checkpoint(
        audio,
        kind="audio",
        config={"width": model.config.audio_width, "columns": model.config.audio_columns},
        model=model.audio_encoder.state_dict(),
        placement=bundle.placement.to_dict(),
        training={"heads": heads.state_dict()},
    )
    return starter_generator, audio


def test_command_makes_the_starter_follow_another_reading_of_its_encoder(
    starter: tuple[Path, Path], spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator, audio = starter
    out = tmp_path / "calibrated.pt"
    words = ["calibrate", str(generator), str(spoken), "--audio", str(audio), "-o", str(out)]
    assert main(words) == 0
    made, given = load_checkpoint(out), load_checkpoint(generator)
    found = made.training["calibration"]
    assert (found["pairs"], found["control"]) == (2, 1)
    assert found["before"] + 0.02 < found["after"], found
    assert f"correlate by {found['after']:.3f} on 1 pairs" in capsys.readouterr().out
    changed = {n for n in given.model if not torch.equal(made.model[n], given.model[n])}
    assert changed == {"decoder.0.0.conv_block.0.weight"}
    assert made.training["licence"] == "CC0"
    assert not made.resume


def test_audio_encoder_of_another_lesson_is_refused(
    starter: tuple[Path, Path], toy_videos: Path, tmp_path: Path
) -> None:
    save_checkpoint(
        tmp_path / "audio.pt",
        kind="audio",
        config={"width": 0.05},
        model=AudioEncoder(0.05).state_dict(),
        training={"heads": ShapeHeads(12).state_dict()},
    )
    with pytest.raises(ConfigError, match=r"is not the one of .*audio.pt: name the audio.pt that"):
        calibrate(
            starter[0], tmp_path / "audio.pt", toy_videos / "ann", tmp_path / "out.pt", pairs=3
        )


def test_too_few_videos_are_one_sentence(
    starter: tuple[Path, Path], toy_videos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"makes 2 pairs of a face.*more videos"):
        calibrate(*starter, toy_videos / "eve", tmp_path / "out.pt", pairs=96)
