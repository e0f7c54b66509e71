"""Whose request begins first when there is no place: the project of the higher priority, in the
worker's queue and in the gateway's; and how long it may wait there. Places are held by clients
that read nothing."""
# runs: address
import json
import re
import socket
import threading

from stack import MODEL, Stack, check, check_equal, done, wait_for

END = "1"  # the token that ends an answer
STORY = [{"role": "user", "content": "Tell me a very long story."}]


def metric(s, part, name):
    found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", s.admin_get(part, "/metrics")[1], re.M)
    return float(found[1])


def running(s):
    return metric(s, "worker0", 'tollgate_worker_sequences_count{state="running"}')


def waiting(s):
    return metric(s, "worker0", 'tollgate_worker_sequences_count{state="waiting"}') + \
        metric(s, "gateway", "tollgate_gateway_queued_requests")


def hold(s, key, tokens):
    """A client that reads nothing: its stream stops, and keeps its place."""
    c = s.connect()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", s.port))
    c.sock = s.tls().wrap_socket(raw, server_hostname="127.0.0.1")
    c.request("POST", "/v1/chat/completions", json.dumps({
        "model": MODEL, "messages": STORY, "stream": True, "temperature": 1.9, "max_tokens": tokens,
        "logprobs": True, "top_logprobs": 20, "logit_bias": {END: -100}}),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    return c


def projects(s):
    keys = {}
    for name, priority in (("low", -10), ("main", 0), ("high", 10)):
        if name != "main":
            s.cli("project", "create", name, "--tenant", "acme")
            s.cli("project", "update", name, "--tenant", "acme", "--priority", str(priority))
        keys[name] = s.cli_json("key", "create", "k", "--tenant", "acme", "--project", name)["key"]
    return keys


def in_order(s, keys, names, tokens, free):
    """Asks one after the other while there is no place, then frees one; who was done when."""
    before = int(s.sql("select count(*) from usage_events")[0][0])
    answers = []
    threads = []

    def ask(key):
        answers.append(s.post("/v1/chat/completions", {
            "model": MODEL, "messages": STORY, "temperature": 1.9, "max_tokens": tokens,
            "logit_bias": {END: -100}}, key)[0])
    for i, name in enumerate(names):
        threads.append(threading.Thread(target=ask, args=(keys[name],)))
        threads[-1].start()
        wait_for("the request to wait", lambda: waiting(s) == i + 1)
    free()
    for t in threads:
        t.join()
    check_equal(answers, [200] * len(names), "all are answered")
    rows = wait_for("the events", lambda: (lambda r: len(r) == len(names) and r)(s.sql(
        "select p.name from usage_events u join projects p on p.id = u.project_id "
        f"where u.outcome = 'finished' and u.id in (select id from usage_events order by id "
        f"offset {before}) order by u.settled_at")))
    return [r[0] for r in rows]


WANT = ["high", "high", "main", "main", "main", "low"]
ASKED = ["low", "main", "high", "main", "main", "high"]

# The gateway sees places, but the cache holds one of these requests at a time.
with Stack(backend="cpu", loops=1, worker={"kv_bytes": "1m"}) as s:
    keys = projects(s)
    holder = hold(s, keys["main"], 400)
    wait_for("the holder to run", lambda: running(s) == 1)
    check_equal(in_order(s, keys, ASKED, 400, holder.close), WANT, "the worker's order")

# Every place is taken: they wait in the gateway.
with Stack(backend="cpu", loops=1) as s:
    keys = projects(s)
    holders = [hold(s, keys["main"], 1500) for _ in range(16)]
    wait_for("the holders to run", lambda: running(s) == 16)
    check_equal(in_order(s, keys, ASKED, 200, holders[0].close), WANT, "the gateway's order")
    for c in holders:
        c.close()

# What waits for too long in the worker's queue is told so, while all that runs stands still.
with Stack(backend="cpu", loops=1, gateway={"queue_wait_ms": "1500ms", "settle_grace_ms": "1s"},
           worker={"kv_bytes": "1m"}) as s:
    keys = projects(s)
    holder = hold(s, keys["main"], 400)
    wait_for("the holder to run", lambda: running(s) == 1)
    status, headers, body = s.chat(keys["high"], max_tokens=400)
    check_equal((status, body["error"]["type"]), (503, "overloaded_error"), "no place in time")
    check_equal(running(s), 1, "what runs goes on")
    holder.close()
    check_equal(s.chat(keys["high"], max_tokens=400)[0], 200, "a place again")
done()
