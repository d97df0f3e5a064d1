"""[push]: how people are told of what they have not seen."""

from typing import Annotated

from msgspec import Meta, Struct


class Push(Struct, frozen=True, kw_only=True):
    """Notifications. Gateways and browsers need no settings."""

    email_delay_s: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="How long something must have been unread before an e-mail"
            " tells of it, to those who asked for that. After it, none is sent about"
            " that room for as long; then for three times as long, up to a day.",
        ),
    ] = 600
    encrypted_events: Annotated[
        bool,
        Meta(
            description="Whether clients are woken for every encrypted event but in"
            " muted rooms, to look for mentions themselves (MSC4028). Clients that do"
            " not know it show too many unread messages."
        ),
    ] = False
    thread_subscriptions: Annotated[
        bool,
        Meta(
            description="Whether messages in threads notify those alone who follow the"
            " thread, or are mentioned (MSC4306). Users of clients that do not know it"
            " are not told of answers in threads any more."
        ),
    ] = False
