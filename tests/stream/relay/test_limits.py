"""How often a client may ask, in virtual time."""

import pytest

from stream.relay.front.limits import Bucket, Buckets, Limits, Rate, Rates

pytestmark = pytest.mark.unit


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(Rate(per_s=2.0, burst=5.0), now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(100.0) == pytest.approx(0.5)
    assert bucket.take(100.25) == pytest.approx(0.25)  # to be refused costs nothing
    granted = sum(bucket.take(100.25 + n / 100) == 0.0 for n in range(1001))
    assert granted == 20  # ten seconds
    bucket.take(1e6)
    assert sum(bucket.take(1e6) == 0.0 for _ in range(10)) == 4  # no more than full


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = Bucket(Rate(per_s=1.0, burst=1.0), now=10.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(5.0) > 0.0
    assert bucket.take(10.5) > 0.0
    assert bucket.take(11.0) == 0.0


def test_the_table_is_bounded_and_forgets_who_asked_least_recently() -> None:
    buckets = Buckets(Rate(per_s=0.001, burst=1.0), most=100)
    assert buckets.take("loud", 0.0) == 0.0
    for n in range(10_000):
        buckets.take(n, 0.0)
        assert buckets.take("loud", 0.0) > 0.0  # who keeps asking is not forgotten
        assert len(buckets) <= 100
    assert buckets.take(9_999, 0.0) > 0.0
    assert buckets.take(1, 0.0) == 0.0


def test_one_client_s_burst_leaves_the_others_alone() -> None:
    limits = Limits(Rates(), now=0.0)
    granted = sum(limits.ask("offer", "192.0.2.1", 0.0) == 0.0 for _ in range(1000))
    assert granted == Rates().offer.burst
    assert limits.ask("offer", "192.0.2.2", 0.0) == 0.0
    assert limits.ask("request", "192.0.2.1", 0.0) == 0.0


def test_all_clients_together_have_a_limit() -> None:
    limits = Limits(Rates(), now=0.0, most=500)
    granted = sum(limits.ask("offer", f"10.0.{n >> 8}.{n & 255}", 0.0) == 0.0 for n in range(5000))
    assert granted == Rates().all_offers.burst
    assert limits.remembered() == 500


def test_a_customer_s_whole_ipv6_network_is_one_client() -> None:
    limits = Limits(Rates(offer=Rate(1.0, 10.0)), now=0.0)
    granted = sum(limits.ask("offer", f"2001:db8:0:1::{n:x}", 0.0) == 0.0 for n in range(100))
    assert granted == 10
    assert limits.ask("offer", "2001:db8:0:2::1", 0.0) == 0.0
    assert limits.remembered() == 2
    for _ in range(10):
        limits.ask("offer", "::ffff:192.0.2.1", 0.0)
    assert limits.ask("offer", "192.0.2.1", 0.0) > 0.0


def test_a_token_has_a_limit_wherever_it_is_used() -> None:
    limits = Limits(Rates(), now=0.0)
    granted = sum(limits.ask_with("key", 0.0) == 0.0 for _ in range(1000))
    assert granted == Rates().token.burst
    assert limits.ask_with("key", 1.0) == 0.0
    assert limits.ask("request", "unknown", 0.0) == 0.0  # what is no address is one client
