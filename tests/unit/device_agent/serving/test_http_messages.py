"""Reading request heads and writing responses."""

import pytest

from device_agent.serving.errors import RequestRefused
from device_agent.serving.http_messages import Response, parse_head, render_response


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def refusal(*lines: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse_head(head(*lines), body_bytes_max=1000)
    return caught.value


def test_a_head_is_read_with_lower_case_names_and_without_its_query() -> None:
    parsed = parse_head(
        head("POST /v2/models/a%2Fb/infer?x=1 HTTP/1.1", "Host: here", "Content-Length:  12 "), body_bytes_max=1000
    )

    assert (parsed.method, parsed.path, parsed.body_bytes) == ("POST", "/v2/models/a%2Fb/infer", 12)
    assert parsed.headers == {"host": "here", "content-length": "12"}
    assert parsed.keep_alive
    assert not parsed.expects_continue


@pytest.mark.parametrize("lines", [("GET / HTTP/1.0",), ("GET / HTTP/1.1", "Connection: Close")])
def test_old_clients_and_those_that_ask_for_it_get_one_answer_for_a_connection(lines: tuple[str, ...]) -> None:
    assert not parse_head(head(*lines), body_bytes_max=1000).keep_alive


def test_a_client_that_waits_for_100_is_recognised() -> None:
    assert parse_head(head("POST / HTTP/1.1", "Expect: 100-Continue"), body_bytes_max=1000).expects_continue


@pytest.mark.parametrize("line", ["GET /", "GET / HTTP/2", "GET / more HTTP/1.1", "\x16\x03\x01", ""])
def test_a_request_line_in_another_form_is_refused(line: str) -> None:
    refused = refusal(line)

    assert refused.status == 400
    assert "request line" in str(refused)


@pytest.mark.parametrize("line", ["no colon", ": no name", "Content-Length : 5", " folded: value", "\tfolded: value"])
def test_a_header_that_two_readers_could_read_differently_is_refused(line: str) -> None:
    refused = refusal("GET / HTTP/1.1", "Host: here", line)

    assert refused.status == 400
    assert "header line" in str(refused)


@pytest.mark.parametrize("length", ["-1", "+5", "0x10", "5 5", "", "²"])
def test_a_length_that_is_not_a_number_is_refused(length: str) -> None:
    assert refusal("POST / HTTP/1.1", f"Content-Length: {length}").status == 400


def test_two_lengths_are_refused() -> None:
    refused = refusal("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 6")

    assert refused.status == 400
    assert "'5, 6'" in str(refused)


@pytest.mark.parametrize("length", ["1001", "9" * 5000])
def test_a_body_over_the_limit_is_refused_before_it_is_read(length: str) -> None:
    assert refusal("POST / HTTP/1.1", f"Content-Length: {length}").status == 413


def test_a_transfer_coding_is_answered_with_length_required() -> None:
    assert refusal("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5").status == 411


def test_a_response_carries_its_length_type_and_headers() -> None:
    raw = render_response(Response(503, b"later", headers=(("retry-after", "1"),)), keep_alive=True)

    assert raw == (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 5\r\n"
        b"retry-after: 1\r\n\r\nlater"
    )


def test_the_last_response_of_a_connection_says_so() -> None:
    assert b"\r\nconnection: close\r\n" in render_response(Response(200, b""), keep_alive=False)


def test_the_response_to_head_has_the_length_and_not_the_body() -> None:
    raw = render_response(Response(200, b"1234"), keep_alive=True, with_body=False)

    assert b"content-length: 4" in raw
    assert raw.endswith(b"\r\n\r\n")
