"""What can go wrong in this room, beyond what asyncpg raises.

    DatabaseRoomError
    ├── Overloaded             too many wait for a flush: answer 503, the caller comes again
    ├── QueryFileError         a file of named SQL is not what it should be: a mistake in the build
    ├── MigrationError         the schema was not brought up to date; the message says what to do
    └── EmbeddedPostgresError  the embedded server does not run; the message says what to do

Every message is one line for the operator.
"""


class DatabaseRoomError(Exception):
    """Base of this room's own errors."""


class Overloaded(DatabaseRoomError):  # noqa: N818 - it says what the service is, as the answer 503 does
    """More items wait than `max_waiting`, or the batcher is closed. Nothing was stored for this item."""


class QueryFileError(DatabaseRoomError):
    """A `.sql` file of named queries is malformed: duplicate name, no purpose line, no statement."""


class MigrationError(DatabaseRoomError):
    """The schema could not be brought up to date. What was applied before stays applied."""


class EmbeddedPostgresError(DatabaseRoomError):
    """The embedded server could not be started or stopped."""
