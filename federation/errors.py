"""The ways in which something another party made can be wrong.

Pure code raises these; whose event it was decides what follows: an event of our own
user is refused with 403, an event of another server is dropped, rejected or
soft-failed.
"""


class ProtocolError(Exception):
    """Something does not follow the specification; the text says what."""


class Malformed(ProtocolError):  # noqa: N818 - reads as a sentence at the raise
    """The format is wrong: not an event, identifier or body at all."""


class TooLarge(Malformed):
    """An event or one of its parts exceeds the specification's size limits.

    Spec: client-server-api#size-limits
    """


class BadSignature(ProtocolError):  # noqa: N818
    """A required signature is missing or does not verify."""


class Rejected(ProtocolError):  # noqa: N818
    """The authorization rules refuse the event.

    `rule` is the number of the rule in the room version's text, such as "5.3.3".
    """

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f"rule {rule}: {why}")
        self.rule = rule
        self.why = why
