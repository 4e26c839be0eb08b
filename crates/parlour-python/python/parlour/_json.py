"""Values as JSON in messages."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ._errors import Encoding


def encode(value: Any) -> bytes:
    """Returns the value as JSON without spaces, in UTF-8. Raises Encoding."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Encoding(f"cannot send: the value is not JSON: {error}") from error


def decode(message: bytes) -> Any:
    """Returns the value of a message. Raises Encoding."""
    try:
        return json.loads(message.decode(), parse_constant=_refuse)
    # A peer decides how deep the value is, and how many digits a number has.
    except (ValueError, RecursionError) as error:
        raise Encoding(f"cannot receive: the message is not JSON: {error}; it was taken") from error


def _refuse(name: str) -> NoReturn:
    """Python reads and writes NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number of JSON")
