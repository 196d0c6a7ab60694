"""Everything that can go wrong, as one small tree.

    LipstreamError
    ├─ ConfigError        the operator's: a flag, a file of settings, a missing package
    ├─ MediaError         the user's: a file or device that can't be read or written
    │  └─ NoFaceError     readable, but no face anywhere
    ├─ BundleError        the model's files: missing, changed, or of another version
    └─ EngineError        ours: the run time failed; ``retryable`` says whether to try again
       └─ EngineFullError every slot is taken

A message is one sentence that says what happened and the next step; a command prints it as it is.
"""


def one_line(error: Exception) -> str:
    """Return what happened in one line, whatever kind of error says it."""
    return " ".join(str(error).split()) or type(error).__name__


class LipstreamError(Exception):
    """Base of every error that lipstream raises on purpose."""


class ConfigError(LipstreamError):
    """A setting is wrong or a needed package is missing; retrying will not help."""


class MediaError(LipstreamError):
    """A media file can't be read or written."""


class NoFaceError(MediaError):
    """The pictures are readable, but none of them shows a face."""


class BundleError(LipstreamError):
    """A bundle is missing, incomplete, changed, or of a version this program does not run."""


class EngineError(LipstreamError):
    """The run time failed.

    Attributes:
        retryable: whether the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class EngineFullError(EngineError):
    """Every slot is taken, or there is no time for another.

    Attributes:
        retry_after_s: in how many seconds a slot may be free; None where that is unknown.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retryable=True)
        self.retry_after_s = retry_after_s
