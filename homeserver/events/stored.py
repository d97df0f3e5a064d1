"""An event as this server keeps it: the PDU and what we know of it."""

from dataclasses import dataclass, field, replace

from federation.ids import EventId
from federation.pdu import Pdu

_ROW_COST = 1000  # bytes of an event's objects beside its texts, roughly


def txn_prefix(redacts: EventId) -> str:
    """What goes before the stored transaction ID of a redaction by `/redact`.

    The event is in its path, so that one ID for two events makes two requests.

    Spec: client-server-api#transaction-identifiers
    """
    return f"{redacts} "


@dataclass(slots=True, eq=False)
class StoredEvent:
    """An event with its number, its place and its states.

    Treat as immutable; only the commit that makes it visible sets its position.
    `position` is None for outliers, rejected and soft-failed events: what clients never
    see in a timeline. `state_before` is None when the state there is not known.
    """

    nid: int
    room_nid: int
    pdu: Pdu
    position: int | None
    prev_nids: tuple[int, ...]
    auth_nids: tuple[int, ...]
    state_before: int | None
    state_after: int | None
    room_state: int | None
    size: int  # bytes of its JSON
    rejected: str | None = None
    soft_failed: bool = False
    outgoing: bool = False
    redaction: "StoredEvent | None" = None  # the redaction that was applied to it
    txn_device: str | None = None
    txn_id: str | None = None
    _shown: Pdu | None = field(default=None, repr=False)
    # The client format but for `unsigned`, made once for everybody (client_format).
    shared_json: bytes | None = field(default=None, repr=False)

    @property
    def event_id(self) -> EventId:
        """The event ID."""
        return self.pdu.event_id

    @property
    def given_txn_id(self) -> str | None:
        """The transaction ID as the client gave it."""
        if self.txn_id is None or self.pdu.redacts is None:
            return self.txn_id
        return self.txn_id.removeprefix(txn_prefix(EventId(self.pdu.redacts)))

    @property
    def shown(self) -> Pdu:
        """The PDU as others may see it: redacted, when a redaction was applied."""
        if self.redaction is None:
            return self.pdu
        if self._shown is None:
            self._shown = self.pdu.redacted()
        return self._shown

    @property
    def is_visible(self) -> bool:
        """Whether it may stand in a timeline."""
        return self.position is not None

    @property
    def cost(self) -> int:
        """Bytes it takes in memory, roughly; never changes.

        That is its text, the client format, and the content where it is kept.
        """
        pdu = self.pdu
        keeps_content = pdu.state_key is not None and pdu.type != "m.room.member"
        return (3 if keeps_content else 2) * self.size + _ROW_COST

    def erased(self) -> "StoredEvent":
        """The same event with as little as redaction leaves."""
        return replace(self, pdu=self.pdu.redacted(), _shown=None, shared_json=None)

    def redacted_by(self, redaction: "StoredEvent") -> "StoredEvent":
        """The same event with a redaction applied."""
        return replace(self, redaction=redaction, _shown=None, shared_json=None)
