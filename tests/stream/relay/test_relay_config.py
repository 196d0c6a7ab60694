"""The relay's settings: where they come from, and which are refused."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.bundle import STARTER
from engine.errors import ConfigError
from stream.config import Settings
from stream.relay.config import LEAST_SECRET, RELAY_READERS, RelaySettings, Translator
from stream.relay.front.access import LEAST_SECRET as LEAST_OF_ACCESS

pytestmark = pytest.mark.unit

SECRET = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def write(folder: Path, text: str, name: str = "lipstream.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def load(file: Path | None = None, environment: dict[str, str] | None = None, **flags: Any) -> Any:
    return RelaySettings.load(file, environment or {}, **flags)


def test_defaults_hold_where_nothing_is_set() -> None:
    settings = load()
    assert settings == RelaySettings()
    assert settings.bundle_folder == STARTER
    assert settings.is_local
    assert settings.loopback_candidates
    settings.check_access()
    assert settings.warnings() == []


def test_every_field_can_be_set_everywhere() -> None:
    assert list(RELAY_READERS) == [field.name for field in dataclasses.fields(RelaySettings)]


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "[relay]\nport = 1\nmost_rooms = 2\ndrain_s = 1\n")
    environment = {"LIPSTREAM_RELAY_PORT": "3", "LIPSTREAM_RELAY_MOST_ROOMS": "4"}
    settings = load(file, environment, port=5, most_rooms=None)
    assert (settings.port, settings.most_rooms, settings.drain_s) == (5, 4, 1.0)


def test_what_all_commands_have_is_taken_from_where_all_look(tmp_path: Path) -> None:
    file = write(tmp_path, "threads = 3\ndelay_ms = 500\nx264_crf = 20\n[relay]\ndelay_ms = 600\n")
    assert load(file).threads == 3
    assert load(file, {"LIPSTREAM_BACKEND": "openvino-fp32"}).backend == "openvino-fp32"
    assert load(file, {"LIPSTREAM_RELAY_BACKENDS_OFF": "tensorrt"}).backends_off == ("tensorrt",)
    with pytest.raises(ConfigError, match="not 'cuda'"):
        load(file, backend="cuda")
    assert load(file).delay_ms == 600
    assert load(file, {"LIPSTREAM_THREADS": "4"}).threads == 4
    both = {"LIPSTREAM_THREADS": "4", "LIPSTREAM_RELAY_THREADS": "5"}
    assert load(file, both).threads == 5


def test_other_commands_pass_over_the_relays_table(tmp_path: Path) -> None:
    file = write(tmp_path, 'threads = 3\n[relay]\nhost = "::1"\n')
    assert Settings.load(file, {}).threads == 3


def test_paths_in_a_file_count_from_the_file(tmp_path: Path) -> None:
    write(tmp_path, SECRET, "secret")
    file = write(tmp_path, '[relay]\nsecret_file = "secret"\nbundle_folder = "mine"\n')
    settings = load(file)
    assert settings.secret_file == tmp_path / "secret"
    assert settings.bundle_folder == tmp_path / "mine"
    assert settings.secret == SECRET


def test_lists_are_lists_in_a_file_and_words_in_a_variable(tmp_path: Path) -> None:
    urls = ("turn:a:1", "turn:b:2")
    file = write(tmp_path, '[relay]\nturn_urls = ["turn:a:1", "turn:b:2"]\n')
    assert load(file).turn_urls == urls
    assert load(environment={"LIPSTREAM_RELAY_TURN_URLS": " turn:a:1  turn:b:2"}).turn_urls == urls
    assert load(turn_urls=["turn:a:1"], stun="stun:c:3").ice_urls == ("stun:c:3", "turn:a:1")


def test_a_later_secret_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = write(tmp_path, f"{SECRET}\n", "secret")
    file = write(tmp_path, f'[relay]\nsecret = "{OTHER}"\n')
    assert load(file, secret_file=path).secret == SECRET
    named = write(tmp_path, '[relay]\nsecret_file = "secret"\n', "named.toml")
    assert load(named, {"LIPSTREAM_RELAY_SECRET": OTHER}).secret == OTHER
    assert load(turn_secret_file=path).turn_secret == SECRET


def test_two_secrets_in_one_place_are_refused(tmp_path: Path) -> None:
    write(tmp_path, SECRET, "secret")
    file = write(tmp_path, f'[relay]\nsecret = "{OTHER}"\nsecret_file = "secret"\n')
    with pytest.raises(ConfigError, match="not both"):
        load(file)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = RelaySettings(secret=SECRET, turn_secret=OTHER)
    assert SECRET not in repr(settings)
    assert OTHER not in repr(settings)
    with pytest.raises(ConfigError) as found:
        load(write(tmp_path, "[relay]\nsecret = 123456\n"))
    assert str(found.value).endswith("must be a text.")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "as one line"),
        (b"\n\n", "as one line"),
        (b"a\nb", "as one line"),
        (b"\xff\xfe", "is no text"),
        (b"x" * 5000, "as one line"),
    ],
)
def test_a_secret_file_holds_one_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        load(secret_file=path)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere can't be read"):
        load(secret_file=tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are no bits there")
def test_a_secret_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, SECRET, "secret")
    assert load(secret_file=path).warnings() == []
    path.chmod(0o644)
    [warning] = load(secret_file=path).warnings()
    assert "chmod 600" in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_this_computer_needs_no_secret(host: str) -> None:
    settings = RelaySettings(host=host)
    settings.check_access()
    assert settings.loopback_candidates
    assert not RelaySettings(host=host, allow_loopback_candidates=False).loopback_candidates


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "relay.example.org", ""])
def test_any_other_address_does(host: str) -> None:
    with pytest.raises(ConfigError, match="needs a secret"):
        RelaySettings(host=host).check_access()
    settings = RelaySettings(host=host, secret=SECRET)
    settings.check_access()
    assert not settings.loopback_candidates
    assert any("TLS" in warning for warning in settings.warnings())


def test_a_proxy_in_front_does_too() -> None:
    with pytest.raises(ConfigError, match="needs a secret"):
        RelaySettings(trust_proxy=True).check_access()


def test_a_short_secret_is_refused_even_here() -> None:
    with pytest.raises(ConfigError, match="too short"):
        RelaySettings(secret="x" * (LEAST_SECRET - 1)).check_access()
    assert LEAST_SECRET == LEAST_OF_ACCESS


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("port", 65536, "port must be 0 to 65535"),
        ("most_rooms", 0, "most_rooms must be"),
        ("most_listeners_per_room", 0, "most_listeners_per_room must be"),
        ("most_lines", 0, "most_lines must be"),
        ("drain_s", -1.0, "drain_s must be"),
        ("drain_s", float("nan"), "drain_s must be"),
        ("room_memory_mb", 5, "room_memory_mb must be"),
        ("delay_ms", 10, "delay_ms must be"),
        ("threads", 0, "threads must be"),
        ("log_format", "xml", "log_format must be text or json"),
        ("tls_key", Path("key.pem"), "needs its certificate"),
        ("translators", ("de",), "ROOM/SPEAKER/LANG=URL"),
    ],
)
def test_an_illegal_value_is_named(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(**{field: value})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("relay = 5", "must be a table"),
        ("[relay]\nspeed = 3", "'speed', which is no setting"),
        ("[relay]\nx264_crf = 3", "'x264_crf', which is no setting"),
        ("speed = 3", "'speed', which is no setting"),
        ("[rely]\nport = 3", "'rely', which is no setting"),
        ('[relay]\nport = "3"', "port in .* must be a whole number"),
        ("[relay]\nturn_urls = [3]", "turn_urls in .* must be a list of texts"),
        ("[relay]\ndrain_s = true", "drain_s in .* must be a number"),
        ("[relay]\ntrust_proxy = 1", "trust_proxy in .* must be true or false"),
        ("[relay]\ntls_cert = 1", "tls_cert in .* must be a text"),
    ],
)
def test_an_illegal_file_says_which_field_and_why(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(write(tmp_path, text))


def test_an_illegal_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="LIPSTREAM_RELAY_DRAIN_S must be a number, not 'long'"):
        load(environment={"LIPSTREAM_RELAY_DRAIN_S": "long"})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/ann/de=ws://h:1/x?y=z", ("a", "ann", "de", "ws://h:1/x?y=z")),
        ("*/*/pt-br=wss://h/x", ("*", "*", "pt-BR", "wss://h/x")),
        ("a/ann/de=pcm://127.0.0.1:9000", ("a", "ann", "de", "pcm://127.0.0.1:9000")),
    ],
)
def test_translators_are_read(text: str, parts: tuple[str, ...]) -> None:
    assert dataclasses.astuple(Translator.parse(text)) == parts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a/ann=ws://h", "ROOM/SPEAKER/LANG=URL"),
        ("a/ann/de/fr=ws://h", "ROOM/SPEAKER/LANG=URL"),
        ("healthz/ann/de=ws://h", "No room can have the name"),
        ("a b/ann/de=ws://h", "No room can have the name"),
        ("a/floor/de=ws://h", "translates one speaker"),
        ("a/ann/d=ws://h", "is no language"),
        ("a/ann/de=http://h", "needs an address"),
        ("a/ann/de=ws://", "needs an address"),
        ("a/ann/de=pcm://h", "needs an address"),
        ("a/ann/de=pcm://h:99999", "needs an address"),
        ("*/ann/de=pcm://h:1", "serves one speaker"),
        ("a/*/de=pcm://h:1", "serves one speaker"),
    ],
)
def test_what_is_no_translator_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Translator.parse(text)


def test_an_address_with_a_password_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as found:
        Translator.parse("a/ann/de=http://me:hidden@h")
    assert "hidden" not in str(found.value)
