"""The guard of the unit tests itself."""

import socket

import pytest


def test_a_unit_test_cannot_reach_the_network() -> None:
    with socket.socket() as tcp, pytest.raises(AssertionError, match="move it to tests/integration"):
        tcp.connect(("127.0.0.1", 9))
    with socket.socket() as tcp, pytest.raises(AssertionError, match="move it to tests/integration"):
        tcp.connect_ex(("127.0.0.1", 9))
