import pytest

from stream.relay.room.publications import FLOOR, LINGER_S, REMOVED_S, Place, Publications

pytestmark = pytest.mark.unit

ANNA, GERMAN = Place("anna", None), Place("anna", "de")


def test_who_comes_again_takes_the_place_of_who_was_there() -> None:
    publications = Publications()
    assert publications.taken(ANNA, "first") is None
    assert publications.taken(ANNA, "second") == "first"
    assert publications.resource(ANNA) == "second"
    assert publications.left("first", 1.0) is None, "it has no place any more"
    assert len(publications) == 1


def test_a_place_is_kept_for_a_while_and_then_forgotten() -> None:
    publications = Publications()
    publications.taken(ANNA, "a")
    publications.taken(GERMAN, "b")
    assert publications.left("a", 10.0) == ANNA
    assert publications.over(10.0 + LINGER_S - 0.1) == []
    assert publications.over(10.0 + LINGER_S) == [ANNA]
    assert publications.over(1e6) == [], "said once; and who publishes stays"
    assert publications.resource(GERMAN) == "b"


def test_who_comes_back_in_time_stays() -> None:
    publications = Publications()
    publications.taken(ANNA, "a")
    publications.left("a", 10.0)
    publications.taken(ANNA, "b")
    assert publications.over(10.0 + 2 * LINGER_S) == []


def test_who_was_removed_is_not_let_in_for_a_while_and_the_place_is_free_at_once() -> None:
    publications, floor = Publications(), Place(FLOOR, "fr")
    publications.taken(floor, "a")
    assert publications.remove(floor, 5.0) == "a"
    assert publications.over(5.0) == [floor]
    assert publications.barred_s(floor, 6.0) == pytest.approx(REMOVED_S - 1)
    assert publications.barred_s(ANNA, 6.0) == 0
    publications.over(5.0 + REMOVED_S)
    assert publications.barred_s(floor, 5.0 + REMOVED_S) == 0
    assert publications.remove(floor, 7.0) is None, "nobody is there"
