"""Ports of one instance never meet."""

from __future__ import annotations

from deploy.local.ports import choose_free_port


def test_no_port_is_given_twice_before_its_program_has_bound_it():
    ports = [choose_free_port() for _ in range(300)]
    assert len(set(ports)) == len(ports)
