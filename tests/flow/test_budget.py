"""1,000 concurrent requests on a balance for exactly one: one answer, 999 refusals, and the
balance is spent to the last unit. Many sockets, each request fully written before any answer
is read."""
import json
import socket
import threading

from stack import MODEL, Stack, check, check_equal, done, wait_for

COUNT = 1000
TOKENS = 10


def fire(s, key):
    """Statuses of COUNT requests in flight at once, over as many TLS connections."""
    body = json.dumps({"model": MODEL, "max_tokens": TOKENS,
                       "messages": [{"role": "user", "content": "x"}]})
    request = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
    tls = s.tls()
    connections = [None] * COUNT

    def connect(start):
        for i in range(start, COUNT, 8):
            raw = socket.create_connection(("127.0.0.1", s.port), 60)
            connections[i] = tls.wrap_socket(raw, server_hostname="localhost")
    in_parallel(connect, 8)

    def send(start):
        for i in range(start, COUNT, 8):
            connections[i].sendall(request)
    in_parallel(send, 8)
    statuses = []
    for c in connections:
        answer = b""
        while chunk := c.recv(65536):
            answer += chunk
        statuses.append(int(answer.split()[1]))
        c.close()
    return statuses


def in_parallel(work, count):
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def tenant(s, name, amount):
    s.cli("tenant", "create", name, "--currency", "USD", "--billing", "prepaid")
    s.cli("project", "create", "main", "--tenant", name)
    s.cli("credit", "grant", "--tenant", name, "--amount", amount)
    return s.cli_json("key", "create", name, "--tenant", name, "--project", "main")["key"]


def balance(s, name):
    return s.cli_json("credit", "balance", "--tenant", name)["balance"]


with Stack(backend="echo") as s:
    # Output alone is priced for this tenant, so that the hold is the cost: 10 x 1.10 / 1e6.
    key = tenant(s, "exact", "0.000011")
    s.cli("price", "set", "--model", MODEL, "--currency", "USD", "--tenant", "exact",
          "--input", "0", "--cached", "0", "--output", "1.10")
    s.stop("gateway")  # so that the new price is there from the first request on
    s.start("gateway")
    s.wait_ready()
    statuses = fire(s, key)
    check_equal(statuses.count(200), 1, "answers")
    check_equal(statuses.count(402), COUNT - 1, "refusals")
    wait_for("the charge to reach the ledger", lambda: float(balance(s, "exact")) == 0)
    check_equal(float(balance(s, "exact")), 0.0, "balance: exactly spent")
    tenant_id = s.cli_json("tenant", "show", "exact")["id"]
    check_equal(s.redis("get", f"tg:b:{tenant_id}"), "0", "balance in Redis")

    # With the prompt priced too, what the hold had too much comes back.
    key = tenant(s, "close", "0.00004")
    statuses = fire(s, key)
    charged = s.sql("select coalesce(sum(cost_pico), 0) from usage_events u join tenants t on "
                    "t.id = u.tenant_id where t.name = 'close'")
    check(statuses.count(200) >= 1, "at least one answer")
    check_equal(statuses.count(200) + statuses.count(402), COUNT, "answers and refusals")
    spent = wait_for("the events", lambda: [r for r in s.sql(
        "select count(*), sum(cost_pico) from usage_events u join tenants t on t.id = u.tenant_id "
        "where t.name = 'close'") if int(r[0]) == statuses.count(200)])
    check(int(spent[0][1]) <= 40_000_000, f"never more than the balance: {spent}")
done()
