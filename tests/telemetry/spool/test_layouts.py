"""A spool of the layout before is delivered like one of today."""

from tests.telemetry.spool.holding import A, B, delivered, fields, of_layout_1, samples


def test_a_spool_of_the_layout_before_is_delivered_from_where_each_publisher_was(opened, tmp_path):
    put = samples(10, disk="sda")
    path = of_layout_1(tmp_path, map(fields, put), {A: 0, B: 4})
    spool = opened()

    assert spool.adopt() == 1

    assert spool.waiting == {A: 10, B: 6}
    assert delivered(spool, A, limit=3) == put
    assert delivered(spool, B, limit=4) == put[4:]
    assert not path.exists()


def test_a_spool_of_the_layout_before_may_be_handed_on_half_delivered(opened, tmp_path):
    put = samples(10)
    of_layout_1(tmp_path, map(fields, put), {A: 0})
    first = opened()
    first.adopt()
    first.done(first.take(A, 4))
    first.close()
    second = opened()

    assert second.adopt() == 1
    assert delivered(second, A) == put[4:]
