"""The table `reports`."""

from dataclasses import dataclass
from datetime import datetime

from federation.ids import EventId, RoomId, UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as, from_text, to_text


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody reported, and why.

    With an event, `user_id` is its sender; with `user_id` alone, that is who is meant.
    """

    reporter: UserId
    room_id: RoomId | None
    event_id: EventId | None
    user_id: UserId | None
    reason: str
    score: int | None = None  # -100 (the worst) to 0; from before v1.18


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report with its number and its time."""

    report_id: int
    received_at: datetime
    reporter: UserId
    room_id: RoomId | None
    event_id: EventId | None
    user_id: UserId | None
    reason: str
    score: int | None


async def insert_report(tx: Tx, report: Report) -> None:
    """Keep a report."""
    await tx.execute(
        """
        INSERT INTO reports (reporter, room_id, event_id, user_id, reason, score)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        report.reporter,
        report.room_id,
        report.event_id,
        report.user_id,
        to_text(report.reason),
        report.score,
    )


async def read_reports(tx: Tx, before: int, limit: int) -> list[StoredReport]:
    """Reports with numbers below `before`, the newest first."""
    reports = await fetch_as(
        tx,
        StoredReport,
        """
        SELECT report_id, received_at, reporter, room_id, event_id, user_id, reason,
               score
          FROM reports
         WHERE report_id < $1
         ORDER BY report_id DESC LIMIT $2
        """,
        before,
        limit,
    )
    return [_readable(report) for report in reports]


def _readable(report: StoredReport) -> StoredReport:
    return StoredReport(
        report.report_id,
        report.received_at,
        report.reporter,
        report.room_id,
        report.event_id,
        report.user_id,
        from_text(report.reason),
        report.score,
    )
