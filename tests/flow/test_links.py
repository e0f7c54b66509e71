"""Links between gateway and worker over TCP with certificates on both sides: they carry answers, and
nobody without the right certificate gets one, on either end."""
# runs: address
import os
import subprocess

from stack import Stack, check, check_equal, done, free_port, wait_for


def other_certificate(folder):
    """A certificate that signs itself: no CA of ours knows it."""
    path = os.path.join(folder, "other")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path + ".key",
                    "-out", path + ".crt"], check=True, capture_output=True)
    return path


class Linked(Stack):
    """The worker on TCP; `ours` is the gateway's certificate on its links."""

    def __init__(self, host="127.0.0.1", ours="server", tls=True):
        self.host, self.ours, self.tls_links = host, ours, tls
        self.tcp_port = free_port()
        super().__init__(backend="echo", loops=1)

    def write_config(self):
        d = self.dir
        other_certificate(d)
        self.extra["worker"] = {"listen": f"{self.host}:{self.tcp_port}",
                                "certificate_file": f"{d}/server.crt", "key_file": f"{d}/server.key",
                                "client_ca_file": f"{d}/ca.crt"}
        self.extra["gateway"] = {"workers": f"{self.host}:{self.tcp_port}"}
        if self.tls_links:
            self.extra["gateway"].update({"worker_certificate_file": f"{d}/{self.ours}.crt",
                                          "worker_key_file": f"{d}/{self.ours}.key",
                                          "worker_ca_file": f"{d}/ca.crt"})
        super().write_config()

    def log(self, name):
        with open(os.path.join(self.dir, f"{name}.log")) as f:
            return f.read()


class Unlinked(Linked):
    """One whose link does not come about: the gateway is never ready."""

    def wait_ready(self):
        for name in ("worker", "billing"):
            part = "worker0" if name == "worker" else name
            wait_for(f"{name} to be ready", lambda: self.ready(name, part), 60)


with Linked() as s:
    key = s.new_key()
    _, headers, body = s.chat(key, max_tokens=2000)
    check_equal(body["usage"]["completion_tokens"], 2000, "a long answer over the link")
    check_equal(s.usage_event(headers["x-request-id"])["completion_tokens"], 2000, "and its usage")
    s.kill("worker")
    s.start("worker")
    wait_for("the link to come back", lambda: s.chat(key, max_tokens=1)[0] == 200)
    status, _, body = s.request("POST", "/v1/chat/completions", {
        "model": "tollgate-demo", "stream": True, "max_tokens": 5000,
        "messages": [{"role": "user", "content": "x" * 300000}]}, key)
    check(status == 200 and body.rstrip().endswith(b"[DONE]"), "a large prompt, a long stream")

REFUSED = [("a gateway whose certificate no CA of the worker's has signed", {"ours": "other"}),
           ("a gateway without TLS", {"tls": False}),
           ("a worker whose certificate is for another host", {"host": "127.0.0.2"})]
for what, fields in REFUSED:
    with Unlinked(**fields) as s:
        wait_for("a failed attempt", lambda: f"worker {s.host}" in s.log("gateway"))
        check_equal(s.chat(s.new_key())[0], 503, what)
        said = [line for line in s.log("gateway").splitlines() if f"worker {s.host}" in line]
        print(f"{what}: {said[-1]}")
        check("up" not in said[-1].split(), f"{what}: no link")
done()
