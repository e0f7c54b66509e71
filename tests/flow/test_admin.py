"""The admin API: authentication, roles, and that what is made there works at the gateway."""
# runs: address
import json

from stack import Stack, check, check_equal, done, wait_for


def call(s, method, path, body=None, key=None):
    status, _, text = s.request(method, f"/v1/admin{path}", body, key, port=s.admin_port)
    return status, json.loads(text) if text else None


with Stack(backend="echo") as s:
    s.start("admin")
    s.wait_ready()
    owner = s.cli_json("admin-key", "create", "ops")["key"]
    auditor = s.cli_json("admin-key", "create", "books", "--role", "auditor")["key"]
    api_key = s.new_key()

    for key in (None, api_key, "sk-tgadm-x", owner[:-1]):
        status, body = call(s, "GET", "/tenants", key=key)
        check_equal(status, 401, f"the admin API with {'no' if key is None else 'a wrong'} key")
        check_equal(body["error"]["type"], "authentication_error", "type")
    check_equal(s.request("GET", "/v1/models", key=owner)[0], 401, "an admin key at the gateway")

    check_equal(call(s, "POST", "/tenants", {"name": "api", "currency": "USD", "billing": "prepaid"},
                     auditor)[0], 403, "an auditor may not write")
    status, made = call(s, "POST", "/tenants",
                        {"name": "api", "currency": "USD", "billing": "prepaid"}, owner)
    check_equal(status, 200, "a tenant is made")
    check_equal(call(s, "POST", "/tenants", {"name": "api", "currency": "USD",
                                             "billing": "prepaid"}, owner)[0], 409, "made twice")
    check_equal(call(s, "POST", "/tenants", {"name": "A b", "currency": "USD",
                                             "billing": "prepaid"}, owner)[0], 400, "a bad name")
    check_equal(call(s, "POST", "/tenants", "[]", owner)[0], 400, "not an object")
    check("api" in [t["name"] for t in call(s, "GET", "/tenants", key=auditor)[1]], "it is listed")
    check_equal(call(s, "POST", "/projects", {"tenant": "api", "name": "web"}, owner)[0], 200,
                "a project")
    status, key = call(s, "POST", "/keys", {"tenant": "api", "project": "web", "name": "ci"}, owner)
    check_equal(status, 200, "a key")
    # 503 until the new tenant's balance has reached Redis.
    answers = []
    wait_for("the balance to be known", lambda: answers.append(s.chat(key["key"])[0]) or
             answers[-1] != 503)
    check_equal(answers[-1], 402, "the key works, and there is no money")
    s.cli("credit", "grant", "--tenant", "api", "--amount", "1")
    wait_for("the credit to arrive", lambda: s.chat(key["key"], max_tokens=1)[0] == 200)
    check_equal(call(s, "PUT", "/limits", {"subject": "key", "id": key["id"],
                                           "requests_per_min": 1000}, owner)[0], 200, "a limit")
    check_equal(call(s, "PUT", "/limits", {"subject": "key", "id": key["id"],
                                           "requests_per_min": -1}, owner)[0], 400, "a bad limit")
    check_equal([r["requests_per_min"] for r in call(s, "GET", "/limits?tenant=api", key=auditor)[1]],
                [1000], "limits are listed")
    wait_for("the event", lambda: call(s, "GET", "/usage?tenant=api&limit=5", key=auditor)[1])
    check_equal(call(s, "GET", "/usage?tenant=nobody", key=auditor)[0], 404, "another's name")
    check(call(s, "GET", "/invoices/preview?tenant=api", key=auditor)[1]["lines"], "a preview")
    check_equal(call(s, "GET", "/nothing", key=owner)[0], 404, "an unknown path")
    check_equal(call(s, "PUT", "/tenants", {}, owner)[0], 405, "a wrong method")
    listed = json.dumps(call(s, "GET", "/keys?tenant=api", key=auditor)[1])
    check(key["key"] not in listed, "keys are shown once")
    check_equal(call(s, "DELETE", f"/keys/{key['id']}", key=owner)[0], 200, "revoked")
    wait_for("the revocation", lambda: s.chat(key["key"], max_tokens=1)[0] == 401)
    check_equal(call(s, "DELETE", f"/keys/{key['id']}", key=owner)[0], 404, "revoked twice")
done()
