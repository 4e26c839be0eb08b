"""The source that vouches for a part of a peer's identity."""

import enum


class Provenance(enum.IntEnum):
    """The source of a statement about a peer, ordered from no evidence to proof."""

    UNKNOWN = 0
    """There is no statement."""
    CLAIM = 1
    """The peer stated it. Suitable for people, never for a decision."""
    VERIFIED = 2
    """/proc showed that the process held the other end. A process can pass its end on, so this is for people too."""
    FILE_OWNER = 3
    """The owner of the file through which the peer connected. Only that user or root can have created the file."""
    KERNEL = 4
    """The kernel recorded it when the connection was established."""
