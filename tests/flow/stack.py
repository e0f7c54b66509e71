"""A whole Tollgate stack for flow tests: real PostgreSQL, Redis, TLS and our own binaries, in a
temporary folder, on free ports, gone afterwards.

    with Stack(backend="echo") as s:
        key = s.new_key()
        status, headers, body = s.post("/v1/chat/completions", {...}, key)

TOLLGATE_BUILD names the build folder (default: build).
"""
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("TOLLGATE_BUILD", os.path.join(ROOT, "build")))
BIN = os.path.join(BUILD, "bin")
MODEL = "tollgate-demo"
SKIP = 77
LIBC = ctypes.CDLL(None)

if "TOLLGATE_FLOW_SERVERS" not in os.environ:
    # Run under private servers, which end with this process.
    os.environ["TOLLGATE_FLOW_SERVERS"] = "1"
    os.execvp("bash", ["bash", os.path.join(ROOT, "tests/lib/servers.sh"), "run",
                       sys.executable, "-u", *sys.argv])

checks = failures = 0


def check(ok, what):
    """Counts a check; prints what failed and goes on."""
    global checks, failures
    checks += 1
    if not ok:
        failures += 1
        print(f"failed: {what}", flush=True)
    return ok


def check_equal(got, want, what):
    return check(got == want, f"{what}: got {got!r}, want {want!r}")


def done():
    print(f"{checks} checks, {failures} failed")
    sys.exit(1 if failures or not checks else 0)


def wait_for(what, condition, seconds=30.0):
    """Polls until the condition holds; its value. Fails the test when it never does."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stack:
    def __init__(self, backend="cpu", gateway=None, worker=None, billing=None, loops=2, workers=1):
        self.backend, self.loops = backend, loops
        self.extra = {"gateway": gateway or {}, "worker": worker or {}, "billing": billing or {}}
        self.worker_count = workers
        self.processes = {}
        self.dir = tempfile.mkdtemp(prefix="tg-")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.admin_port = free_port()

    # -- servers ---------------------------------------------------------------------------

    def new_database(self):
        """A database of its own, and an empty Redis, on the servers of this test run."""
        name = f"flow_{time.monotonic_ns()}"
        server = os.environ["TOLLGATE_TEST_DATABASE_URL"]
        subprocess.run(["psql", server, "-Xqc", f"create database {name}"], check=True)
        self.database_url = server.replace("/tollgate?", f"/{name}?")
        self.redis_url = os.environ["TOLLGATE_TEST_REDIS_URL"]
        self.redis("flushall")

    def certificates(self):
        self.ca = os.path.join(self.dir, "ca.crt")
        script = """set -eu; cd "$1"
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                -subj "/CN=Tollgate test CA" -keyout ca.key -out ca.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > ext
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                -extfile ext -out server.crt"""
        subprocess.run(["bash", "-c", script, "-", self.dir], check=True, capture_output=True)

    def write_config(self):
        d = self.dir
        sockets = [f"unix:{d}/worker{i}.sock" for i in range(self.worker_count)]
        base = {
            "common": {"database_url": self.database_url, "redis_url": self.redis_url,
                       "state_dir": d},
            "gateway": {"listen": f"127.0.0.1:{self.port}", "loops": self.loops,
                        "admin_listen": f"unix:{d}/gateway-admin.sock",
                        "certificate_file": f"{d}/server.crt", "key_file": f"{d}/server.key",
                        "workers": ", ".join(sockets)},
            "billing": {"admin_listen": f"unix:{d}/billing-admin.sock",
                        "ship_interval_ms": "50ms"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}",
                      "admin_listen": f"unix:{d}/admin-admin.sock",
                      "certificate_file": f"{d}/server.crt", "key_file": f"{d}/server.key"},
        }
        base["gateway"].update(self.extra["gateway"])
        base["billing"].update(self.extra["billing"])
        self.configs = {}
        for i in range(self.worker_count):
            worker = {"backend": self.backend, "model_name": MODEL,
                      "listen": sockets[i], "admin_listen": f"unix:{d}/worker{i}-admin.sock"}
            if self.backend == "cpu":
                worker["model_dir"] = os.path.join(ROOT, "models", "demo")
            worker.update(self.extra["worker"])
            config = {**base, "worker": worker}
            if i > 0:
                config["common"] = {**base["common"], "state_dir": f"{d}/second{i}"}
                os.makedirs(f"{d}/second{i}", exist_ok=True)
            path = f"{d}/tollgate{i or ''}.conf"
            with open(path, "w") as f:
                for section, settings in config.items():
                    f.write(f"[{section}]\n")
                    f.writelines(f"{k} = {v}\n" for k, v in settings.items())
            self.configs[i] = path
        self.config = self.configs[0]

    def __enter__(self):
        try:
            self.new_database()
            self.certificates()
            self.write_config()
            self.cli("migrate")
            self.cli("tenant", "create", "acme", "--currency", "USD", "--billing", "prepaid")
            self.cli("project", "create", "main", "--tenant", "acme")
            self.cli("price", "set", "--model", MODEL, "--currency", "USD",
                     "--input", "0.27", "--cached", "0.07", "--output", "1.10")
            self.cli("credit", "grant", "--tenant", "acme", "--amount", "100", "--no-wait")
            self.start_all()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *rest):
        for name in list(self.processes):
            self.stop(name)
        self.check_sanitizers()
        if kind and kind is not SystemExit:
            self.print_logs()
        shutil.rmtree(self.dir, ignore_errors=True)

    def check_sanitizers(self):
        """What a sanitizer said of a daemon fails the test, though the daemon went on."""
        for name in sorted(os.listdir(self.dir)):
            if not name.endswith(".log"):
                continue
            with open(os.path.join(self.dir, name), errors="replace") as f:
                text = f.read()
            found = re.search(r"^.*(?:Sanitizer: |runtime error: ).*$", text, re.M)
            if found:
                check(False, f"{name}: {found[0]}")
                print(text[found.start():][:6000], flush=True)

    def print_logs(self):
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    lines = f.readlines()[-30:]
                print(f"--- {name}\n{''.join(lines)}", end="")
        sys.stdout.flush()

    # -- processes -------------------------------------------------------------------------

    def program(self, name):
        index = int(name[6:] or 0) if name.startswith("worker") else 0
        part = "worker" if name.startswith("worker") else name
        return [os.path.join(BIN, f"tollgate-{part}"), "--config", self.configs[index]]

    def start(self, name):
        log = open(os.path.join(self.dir, f"{name}.log"), "a")
        self.processes[name] = subprocess.Popen(self.program(name), stdout=log, stderr=log,
                                                stdin=subprocess.DEVNULL,
                                                preexec_fn=die_with_parent)
        log.close()

    def start_all(self):
        for i in range(self.worker_count):
            self.start(f"worker{i or ''}")
        self.start("billing")
        self.start("gateway")
        self.wait_ready()

    def wait_ready(self):
        for name in self.processes:
            index = f"{int(name[6:] or 0)}" if name.startswith("worker") else ""
            part = f"worker{index}" if name.startswith("worker") else name
            wait_for(f"{name} to be ready", lambda: self.ready(name, part), 60)

    def ready(self, name, part):
        if self.processes[name].poll() is not None:
            raise AssertionError(f"{name} ended with {self.processes[name].returncode}")
        try:
            return self.admin_get(part, "/readyz")[0] == 200
        except OSError:
            return False

    def admin_get(self, part, path):
        """GET on a daemon's admin socket: status and body."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(f"{self.dir}/{part}-admin.sock")
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(65536):
                data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def stop(self, name, how=signal.SIGTERM, seconds=30):
        p = self.processes.pop(name)
        if p.poll() is None:
            p.send_signal(how)
            try:
                p.wait(seconds)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                raise AssertionError(f"{name} did not end within {seconds} s")
        return p.returncode

    def kill(self, name):
        self.stop(name, signal.SIGKILL)

    # -- our own command line, SQL, Redis -----------------------------------------------------

    def cli(self, *args, ok=True):
        out = subprocess.run([os.path.join(BIN, "tollgate"), "--config", self.config, *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if ok and out.returncode:
            raise AssertionError(f"tollgate {' '.join(args)}: {out.returncode}: {out.stderr}")
        return out.stdout if ok else out

    def cli_json(self, *args):
        return json.loads(self.cli(*args, "--json"))

    def new_key(self, name=None, *args):
        name = name or f"k{time.monotonic_ns()}"
        return self.cli_json("key", "create", name, "--tenant", "acme", "--project", "main",
                             *args)["key"]

    def sql(self, query):
        """Rows as lists of text."""
        out = subprocess.run(["psql", self.database_url, "-XAt", "-F", "\x1f", "-v",
                              "ON_ERROR_STOP=1", "-c", query],
                             check=True, stdout=subprocess.PIPE, text=True)
        return [line.split("\x1f") for line in out.stdout.splitlines()]

    def redis(self, *args):
        return subprocess.run(["redis-cli", "-s", self.redis_url[5:], *args], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.strip()

    # -- requests --------------------------------------------------------------------------

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}/v1"

    def tls(self):
        return ssl.create_default_context(cafile=self.ca)

    def connect(self, timeout=60, port=None):
        return http.client.HTTPSConnection("127.0.0.1", port or self.port, context=self.tls(),
                                           timeout=timeout)

    def request(self, method, path, body=None, key=None, headers=None, port=None):
        """(status, headers in lower case, body)."""
        c = self.connect(port=port)
        h = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            h["Authorization"] = f"Bearer {key}"
        h.update(headers or {})
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        try:
            c.request(method, path, data, h)
            r = c.getresponse()
            text = r.read()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, text
        finally:
            c.close()

    def post(self, path, body, key, headers=None):
        status, h, text = self.request("POST", path, body, key, headers)
        try:
            return status, h, json.loads(text)
        except ValueError:
            return status, h, text

    def chat(self, key, text="Hello!", **more):
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
        return self.post("/v1/chat/completions", body, key)

    def usage_event(self, request_id):
        """The row of usage_events, once billing has shipped it."""
        def find():
            rows = self.sql("select to_jsonb(u) from usage_events u where id = '%s'" % request_id)
            return json.loads(rows[0][0]) if rows else None
        return wait_for(f"the usage event of {request_id}", find)
