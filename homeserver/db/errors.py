"""What can go wrong with the database as such, apart from what a statement says."""


class DatabaseError(Exception):
    """Something about the database is wrong; the text says what to do."""


class DatabaseUnavailable(DatabaseError):  # noqa: N818 - reads as a sentence at the raise
    """The database cannot be reached, or was lost before anything was committed.

    Nothing of the transaction is kept: doing it again is safe.
    """

    says_it_all = True  # in the log: where we were just then does not matter


class CommitUnknown(DatabaseError):  # noqa: N818
    """The connection was lost while the database was committing.

    The transaction is there whole or not at all; only reading tells which. Doing it
    again is safe only when the work itself notices that it has been done.
    """

    says_it_all = True


class NotCommitted(DatabaseError):  # noqa: N818
    """The database has undone the transaction, since one of its statements failed.

    A slip of ours: whoever catches a statement's error within a transaction must let
    the transaction end.
    """
