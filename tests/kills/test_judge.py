"""The judge of the kills finds each thing that must not happen."""

from __future__ import annotations

from tests.kills.judge import Book, Name, faults_of

ONE, TWO, THREE = (Name("kills-a", number) for number in range(3))


def book(*received: int) -> Book:
    made = Book()
    made.acknowledge(ONE, 11, floor=0, is_duplicate=False)
    made.acknowledge(TWO, 12, floor=11, is_duplicate=False)
    for id_ in received:
        made.receive("stream", id_)
    return made


def test_what_is_right_has_no_fault() -> None:
    right = book(11, 12, 13)
    right.acknowledge(ONE, 11, floor=0, is_duplicate=True)
    # The third was stored and not acknowledged.
    assert faults_of(right, [(11, ONE), (12, TWO), (13, THREE)]) == []
    assert right.duplicates == 1


def test_each_fault_is_found() -> None:
    log = [(11, ONE), (12, TWO)]
    assert faults_of(book(11, 12), [(12, TWO)]) == [
        f"lost, though acknowledged: {ONE}",
        "stream got what is not in the log: 11",
    ]
    assert faults_of(book(11, 12, 13), [*log, (13, TWO)]) == [
        f"lost, though acknowledged: {TWO}",
        f"stored twice: {TWO}",
    ]
    assert faults_of(book(12), log) == ["stream did not get: 11"]
    assert faults_of(book(11, 12, 12), log) == ["stream got 12 after 12"]
    assert faults_of(book(12, 11), log) == ["stream got 11 after 12"]


def test_ids_that_go_back_and_change_are_found() -> None:
    late = book()
    late.acknowledge(THREE, 12, floor=12, is_duplicate=False)
    late.acknowledge(TWO, 14, floor=11, is_duplicate=True)
    assert late.faults == [
        f"{THREE} got 12, though 12 had been given before it was sent",
        f"{TWO} got 14 after 12",
    ]


def test_a_long_list_is_cut() -> None:
    (fault,) = faults_of(book(11, 12), [(11, ONE), (12, TWO), *((id_, Name("kills-b", id_)) for id_ in range(20, 40))])
    assert fault == "stream did not get: 20, 21, 22, 23, 24 and 15 more"
