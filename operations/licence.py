"""The vendor's licence: when it ends, as far as it says so itself.

Owns reading that from the token, which is never told, logged or kept. Whether the vendor accepts it is not looked at.
"""

import base64
import json
from datetime import UTC, datetime


def end(token: str) -> datetime | None:
    """The `exp` of a JSON web token (RFC 7519, 4.1.4); None where the licence has no date that can be read."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.b64decode(parts[1] + "==", altchars=b"-_"))
        return datetime.fromtimestamp(float(payload["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
