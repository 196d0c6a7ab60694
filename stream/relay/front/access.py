"""Who may do what: JSON Web Tokens (RFC 7519), signed with the relay's secret.

A token's claims: ``iss`` is "lipstream", ``exp`` when it ends, ``room`` the one it is for, ``act``
a list of what may be done there, and, where it is for one alone, ``speaker`` and ``language``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import jwt

from engine.errors import ConfigError
from stream.relay.names import FLOOR, is_room, is_speaker, language_tag
from stream.relay.refusal import Refusal

Act = Literal["publish-speaker", "publish-language", "listen", "admin"]

ACTS: Final[tuple[Act, ...]] = get_args(Act)
ISSUER: Final = "lipstream"
LEAST_SECRET: Final = 32  # bytes; HS256 needs a key as long as its hash (RFC 7518, section 3.2)
LONGEST_LIFE: Final = timedelta(days=30)

_ALGORITHM: Final = "HS256"
_LONGEST_TOKEN: Final = 4096  # characters


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows.

    Attributes:
        room: the only one; None for any.
        acts: what may be done there.
        speaker: the only one it may be done for or as; None for any.
        language: the only one; None for any. The original has no language and stays open.
        expires: when it ends; None for never.
        key: stands for the token where clients are counted; it can't be turned back into one.
    """

    room: str | None
    acts: tuple[Act, ...]
    speaker: str | None = None
    language: str | None = None
    expires: datetime | None = None
    key: str | None = None

    def check(
        self, room: str, act: Act | None, speaker: str | None = None, language: str | None = None
    ) -> None:
        """See that something is allowed.

        Args:
            room: where.
            act: what; None for what any token of the room allows.
            speaker: for or as whom; None for the whole room.
            language: None for the original, or for all.

        Raises:
            Refusal: it is not (403).
        """
        if self.room not in (None, room):
            raise Refusal(403, "This token is for another room.")
        if act is not None and act not in self.acts:
            raise Refusal(403, f"This token does not allow {act}; ask the host for one that does.")
        if act is not None and self.speaker not in (None, speaker):
            raise Refusal(403, "This token is for another speaker.")
        if act is not None and language is not None and self.language not in (None, language):
            raise Refusal(403, "This token is for another language.")


_ALL: Final = Grant(None, ACTS)


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Access:
    """Makes and checks tokens.

    Args:
        secret: at least 32 bytes of UTF-8; None allows everything to everybody, which is for a
            relay that only this computer can reach.
        now: the wall clock.

    Raises:
        ConfigError: the secret is too short.
    """

    def __init__(self, secret: str | None, *, now: Callable[[], datetime] = utc_now) -> None:
        if secret is not None and len(secret.encode()) < LEAST_SECRET:
            raise ConfigError(
                f"The secret is too short: it needs at least {LEAST_SECRET} bytes, such as"
                ' python -c "import secrets; print(secrets.token_urlsafe(32))" prints.'
            )
        self._secret = secret
        self._now = now

    @property
    def is_open(self) -> bool:
        """Whether everything is allowed to everybody."""
        return self._secret is None

    def mint(
        self,
        room: str,
        acts: Sequence[str],
        *,
        lifetime: timedelta,
        speaker: str | None = None,
        language: str | None = None,
    ) -> str:
        """A new token.

        Args:
            room: the only one it is for.
            acts: what it allows.
            lifetime: from now on; up to 30 days.
            speaker: the only one it is for (``floor`` too); None for any.
            language: the only one it is for; None for any.

        Raises:
            ConfigError: there is no secret, or one of these is not as it has to be.
        """
        if self._secret is None:
            raise ConfigError("Tokens need a secret: set the relay's first.")
        if not is_room(room):
            raise ConfigError("The room's name has to be of letters, digits, - and _, up to 64.")
        if not acts or not set(acts) <= set(ACTS):
            raise ConfigError(f"A token allows some of {', '.join(ACTS)}.")
        if speaker is not None and speaker != FLOOR and not is_speaker(speaker):
            raise ConfigError("A speaker's name has to be of letters, digits, - and _, up to 64.")
        if language is not None and language_tag(language) is None:
            raise ConfigError("A language has to be a tag such as de or pt-BR.")
        if not timedelta(0) < lifetime <= LONGEST_LIFE:
            raise ConfigError(f"A token lives {LONGEST_LIFE.days} days at most.")
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "exp": int((self._now() + lifetime).timestamp()),
            "room": room,
            "act": [*dict.fromkeys(acts)],
        }
        if speaker is not None:
            claims["speaker"] = speaker
        if language is not None:
            claims["language"] = language_tag(language)
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, token: str | None) -> Grant:
        """What a token allows.

        Raises:
            Refusal: there is none, or it is not valid (401).
        """
        if self._secret is None:
            return _ALL
        if not token:
            raise Refusal(401, "This needs a token; ask the host for one.")
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise _invalid()
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={
                    "require": ["iss", "exp", "room", "act"],
                    "verify_exp": False,  # by ``_grant``, against the clock that was given
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # Beside its own errors PyJWT lets through those of the JSON in a forged header.
            raise _invalid() from None
        return self._grant(claims, token)

    def has_ended(self, grant: Grant) -> bool:
        """Whether a grant's time is over."""
        return grant.expires is not None and grant.expires <= self._now()

    def _grant(self, claims: dict[str, Any], token: str) -> Grant:
        now = self._now()
        expires, begins = _moment(claims["exp"]), _moment(claims.get("nbf", 0))
        if expires is None or begins is None:
            raise _invalid()
        if expires <= now:
            raise Refusal(401, "This token's time is over; ask the host for another one.")
        room, acts = claims["room"], claims["act"]
        speaker, language = claims.get("speaker"), claims.get("language")
        if (
            begins > now
            or expires > now + LONGEST_LIFE
            or not is_room(room)
            or not isinstance(acts, list)
            or not all(isinstance(act, str) for act in acts)
            or not (speaker is None or speaker == FLOOR or is_speaker(speaker))
            or not (language is None or language_tag(language))
        ):
            raise _invalid()
        return Grant(
            room=room,
            acts=tuple(act for act in ACTS if act in acts),
            speaker=speaker,
            language=language_tag(language),
            expires=expires,
            key=hashlib.sha256(token.encode()).hexdigest(),
        )


def _invalid() -> Refusal:
    return Refusal(401, "This token is not valid; ask the host for another one.")


def _moment(value: object) -> datetime | None:
    """A NumericDate; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None
