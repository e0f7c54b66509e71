"""kill -9 of any one process during load, twenty times at random. Afterwards the worker's counts,
the journal, usage_events and the ledger agree to the token.

TOLLGATE_CRASH_ROUNDS and TOLLGATE_CRASH_SEED change how often and which.
"""
import json
import os
import random
import subprocess
import threading
import time

import stack
from stack import BIN, MODEL, Stack, check, check_equal, done, wait_for

ROUNDS = int(os.environ.get("TOLLGATE_CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("TOLLGATE_CRASH_SEED", str(random.SystemRandom().randrange(1 << 32))))
CLIENTS = 6


class Load:
    """Clients that send streaming and plain requests until told to stop; some hang up midway.
    Counts the answers that came whole, with the usage each one reported."""

    def __init__(self, s, key):
        self.s, self.key = s, key
        self.stopping = False
        self.whole = {}  # request id -> completion tokens that the client was told
        self.attempts = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, args=(i,)) for i in range(CLIENTS)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()

    def client(self, number):
        rng = random.Random(SEED + number)
        while not self.stopping:
            try:
                self.one(rng)
            except (OSError, ValueError, KeyError, AssertionError):
                time.sleep(0.05)  # what was killed is coming back
            except Exception as e:  # http.client raises many kinds on a cut connection
                if type(e).__module__ != "http.client":
                    raise
                time.sleep(0.05)

    def one(self, rng):
        stream, hang_up = rng.random() < 0.6, rng.random() < 0.2
        body = {"model": MODEL, "temperature": 1.0, "max_tokens": rng.randrange(1, 120),
                "stream": stream, "n": rng.choice([1, 1, 1, 3]), "messages": [{"role": "user", "content": "What is %d + %d?" % (
                    rng.randrange(10000), rng.randrange(10000))}],
                "thinking": {"type": rng.choice(["enabled", "disabled"])}}
        if stream:
            body["stream_options"] = {"include_usage": True}
        c = self.s.connect(timeout=20)
        try:
            with self.lock:
                self.attempts += 1
            c.request("POST", "/v1/chat/completions", json.dumps(body), {
                "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
            r = c.getresponse()
            if r.status != 200:
                r.read()
                time.sleep(0.05)
                return
            if hang_up and stream:
                r.read(rng.randrange(1, 3000))
                return
            text = r.read().decode()
            if stream:
                if not text.rstrip().endswith("data: [DONE]"):
                    return
                usage = json.loads(text.rstrip().split("\n\n")[-2][6:])["usage"]
            else:
                usage = json.loads(text)["usage"]
            with self.lock:
                self.whole[r.getheader("x-request-id")] = usage["completion_tokens"]
        finally:
            c.close()


def worker_counts(s):
    """{request id: (prompt, completion, reasoning)} as the worker's own table has it. A request that
    was tried twice counts by its last attempt."""
    table = os.path.join(s.dir, "worker", "usage.table")
    out = subprocess.run([os.path.join(BIN, "tollgate-worker"), "--usage-table", table], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    best = {}
    for r in rows:
        if r["request_id"] not in best or best[r["request_id"]]["attempt"] < r["attempt"]:
            best[r["request_id"]] = r
    return best


def open_requests(s):
    """How many requests the gateway, or an earlier process of it, has not put on record yet."""
    status, text = s.admin_get("gateway", "/metrics")
    assert status == 200, text
    names = ("in_flight", "unsettled", "recovering")
    return sum(int(line.split()[1]) for line in text.splitlines()
               for name in names if line.startswith(f"tollgate_gateway_{name}_requests "))


def reconcile(s):
    """`tollgate reconcile` over all four: worker, journal, usage events, ledger."""
    table = os.path.join(s.dir, "worker", "usage.table")
    lines = os.path.join(s.dir, "worker-usage.jsonl")
    with open(lines, "w") as f:
        subprocess.run([os.path.join(BIN, "tollgate-worker"), "--usage-table", table], check=True,
                       stdout=f)
    return s.cli("reconcile", "--journal", os.path.join(s.dir, "gateway", "journal"),
                 "--worker-usage", lines, ok=False)


def agree(s, load):
    events = {r[0]: r for r in s.sql(
        "select id, prompt_tokens, completion_tokens, reasoning_tokens, outcome, cost_pico "
        "from usage_events")}
    table = worker_counts(s)
    check(len(events) > ROUNDS, f"there was load: {len(events)} events")
    missing = [i for i in table if i not in events]
    check_equal(missing, [], "requests the worker ran without a usage event")
    for request_id, row in table.items():
        if request_id not in events:
            continue
        counts = row["counts"]
        got = [int(x) for x in events[request_id][1:4]]
        check_equal(got, [counts["prompt"], counts["completion"], counts["reasoning"]],
                    f"tokens of {request_id} ({events[request_id][4]}, worker: {row['outcome']})")
    for request_id, event in events.items():
        if request_id not in table:
            check_equal(event[1:4], ["0", "0", "0"], f"{request_id} never reached the worker")
    for request_id, completion in load.whole.items():
        check(request_id in events, f"a whole answer without an event: {request_id}")
        if request_id in events:
            check_equal(events[request_id][4], "finished", f"outcome of {request_id}")
            check_equal(int(events[request_id][2]), completion, f"what the client was told of {request_id}")
    print(f"{load.attempts} requests sent, {len(load.whole)} whole answers, {len(events)} events, "
          f"{sum(int(e[2]) for e in events.values())} completion tokens")


def money(s):
    charged = s.sql("select coalesce(sum(cost_pico), 0) from usage_events")[0][0]
    again = s.sql("select coalesce(sum(case when outcome = 'failed' then 0 else (prompt_tokens - "
                  "cached_tokens) * 270000 + cached_tokens * 70000 + completion_tokens * 1100000 "
                  "end), 0) from usage_events")[0][0]
    check_equal(charged, again, "every event is rated by the price, once")
    ledger = s.cli_json("credit", "balance", "--tenant", "acme")
    spent = 100 * 10**12 - int(ledger["balance_pico"])
    check_equal(spent, int(charged), "what left the ledger is what the events cost")
    tenant = s.cli_json("tenant", "show", "acme")["id"]
    nano = int(s.redis("get", f"tg:b:{tenant}"))
    # A gateway that died between its hold and its ADMIT leaves a hold that billing sweeps later:
    # until then Redis shows less than the ledger, never more.
    want = int(ledger["balance_pico"]) // 1000
    held = s.redis("keys", "tg:h:*") != ""
    check(nano == want or (held and nano < want), f"the balance in Redis: {nano}, ledger {want}")
    out = reconcile(s)
    check_equal(out.returncode, 0, f"tollgate reconcile: {out.stdout} {out.stderr}")


rng = random.Random(SEED)
print(f"seed {SEED}, {ROUNDS} kills")
with Stack(backend="cpu", gateway={"settle_grace_ms": "5s", "recover_wait_ms": "10s"}) as s:
    key = s.new_key()
    load = Load(s, key)
    killed = []
    for _ in range(ROUNDS):
        time.sleep(rng.uniform(0.2, 1.2))
        victim = rng.choice(["gateway", "worker", "billing"])
        killed.append(victim)
        s.kill(victim)
        time.sleep(rng.uniform(0, 0.3))
        s.start(victim)
    print("killed: " + ", ".join(killed))
    load.stop()
    s.wait_ready()

    # What was open when the gateway was killed is settled a moment after it is back: when its
    # worker has offered the counts, or recover_wait_ms have passed. Until then nothing differs in
    # what is on record, so agreement alone would be seen too early.
    def settled():
        ready = s.admin_get("billing", "/readyz")[0] == 200
        acked = all(row["state"] == "acked" for row in worker_counts(s).values())
        return ready and acked and open_requests(s) == 0 and reconcile(s).returncode == 0
    try:
        wait_for("every request to be settled", settled, 60)
    except AssertionError as e:
        check(False, str(e))
        print(reconcile(s).stdout)
    agree(s, load)
    money(s)
    if stack.failures:
        s.print_logs()
done()
