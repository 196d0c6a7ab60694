import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.bundle import MANIFEST, Bundle, Graph, TensorSpec, load_bundle, write_bundle
from engine.bundle_weights import Weights
from engine.crop import UprightGeometry
from engine.errors import BundleError
from engine.mel import MelSettings, WindowPlacement

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]


def description(folder: Path) -> Bundle:
    picture = TensorSpec(shape=(None, 3, 96, 96), range=(0.0, 1.0))
    window = TensorSpec(shape=(None, 1, 80, 16), range=(-4.0, 4.0))
    feature = TensorSpec(shape=(None, 8, 3, 3))
    return Bundle(
        folder=folder,
        graphs={
            "identity": Graph(
                file="identity.onnx", inputs={"identity": picture}, outputs={"identity_0": feature}
            ),
            "generator": Graph(
                file="generator.onnx",
                inputs={"mel": window, "pose": picture, "identity_0": feature},
                outputs={"frames": TensorSpec(shape=(None, 3, 56, 96), range=(0.0, 1.0))},
            ),
        },
        architecture="two-encoder-rgb",
        width=0.25,
        resolution=96,
        rows=(40, 96),
        masked_from=40,
        fps=25.0,
        k=5,
        mel=MelSettings(),
        placement=WindowPlacement(-0.075),
        crop=UprightGeometry(above=0.6, below=2.2),
        weights=Weights(licence="Apache-2.0", training_data="none", metrics={"psnr_db": 30.5}),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "identity.onnx").write_bytes(b"identity network")
    (tmp_path / "generator.onnx").write_bytes(b"generator network" * 100_000)
    write_bundle(description(tmp_path))
    return tmp_path


def change(folder: Path, edit: Callable[[Manifest], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_what_is_written_is_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert dataclasses.replace(bundle, sha256={}) == description(folder)
    assert list(bundle.graphs["generator"].inputs) == ["mel", "pose", "identity_0"]
    assert sorted(bundle.sha256) == ["generator.onnx", "identity.onnx"]
    assert bundle.graph_path("generator") == folder / "generator.onnx"


def test_unknown_role_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(BundleError, match="no 'expert' graph; it has: identity, generator"):
        load_bundle(folder).graph_path("expert")


def test_extra_files_are_hashed_too(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"weights")
    write_bundle(description(folder), extra_files=["weights.safetensors"])
    assert "weights.safetensors" in load_bundle(folder).sha256
    (folder / "weights.safetensors").write_bytes(b"Weights")
    assert "weights.safetensors" in refusal(folder)


@pytest.mark.parametrize("place", [0, 850_000, -1])
def test_one_changed_byte_is_refused_and_names_the_file(folder: Path, place: int) -> None:
    content = bytearray((folder / "generator.onnx").read_bytes())
    content[place] ^= 1
    (folder / "generator.onnx").write_bytes(content)
    assert "generator.onnx" in refusal(folder)
    assert "has changed" in refusal(folder)


def test_missing_file_is_named(folder: Path) -> None:
    (folder / "identity.onnx").unlink()
    assert "identity.onnx" in refusal(folder)


def test_missing_folder_says_what_to_name(tmp_path: Path) -> None:
    assert f"no bundle at {tmp_path / 'nowhere'}" in refusal(tmp_path / "nowhere")


def test_folder_without_description_is_no_bundle(tmp_path: Path) -> None:
    assert "is no bundle" in refusal(tmp_path)


def test_other_format_is_refused_with_both_numbers(folder: Path) -> None:
    change(folder, lambda manifest: manifest.update(format=2))
    assert "format 2, this program runs format 1" in refusal(folder)


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"format": NaN}', "\x00"])
def test_malformed_json_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert "is not valid JSON" in refusal(folder)


def test_binary_description_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00")
    assert "can't be read" in refusal(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"bundle"', "null"])
def test_json_of_another_kind_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert "the whole content must be an object" in refusal(folder)


@pytest.mark.parametrize("outside", ["../generator.onnx", "/etc/hostname", "a/../../b"])
def test_path_out_of_the_folder_is_refused(folder: Path, outside: str) -> None:
    def edit(manifest: Manifest) -> None:
        manifest["graphs"]["generator"]["file"] = outside
        manifest["sha256"][outside] = manifest["sha256"]["generator.onnx"]

    change(folder, edit)
    assert "outside its folder" in refusal(folder)


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "generator.onnx"
    (folder / "generator.onnx").rename(elsewhere)
    (folder / "generator.onnx").symlink_to(elsewhere)
    assert "outside its folder" in refusal(folder)


def test_graph_without_a_hash_is_refused(folder: Path) -> None:
    change(folder, lambda manifest: manifest["sha256"].pop("generator.onnx"))
    assert "no hash of generator.onnx" in refusal(folder)


def test_bundle_without_a_generator_is_refused(folder: Path) -> None:
    change(folder, lambda manifest: manifest["graphs"].pop("generator"))
    assert "no generator graph" in refusal(folder)


FIELDS = [
    "resolution",
    "rows",
    "masked_from",
    "fps",
    "k",
    "mel",
    "placement",
    "crop",
    "identity_policy",
]
FIELDS += ["colour_order", "precision", "graphs", "weights", "sha256", "architecture", "width"]


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field_is_named(folder: Path, field: str) -> None:
    change(folder, lambda manifest: manifest.pop(field))
    assert f"lacks {field};" in refusal(folder)


@pytest.mark.parametrize("field", FIELDS)
def test_field_of_a_wrong_kind_is_named(folder: Path, field: str) -> None:
    change(folder, lambda manifest: manifest.update({field: True}))
    assert field in refusal(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("colour_order", "grb", "must be one of rgb, bgr, not 'grb'"),
        ("identity_policy", "any", "must be one of live, same-frame"),
        ("k", 0, "k must be a whole number from 1, not 0"),
        ("fps", -25, "fps must be a number above 0"),
        ("rows", [40, 97], "do not lie within its 96 rows"),
        ("masked_from", 97, "starts at row 97 of 96"),
        ("rows", [40], "rows must be a list of two whole numbers"),
        ("crop", {"kind": "square"}, "a crop of kind 'square'"),
        ("mel", {"hop": 200}, "lack"),
    ],
)
def test_illegal_value_is_refused(folder: Path, field: str, value: object, message: str) -> None:
    change(folder, lambda manifest: manifest.update({field: value}))
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shape", [0, 3], "graphs.generator.inputs.mel.shape must be"),
        ("dtype", "float16", "graphs.generator.inputs.mel.dtype must be one of float32"),
        ("range", [1, 0], "graphs.generator.inputs.mel.range must be null or"),
    ],
)
def test_wrong_tensor_is_named_with_its_place(
    folder: Path, field: str, value: object, message: str
) -> None:
    change(folder, lambda m: m["graphs"]["generator"]["inputs"]["mel"].update({field: value}))
    assert message in refusal(folder)


def test_writing_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"generator\.onnx of the bundle is missing"):
        write_bundle(description(tmp_path))


def test_writing_refuses_numbers_that_json_has_not(folder: Path) -> None:
    weights = Weights(licence="none", training_data="none", metrics={"psnr_db": float("inf")})
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(BundleError, match="can't be written"):
        write_bundle(dataclasses.replace(description(folder), weights=weights))
    assert (folder / MANIFEST).read_bytes() == before
