import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.sync_loss import SyncWeights, sync_loss

pytestmark = pytest.mark.unit

B, T, D = 3, 8, 12
SHIFT = torch.tensor([0, 2, -3])
ALL = torch.ones(B, T, dtype=torch.bool)


def features(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def shifted(lips: Tensor, noise: Tensor) -> Tensor:
    """Sound that has at t + shift what the lips have at t, and something else elsewhere."""
    sound = noise.clone()
    for b, shift in enumerate(SHIFT.tolist()):
        for t in range(T):
            if 0 <= t + shift < T:
                sound[b, t + shift] = lips[b, t]
    return sound


def test_terms_are_those_of_their_definition() -> None:
    weights = SyncWeights(others=2, nothing=0.25)
    lips, sound = features(0), features(1)
    moving, audible = ALL.clone(), ALL.clone()
    moving[0, 2:5] = False
    audible[1, 4:] = False
    found = sync_loss(lips, sound, SHIFT, moving, audible, weights)

    v = F.normalize(lips, dim=-1).double().numpy()
    a = F.normalize(sound, dim=-1).double().numpy()
    see, hear, shift = moving.numpy(), audible.numpy(), SHIFT.tolist()

    def entropy(logits: list[float], right: int) -> float:
        values = np.array(logits)
        return float(np.log(np.exp(values).sum()) - values[right])

    asked, nothing = [], {"lips": [], "sound": []}  # type: ignore[var-annotated]
    means = np.zeros((B, B))
    for b in range(B):
        pairs = [
            (t, t + shift[b])
            for t in range(T)
            if 0 <= t + shift[b] < T and see[b, t] and hear[b, t + shift[b]]
        ]
        far = [(c, t) for c in range(B) if c != b for t in range(0, T, 2)]
        for t, s in pairs:
            lips_ask = [v[b, t] @ a[b, j] / 0.07 for j in range(T)]
            asked.append(entropy(lips_ask + [v[b, t] @ a[f] / 0.07 for f in far], s))
            sound_asks = [a[b, s] @ v[b, j] / 0.07 for j in range(T)]
            asked.append(entropy(sound_asks + [a[b, s] @ v[f] / 0.07 for f in far], t))
        for t in range(T):
            if not see[b, t]:
                own = [v[b, t] @ a[b, j] / 0.07 for j in range(T)]
                nothing["lips"].append(entropy([0.3 / 0.07, *own], 0))
            if not hear[b, t]:
                own = [a[b, t] @ v[b, j] / 0.07 for j in range(T)]
                nothing["sound"].append(entropy([0.3 / 0.07, *own], 0))
        for c in range(B):
            means[b, c] = np.mean([v[b, t] @ a[c, s] for t, s in pairs]) / 0.1
    clips = np.mean([entropy(list(means[b]), b) for b in range(B)])
    clips += np.mean([entropy(list(means[:, b]), b) for b in range(B)])
    assert found.frames.item() == pytest.approx(np.mean(asked), rel=1e-4)
    assert found.clips.item() == pytest.approx(clips, rel=1e-4)
    expected = (np.mean(nothing["lips"]) + np.mean(nothing["sound"])) / 2
    assert found.nothing.item() == pytest.approx(expected, rel=1e-4)
    total = found.frames + 0.5 * found.clips + 0.25 * found.nothing
    assert found.total.item() == pytest.approx(total.item())
    assert found.scalars()["frames"] == pytest.approx(found.frames.item())


def test_sound_that_fits_costs_little_and_a_frame_beside_it_much() -> None:
    lips = features()
    fits = sync_loss(lips, shifted(lips, features(1)), SHIFT, ALL, ALL)
    beside = sync_loss(lips, shifted(lips, features(1)), SHIFT + 1, ALL, ALL)
    assert fits.total.item() < 0.2
    assert beside.frames.item() > 5


def test_sound_of_another_clip_costs_even_where_the_frames_order_fits() -> None:
    lips = features()
    sound = shifted(lips, features(1))
    same = lips[:1].expand(B, T, D).clone()  # clips that can't be told apart
    found = sync_loss(same, same, torch.zeros(B, dtype=torch.long), ALL, ALL)
    assert found.clips.item() == pytest.approx(2 * np.log(B), rel=1e-3)
    assert sync_loss(lips, sound, SHIFT, ALL, ALL).clips.item() < 0.01


def test_frozen_lips_have_no_match_but_stay_wrong_answers() -> None:
    lips = features().requires_grad_()
    sound = features(1)
    moving = ALL.clone()
    moving[:, 3:] = False
    found = sync_loss(lips, sound, torch.zeros(B, dtype=torch.long), moving, ALL)
    slope = torch.autograd.grad(found.frames, lips)[0]
    assert (slope[:, 3:].abs().sum(-1) > 0).all()
    with torch.no_grad():  # what pushes a frozen frame pushes it away from the sound
        unit, heard = F.normalize(lips, dim=-1), F.normalize(sound, dim=-1)
        before = (unit[:, 3:] @ heard[:, :3].transpose(1, 2)).mean()
        away = F.normalize(lips - 0.5 * slope, dim=-1)
        after = (away[:, 3:] @ heard[:, :3].transpose(1, 2)).mean()
    assert after < before

    # As a match, a frozen frame would pull; here its own sound does not ask for it.
    still = sync_loss(lips, sound, torch.zeros(B, dtype=torch.long), ~ALL, ALL)
    assert still.frames.item() == 0
    assert still.clips.item() == 0


def test_frames_without_a_match_learn_to_be_like_nothing() -> None:
    sound = features(1)
    near, far = sound.clone(), torch.zeros_like(sound)
    far[..., 0], sound[..., 0] = 1, 0
    nothing = torch.zeros(B, dtype=torch.long)
    loud = sync_loss(near, sound, nothing, ~ALL, ALL).nothing
    quiet = sync_loss(far, sound, nothing, ~ALL, ALL).nothing
    assert loud.item() > 5 * quiet.item()
    assert sync_loss(near, sound, nothing, ALL, ALL).nothing.item() == 0


def test_scale_of_features_does_not_matter() -> None:
    lips, sound = features(0), features(1)
    one = sync_loss(lips, sound, SHIFT, ALL, ALL).total
    other = sync_loss(3 * lips, 0.2 * sound, SHIFT, ALL, ALL).total
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
