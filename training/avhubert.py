"""AV-HuBERT: one transformer over lips and speech (Shi et al., ICLR 2022), in plain torch.

Names and shapes of the parameters are those of the public checkpoints, base and large, so that
these load without renaming (:func:`public_name` is the other way); narrower ones are trained
here. The network is differentiable down to the pixels, at any length.

Legend of shapes: B clips, T frames at 25 a second, S side of the mouth region in pixels (88), D
width of the transformer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from engine.errors import ConfigError

AUDIO_VALUES = 104  # 26 bands of 4 steps of 10 ms
POSITION_KERNEL, POSITION_GROUPS = 128, 16
HEAD_VALUES = 64  # of an attention head, in every public checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class AvHubertConfig:
    """Sizes of the network.

    Attributes:
        layers: blocks of the transformer.
        dim: its width D.
        ffn: width inside its feed-forward parts.
        heads: attention heads; ``dim`` must be a multiple.
        trunk: channels of the four stages of the picture's network; its first convolution has as
            many as the first stage.
    """

    layers: int = 12
    dim: int = 768
    ffn: int = 3072
    heads: int = 12
    trunk: tuple[int, int, int, int] = (64, 128, 256, 512)

    def __post_init__(self) -> None:
        if min(self.layers, self.dim, self.ffn, self.heads, *self.trunk) < 1:
            raise ConfigError("The lip expert's sizes must be at least 1.")
        if self.dim % self.heads or self.dim % POSITION_GROUPS:
            raise ConfigError(
                f"The lip expert's dim must be a multiple of its {self.heads} heads and of"
                f" {POSITION_GROUPS}, not {self.dim}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**asdict(self), "trunk": list(self.trunk)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What :meth:`to_dict` gave."""
        first, second, third, fourth = values["trunk"]
        return cls(**{**values, "trunk": (first, second, third, fourth)})

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> Self:
        """The sizes of a public checkpoint's network.

        Args:
            shapes: of its tensors, by public names.

        Raises:
            KeyError: a tensor that tells a size is missing.
            ConfigError: the sizes make no network.
        """
        dim, ffn = shapes["post_extract_proj.weight"][0], shapes["encoder.layers.0.fc1.weight"][0]
        layers = {name.split(".")[2] for name in shapes if name.startswith("encoder.layers.")}
        trunk = "feature_extractor_video.resnet.trunk.layer{}.0.conv1.weight"
        first, second, third, fourth = (shapes[trunk.format(n)][0] for n in (1, 2, 3, 4))
        return cls(
            layers=len(layers),
            dim=dim,
            ffn=ffn,
            heads=max(1, dim // HEAD_VALUES),
            trunk=(first, second, third, fourth),
        )


BASE = AvHubertConfig()
LARGE = AvHubertConfig(layers=24, dim=1024, ffn=4096, heads=16)


_PUBLIC_NAMES = {  # torch's own names of a weight kept as length and direction
    "encoder.pos_conv.0.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv.0.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
}


def public_name(name: str) -> str:
    """The name that public checkpoints have for a tensor of :class:`AvHubert`'s state dict.

    ``load_state_dict`` takes either.
    """
    return _PUBLIC_NAMES.get(name, name)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut; a PReLU with a slope for each channel."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.PReLU(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        result: Tensor = self.relu2(y + shortcut)
        return result


class Trunk(nn.Module):
    """ResNet-18's four stages of two blocks each."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        before = channels[0]
        for number, own in enumerate(channels, 1):
            stride = 1 if number == 1 else 2
            blocks = nn.Sequential(BasicBlock(before, own, stride), BasicBlock(own, own, 1))
            setattr(self, f"layer{number}", blocks)
            before = own

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C1, 22, 22) to (N, C4): the mean over what is left of the picture."""
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return x.mean(dim=(2, 3))


class PictureNetwork(nn.Module):
    """The front end: a convolution over time and place, then the trunk for each frame."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        first = channels[0]
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, first, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(first),
            nn.PReLU(first),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        self.trunk = Trunk(channels)

    def forward(self, video: Tensor) -> Tensor:
        """Map (B, 1, T, S, S) to (B, T, C4)."""
        maps = self.frontend3D(video)  # (B, C1, T, S/4, S/4)
        frames = maps.transpose(1, 2).flatten(0, 1)  # (B·T, C1, S/4, S/4)
        features: Tensor = self.trunk(frames)
        return features.reshape(*maps.shape[0:3:2], -1)


class FeatureExtractor(nn.Module):
    """One modality into the transformer's width: an optional network, then a projection."""

    def __init__(self, resnet: PictureNetwork | None, values: int, dim: int) -> None:
        super().__init__()
        if resnet is not None:
            self.resnet = resnet
        self.proj = nn.Linear(values, dim)


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.k_proj, self.v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.q_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.heads = heads

    def forward(self, x: Tensor, attends: Tensor | None) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``attends`` (B, 1, 1, T) is False where nothing is heard."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D/heads)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attends)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each after its own normalisation."""

    def __init__(self, config: AvHubertConfig, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.dim, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn)
        self.fc2 = nn.Linear(config.ffn, config.dim)
        self.final_layer_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attends: Tensor | None) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), attends))
        inner = F.gelu(self.fc1(self.final_layer_norm(x)))
        result: Tensor = x + self.dropout(self.fc2(inner))
        return result


class Encoder(nn.Module):
    """The transformer: a convolution that tells positions, the layers, a last normalisation."""

    def __init__(self, config: AvHubertConfig, dropout: float) -> None:
        super().__init__()
        position = nn.Conv1d(
            config.dim,
            config.dim,
            POSITION_KERNEL,
            padding=POSITION_KERNEL // 2,
            groups=POSITION_GROUPS,
        )
        nn.init.normal_(position.weight, std=(4 / (POSITION_KERNEL * config.dim)) ** 0.5)
        self.pos_conv = nn.Sequential(weight_norm(position, dim=2))
        self.layers = nn.ModuleList(EncoderLayer(config, dropout) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``padding`` is True where a clip has ended."""
        attends = None
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
            attends = ~padding[:, None, None, :]
        # An even kernel gives one step too many.
        places = self.pos_conv(x.transpose(1, 2))[..., :-1].transpose(1, 2)
        x = self.dropout(x + F.gelu(places))
        for layer in self.layers:
            x = layer(x, attends)
        result: Tensor = self.layer_norm(x)
        return result


class AvHubert(nn.Module):
    """The network that says how well lips and speech belong together.

    Args:
        config: its sizes.
        dropout: in training only; a loss and all uses have it in ``eval``.
    """

    def __init__(self, config: AvHubertConfig = BASE, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.feature_extractor_audio = FeatureExtractor(None, AUDIO_VALUES, dim)
        self.feature_extractor_video = FeatureExtractor(
            PictureNetwork(config.trunk), config.trunk[-1], dim
        )
        self.layer_norm = nn.LayerNorm(2 * dim)
        self.post_extract_proj = nn.Linear(2 * dim, dim)
        self.encoder = Encoder(config, dropout)

    def hear(self, audio: Tensor) -> Tensor:
        """Speech into the width of the transformer.

        Args:
            audio: (B, 104, T), each frame normalised (:mod:`engine.filterbank`).

        Returns:
            (B, T, D).
        """
        result: Tensor = self.feature_extractor_audio.proj(audio.transpose(1, 2))
        return result

    def watch(self, video: Tensor) -> Tensor:
        """Lips into the width of the transformer.

        Args:
            video: (B, 1, T, 88, 88) gray, (value / 255 − 0.421) / 0.165.

        Returns:
            (B, T, D).
        """
        extractor = self.feature_extractor_video
        result: Tensor = extractor.proj(extractor.resnet(video))
        return result

    def fuse(
        self, heard: Tensor | None, watched: Tensor | None, padding: Tensor | None = None
    ) -> Tensor:
        """The transformer over both; a modality that is missing is zeros here, after projection.

        Args:
            heard: of :meth:`hear`.
            watched: of :meth:`watch`.
            padding: True where a clip has ended.

        Returns:
            Features (B, T, D) after the last normalisation.

        Raises:
            ValueError: both are missing.
        """
        known = heard if heard is not None else watched
        if known is None:
            raise ValueError("sound or pictures must be given")
        nothing = torch.zeros_like(known)
        heard = nothing if heard is None else heard
        watched = nothing if watched is None else watched
        both = self.layer_norm(torch.cat([heard, watched], dim=-1))  # (B, T, 2D)
        result: Tensor = self.encoder(self.post_extract_proj(both), padding)
        return result

    def forward(
        self,
        *,
        audio: Tensor | None = None,
        video: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Features of clips.

        Args:
            audio: (B, 104, T); None leaves it out.
            video: (B, 1, T, 88, 88); None leaves it out.
            padding: (B, T), True where a clip has ended.

        Returns:
            (B, T, D).
        """
        heard = None if audio is None else self.hear(audio)
        watched = None if video is None else self.watch(video)
        return self.fuse(heard, watched, padding)
