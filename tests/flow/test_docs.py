"""The settings tables in docs/operations.md are what the programs say. --write brings them up to
date."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(os.environ.get("TOLLGATE_BUILD", os.path.join(ROOT, "build")), "bin")
PAGE = os.path.join(ROOT, "docs", "operations.md")


def table(match):
    out = subprocess.run([os.path.join(BIN, match[1]), "--settings"], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return f"<!-- settings of {match[1]} -->\n{out.strip()}\n<!-- end -->"


with open(PAGE) as f:
    old = f.read()
new, count = re.subn(r"<!-- settings of ([a-z-]+) -->\n.*?<!-- end -->", table, old, flags=re.S)
if "--write" in sys.argv:
    with open(PAGE, "w") as f:
        f.write(new)
    sys.exit(0)
if count != 4:
    sys.exit(f"docs/operations.md has {count} tables of settings, not 4")
if new != old:
    sys.exit("docs/operations.md is out of date: tests/flow/python.sh tests/flow/test_docs.py --write")
print(f"{count} tables agree with the programs")
