"""Calls of Alyx end, are repeated where that helps, and are kept apart from each other."""

import json
import multiprocessing
import pickle
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scripted_http import (
    EID,
    SAMPLES,
    TOKEN,
    Scripted,
    cut_short,
    drips_body,
    drips_header,
    drops,
    hangs,
    home,
    html,
    make,
    says,
    scripted,
    server,
    waits,
)

from neuro_assets.alyx.client import Alyx
from neuro_assets.outcomes import PermanentFailure, TransientFailure

__all__ = ["home", "make", "server", "waits"]  # fixtures


def test_cookies_of_the_server_are_not_sent_back(make, server):
    client = make(says(200, {}, Set_Cookie="sessionid=1; Path=/"))
    client.get("sessions")
    client.get("sessions")
    client.create("sessions", {})
    assert all("Cookie" not in seen.headers for seen in server.seen)


def test_one_connection_is_kept_for_reading_and_a_new_one_made_for_each_post(make, server):
    client = make(says(200, {}))
    client.get("sessions")
    client.get("sessions")
    client.create("sessions", {})
    client.create("sessions", {})
    ports = [seen.port for seen in server.seen]
    assert ports[0] == ports[1]
    assert len(set(ports[1:])) == 3


def test_a_copy_in_another_process_makes_its_own_connection(make, server):
    client = make(says(200, {}), sleep=_no_sleep)
    client.get("sessions")
    child = multiprocessing.get_context("fork").Process(target=client.get, args=("child",))
    child.start()
    child.join()
    assert child.exitcode == 0
    client.get("sessions")
    pickle.loads(pickle.dumps(client)).get("copy")
    before, forked, after, copied = (seen.port for seen in server.seen)
    assert before == after
    assert len({before, forked, copied}) == 3


def _no_sleep(seconds: float) -> None:
    pass


@pytest.mark.parametrize("act", [drips_body, drips_header, hangs])
def test_a_server_that_never_comes_to_an_end_is_given_up_at_the_deadline(make, act):
    client = make(act, timeout_s=30, deadline_s=0.15)
    with pytest.raises(TransientFailure, match=r"no whole answer within 0\.15 s"):
        client.get("sessions")


def test_what_hung_is_not_left_behind(make):
    client = make(drips_header, timeout_s=30, deadline_s=0.15)
    with pytest.raises(TransientFailure):
        client.get("sessions")
    assert _all_end()


def _all_end() -> bool:
    workers = [each for each in threading.enumerate() if each.name == "alyx-request"]
    for worker in workers:
        worker.join(5)
    return not any(worker.is_alive() for worker in workers)


def test_a_silent_server_is_asked_again_after_the_socket_timeout(make, server, waits):
    client = make(hangs, says(200, {"ok": 1}), timeout_s=1, deadline_s=60)
    assert client.get("sessions") == {"ok": 1}
    assert len(waits) == 1
    assert client.n_requests == len(server.seen) == 2


def test_a_name_server_that_hangs_is_given_up_at_the_deadline(make, server, monkeypatch):
    asked = threading.Event()

    def lookup(*args: object, **kwargs: object) -> None:
        asked.set()
        server.ended.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    client = make(says(200, {}), url="http://alyx.example.org", deadline_s=0.15)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(TransientFailure, match="no whole answer"):
        client.create("sessions", {})
    assert asked.is_set()


def test_what_connects_after_the_deadline_sends_nothing_any_more(make, server, monkeypatch):
    goes_on, real = threading.Event(), socket.getaddrinfo

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        goes_on.wait()
        return real(host, *args, **kwargs)

    client = make(says(201, {}), deadline_s=0.15)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(TransientFailure) as failure:
        client.create("sessions", {})
    assert "may have been done" not in str(failure.value)
    goes_on.set()
    assert _all_end()
    assert server.seen == []


@pytest.mark.parametrize(
    "act",
    [drops, cut_short, html(502), html(504), says(503, {}), says(500, {"detail": "odd"})],
    ids=["drop", "cut short", "502", "504", "503", "500"],
)
def test_what_may_pass_is_asked_again_with_growing_pauses(make, server, waits, act):
    client = make(act, act, act, act, act, says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert len(server.seen) == client.n_requests == 6
    for wait, base in zip(waits, (0.5, 1, 2, 4, 8), strict=True):
        assert base / 2 <= wait <= base


def test_broken_json_with_a_good_status_is_asked_again(make, waits):
    client = make(says(200, b'{"count": '), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert len(waits) == 1


def test_after_the_last_try_the_failure_says_what_was_asked_and_what_happened(make, server, waits):
    client = make(says(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html"), tries=3)
    with pytest.raises(TransientFailure) as failure:
        client.get("sessions", django="auto_datetime__gte,2026-11-20")
    words = str(failure.value)
    assert f"GET {server.url}/sessions?django=auto_datetime__gte%2C2026-11-20" in words
    assert "failed with 502: 502 Bad Gateway" in words
    assert "\n" not in words
    assert (len(waits), client.n_requests) == (2, 3)


@pytest.mark.parametrize(
    ("said", "least"), [("7", 7.0), ("Fri, 20 Nov 2026 22:00:24 GMT", 7.0), ("0", 0.0)]
)
def test_a_throttled_request_waits_as_long_as_it_is_asked_to(make, waits, said, least):
    client = make(says(429, {"detail": "throttled"}, retry_after=said), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert least <= waits[0] <= least + 1.0


@pytest.mark.parametrize("said", ["", "soon", "-3", "nan", "Fri, 99 Nov 2026 22:00:24 GMT"])
def test_a_throttled_request_without_a_sensible_time_backs_off(make, waits, said):
    client = make(says(429, {}, retry_after=said), says(200, {"ok": 1}))
    assert client.get("sessions") == {"ok": 1}
    assert 0.25 <= waits[0] <= 0.5


def test_the_recorded_throttling_is_waited_for(make, waits):
    path = SAMPLES / "91-throttle-429.json"
    if not path.is_file():
        pytest.skip(f"the recorded answers of Alyx are not at {SAMPLES}")
    first = json.loads(path.read_text("utf-8"))["summary"]["first_429"]
    act = says(429, first["body"], retry_after=first["headers"]["Retry-After"])
    assert make(act, says(200, {})).get("sessions") == {}
    assert 1.0 <= waits[0] <= 2.0


@pytest.mark.parametrize("retry_after", ["61", "3600"])
def test_a_longer_wait_than_an_honest_throttle_asks_is_not_waited_for(make, waits, retry_after):
    client = make(says(429, {}, retry_after=retry_after), deadline_s=10_000)
    with pytest.raises(TransientFailure, match=f"wait {retry_after} s"):
        client.get("sessions")
    assert waits == []


def test_a_wait_that_ends_after_the_deadline_is_not_begun(make, waits):
    client = make(says(429, {}, retry_after="20"), deadline_s=15)
    with pytest.raises(TransientFailure, match="no time left of 15 s"):
        client.get("sessions")
    assert waits == []


@pytest.mark.parametrize(
    "act",
    [drops, cut_short, html(502), says(503, {}), says(500, {"detail": "odd"}), says(201, b"{")],
    ids=["drop", "cut short", "502", "503", "500", "broken"],
)
def test_a_post_that_may_have_arrived_is_not_sent_again(make, server, act):
    client = make(act)
    with pytest.raises(TransientFailure, match="it may have been done"):
        client.create("register-file", {"name": "repo"})
    assert len(server.seen) == 1


def test_a_post_that_hangs_is_not_sent_again(make, server):
    client = make(hangs, deadline_s=0.15)
    with pytest.raises(TransientFailure, match="it may have been done"):
        client.create("register-file", {})
    assert len(server.seen) == 1


def test_a_throttled_post_is_sent_again(make, server, waits):
    client = make(says(429, {}, retry_after="1"), says(201, {"id": "1"}))
    assert client.create("sessions", {"number": 1}) == {"id": "1"}
    assert [seen.body for seen in server.seen] == [{"number": 1}] * 2


def test_a_post_that_found_nobody_is_sent_again(make, waits):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = make(says(201, {}), url=closed, tries=3)
    with pytest.raises(TransientFailure, match="refuses the connection"):
        client.create("sessions", {})
    assert len(waits) == 2


def test_a_patch_is_sent_again(make, server):
    client = make(drops, says(200, {"qc": "PASS"}))
    assert client.update("sessions", EID, {"qc": "PASS"}) == {"qc": "PASS"}
    assert [(seen.method, seen.path) for seen in server.seen] == [("PATCH", f"/sessions/{EID}")] * 2


def test_a_host_that_does_not_exist_is_told_apart(make, monkeypatch):
    def lookup(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    client = make(says(200, {}), url="https://alyx.example.org", tries=2)
    with pytest.raises(TransientFailure, match="does not resolve"):
        client.get("sessions")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Scripted, Path]]:
    """A server with a certificate that only its own file vouches for."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    host = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with scripted(context) as script:
        yield script, file


def test_a_certificate_that_nobody_vouches_for_is_a_permanent_failure(tls):
    server, _ = tls
    server.acts[:] = [says(200, {})]
    with pytest.raises(PermanentFailure, match="certificate of .* is not trusted"):
        Alyx(server.url, TOKEN).get("sessions")
    assert server.seen == []


def test_the_deadline_holds_over_tls_with_the_labs_own_authority(tls, monkeypatch):
    server, file = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    server.acts[:] = [says(200, {"ok": 1}), drips_header]
    assert Alyx(server.url, TOKEN).get("sessions") == {"ok": 1}
    with pytest.raises(TransientFailure, match="no whole answer"):
        Alyx(server.url, TOKEN, deadline_s=1).get("sessions")
    assert _all_end()


def test_an_endless_answer_is_not_read_to_the_end(make, monkeypatch):
    from neuro_assets.alyx import http as transport

    monkeypatch.setattr(transport, "MAX_BYTES", 1 << 20)
    client = make(says(200, b" " * (2 << 20)))
    with pytest.raises(PermanentFailure, match="more than 1 MiB: it is not an Alyx"):
        client.get("sessions")
