"""What comes after another approval about the same, where a part of it is asked for anew. No I/O."""

from __future__ import annotations

from dataclasses import replace

from services.chassis.values.approval import Approval, Status


def go_on(approval: Approval, before: Approval) -> Approval:
    """An approval that comes after another about the same, where who asks says a part of it anew and no more.

    What nobody approved stays as asked for by whoever asked for it, in that session: else a colleague's change of what
    is beside it had everybody forget that a thief asked for the rest.
    """
    if before.status is Status.EXECUTED:
        return approval
    makers = approval.makers | {before.created_by}
    return replace(approval, makers=makers, earlier_askers=before.list_askers())


def go_on_by_itself(approval: Approval, before: Approval) -> Approval:
    """The same, where a service asks by itself. It says nothing anew: it goes on in the name of who asked before."""
    if before.status is Status.EXECUTED:
        return approval
    by, role = before.created_by, before.created_role
    return replace(go_on(approval, before), created_by=by, created_role=role, session=before.session)
