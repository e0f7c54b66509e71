"""--check, --bench and --perplexity: of the demo model and of every family's fixture, against the
golden logits; and what they say of bad files, in one line."""
# runs: address
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TOLLGATE_BUILD", os.path.join(ROOT, "build"))
WORKER = os.path.join(BUILD, "bin", "tollgate-worker")
DEMO = os.path.join(ROOT, "models", "demo")
SHARED = os.environ.get("TOLLGATE_SHARED", os.path.join(ROOT, "..", "shared"))
HELD_OUT = os.path.join(ROOT, "tests", "golden", "demo", "heldout.json")
COSTS = [(("--kv", "bf16"), 0.002), (("--kv", "int8"), 0.002), (("--activations", "bf16"), 0.002),
         (("--quantize", "int8"), 0.005), (("--quantize", "int4"), 0.02),
         (("--quantize", "int8", "--kv", "int8", "--threads", "1"), 0.005)]
CHECKED = ("deepseek-v3-sharded", "llama3", "mixtral", "qwen2-tied")
FIXTURES = os.path.join(SHARED, "fixtures", "models")


def run(*args):
    p = subprocess.run((WORKER,) + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return p.returncode, p.stdout, p.stderr


def good(*args):
    code, out, said = run(*args)
    assert code == 0, (args, said)
    return out


def refused(what, *args):
    code, _, said = run(*args)
    assert code == 1 and said.count("\n") == 1 and re.search(what, said), (args, code, said)


def fields(report):
    """The lines "name  value" of a report."""
    pairs = (re.match(r"([a-zA-Z ]+?)  +(.*)", line) for line in report.splitlines())
    return {m[1]: m[2] for m in pairs if m}


def surprise(logits, token):
    most = max(logits)
    return math.log(sum(math.exp(v - most) for v in logits)) + most - logits[token]


def golden_mean(path, prompts, vocab):
    with open(path, "rb") as f:
        data = f.read()
    total, count, at = 0.0, 0, 0
    for p in prompts:
        for i in range(len(p)):
            if i + 1 < len(p):
                row = struct.unpack_from(f"<{vocab}f", data, at)
                total += surprise(row, p[i + 1])
                count += 1
            at += 4 * vocab
    assert at == len(data)
    return count, total / count


def check_perplexity(folder, model, prompts, vocab, logits):
    path = os.path.join(folder, "prompts.json")
    with open(path, "w") as f:
        json.dump(prompts, f)
    got = fields(good("--model", model, "--perplexity", path))
    count, mean = golden_mean(logits, prompts, vocab)
    assert got["tokens"].startswith(f"{count} "), got
    measured = float(got["mean surprise"].split()[0])
    assert abs(measured - mean) < 2e-3, (model, measured, mean)
    assert abs(float(got["perplexity"]) / math.exp(measured) - 1) < 1e-4, got


def bytes_of(text):
    number, unit = re.match(r"([0-9.]+) (bytes|MB|GB)", text).groups()
    return float(number) * {"bytes": 1, "MB": 1e6, "GB": 1e9}[unit]


def check_demo(folder):
    with open(os.path.join(ROOT, "tests/golden/demo/prompts.json")) as f:
        prompts = json.load(f)
    check_perplexity(folder, DEMO, prompts, 1024, os.path.join(ROOT, "tests/golden/demo/logits.f32"))
    got = fields(good("--model", DEMO, "--check"))
    assert got["architecture"].startswith("DeepseekV3ForCausalLM, 6 layers of 256, 4 heads"), got
    assert got["experts"] == "16, 4 chosen for a token, 1 shared", got
    assert got["tokenizer"] == "1024 tokens" and got["context"] == "2048 tokens", got
    assert "finite" in got["weights"] and "F8_E4M3" in got["weights"], got
    report = good("--model", DEMO, "--bench", "--threads", "2")
    rows = re.findall(r"^(?:prefill|decode).{16,}?([0-9.]+) +([0-9.]+) +(?:reading|arithmetic) +\d+ %"
                      r" +([0-9.]+)$", report, re.M)
    assert len(rows) == 3 and all(float(v) > 0 for row in rows for v in row), report
    one = good("--model", DEMO, "--bench", "--only", "decode")
    assert len(re.findall("^(?:prefill|decode)", one, re.M)) == 1, one
    if "address" not in BUILD:
        own = bytes_of(fields(report)["memory"])
        assert own < 100e6, report  # 10 MB of widened weights, some MB of cache: no copy of anything large


def check_texts(folder):
    path = os.path.join(folder, "text.txt")
    text = "<｜begin▁of▁sentence｜><｜User｜>What is 2 + 3?<｜Assistant｜></think>5<｜end▁of▁sentence｜>"
    with open(path, "w") as f:
        f.write(text)
    whole = good("--model", DEMO, "--perplexity", path)
    strings = os.path.join(folder, "text.json")
    with open(strings, "w") as f:
        json.dump([text], f)
    without_time = [line for line in whole.splitlines() if not line.startswith("time")]
    again = good("--model", DEMO, "--perplexity", strings, "--threads", "1").splitlines()
    assert [line for line in again if not line.startswith("time")] == without_time
    with open(strings, "w") as f:
        json.dump([text, text], f)
    twice = fields(good("--model", DEMO, "--perplexity", strings))
    assert twice["mean surprise"] == fields(whole)["mean surprise"]


def perplexity(*args):
    return float(fields(good("--model", DEMO, "--perplexity", HELD_OUT, *args))["perplexity"])


def check_costs():
    """What cheaper types cost on held-out text, as a share of the exact types' perplexity."""
    exact = perplexity()
    for args, most in COSTS:
        cost = perplexity(*args) / exact - 1
        print(" ".join(args), f"{100 * cost:+.3f} %")
        assert abs(cost) < most, (args, cost)


def check_fixtures(folder):
    names = sorted(os.listdir(FIXTURES)) if os.path.isdir(FIXTURES) else []
    for name in names:
        model = os.path.join(FIXTURES, name)
        with open(os.path.join(model, "golden.json")) as f:
            golden = json.load(f)
        check_perplexity(folder, model, golden["prompts"], golden["vocab_size"],
                         os.path.join(model, "logits.f32"))
        if name not in CHECKED:
            continue
        with open(os.path.join(model, "config.json")) as f:
            config = json.load(f)
        got = fields(good("--model", model, "--check"))
        layers = config["num_hidden_layers"]
        assert got["architecture"].startswith(f"{config['architectures'][0]}, {layers} layers"), got
        assert got["tokenizer"].startswith("none"), got
        if "n_routed_experts" in config or "num_experts" in config or "num_local_experts" in config:
            assert "experts" in got, got
    print(len(names), "fixtures" if names else f"fixtures: no {FIXTURES}")


def copy_of_demo(folder, name):
    model = os.path.join(folder, name)
    shutil.copytree(DEMO, model)
    return model


def spoil(model, at, data):
    """Writes data at an offset behind the header of the weights; None: cuts the file there."""
    with open(os.path.join(model, "model.safetensors"), "r+b") as f:
        start = 8 + struct.unpack("<Q", f.read(8))[0]
        if data is None:
            f.truncate(start + at)
        else:
            f.seek(start + at)
            f.write(data)


def offset_of(model, tensor):
    with open(os.path.join(model, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return header[tensor]["data_offsets"][0]


def check_bad(folder):
    model = copy_of_demo(folder, "nan")
    spoil(model, offset_of(model, "model.layers.0.self_attn.o_proj.weight") + 5, b"\x7f")
    refused(r"model.safetensors: tensor model.layers.0.self_attn.o_proj.weight: .*NaN", "--model",
            model, "--check")
    model = copy_of_demo(folder, "cut")
    spoil(model, 1000, None)
    refused("model.safetensors", "--model", model, "--check")
    model = copy_of_demo(folder, "tokenizer")
    with open(os.path.join(model, "tokenizer.json"), "w") as f:
        f.write("{}")
    refused("tokenizer.json", "--model", model, "--check")
    refused("config.json", "--model", folder, "--bench")
    path = os.path.join(folder, "p.json")
    for text, what in (("[[1024, 1]]", "below 1024"), ("[[1]]", "nothing to predict"),
                       ("[7]", "prompt 0"), ("[[1,", "p.json"), ('["\\ud800"]', "p.json")):
        with open(path, "w") as f:
            f.write(text)
        refused(what, "--model", DEMO, "--perplexity", path)
    refused("no-such-file", "--model", DEMO, "--perplexity", "no-such-file")
    with open(path, "w") as f:
        f.write('["a text"]')
    refused("tokenizer.json", "--model", os.path.join(folder, "none"), "--perplexity", path)


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_demo(folder)
        check_texts(folder)
        if "address" not in BUILD:
            check_costs()
        check_fixtures(folder)
        bare = os.path.join(folder, "none")
        shutil.copytree(DEMO, bare, ignore=shutil.ignore_patterns("tokenizer*"))
        check_bad(folder)


if __name__ == "__main__":
    sys.exit(main())
