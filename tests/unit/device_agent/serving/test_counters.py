"""Counting what a model answered, by window and in total."""

from device_agent.serving.counters import CounterBook

MANIFEST_A = "a" * 64
MANIFEST_B = "b" * 64


def test_a_collect_hands_out_the_window_and_begins_a_new_one_while_totals_go_on() -> None:
    book = CounterBook()
    counters = book.open("digits", MANIFEST_A, now_s=100.0)
    counters.record(0.001, input_bytes=256, failed=False)
    counters.record(0.002, input_bytes=256, failed=False)

    (first,) = book.collect(now_s=110.0)
    counters.record(0.001, input_bytes=256, failed=False)
    (second,) = book.collect(now_s=115.0)

    assert (first["slot"], first["manifest"]) == ("digits", MANIFEST_A)
    assert (first["window_s"], first["requests"], first["input_bytes"]) == (10.0, 2, 512)
    assert (second["window_s"], second["requests"], second["input_bytes"]) == (5.0, 1, 256)
    assert second["latency"]["count"] == 1
    assert counters.requests == 3


def test_a_failure_counts_as_request_and_error_and_leaves_latency_and_bytes_alone() -> None:
    book = CounterBook()
    counters = book.open("digits", MANIFEST_A, now_s=0.0)
    counters.record(0.5, input_bytes=256, failed=True)

    (window,) = book.collect(now_s=1.0)

    assert (window["requests"], window["errors"], window["input_bytes"]) == (1, 1, 0)
    assert window["latency"]["count"] == 0
    assert (counters.requests, counters.errors) == (1, 1)


def test_a_replaced_model_is_handed_out_once_more_and_then_forgotten() -> None:
    book = CounterBook()
    old = book.open("digits", MANIFEST_A, now_s=0.0)
    old.record(0.001, input_bytes=1, failed=False)
    book.open("digits", MANIFEST_B, now_s=5.0)
    old.retired = True

    assert [window["manifest"] for window in book.collect(now_s=10.0)] == [MANIFEST_A, MANIFEST_B]
    assert [window["manifest"] for window in book.collect(now_s=20.0)] == [MANIFEST_B]
