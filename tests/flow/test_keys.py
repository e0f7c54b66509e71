"""Keys: one answer for every key that is no good, scopes, expiry, revocation."""
# runs: address
import json
import time

from stack import MODEL, Stack, check, check_equal, done, wait_for


def one_401(s):
    good = s.new_key()
    revoked = s.new_key("revoked")
    s.cli("key", "revoke", "revoked", "--tenant", "acme", "--project", "main")
    expired = s.new_key("expired", "--expires", "2020-01-01")
    bodies = set()
    broken = good[:-1] + ("a" if good[-1] != "a" else "b")
    for name, key in (("none", None), ("revoked", revoked), ("expired", expired),
                      ("malformed", "sk-tg-x"), ("another's", "sk-" + "a" * 48),
                      ("wrong checksum", broken)):
        status, _, body = s.request("GET", "/v1/models", key=key)
        check_equal(status, 401, f"status of a key that is {name}")
        bodies.add(body)
    check_equal(len(bodies), 1, "one body for all")
    error = json.loads(bodies.pop())["error"]
    check_equal((error["type"], error["code"]), ("authentication_error", "invalid_api_key"), "error")
    for log in ("gateway.log", "billing.log"):
        with open(f"{s.dir}/{log}") as f:
            text = f.read()
        check(good not in text and good[6:30] not in text, f"no key in {log}")
    return good


def scopes(s):
    other = s.new_key("scoped", "--models", "another-model")
    status, _, body = s.chat(other)
    check_equal(status, 403, "a model outside the key's scope")
    check_equal(body["error"]["code"], "model_not_allowed", "code")


def revocation(s):
    key = s.new_key("soon-gone")
    check_equal(s.chat(key, max_tokens=1)[0], 200, "before")
    start = time.monotonic()
    s.cli("key", "revoke", "soon-gone", "--tenant", "acme", "--project", "main")
    wait_for("the revocation to take effect", lambda: s.chat(key, max_tokens=1)[0] == 401, 10)
    print(f"revoked {1000 * (time.monotonic() - start):.0f} ms after the command began")
    # Also when the one who revokes dies before telling anyone: straight SQL.
    key = s.new_key("by-sql")
    check_equal(s.chat(key, max_tokens=1)[0], 200, "before")
    start = time.monotonic()
    s.sql("update api_keys set revoked_at = now() where name = 'by-sql'")
    wait_for("a revocation by SQL alone", lambda: s.chat(key, max_tokens=1)[0] == 401, 10)
    print(f"revoked {1000 * (time.monotonic() - start):.0f} ms after the SQL")


def limits(s):
    key = s.new_key("three")
    s.cli("limit", "set", "--key", "three", "--tenant", "acme", "--project", "main",
          "--requests-per-min", "3")
    statuses = []

    def limited():
        status, headers, body = s.chat(key, max_tokens=1)
        statuses.append(status)
        if status != 429:
            return None
        return headers, body
    headers, body = wait_for("a 429", limited)
    check(3 <= statuses.count(200) <= 4, f"three requests a minute: {statuses}")
    check_equal(body["error"]["code"], "rate_limit_exceeded", "code")
    check(int(headers["retry-after"]) >= 1 and int(headers["retry-after-ms"]) >= 1, "retry-after")
    check_equal(headers["x-ratelimit-limit-requests"], "3", "limit header")
    check_equal(headers["x-ratelimit-remaining-requests"], "0", "remaining header")


def unpaid(s):
    s.cli("tenant", "create", "poor", "--currency", "USD", "--billing", "prepaid")
    s.cli("project", "create", "main", "--tenant", "poor")
    s.cli("credit", "grant", "--tenant", "poor", "--amount", "0.000001")
    key = s.cli_json("key", "create", "poor", "--tenant", "poor", "--project", "main")["key"]
    status, _, body = s.chat(key)
    check_equal(status, 402, "an exhausted balance")
    check_equal(body["error"]["code"], "insufficient_balance", "code")


with Stack(backend="echo") as s:
    one_401(s)
    scopes(s)
    revocation(s)
    limits(s)
    unpaid(s)
done()
