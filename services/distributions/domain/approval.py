"""Approval of a calculated distribution is of exactly these numbers.

The content hash binds an approval to what was approved: any change of a cent, a payee, a term or a date changes it.
"""

from __future__ import annotations

from services.chassis.values.refusals import ContentChanged


def check_content(expected_hash: str, current_hash: str | None) -> None:
    """Refuses to go on with anything but what was seen or approved; execution asks again. Raises: ContentChanged."""
    if expected_hash != current_hash:
        raise ContentChanged("The distribution has changed since it was seen.", content_hash=current_hash or "")
