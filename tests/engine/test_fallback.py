"""What a network does when its run time fails."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.fallback import FallbackNetwork
from engine.backends.interface import Arrays, Kept, Network, Variant
from engine.backends.loading import load_network
from engine.bundle import GENERATOR, Bundle, load_bundle
from engine.errors import EngineError
from tests.engine.fake_networks import FakeMachine
from tests.painter import paint_bundle

pytestmark = pytest.mark.unit

FAST, SAFE, LAST = (
    Variant("tensorrt", "fp16"),
    Variant("openvino", "fp32"),
    Variant("onnxruntime", "fp32"),
)
FEED = {"mel": np.full((2, 1), 1.0, np.float32)}
ONES, TENS = ({"identity": np.full((1, 1), value, np.float32)} for value in (1.0, 10.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paint_bundle(Path(tmp_path_factory.mktemp("bundle")) / "painter")


def network(bundle: Bundle, machine: FakeMachine, *variants: Variant) -> FallbackNetwork:
    return FallbackNetwork(bundle, variants or (FAST, SAFE, LAST), threads=2, load=machine.load)


def test_the_first_runs_alone_while_it_works(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeMachine()
    runs = network(bundle, machine)
    assert runs(FEED)["frames"].item() == 2
    assert runs.variant == FAST
    assert [loaded.variant for loaded in machine.loaded] == [FAST]
    assert caplog.messages == []


def test_one_that_can_t_be_loaded_is_left_with_one_line(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeMachine(unloadable=(FAST,))
    assert network(bundle, machine).variant == SAFE
    assert caplog.messages == [
        "tensorrt-fp16 failed, openvino-fp32 goes on: no library of tensorrt-fp16"
    ]


def test_a_call_that_fails_is_repeated_on_the_next_with_what_was_kept(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeMachine(fails_at={FAST: 2})
    runs = network(bundle, machine)
    one, ten = runs.keep(ONES), runs.keep(TENS)
    assert runs(FEED, [(one, 1), (ten, 1)])["frames"].item() == 13
    assert runs(FEED, [(one, 2), (ten, 3)])["frames"].item() == 34
    assert (runs.variant, runs.left) == (SAFE, (SAFE, LAST))
    assert runs(FEED, [(ten, 1)])["frames"].item() == 12
    assert machine.loaded[1].kept == [ONES, TENS]  # each once
    assert caplog.messages == ["tensorrt-fp16 failed, openvino-fp32 goes on: the device is gone"]


def test_inputs_kept_after_the_change_are_kept_where_it_runs(bundle: Bundle) -> None:
    machine = FakeMachine(fails_at={FAST: 1})
    runs = network(bundle, machine)
    runs(FEED)
    assert runs(FEED, [(runs.keep(TENS), 1)])["frames"].item() == 12


def test_values_that_are_no_numbers_are_a_failure(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeMachine(factor={FAST: np.nan})
    runs = network(bundle, machine)
    assert runs(FEED)["frames"].item() == 2
    assert runs.variant == SAFE
    assert "no numbers" in caplog.text


def test_the_run_time_is_not_blamed_for_what_it_was_fed(bundle: Bundle) -> None:
    runs = network(bundle, FakeMachine())
    assert np.isnan(runs({"mel": np.full((1, 1), np.nan, np.float32)})["frames"]).all()
    assert runs.variant == FAST


def test_errors_of_the_last_one_are_the_caller_s(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    error = EngineError("it broke", retryable=True)
    machine = FakeMachine(fails_at={FAST: 1, SAFE: 1, LAST: 2}, error=error)
    runs = network(bundle, machine)
    assert runs(FEED)["frames"].item() == 2
    for _ in range(2):
        with pytest.raises(EngineError) as raised:
            runs(FEED)
        assert raised.value is error
    assert runs.variant == LAST
    assert len(caplog.messages) == 2
    machine.fails_at.clear()  # it is asked again, and may have recovered
    assert runs(FEED)["frames"].item() == 2


def test_none_that_can_be_loaded_says_what_the_last_one_says(bundle: Bundle) -> None:
    with pytest.raises(RuntimeError, match="no library of openvino-fp32"):
        network(bundle, FakeMachine(unloadable=(FAST, SAFE)), FAST, SAFE)


@pytest.mark.models
def test_onnx_runtime_paints_the_starter_as_openvino_does_even_after_a_change() -> None:
    """The kept inputs of two sessions were kept on OpenVINO, which then can't go on."""
    bundle = load_bundle()
    random = np.random.default_rng(0)
    inputs = bundle.graphs[GENERATOR].inputs

    def noise(name: str, count: int) -> NDArray[np.float32]:
        low, high = inputs[name].range or (-1.0, 1.0)
        shape = [count, *(length or 1 for length in inputs[name].shape[1:])]
        return random.uniform(low, high, shape).astype(np.float32)

    feed = {name: noise(name, 5) for name in ("mel", "pose")}
    sessions = [{name: noise(name, 1) for name in inputs if name not in feed} for _ in range(2)]
    broken: list[str] = []

    def load(bundle: Bundle, variant: Variant, *, threads: int) -> Network:
        network = load_network(bundle, variant, threads=threads)
        if variant == LAST:
            return network

        class Breaking:
            keep = network.keep

            def __call__(
                self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
            ) -> dict[str, NDArray[np.float32]]:
                if broken:
                    raise EngineError(broken[0])
                return network(feed, kept)

        return Breaking()

    runs = FallbackNetwork(bundle, (SAFE, LAST), threads=1, load=load)
    one, other = (runs.keep(arrays) for arrays in sessions)
    expected = runs(feed, [(one, 2), (other, 3)])["frames"]
    assert (runs.variant, float(np.ptp(expected)) > 0.2) == (SAFE, True)
    broken.append("the device is gone")
    painted = runs(feed, [(one, 2), (other, 3)])["frames"]
    assert runs.variant == LAST
    assert np.abs(painted - expected).max() <= 1e-3
