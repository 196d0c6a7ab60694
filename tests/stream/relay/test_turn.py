"""Credentials for TURN servers, and names in URLs."""

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import ConfigError
from stream.relay.front.turn import IceServers
from stream.relay.names import is_room, is_speaker, language_tag

pytestmark = pytest.mark.unit

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
TURN = "turn:turn.example.org:3478?transport=udp"


def servers(*urls: str, secret: str | None = "shared") -> IceServers:
    return IceServers(urls, secret, now=lambda: NOW)


def test_credentials_are_coturn_s() -> None:
    made = servers(TURN).credentials()
    ends, _, nonce = made.username.partition(":")
    assert int(ends) == (NOW + timedelta(hours=1)).timestamp()
    assert re.fullmatch("[0-9a-f]{16}", nonce)
    expected = hmac.new(b"shared", made.username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(made.password) == expected
    assert servers(TURN).credentials() != made


def test_links_name_the_servers_as_whip_has_it() -> None:
    stun, turn = servers("stun:stun.example.org", TURN).links()
    assert stun == '<stun:stun.example.org>; rel="ice-server"'
    assert re.fullmatch(
        re.escape(f'<{TURN}>; rel="ice-server"; username="')
        + r'[0-9]+:[0-9a-f]+"; credential="[A-Za-z0-9+/=]+"; credential-type="password"',
        turn,
    )
    entries = servers("stun:stun.example.org", TURN).entries()
    assert [sorted(entry) for entry in entries] == [["urls"], ["credential", "urls", "username"]]


@pytest.mark.parametrize(
    "url",
    [
        "turn.example.org",
        "http://turn.example.org",
        "turn:",
        "turn:a b",
        'turn:a>; rel="x"',
        "turn:a?transport=sctp",
        "stun:a?transport=udp",
        "turn:a\r\nX: y",
    ],
)
def test_what_is_no_server_s_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no ICE server"):
        servers(url)


@pytest.mark.parametrize("url", ["stun:192.0.2.1:3478", "turns:[2001:db8::1]:5349?transport=tcp"])
def test_addresses_are_taken(url: str) -> None:
    assert servers(url).links()[0].startswith(f"<{url}>")


def test_turn_needs_a_secret_and_a_short_life() -> None:
    with pytest.raises(ConfigError, match="needs the secret"):
        servers(TURN, secret=None)
    servers("stun:a", secret=None)
    for lifetime in (timedelta(seconds=59), timedelta(days=2)):
        with pytest.raises(ConfigError, match="a minute to a day"):
            IceServers([TURN], "shared", lifetime=lifetime)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("de", "de"),
        ("PT-br", "pt-BR"),
        ("zh-hANT-tw", "zh-Hant-TW"),
        ("sl-rozaj-biske", "sl-rozaj-biske"),
        ("d", None),
        ("deutsch-", None),
        ("de_DE", None),
        ("de\n", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_tags_of_one_language_are_the_same(text: object, tag: str | None) -> None:
    assert language_tag(text) == tag


def test_names_of_rooms_and_speakers() -> None:
    for name in ("a", "Hall-7", "0_x", "a" * 64):
        assert is_room(name)
        assert is_speaker(name)
    for wrong in ("", "-a", "_a", "a" * 65, "a.b", "a/b", "ä", "a\n", None, 7):
        assert not is_room(wrong)
        assert not is_speaker(wrong)
    assert not is_speaker("floor")
    assert not is_room("metrics")
