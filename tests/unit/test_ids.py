"""Ids of one generator; how replicas share the numbers is tested with the store."""

from __future__ import annotations

import pytest

from app.ids import EPOCH_MS, NODES, Generator, LeaseOver, clock_from

NOW = EPOCH_MS + 60_000_000


def test_given_many_ids_in_one_millisecond_then_they_are_unique_and_rise() -> None:
    make = Generator(3, NOW + 60_000, lambda: NOW)
    ids = [make() for _ in range(1000)]
    assert ids == sorted(set(ids))


def test_given_a_clock_that_goes_back_then_ids_still_rise() -> None:
    times = iter([NOW, NOW - 500, NOW + 1])
    make = Generator(0, NOW + 60_000, lambda: next(times))
    first, second, third = make(), make(), make()
    assert first < second < third


def test_given_the_same_moment_then_two_nodes_make_different_ids() -> None:
    ids = {Generator(node, NOW + 60_000, lambda: NOW)() for node in range(NODES)}
    assert len(ids) == NODES


def test_given_a_lease_that_is_over_then_no_id_is_made() -> None:
    make = Generator(0, NOW, lambda: NOW)
    with pytest.raises(LeaseOver):
        make()


def test_given_more_ids_than_the_lease_has_room_for_then_it_stops_before_the_next_holders_time() -> None:
    make = Generator(0, NOW + 2, lambda: NOW)
    for _ in range(2 * 128):
        make()
    with pytest.raises(LeaseOver):
        make()
    assert make.reached == NOW + 2


def test_given_the_last_millisecond_of_69_years_then_javascript_still_reads_the_id_exactly() -> None:
    end = EPOCH_MS + 2**41 - 1
    assert Generator(NODES - 1, end + 1, lambda: end)() < 2**53


def test_a_clock_goes_on_from_where_it_was_set() -> None:
    clock = clock_from(NOW)
    assert NOW <= clock() < NOW + 5_000
