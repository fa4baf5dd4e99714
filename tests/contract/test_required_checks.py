"""Which facts of a party a check is about is stated once: the contract says the same."""

from __future__ import annotations

import re

from gateway import contracts
from services.compliance.domain.clearance import REQUIRED_CHECKS


def test_the_comment_of_a_type_of_check_names_the_facts_that_it_is_about():
    comments = contracts.comments()
    types = {
        each.check_type: comments[f"realco.compliance.v1.ComplianceCheck.Type.{each.check_type}"]
        for each in REQUIRED_CHECKS
    }
    named = {check_type: tuple(re.findall("`([a-z_]+)`", comment)) for check_type, comment in types.items()}
    assert named == {each.check_type: each.rests_on for each in REQUIRED_CHECKS}
