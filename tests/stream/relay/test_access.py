"""Tokens: who may do what, and what is no token."""

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from engine.errors import ConfigError
from stream.relay.front.access import ACTS, Access
from stream.relay.refusal import Refusal

pytestmark = pytest.mark.unit

SECRET = "an-example-of-a-secret-of-32-bytes"
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def access(clock: Clock | None = None) -> Access:
    return Access(SECRET, now=clock or Clock())


def made(algorithm: str = "HS256", secret: str = SECRET, **changes: Any) -> str:
    """A token that somebody else made; a claim that is None is left out."""
    claims = {
        "iss": "lipstream",
        "exp": int((NOW + HOUR).timestamp()),
        "room": "hall",
        "act": ["listen"],
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


def status_of(token: str | None, *wish: Any, clock: Clock | None = None) -> int:
    """What asking for something brings; by default to listen in the hall."""
    return answer_of(access(clock), token, *(wish or ("hall", "listen", "anna", "de")))


def answer_of(doorman: Access, token: str | None, *wish: Any) -> int:
    try:
        doorman.read(token).check(*wish)
    except Refusal as refusal:
        return refusal.status if refusal.text.endswith(".") else -1
    return 200


def test_a_minted_token_allows_what_it_says_in_its_room() -> None:
    token = access().mint("hall", ["listen"], lifetime=HOUR)
    assert status_of(token) == 200
    assert status_of(token, "hall", None) == 200
    assert status_of(token, "other", "listen", "anna", "de") == 403
    assert status_of(token, "other", None) == 403
    for act in ACTS:
        expected = 200 if act == "listen" else 403
        assert status_of(token, "hall", act, "anna", None) == expected


def test_a_token_may_be_for_one_speaker_and_one_language() -> None:
    acts = ["publish-language", "listen", "admin"]
    token = access().mint("hall", acts, lifetime=HOUR, speaker="anna", language="pt-br")
    assert status_of(token, "hall", "publish-language", "anna", "pt-BR") == 200
    assert status_of(token, "hall", "publish-language", "anna", "de") == 403
    assert status_of(token, "hall", "publish-language", "ben", "pt-BR") == 403
    assert status_of(token, "hall", "publish-language", "floor", "pt-BR") == 403
    assert status_of(token, "hall", "listen", "anna", None) == 200  # the original is for all
    assert status_of(token, "hall", "admin", "anna", None) == 200
    assert status_of(token, "hall", "admin", None, None) == 403  # not the whole room
    floor = access().mint("hall", acts, lifetime=HOUR, speaker="floor")
    assert status_of(floor, "hall", "publish-language", "floor", "de") == 200


def test_a_token_ends_when_it_says() -> None:
    clock = Clock()
    doorman = access(clock)
    token = doorman.mint("hall", ["listen"], lifetime=HOUR)
    grant = doorman.read(token)
    clock.now += HOUR - timedelta(seconds=1)
    assert doorman.read(token) == grant
    assert not doorman.has_ended(grant)
    clock.now += timedelta(seconds=1)
    assert doorman.has_ended(grant)
    with pytest.raises(Refusal, match="time is over") as caught:
        doorman.read(token)
    assert caught.value.status == 401


def part(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


CLAIMS = {"iss": "lipstream", "exp": 2**31, "room": "hall", "act": ["listen"]}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("x.y.z", id="nonsense"),
        pytest.param("ü" * 20, id="not ASCII"),
        pytest.param("a" * 5000, id="endless"),
        pytest.param(made(secret=SECRET[::-1]), id="of another secret"),
        pytest.param(made()[:-2], id="cut"),
        pytest.param(made(algorithm="HS512", secret=SECRET * 2), id="of another secret and HS512"),
        pytest.param(f"{part({'alg': 'none'})}.{part(CLAIMS)}.", id="unsigned"),
        pytest.param(f"{part({'alg': 'None', 'typ': 'JWT'})}.{part(CLAIMS)}.", id="Unsigned"),
        pytest.param(f"{part({'alg': 'RS256'})}.{part(CLAIMS)}.{part(b'x')}", id="RS256"),
        pytest.param(f"{part({'alg': ['HS256']})}.{part(CLAIMS)}.{part(b'x')}", id="a list"),
        pytest.param(f"{part(b'[' * 2000)}.{part(CLAIMS)}.{part(b'x')}", id="deep JSON"),
        pytest.param(f"{part([])}.{part(CLAIMS)}.{part(b'x')}", id="no header"),
        pytest.param(f"{part(b'1' * 2900)}.{part(CLAIMS)}.", id="a large number"),
        pytest.param(made(exp=None), id="endless life"),
        pytest.param(made(exp=int((NOW + timedelta(days=31)).timestamp())), id="a long life"),
        pytest.param(made(exp=True), id="exp is no number"),
        pytest.param(made(exp=10**30), id="exp is huge"),
        pytest.param(made(exp=float("nan")), id="exp is not a number"),
        pytest.param(made(nbf=int((NOW + HOUR / 2).timestamp())), id="not yet"),
        pytest.param(made(iss="another"), id="another issuer"),
        pytest.param(made(iss=None), id="no issuer"),
        pytest.param(made(aud="another"), id="for another service"),
        pytest.param(made(room=None), id="no room"),
        pytest.param(made(room="a/b"), id="a strange room"),
        pytest.param(made(room=7), id="room is a number"),
        pytest.param(made(act=None), id="no act"),
        pytest.param(made(act="listen"), id="act is text"),
        pytest.param(made(act=[["listen"]]), id="act is nested"),
        pytest.param(made(speaker=""), id="a strange speaker"),
        pytest.param(made(language="*"), id="a strange language"),
    ],
)
def test_what_is_no_valid_token_is_refused(token: str | None) -> None:
    assert status_of(made()) == 200
    assert status_of(token) == 401


def test_a_token_of_another_algorithm_is_refused_with_the_right_secret_too() -> None:
    secret = SECRET * 4
    for algorithm, expected in (("HS256", 200), ("HS384", 401), ("HS512", 401)):
        token = made(algorithm=algorithm, secret=secret)
        doorman = Access(secret, now=Clock())
        assert answer_of(doorman, token, "hall", "listen", "anna", "de") == expected


def test_1000_broken_tokens_are_refused() -> None:
    random_ = random.Random(3)
    token = made()
    doorman = access()
    for _ in range(1000):
        letters = [*token]
        for _ in range(random_.randint(1, 5)):
            letters[random_.randrange(len(letters) - 1)] = chr(random_.randint(33, 126))
        broken = "".join(letters)
        if broken != token:
            with pytest.raises(Refusal) as caught:
                doorman.read(broken)
            assert caught.value.status == 401


def test_an_act_that_is_not_known_allows_nothing() -> None:
    token = made(act=["listen", "rule"])
    assert access().read(token).acts == ("listen",)
    assert status_of(token, "hall", "admin") == 403


def test_a_short_secret_is_refused() -> None:
    for secret in ("", "short", "x" * 31):
        with pytest.raises(ConfigError, match="32 bytes"):
            Access(secret)
    Access("ü" * 16)


def test_without_a_secret_everything_is_allowed_and_nothing_minted() -> None:
    doorman = Access(None)
    assert doorman.is_open
    grant = doorman.read(None)
    grant.check("hall", "admin", None, None)
    assert not doorman.has_ended(grant)
    with pytest.raises(ConfigError, match="need a secret"):
        doorman.mint("hall", ["listen"], lifetime=HOUR)


@pytest.mark.parametrize(
    "wrong",
    [
        {"room": "a b"},
        {"room": "metrics"},
        {"acts": []},
        {"acts": ["rule"]},
        {"speaker": "a b"},
        {"language": "deutsch sprache"},
        {"lifetime": timedelta(days=30, seconds=1)},
        {"lifetime": timedelta(0)},
        {"lifetime": -HOUR},
    ],
)
def test_no_token_is_minted_that_would_be_refused(wrong: dict[str, Any]) -> None:
    wish: dict[str, Any] = {"room": "hall", "acts": ["listen"], "lifetime": HOUR} | wrong
    with pytest.raises(ConfigError) as caught:
        access().mint(**wish)
    assert str(caught.value).endswith(".")
