"""Links between gateway and worker over TCP with certificates on both sides: they carry answers, and
nobody without the right certificate gets one, on either end."""
# runs: address
import os
import re
import shutil
import signal
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

class Renewed(Linked):
    """Both sides have files of their own for their links."""

    def write_config(self):
        super().write_config()
        for side, part in (("g", "gateway"), ("w", "worker")):
            self.renew(side, "server", "ca")
        d, config = self.dir, open(self.config).read()
        for old, new in (("worker_certificate_file = .*", f"worker_certificate_file = {d}/g.crt"),
                         ("worker_key_file = .*", f"worker_key_file = {d}/g.key"),
                         ("worker_ca_file = .*", f"worker_ca_file = {d}/g.ca"),
                         ("client_ca_file = .*", f"client_ca_file = {d}/w.ca")):
            config = re.sub(f"^{old}$", new, config, flags=re.M)
        head, worker = config.split("[worker]")
        worker = worker.replace(f"{d}/server.", f"{d}/w.")
        with open(self.config, "w") as f:
            f.write(head + "[worker]" + worker)

    def renew(self, side, pair, ca):
        for name, source in (("crt", pair + ".crt"), ("key", pair + ".key"), ("ca", ca + ".crt")):
            shutil.copy(os.path.join(self.dir, source), os.path.join(self.dir, f"{side}.{name}"))

    def hup(self, name, says):
        seen = self.log(name).count(says)
        self.processes[name].send_signal(signal.SIGHUP)
        wait_for(f"{name} to say: {says}", lambda: self.log(name).count(says) > seen)

    def restart(self, name):
        self.stop(name)
        self.start(name)
        wait_for(f"{name} to be ready again",
                 lambda: self.ready(name, "worker0" if name == "worker" else name))
        wait_for("the link to carry answers", lambda: self.chat(self.key, max_tokens=1)[0] == 200)


# Certificates are renewed, by a CA that is another, without a restart of the one that reads anew:
# the other side comes back with the new ones, and only whoever has read them lets it in.
with Renewed() as s:
    s.key = s.new_key()
    check_equal(s.chat(s.key, max_tokens=1)[0], 200, "with the first certificates")
    s.renew("w", "other", "other")
    s.hup("worker", "the certificate of links was read again")
    check_equal(s.chat(s.key, max_tokens=1)[0], 200, "the link that stands goes on")
    s.renew("g", "other", "other")
    s.restart("gateway")
    s.renew("g", "server", "ca")
    s.hup("gateway", "the certificate of links was read again")
    s.renew("w", "server", "ca")
    s.restart("worker")
    with open(f"{s.dir}/w.crt", "w") as f:
        f.write("no certificate")
    s.hup("worker", "the old certificate of links stays")
    s.restart("gateway")

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
