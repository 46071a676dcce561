"""A default port that is taken moves on; a port that was set does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from embedded.definitions import choose_ports
from embedded.services import ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def claims() -> Iterator[ports.Claims]:
    held = ports.Claims()
    yield held
    held.release()


def test_a_default_that_is_taken_moves_on(taken: int, claims: ports.Claims) -> None:
    port = claims.named("SERVING_PORT", taken, was_set=False, last=None)
    assert port != taken
    assert ports.is_free(port)


def test_the_port_of_the_last_start_is_kept_when_the_default_is_taken(taken: int, claims: ports.Claims) -> None:
    last = ports.free_port()
    assert claims.named("SERVING_PORT", taken, was_set=False, last=last) == last


def test_two_stacks_that_start_together_choose_different_ports(claims: ports.Claims) -> None:
    wanted, other = ports.free_port(), ports.Claims()
    assert claims.named("DAGSTER_PORT", wanted, was_set=False, last=None) == wanted
    assert other.named("DAGSTER_PORT", wanted, was_set=False, last=None) != wanted
    other.release()


def test_a_port_that_was_set_and_is_taken_is_one_line_that_names_the_variable(
    taken: int, claims: ports.Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_PORT", str(taken))
    with pytest.raises(ports.PortTaken, match=f"^DAGSTER_PORT={taken}: .*Nothing was started") as raised:
        choose_ports({}, claims)
    assert "\n" not in str(raised.value)


def test_all_services_get_ports_of_their_own(claims: ports.Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVING_PORT", "DAGSTER_PORT", "QDRANT_PORT"):
        monkeypatch.delenv(name, raising=False)
    chosen, _ = choose_ports({"postgres": 8000, "redis": 3000}, claims)
    assert len({chosen.serving, chosen.dagster, chosen.qdrant, chosen.postgres, chosen.redis, chosen.code}) == 6
