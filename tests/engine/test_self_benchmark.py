"""The race of the run times, on a clock that only the networks move."""

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from engine.backends.interface import Network, Variant
from engine.backends.self_benchmark import LEAST_ROUNDS, ROUNDS, WARM_UP, self_benchmark
from engine.bundle import Bundle
from engine.bundle_variants import PrecisionFacts
from tests.engine.fake_networks import FakeMachine
from tests.painter import paint_bundle

pytestmark = pytest.mark.unit

OV32, OV8, OVB = (Variant("openvino", precision) for precision in ("fp32", "int8", "bf16"))
ORT32, ORT8 = Variant("onnxruntime", "fp32"), Variant("onnxruntime", "int8")
TRT16 = Variant("tensorrt", "fp16")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    def facts(psnr_db: float) -> PrecisionFacts:
        return PrecisionFacts(psnr_db=psnr_db, lips_lost=0.0, clips=1)

    painter = paint_bundle(Path(tmp_path_factory.mktemp("bundle")) / "painter")
    judged: Any = {"bf16": facts(45.0), "fp16": facts(60.0), "int8": facts(38.0)}
    return dataclasses.replace(painter, precisions=judged)


def race(bundle: Bundle, machine: FakeMachine, *variants: Variant) -> dict[str, float]:
    timings = self_benchmark(
        bundle, variants or [*machine.chunk_s], threads=2, load=machine.load, clock=machine.clock
    )
    return {str(timing.variant): timing.chunk_ms for timing in timings}


def test_the_fastest_comes_first_with_what_a_chunk_takes(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 0.05, OV8: 0.01, ORT32: 0.04, ORT8: 0.03})
    found = race(bundle, machine)
    assert [*found] == ["openvino-int8", "onnxruntime-int8", "onnxruntime-fp32", "openvino-fp32"]
    assert [*found.values()] == pytest.approx([10, 30, 40, 50])


def test_one_alone_is_timed_too(bundle: Bundle) -> None:
    machine = FakeMachine({ORT32: 0.02})
    assert race(bundle, machine) == {"onnxruntime-fp32": pytest.approx(20)}
    assert machine.calls(ORT32) == WARM_UP + ROUNDS


@pytest.mark.parametrize(
    ("exact_s", "first"),
    [
        pytest.param(0.0104, "openvino-fp32", id="saves-4-percent"),
        pytest.param(0.0107, "openvino-int8", id="saves-7-percent"),
    ],
)
def test_a_less_exact_format_must_pay(bundle: Bundle, exact_s: float, first: str) -> None:
    assert next(iter(race(bundle, FakeMachine({OV8: 0.01, OV32: exact_s})))) == first


def test_of_formats_as_fast_the_one_that_was_judged_better_comes_first(bundle: Bundle) -> None:
    machine = FakeMachine({OV8: 0.0100, OVB: 0.0101, TRT16: 0.0102, OV32: 0.5})
    expected = ["tensorrt-fp16", "openvino-bf16", "openvino-int8", "openvino-fp32"]
    assert [*race(bundle, machine)] == expected


def test_one_that_is_clearly_slower_ends_after_few_rounds(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 0.01, ORT32: 0.03})
    assert [*race(bundle, machine)] == ["openvino-fp32", "onnxruntime-fp32"]
    assert machine.calls(ORT32) == WARM_UP + LEAST_ROUNDS


def test_the_likely_fastest_is_met_first(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 0.03, ORT32: 0.03, OV8: 0.01})
    race(bundle, machine)
    assert machine.loaded[0].variant == OV8
    assert machine.calls(OV32) == machine.calls(ORT32) == WARM_UP + LEAST_ROUNDS


def test_slow_networks_take_no_more_rounds_than_a_median_needs(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 1.0, ORT32: 1.1})
    assert [*race(bundle, machine)] == ["openvino-fp32", "onnxruntime-fp32"]
    assert machine.calls(ORT32) == WARM_UP + LEAST_ROUNDS


def test_a_machine_that_gets_busy_changes_no_order(bundle: Bundle) -> None:
    """From its own race on the last one takes 24 ms, and would fall behind the second's 20."""
    chunk_s = {OV32: 0.01, ORT32: 0.02, TRT16: 0.012}
    calm = FakeMachine({OV32: 0.01, ORT32: 0.02})
    race(bundle, calm)
    found = race(bundle, FakeMachine(chunk_s, speed_falls_at=calm.now))
    assert [*found] == ["openvino-fp32", "tensorrt-fp16", "onnxruntime-fp32"]
    assert [*found.values()] == pytest.approx([10, 12, 20])


def test_one_that_can_t_be_loaded_or_fails_is_left_out_with_a_line(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine = FakeMachine({OV32: 0.02, ORT32: 0.01}, fails_at={ORT32: 4}, unloadable=(TRT16,))
    found = race(bundle, machine, TRT16, OV32, ORT32)
    assert found == {"openvino-fp32": pytest.approx(20)}
    assert caplog.messages == [
        "tensorrt-fp16 is left out of the choice: no library of tensorrt-fp16",
        "onnxruntime-fp32 is left out of the choice: the device is gone",
    ]


def test_the_fastest_may_fail_later_and_is_left_out_then(bundle: Bundle) -> None:
    calls = WARM_UP + ROUNDS
    machine = FakeMachine({OV8: 0.01, OV32: 0.02, ORT32: 0.03}, fails_at={OV8: calls + 1})
    assert race(bundle, machine) == {
        "openvino-fp32": pytest.approx(20),
        "onnxruntime-fp32": pytest.approx(30),
    }


def test_nothing_is_found_where_all_fail(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 0.01, ORT32: 0.01}, fails_at={OV32: 1, ORT32: 1})
    assert race(bundle, machine) == {}


def test_never_more_than_two_networks_are_in_memory(bundle: Bundle) -> None:
    alive: weakref.WeakSet[Network] = weakref.WeakSet()
    machine = FakeMachine({OV32: 0.02, ORT32: 0.03, OV8: 0.01, ORT8: 0.04})
    most = 0

    def load(bundle: Bundle, variant: Variant, *, threads: int) -> Network:
        nonlocal most
        network = machine.load(bundle, variant, threads=threads)
        machine.loaded.clear()
        gc.collect()
        alive.add(network)
        most = max(most, len(alive))
        return network

    self_benchmark(bundle, machine.chunk_s, threads=1, load=load, clock=machine.clock)
    assert most == 2


def test_it_feeds_what_a_session_does(bundle: Bundle) -> None:
    machine = FakeMachine({OV32: 0.01})
    race(bundle, machine)
    (network,) = machine.loaded
    assert [{n: a.shape for n, a in kept.items()} for kept in network.kept] == [
        {"identity": (1, 3, 96, 96)}
    ]
    same_frame = FakeMachine({OV32: 0.01})
    race(dataclasses.replace(bundle, identity_policy="same-frame"), same_frame)
    assert same_frame.loaded[0].kept == []
