"""``run_stream.py bench`` as a user types it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import run_stream
from stream.bench import run
from stream.bench.stages import STAGES

if TYPE_CHECKING:
    from engine.bundle import Bundle

pytestmark = [pytest.mark.cli, pytest.mark.models]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices and sessions so small that a run takes a moment."""
    monkeypatch.setattr(
        run.Order.__init__,
        "__kwdefaults__",
        {**(run.Order.__init__.__kwdefaults__ or {}), "peak_side": 64, "chunks": 1},
    )


def test_a_run_prints_json_and_adds_it_to_the_history(
    tmp_path: Path, tiny_bundle: "Bundle", capsys: pytest.CaptureFixture[str]
) -> None:
    passes = tiny_bundle.folder / "passes.json"
    history, plot = tmp_path / "h" / "history.jsonl", tmp_path / "plot.png"
    passes.write_text('{"fold": {"without_ms": 3, "with_ms": 2, "variant": "openvino-fp32"}}')
    try:
        status = run_stream.main(
            [
                *("bench", "--json", "--no-paper", "--no-torch", "--threads", "1", "--rounds", "1"),
                *("--bundle", str(tiny_bundle.folder), "--history", str(history)),
                *("--plot", str(plot)),
            ]
        )
    finally:
        passes.unlink()
    assert status == run_stream.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert set(found["chunk_ms"]) == {"starter"}
    assert found["chunk_ms"]["starter"].keys() >= {"openvino-fp32", "onnxruntime-fp32"}
    assert set(found["stages_ms"]) == set(STAGES)
    assert all(ms > 0 for ms in found["stages_ms"].values())
    assert found["budget_share"]["starter"] > 0
    assert found["peak_share"]["starter"] > 0
    assert found["sessions"]["starter"] >= 0
    assert set(found["batch_ms"]["starter"]) == {"5", "10", "20", "40"}
    assert found["passes"]["starter"]["fold"]["without_ms"] == 3
    assert found["torch_ratio"] == {}
    assert found["threads"] == 1
    assert [json.loads(line) for line in history.read_text().splitlines()] == [found]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_pytorch_runs_the_same_network_in_a_process_of_its_own(
    tiny_bundle: "Bundle", capsys: pytest.CaptureFixture[str]
) -> None:
    status = run_stream.main(
        [
            *("bench", "--no-history", "--json", "--threads", "1", "--rounds", "1", "--no-paper"),
            *("--bundle", str(tiny_bundle.folder)),
        ]
    )
    assert status == run_stream.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert found["chunk_ms"]["starter"]["torch-fp32"] > 0
    best = found["chunk_ms"]["starter"][found["best"]["starter"]]
    ratio = found["chunk_ms"]["starter"]["torch-fp32"] / best
    assert found["torch_ratio"]["starter"] == pytest.approx(ratio, rel=0.02)
    assert found["torch_kept_ms"]["starter"] > 0


def test_a_generator_that_is_not_of_the_paper_s_size_is_refused(
    tmp_path: Path,
    tiny_bundle: "Bundle",
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(tiny_bundle.folder)
    words = ["bench", "--no-torch", "--bundle", folder, "--paper", folder, "--no-history"]
    assert run_stream.main(words) == run_stream.FAILED
    said = capsys.readouterr()
    assert "smaller than Wav2Lip's" in said.err
    assert not said.out
    assert not list(tmp_path.iterdir())


def test_tables_tell_the_run_time_and_the_stages(
    tiny_bundle: "Bundle", capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--no-torch", "--no-paper", "--no-history", "--rounds", "1"]
    assert run_stream.main([*words, "--bundle", str(tiny_bundle.folder)]) == run_stream.SUCCESS
    said = capsys.readouterr().out
    for text in ("openvino-fp32", "Sessions", "encode", "peak in GFLOP/s"):
        assert text in said
    assert "Passes" not in said


def test_broken_passes_are_the_users_to_mend(
    tiny_bundle: "Bundle", capsys: pytest.CaptureFixture[str]
) -> None:
    passes = tiny_bundle.folder / "passes.json"
    passes.write_text("[]")
    try:
        words = ["bench", "--no-torch", "--no-paper", "--no-history"]
        status = run_stream.main([*words, "--bundle", str(tiny_bundle.folder)])
    finally:
        passes.unlink()
    assert status == run_stream.WRONG_USE
    assert "passes.json can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "-1"], ["--rounds", "x"]])
def test_wrong_limits_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_stream.main(["bench", *words])
