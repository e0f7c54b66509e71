"""What the gateway answers to broken and hostile bytes over TLS; nothing behind them is served, and
the next client is served as ever."""
# runs: address
import json
import re
import socket
import ssl

from stack import MODEL, Stack, check, check_equal, done


def talk(s, data, half_close=False):
    """Sends bytes over a fresh TLS connection, reads to the end."""
    raw = socket.create_connection(("127.0.0.1", s.port), 30)
    c = s.tls().wrap_socket(raw, server_hostname="localhost")
    answer = b""
    try:
        c.sendall(data)
        while chunk := c.recv(65536):
            answer += chunk
    except (ConnectionError, ssl.SSLError):
        pass
    c.close()
    return answer


def status(answer):
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = [
    # (what, bytes, status)
    ("two Content-Lengths", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    ("Content-Length: +0", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n", 400),
    ("Content-Length: 0x0", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n", 400),
    ("CL and TE", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("space before colon", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("gzip, chunked", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("TE in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("obs-fold", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    ("NUL", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    ("bare LF", b"GET / HTTP/1.1\nHost: x\n\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
    ("empty field name", b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    ("HTTP/3.7", b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
    ("chunk-size overflow", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", 400),
    ("bad chunk end", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n", 400),
    ("forbidden trailer", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", 400),
    ("40 KB of header", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000 + b"\r\n\r\n", 431),
    ("10,000 fields", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10000 + b"\r\n", 431),
    ("a body over the limit", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
    ("Expect: foo", b"POST / HTTP/1.1\r\nHost: x\r\nExpect: foo\r\nContent-Length: 1\r\n\r\na", 417),
]


def framing(s):
    for what, data, want in BAD:
        answer = talk(s, data + SMUGGLED)
        check_equal(status(answer), want, what)
        check_equal(len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)), 1, f"one answer, nothing behind it: {what}")
        check(b'"error"' in answer, f"an error body: {what}")


def tls(s):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        try:
            context.wrap_socket(socket.create_connection(("127.0.0.1", s.port), 30))
            check(False, f"{version.name} must be refused")
        except ssl.SSLError as e:
            check("PROTOCOL_VERSION" in str(e).upper(), f"the alert for {version.name}: {e}")
    with socket.create_connection(("127.0.0.1", s.port), 30) as c:
        c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        try:
            while c.recv(65536):
                pass
        except ConnectionError:
            pass
    stalled = [socket.create_connection(("127.0.0.1", s.port), 30) for _ in range(50)]
    check_equal(s.request("GET", "/v1/models")[0], 401, "served beside 50 stalled handshakes")
    for c in stalled:
        c.close()


def pipelining(s, key):
    body = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
    auth = f"Host: x\r\nAuthorization: Bearer {key}\r\n"
    chat = (f"POST /v1/chat/completions HTTP/1.1\r\n{auth}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}")
    models = f"GET /v1/models HTTP/1.1\r\n{auth}\r\n"
    last = f"GET /v1/models HTTP/1.1\r\n{auth}Connection: close\r\n\r\n"
    answer = talk(s, (chat + models + chat + last).encode()).decode()
    order = [part.split("\r\n\r\n", 1)[1][:40] for part in answer.split("HTTP/1.1 200")[1:]]
    check_equal(["chatcmpl" in o for o in order], [True, False, True, False], "answers in order")


def json_bodies(s, key):
    deep = "[" * 100 + "]" * 100
    cases = [("not JSON", "{"), ("trailing bytes", "{} {}"), ("a NUL escape", '{"model":"\\u0000"}'),
             ("a lone surrogate", '{"model":"\\ud800"}'), ("1e400", '{"model":1e400}'),
             ("too deep", deep), ("an array", "[]"), ("2^53+1", '{"seed":9007199254740993}'),
             ("same key twice", '{"model":"a","model":"b"}')]
    for what, body in cases:
        got, _, answer = s.post("/v1/chat/completions", body, key)
        check_equal(got, 400, what)
        check(isinstance(answer, dict) and answer["error"]["message"], f"error body: {what}")
    got, _, _ = s.post("/v1/chat/completions", b'{"model":"\xff"}', key)
    check_equal(got, 400, "invalid UTF-8")
    got, _, _ = s.post("/v1/chat/completions", "[" + "0," * (2 << 20) + "0]", key)
    check_equal(got, 400, "4 MB of 0,")
    check_equal(s.sql("select count(*) from usage_events where cost_pico > 0")[0][0], "0",
                "nothing charged")


with Stack(backend="echo", loops=1) as s:
    key = s.new_key()
    framing(s)
    tls(s)
    json_bodies(s, key)
    pipelining(s, key)
    check_equal(s.chat(key)[0], 200, "the gateway still serves")
done()
