"""Whom a provider speaks of, and why it may not."""

from msgspec import Struct


class Identity(Struct, frozen=True, kw_only=True):
    """Somebody at a provider; what is not known is empty."""

    provider: str
    subject: str
    sid: str = ""  # the session there
    localpart: str = ""
    display_name: str = ""
    email: str = ""  # confirmed there
    avatar: str = ""


class NotIdentified(Exception):  # noqa: N818 - reads as what happened
    """The provider has not shown who it is; the text is for the log only."""

    def __init__(self, why: str, *, told: str = "") -> None:
        super().__init__(why)
        # What the person is told, if there is more to say than that it did not work.
        self.told = told
