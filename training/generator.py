"""The talking-face generator: identity encoder, pose encoder, audio encoder, decoder.

Legend of shapes: B batch (frames), C channels, S side of the crop (``resolution``), R output rows.
Pictures are RGB in [0, 1]. Every convolution is followed by batch normalisation and ReLU; the
decoder receives the maps of both face encoders at every size.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.mel import BANDS, COLUMNS, SILENCE
from training.audio_encoder import EMBEDDING, AudioEncoder
from training.blocks import ConvBlock, UpBlock, concatenate, scaled
from training.row_plan import Rows, pruned_plan, trained_plan

Head = Literal["rgb", "warp"]

RESOLUTIONS = (96, 192, 384)
# From the second-finest map (S/2) of a 96 crop down to 3×3; a finer crop adds stages in front.
ENCODER_CHANNELS = (32, 64, 128, 256, 512)
FINEST_CHANNELS = 16
DECODER_CHANNELS = (512, 512, 384, 256, 128, 64)  # at 3, 6, 12, 24, 48 and 96
FINER_DECODER_CHANNELS = (48, 32)  # at 192 and 384
HEAD_CHANNELS = 32  # at every width: flow, mask and paint are read off these
ROW_STAGE = 12  # the size of the map at which the decoder drops the rows that are not painted
KEEP_BIAS = 2.0  # sigmoid(2) = 0.88: a new warp head starts as the warped identity reference


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Size and form of a generator.

    Attributes:
        width: factor on the channels of the face encoders and the decoder; above 0.
        audio_width: factor on the channels of the audio encoder; above 0.
        audio_columns: columns of a mel window: 16, or more by a multiple of 6.
        resolution: side of the crop in px: 96, 192 or 384.
        head: ``rgb`` paints every pixel (the paper's); ``warp`` moves the pixels of the identity
            reference and paints only where its mask says so.
        rows: first painted row and the row after the last; multiples of ``resolution / 12``.
        masked_from: first row of the pose face that is hidden, with all below; the default hides
            the lower half of a 96 crop.
        max_flow: the longest way the warp head moves a pixel on an axis, as a fraction of
            ``resolution``.
        shortcuts: identity shortcuts over the stride-1 convolutions.
        emphasis: how far an audio embedding is carried away from that of silence, in use only.
            Above 1 it counters the regression to the mean that makes mouths open too little.
    """

    width: float = 1.0
    audio_width: float = 1.0
    audio_columns: int = COLUMNS
    resolution: int = 96
    head: Head = "rgb"
    rows: tuple[int, int] = (0, 96)
    masked_from: int = 48
    max_flow: float = 0.2
    shortcuts: bool = True
    emphasis: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "audio_width", "emphasis"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.resolution not in RESOLUTIONS:
            allowed = ", ".join(map(str, RESOLUTIONS))
            raise ConfigError(f"resolution must be one of {allowed}, not {self.resolution}.")
        if self.head not in get_args(Head):
            allowed = ", ".join(get_args(Head))
            raise ConfigError(f"head must be one of {allowed}, not {self.head!r}.")
        step = self.resolution // ROW_STAGE
        if len(self.rows) != 2 or not 0 <= self.rows[0] < self.rows[1] <= self.resolution:
            raise ConfigError(
                f"rows must be two rising numbers within 0..{self.resolution}, not {self.rows}."
            )
        if any(row % step for row in self.rows):
            raise ConfigError(f"rows must be multiples of {step}, not {self.rows}.")
        if not 0 < self.masked_from < self.resolution:
            raise ConfigError(
                f"masked_from must be within 1..{self.resolution - 1}, not {self.masked_from}."
            )
        if not 0 < self.max_flow <= 1:
            raise ConfigError(f"max_flow must be above 0 and at most 1, not {self.max_flow}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint or a manifest."""
        return dataclasses.asdict(self) | {"rows": list(self.rows)}

    def hearing_as(self, other: Self) -> Self:
        """Return this form with the audio encoder and the emphasis of another."""
        return dataclasses.replace(
            self,
            audio_width=other.audio_width,
            audio_columns=other.audio_columns,
            emphasis=other.emphasis,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: a field is unknown or has an illegal value.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ConfigError(
                f"a generator has no field {unknown[0]!r}; its fields are"
                f" {', '.join(sorted(names))}."
            )
        rows = {"rows": tuple(values["rows"])} if "rows" in values else {}
        return cls(**{**values, **rows})


class GeneratorOutput(NamedTuple):
    """What the generator made.

    Attributes:
        frames: (B, 3, R, S), RGB in [0, 1].
        flow: (B, 2, R, S) px, (x, y): a pixel is taken from its own place plus this; warp only.
        mask: (B, 1, R, S) in [0, 1], the share of the warped identity; warp only.
        paint: (B, 3, R, S), the painted RGB in [0, 1]; warp only.
    """

    frames: Tensor
    flow: Tensor | None = None
    mask: Tensor | None = None
    paint: Tensor | None = None


def without_audio(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a generator's weights without those of its audio encoder."""
    return {n: t for n, t in weights.items() if n.split(".")[0] not in ("audio_encoder", "rest")}


def mask_pose(crops: Tensor, masked_from: int) -> Tensor:
    """Return crops (..., H, W) with the rows from ``masked_from`` on set to 0: pose faces."""
    masked = crops.clone()
    masked[..., masked_from:, :] = 0
    return masked


class FaceEncoder(nn.Module):
    """Maps of one picture, from its full size down to 1×1; each stage halves.

    Args:
        config: the generator's; ``width``, ``resolution`` and ``shortcuts`` count here.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        finer = config.resolution.bit_length() - RESOLUTIONS[0].bit_length()
        finest = (FINEST_CHANNELS,) * (1 + finer)
        self.channels = [scaled(c, config.width) for c in (*finest, *ENCODER_CHANNELS)]
        stages: list[nn.Module] = [ConvBlock(3, self.channels[0], kernel=7, padding=3)]
        for before, after in zip(self.channels, self.channels[1:], strict=False):
            stages.append(
                nn.Sequential(
                    ConvBlock(before, after, stride=2),
                    ConvBlock(after, after, shortcut=config.shortcuts),
                    ConvBlock(after, after, shortcut=config.shortcuts),
                )
            )
        last = self.channels[-1]
        stages.append(
            nn.Sequential(
                ConvBlock(last, last, padding=0),
                ConvBlock(last, last, kernel=1, padding=0),
            )
        )
        self.channels.append(last)
        self.stages = nn.ModuleList(stages)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Encode pictures.

        Args:
            picture: (B, 3, S, S), RGB in [0, 1].

        Returns:
            Maps from (B, C, S, S) down to (B, C, 3, 3) and (B, C, 1, 1): seven for a 96 crop.
        """
        maps = []
        x = picture
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Generator(nn.Module):
    """Paints the mouth region of crops to match mel windows.

    Args:
        config: size and form.
    """

    _pixels: Tensor
    rest: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.identity_encoder = FaceEncoder(config)
        self.pose_encoder = FaceEncoder(config)
        self.audio_encoder = AudioEncoder(config.audio_width, config.audio_columns)
        self._audio_is_frozen = False
        self.register_buffer("rest", torch.zeros(EMBEDDING))

        skips = self.identity_encoder.channels
        merged = skips[-1]
        self.merge = ConvBlock(2 * merged, merged, kernel=1, padding=0)
        outs = [*DECODER_CHANNELS, *FINER_DECODER_CHANNELS][: len(skips) - 1]
        stages: list[nn.Module] = []
        before = merged + EMBEDDING
        for index, channels in enumerate(outs):
            after = scaled(channels, config.width)
            stages.append(
                nn.Sequential(
                    UpBlock(before, after, stride=1 if index == 0 else 2),
                    ConvBlock(after, after, shortcut=config.shortcuts),
                    ConvBlock(after, after, shortcut=config.shortcuts),
                )
            )
            before = after + 2 * skips[-2 - index]  # the maps of both face encoders join
        self.decoder = nn.ModuleList(stages)
        self.to_head = ConvBlock(before, HEAD_CHANNELS)
        self.head = nn.Conv2d(HEAD_CHANNELS, 6 if config.head == "warp" else 3, 1)
        if config.head == "warp":
            with torch.no_grad():
                self.head.weight[:2] *= 0.01  # the first flow is almost nothing
                self.head.bias[:2] = 0.0  # type: ignore[index]
                self.head.bias[2] = KEEP_BIAS  # type: ignore[index]
        self.paint_only(None)

    def paint_only(self, rows: Rows | None) -> None:
        """Paint fewer rows than were trained, with the same pixels in them and less work.

        Args:
            rows: the first row of the crop and the row after the last, within those of the
                configuration; None goes back to those, as training has it.
        """
        plan = trained_plan(self.config.resolution, ROW_STAGE, self.config.rows)
        self._plan = plan if rows is None else pruned_plan(plan, rows)
        self._rows = rows or self.config.rows
        self.register_buffer("_pixels", self._pixel_grid(), persistent=False)

    def _pixel_grid(self) -> Tensor:
        """Return the (1, R, S, 2) sampling places (x, y) of the painted rows, in px."""
        first, end = self._rows
        y, x = torch.meshgrid(
            torch.arange(first, end, dtype=torch.float32),
            torch.arange(self.config.resolution, dtype=torch.float32),
            indexing="ij",
        )
        return torch.stack((x, y), dim=-1)[None]

    def freeze_audio_encoder(self) -> None:
        """Stop the audio encoder from learning, and note how it hears silence.

        Its normalisation statistics stay as well.
        """
        self._audio_is_frozen = True
        self.audio_encoder.requires_grad_(False).eval()
        silence = torch.full(
            (1, 1, BANDS, self.config.audio_columns), SILENCE, device=self.rest.device
        )
        with torch.no_grad():
            self.rest.copy_(self.audio_encoder(silence)[0])

    def train(self, mode: bool = True) -> Self:
        """Switch between training and use; a frozen audio encoder stays in use."""
        super().train(mode)
        if self._audio_is_frozen:
            self.audio_encoder.eval()
        return self

    def encode_identity(self, identity: Tensor) -> list[Tensor]:
        """Compute the maps of identity references, once per choice of a reference.

        Args:
            identity: (B, 3, S, S), RGB in [0, 1].

        Returns:
            The maps of :class:`FaceEncoder`.
        """
        maps: list[Tensor] = self.identity_encoder(identity)
        return maps

    def forward(
        self,
        mel: Tensor,
        pose: Tensor,
        identity: Tensor,
        features: Sequence[Tensor] | None = None,
    ) -> GeneratorOutput:
        """Paint one frame per mel window.

        Args:
            mel: (B, 1, 80, audio_columns), values in [-4, 4].
            pose: (B, 3, S, S), pose faces: RGB in [0, 1], rows from ``masked_from`` on are 0.
            identity: (B, 3, S, S), identity references, RGB in [0, 1].
            features: what :meth:`encode_identity` gave for these references, one per frame;
                computed here where missing.
        """
        if features is None:
            features = self.encode_identity(identity)
        audio = self.audio_encoder(mel)
        if self.config.emphasis != 1 and not self.training:
            audio = self.rest + self.config.emphasis * (audio - self.rest)
        return self.decode(audio, pose, identity, features)

    def decode(
        self, audio: Tensor, pose: Tensor, identity: Tensor, features: Sequence[Tensor]
    ) -> GeneratorOutput:
        """Paint one frame per audio embedding.

        Args:
            audio: (B, 512), from the audio encoder.
            pose: (B, 3, S, S), pose faces.
            identity: (B, 3, S, S), identity references; the warp head takes their pixels.
            features: maps of :meth:`encode_identity`, one per frame.
        """
        pose_maps = self.pose_encoder(pose)
        faces = self.merge(concatenate(features[-1], pose_maps[-1]))  # (B, 512w, 1, 1)
        x = concatenate(faces, audio[:, :, None, None].to(faces.dtype))
        skips = zip(reversed(features[:-1]), reversed(pose_maps[:-1]), strict=True)
        start = 0  # the row of the whole map that x begins with
        for stage, (identity_map, pose_map) in zip(self.decoder, skips, strict=True):
            x = stage(x)
            held = self._plan[identity_map.shape[-1]]
            x = _rows_of(x, held, 2 * start)
            x = concatenate(x, _rows_of(identity_map, held), _rows_of(pose_map, held))
            start = held[0]  # x is (B, C, held rows, size) and its first row is this one
        raw = _rows_of(self.head(self.to_head(x)), self._rows, start)
        return self._finish(raw.float(), identity)

    def _finish(self, raw: Tensor, identity: Tensor) -> GeneratorOutput:
        """Turn the head's numbers (B, 3 or 6, R, S), in float32, into pictures."""
        if self.config.head == "rgb":
            return GeneratorOutput(torch.sigmoid(raw))
        side = self.config.resolution
        flow = torch.tanh(raw[:, :2]) * (self.config.max_flow * side)
        mask = torch.sigmoid(raw[:, 2:3])
        paint = torch.sigmoid(raw[:, 3:])
        places = self._pixels + flow.permute(0, 2, 3, 1)  # (B, R, S, 2) px
        grid = (2 * places + 1) / side - 1  # grid_sample's -1..1 from edge to edge
        warped = F.grid_sample(
            identity.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return GeneratorOutput(mask * warped + (1 - mask) * paint, flow, mask, paint)


def _rows_of(x: Tensor, rows: Rows, start: int = 0) -> Tensor:
    """Cut rows out of a map (B, C, H, W) whose first row is the row ``start``."""
    first, end = rows[0] - start, rows[1] - start
    return x if (first, end) == (0, x.shape[2]) else x[:, :, first:end]
