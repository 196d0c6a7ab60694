from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.errors import ConfigError
from engine.mel import SILENCE
from tests.networks import inputs, tiny_generator
from training.generator import FaceEncoder, Generator, GeneratorConfig, Head, mask_pose

pytestmark = pytest.mark.models

GOLDEN = Path(__file__).parents[1] / "golden"
HEADS: list[Head] = ["rgb", "warp"]
ROUNDING = 2e-4  # a flow of up to 19 px over a picture of noise enlarges float32's own error


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rows", [(0, 96), (40, 96), (48, 88)])
def test_frames_have_the_output_rows_and_stay_in_range(head: Head, rows: tuple[int, int]) -> None:
    model = tiny_generator(head=head, rows=rows)
    with torch.no_grad():
        output = model(*inputs(2))
    assert output.frames.shape == (2, 3, rows[1] - rows[0], 96)
    assert output.frames.min() >= 0
    assert output.frames.max() <= 1


def test_warp_head_reports_flow_mask_and_paint() -> None:
    model = tiny_generator(head="warp", rows=(40, 96), max_flow=0.1)
    with torch.no_grad():
        model.head.weight.mul_(1000)  # drives the flow to its bound
        output = model(*inputs(2))
    assert output.flow.shape == (2, 2, 56, 96)
    assert output.mask.shape == (2, 1, 56, 96)
    assert output.paint.shape == (2, 3, 56, 96)
    assert output.flow.abs().max() == pytest.approx(9.6, abs=0.01)


def test_rgb_head_reports_frames_only() -> None:
    with torch.no_grad():
        output = tiny_generator(head="rgb")(*inputs(1))
    assert output[1:] == (None, None, None)


def set_head(model: Generator, flow_px: tuple[float, float], mask: float) -> None:
    """Make the head give one flow and one mask for every pixel."""
    limit = model.config.max_flow * model.config.resolution
    with torch.no_grad():
        model.head.weight.zero_()
        assert model.head.bias is not None
        model.head.bias.zero_()
        flow = torch.atanh(torch.tensor(flow_px) / limit)
        model.head.bias[:3].copy_(torch.cat([flow, torch.tensor([mask])]))


def test_flow_takes_pixels_of_the_identity_from_where_it_points() -> None:
    model = tiny_generator(head="warp", rows=(40, 96))
    mel, pose, identity = inputs(1)
    set_head(model, flow_px=(3.0, -5.0), mask=40.0)
    with torch.no_grad():
        frames = model(mel, pose, identity).frames
    moved = identity[:, :, 35:91, 3:]  # 3 px from the right, 5 px from above
    torch.testing.assert_close(frames[..., :-3], moved, atol=1e-4, rtol=0)
    beyond = identity[:, :, 35:91, 95:].expand(-1, -1, -1, 3)  # the edge is repeated
    torch.testing.assert_close(frames[..., -3:], beyond, atol=1e-4, rtol=0)


def test_closed_mask_leaves_only_paint() -> None:
    model = tiny_generator(head="warp", rows=(40, 96))
    set_head(model, flow_px=(0.0, 0.0), mask=-40.0)
    with torch.no_grad():
        output = model(*inputs(1))
    torch.testing.assert_close(output.frames, output.paint)


def test_new_warp_head_starts_near_the_identity_reference() -> None:
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(width=0.02, audio_width=0.02, head="warp")).eval()
    with torch.no_grad():
        output = model(*inputs(2))
    assert output.flow.abs().max() < 1.0  # px
    assert output.mask.mean() > 0.75


@pytest.mark.parametrize("head", HEADS)
def test_identity_features_once_or_every_time_give_the_same_frames(head: Head) -> None:
    model = tiny_generator(head=head, rows=(40, 96))
    mel, pose, identity = inputs(3)
    one = identity[:1]
    with torch.no_grad():
        features = [m.repeat(3, 1, 1, 1) for m in model.encode_identity(one)]
        same = one.repeat(3, 1, 1, 1)
        once = model(mel, pose, same, features).frames
        decoded = model.decode(model.audio_encoder(mel), pose, same, features).frames
        every_time = model(mel, pose, same).frames
    torch.testing.assert_close(once, every_time, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(decoded, every_time, atol=ROUNDING, rtol=0)


def test_frames_depend_on_sound_pose_and_identity() -> None:
    model = tiny_generator(rows=(40, 96))
    first, second = inputs(1, seed=1), inputs(1, seed=2)
    with torch.no_grad():
        base = model(*first).frames
        for index in range(3):
            changed = [second[i] if i == index else first[i] for i in range(3)]
            assert (model(*changed).frames - base).abs().max() > 1e-3


def test_frames_of_a_batch_do_not_touch_each_other() -> None:
    model = tiny_generator(head="warp", rows=(40, 96))
    mel, pose, identity = inputs(3)
    with torch.no_grad():
        together = model(mel, pose, identity).frames
        alone = model(mel[1:2], pose[1:2], identity[1:2]).frames
    torch.testing.assert_close(together[1:2], alone, atol=ROUNDING, rtol=0)


def test_fewer_rows_change_only_what_lies_near_the_cut() -> None:
    """The same weights paint the same chin, whether or not the brow is painted too."""
    whole, lower = tiny_generator(rows=(0, 96)), tiny_generator(rows=(40, 96))
    with torch.no_grad():
        expected = whole(*inputs(1)).frames[:, :, 40:]
        found = lower(*inputs(1)).frames
    far = 40  # rows; the decoder from 12×12 on sees less far than that
    torch.testing.assert_close(found[:, :, far:], expected[:, :, far:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("resolution", "maps"), [(96, 7), (192, 8)])
def test_identity_maps_halve_down_to_one_value(resolution: int, maps: int) -> None:
    encoder = FaceEncoder(GeneratorConfig(width=0.02, resolution=resolution)).eval()
    with torch.no_grad():
        sizes = [m.shape[-1] for m in encoder(torch.zeros(1, 3, resolution, resolution))]
    assert sizes == [resolution >> i for i in range(maps - 1)] + [1]


def test_larger_crops_work_whole() -> None:
    model = tiny_generator(resolution=192, rows=(80, 192), head="warp")
    with torch.no_grad():
        assert model(*inputs(1, resolution=192)).frames.shape == (1, 3, 112, 192)


def test_pose_is_masked_from_the_given_row_on() -> None:
    crops = torch.ones(2, 3, 96, 96)
    masked = mask_pose(crops, 40)
    assert masked[:, :, :40].min() == 1
    assert masked[:, :, 40:].max() == 0
    assert crops.min() == 1  # the caller's own crops stay whole


def test_frozen_audio_encoder_keeps_its_weights_and_statistics() -> None:
    model = tiny_generator()
    model.freeze_audio_encoder()
    before = {name: value.clone() for name, value in model.audio_encoder.state_dict().items()}
    model.train()
    model(*inputs(2)).frames.mean().backward()
    assert all(p.grad is None for p in model.audio_encoder.parameters())
    for name, value in model.audio_encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.pose_encoder.training


@pytest.mark.parametrize("head", HEADS)
def test_every_other_parameter_learns(head: Head) -> None:
    model = tiny_generator(head=head, rows=(40, 96))
    model.freeze_audio_encoder()
    model.train()
    model(*inputs(2)).frames.square().mean().backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    # A bias before a batch normalisation never changes anything; its gradient may round to zero.
    assert [name for name in silent if not name.endswith("conv_block.0.bias")] == []


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # said by the switch below
def test_bf16_autocast_gives_float32_frames() -> None:
    model = tiny_generator(head="warp", rows=(40, 96))
    # Without oneDNN, whose bf16 kernels some virtual machines announce but can't run.
    with (
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
        torch.backends.mkldnn.flags(enabled=False),
    ):
        output = model(*inputs(1))
    assert output.frames.dtype == output.flow.dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_frames_are_those_of_the_golden_file(head: Head) -> None:
    """Weights and inputs come from a frozen random stream, so the file holds results only."""
    model = tiny_generator(head=head, rows=(40, 96))
    with torch.no_grad():
        frames = model(*inputs(2)).frames
    golden = load_file(GOLDEN / f"generator_{head}.safetensors")["frames"]
    assert golden.std() > 0.02
    torch.testing.assert_close(frames[:, :, ::4, ::4], golden, atol=5e-4, rtol=0)


def test_config_survives_its_dict() -> None:
    config = GeneratorConfig(width=0.25, audio_width=0.45, head="warp", rows=(40, 96))
    assert GeneratorConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0.0}, "width must be above 0, not 0.0"),
        ({"audio_width": -1.0}, "audio_width must be above 0"),
        ({"resolution": 100}, "resolution must be one of 96, 192, 384, not 100"),
        ({"head": "gan"}, "head must be one of rgb, warp, not 'gan'"),
        ({"rows": [50, 96]}, "rows must be multiples of 8"),
        ({"rows": [48, 104]}, "rows must be two rising numbers within 0..96"),
        ({"rows": [96, 40]}, "rows must be two rising numbers"),
        ({"rows": [0, 48, 96]}, "rows must be two rising numbers"),
        ({"masked_from": 96}, "masked_from must be within 1..95, not 96"),
        ({"max_flow": 0.0}, "max_flow must be above 0"),
        ({"depth": 3}, "no field 'depth'"),
    ],
)
def test_wrong_config_names_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GeneratorConfig.from_dict(fields)


def test_emphasis_carries_speech_away_from_silence_in_use_alone() -> None:
    plain, bold = tiny_generator(rows=(40, 96)), tiny_generator(rows=(40, 96), emphasis=1.5)
    mel, pose, identity = inputs(2)
    silence = torch.full_like(mel, SILENCE)
    for model in (plain, bold):
        model.freeze_audio_encoder()
    with torch.no_grad():
        heard = plain.audio_encoder(mel)
        carried = bold.rest + 1.5 * (heard - bold.rest)
        wanted = plain.decode(carried, pose, identity, plain.encode_identity(identity)).frames
        torch.testing.assert_close(bold(mel, pose, identity).frames, wanted)
        torch.testing.assert_close(
            bold(silence, pose, identity).frames, plain(silence, pose, identity).frames
        )
    for model in (plain, bold):
        model.train()
    with torch.no_grad():
        learnt = [model(mel, pose, identity).frames for model in (plain, bold)]
    torch.testing.assert_close(*learnt)
