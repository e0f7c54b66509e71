"""What the tests of the openai clients share: the clients of PyPI and npm against a stack, and the
tools that the demo model was trained on. Ends the test as skipped where they are not installed."""
import os
import subprocess
import sys

from stack import MODEL, ROOT, SKIP, check, check_equal

CLIENTS = os.path.join(ROOT, "build", "clients")
try:
    import openai
except ImportError:
    print("skipped: the openai package is not installed (tests/flow/clients.sh installs it)")
    sys.exit(SKIP)


def city_tool(name, description):
    return {"type": "function", "function": {
        "name": name, "description": description,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                       "required": ["city"]}}}


WEATHER = city_tool("get_weather", "Get the weather for a city.")
TIME = city_tool("get_time", "Get the current time in a city.")
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
COMMON = {"model": MODEL, "temperature": 0}


def client(s, key, **more):
    return openai.OpenAI(base_url=s.url, api_key=key, timeout=60,
                         http_client=openai.DefaultHttpxClient(verify=s.tls()), **more)


def npm(s, script, **env):
    """Runs tests/flow/SCRIPT with the npm client; its lines."""
    out = subprocess.run(
        ["node", os.path.join(ROOT, "tests", "flow", script)],
        env={**os.environ, "NODE_EXTRA_CA_CERTS": s.ca, "CLIENTS": CLIENTS, "URL_BASE": s.url,
             "KEY": s.new_key(), "MODEL": MODEL, **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(out.stdout)
    check_equal(out.returncode, 0, f"the checks of {script}")
    return out.stdout.splitlines()


def holds(s):
    _, text = s.admin_get("gateway", "/metrics")
    check("\ntollgate_gateway_over_hold_total 0\n" in text, "no request used more than was held")
