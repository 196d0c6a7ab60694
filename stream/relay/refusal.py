"""A request that is not granted, wherever in the relay that is decided."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  # an answer, not a fault
    """A request is refused; whoever asked gets the status and the sentence.

    Args:
        status: HTTP's, 400 to 599.
        text: one sentence that says what is wrong and what to do; nothing of the request is in it.
        retry_after_s: after how many seconds the same request may be granted; None where that is
            unknown.
    """

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s
