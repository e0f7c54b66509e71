"""A client that goes away: the work stops, what was made is charged once, and no place is lost;
streaming and not, one and many, before and after the first token."""
# runs: address thread
import json
import re
import threading

from stack import MODEL, Stack, check, check_equal, done, wait_for

LONG = {"model": MODEL, "temperature": 1.9, "max_tokens": 1800,
        "messages": [{"role": "user", "content": "Tell me a very long story."}]}


def begin(s, key, **more):
    c = s.connect()
    c.request("POST", "/v1/chat/completions", json.dumps({**LONG, **more}), {
        "Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    return c


def metric(s, part, name):
    text = s.admin_get(part, "/metrics")[1]
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M)
    assert values, f"{part} has a metric {name}"
    return sum(float(v) for v in values)


def idle(s):
    return metric(s, "worker0", "tollgate_worker_sequences_count") == 0


def hang_up(s, key, stream, count):
    before = int(s.sql("select count(*) from usage_events")[0][0])
    admitted = metric(s, "gateway", "tollgate_gateway_admissions_total")
    connections = [begin(s, key, stream=stream, seed=i) for i in range(count)]
    if stream:
        for c in connections:  # each leaves at its first bytes: the last ones may be done by then
            c.getresponse().read(300)
            c.close()
    else:
        wait_for("all to be admitted", lambda: admitted + count == metric(
            s, "gateway", "tollgate_gateway_admissions_total"))
    for c in connections:
        c.close()
    wait_for("the worker to be idle again", lambda: idle(s))
    wait_for("the gateway to be done", lambda: metric(
        s, "gateway", "tollgate_gateway_in_flight_requests") == 0)
    # Those that were still waiting for a place were never work, and are no events.
    rows = wait_for("the books to agree", lambda: s.cli("reconcile", ok=False).returncode == 0 and
                    s.sql("select outcome, completion_tokens, cost_pico from usage_events "
                          f"order by id offset {before}"))
    check(0 < len(rows) <= count, f"{len(rows)} events of {count} requests")
    check(all(r[0] in ("cancelled", "finished") for r in rows), f"outcomes: {rows}")
    if count > 1:
        check(any(r[0] == "cancelled" for r in rows), f"some were cut short: {rows}")
    check(all(int(r[2]) > 0 for r in rows if int(r[1]) > 0), "what was made is charged")


def through_it_all(s, key):
    """Others are not disturbed by those who leave."""
    texts = []

    def steady():
        for _ in range(6):
            texts.append(s.chat(key, "Hello!", temperature=0)[2]["choices"][0]["message"]["content"])
    threads = [threading.Thread(target=steady) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(10):
        c = begin(s, key, stream=True, seed=i)
        c.getresponse().read(100)
        c.close()
    for t in threads:
        t.join()
    check_equal(set(texts), {"Hello! I am the Tollgate demo model. How can I help you?"}, "answers")


with Stack(backend="cpu") as s:
    key = s.new_key()
    hang_up(s, key, True, 1)
    hang_up(s, key, False, 1)
    hang_up(s, key, True, 40)
    hang_up(s, key, False, 40)
    through_it_all(s, key)
    wait_for("the worker to be idle", lambda: idle(s))
    wait_for("the holds to be gone", lambda: s.redis("keys", "tg:h:*") == "")
    wait_for("the books to agree", lambda: s.cli("reconcile", ok=False).returncode == 0)
done()
