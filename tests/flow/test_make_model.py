"""The tool that makes random models: the worker runs them, the same seed makes the same file, and a
GGUF file holds the same numbers as the safetensors, in llama.cpp's names and order."""
import array
import json
import os
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TOLLGATE_BUILD", os.path.join(ROOT, "build"))
MAKE = os.path.join(BUILD, "tests", "make-model")
WORKER = os.path.join(BUILD, "bin", "tollgate-worker")

COMMON = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "rope_scaling": None, "max_position_embeddings": 128,
          "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
DEEPSEEK = dict(COMMON, architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3",
                intermediate_size=96, moe_intermediate_size=32, first_k_dense_replace=1,
                moe_layer_freq=1, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=32,
                kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=16,
                n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=2,
                topk_group=1, norm_topk_prob=True, scoring_func="sigmoid",
                topk_method="noaux_tc", routed_scaling_factor=2.5, attention_bias=False)
QWEN2 = dict(COMMON, architectures=["Qwen2ForCausalLM"], model_type="qwen2",
             intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
             sliding_window=None, use_sliding_window=False)


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, check=True, text=True).stdout


def read(path):
    with open(path, "rb") as f:
        return f.read()


def safetensors(path):
    """Name to (shape, bf16 bits)."""
    data = read(path)
    n = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__")
    tensors = {}
    for name, t in header.items():
        assert t["dtype"] == "BF16", name
        begin, end = t["data_offsets"]
        tensors[name] = t["shape"], array.array("H", data[8 + n + begin:8 + n + end])
    return tensors


class Gguf:
    SIZES = {4: "<I", 6: "<f", 7: "<?"}

    def __init__(self, path):
        self.data = read(path)
        self.at = 24
        magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", self.data)
        assert (magic, version) == (b"GGUF", 3)
        self.meta = {self.text(): self.value() for _ in range(pairs)}
        infos = [self.info() for _ in range(tensors)]
        start = (self.at + 31) // 32 * 32
        self.tensors = {n: (shape, kind, start + at) for n, shape, kind, at in infos}

    def take(self, form):
        value = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value[0] if len(value) == 1 else list(value)

    def text(self):
        return self.take(f"<{self.take('<Q')}s").decode()

    def value(self):
        kind = self.take("<I")
        return self.text() if kind == 8 else self.take(self.SIZES[kind])

    def info(self):
        name = self.text()
        dims = self.take("<I")
        shape = [self.take("<Q") for _ in range(dims)]
        return name, shape, self.take("<I"), self.take("<Q")

    def floats(self, name):
        shape, kind, at = self.tensors[name]
        n = 1
        for d in shape:
            n *= d
        if kind == 0:
            return list(struct.unpack_from(f"<{n}f", self.data, at))
        if kind == 30:
            return widen(struct.unpack_from(f"<{n}H", self.data, at))
        values = []
        for _ in range(n // 32):
            scale, = struct.unpack_from("<e", self.data, at)
            if kind == 8:
                values += [scale * q for q in struct.unpack_from("<32b", self.data, at + 2)]
            else:
                quants = self.data[at + 2:at + 18]
                values += [scale * ((q & 15) - 8) for q in quants]
                values += [scale * ((q >> 4) - 8) for q in quants]
            at += {8: 34, 2: 18}[kind]
        return values


def widen(bits):
    return list(struct.unpack(f"<{len(bits)}f", struct.pack(f"<{len(bits)}I",
                                                            *(b << 16 for b in bits))))


def expected(name, tensors, config):
    """What a GGUF tensor must hold, made from the safetensors in another way than the tool's."""
    flat = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    stem, suffix = name.rsplit(".", 1)
    if stem in flat:
        return widen(tensors[flat[stem] + ".weight"][1])
    _, layer, part = stem.split(".")
    prefix = f"model.layers.{layer}."
    if part in ("attn_k_b", "attn_v_b"):
        bits = widen(tensors[prefix + "self_attn.kv_b_proj.weight"][1])
        rank, nope, value = config["kv_lora_rank"], config["qk_nope_head_dim"], config["v_head_dim"]
        rows = [bits[i:i + rank] for i in range(0, len(bits), rank)]
        heads = [rows[i:i + nope + value] for i in range(0, len(rows), nope + value)]
        if part == "attn_k_b":
            return [head[n][k] for head in heads for k in range(rank) for n in range(nope)]
        return [v for head in heads for row in head[nope:] for v in row]
    if part.endswith("_exps"):
        which = part.split("_")[1]
        return [v for e in range(config["n_routed_experts"])
                for v in widen(tensors[f"{prefix}mlp.experts.{e}.{which}_proj.weight"][1])]
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm",
             "attn_q_b": "self_attn.q_b_proj", "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
             "attn_kv_a_norm": "self_attn.kv_a_layernorm", "attn_output": "self_attn.o_proj",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "ffn_gate_inp": "mlp.gate"}
    for w in ("gate", "up", "down"):
        names[f"ffn_{w}"] = f"mlp.{w}_proj"
        names[f"ffn_{w}_shexp"] = f"mlp.shared_experts.{w}_proj"
    if part == "exp_probs_b":
        return widen(tensors[prefix + "mlp.gate.e_score_correction_bias"][1])
    return widen(tensors[prefix + names[part] + "." + suffix][1])


def check_gguf(folder, kind, tensors, config):
    g = Gguf(os.path.join(folder, kind + ".gguf"))
    assert g.meta["tokenizer.ggml.model"] == "no_vocab"
    assert g.meta[g.meta["general.architecture"] + ".vocab_size"] == config["vocab_size"]
    for name in g.tensors:
        want, got = expected(name, tensors, config), g.floats(name)
        if g.tensors[name][1] in (0, 30):
            assert got == want, name
            continue
        assert len(got) == len(want), name
        steps = 127 if kind == "q8_0" else 8
        for i in range(0, len(want), 32):
            largest = max(abs(v) for v in want[i:i + 32])
            # Half a step; a whole one at the end of the 4-bit range that has no code. And the
            # scale's own rounding.
            allowed = largest / steps * (0.57 if kind == "q8_0" else 1.01)
            assert all(abs(a - b) <= allowed for a, b in zip(want[i:i + 32], got[i:i + 32])), name


def values_in(tensors):
    return sum(len(bits) for _, bits in tensors.values())


def check_family(folder, config):
    path = os.path.join(folder, "shape.json")
    with open(path, "w") as f:
        json.dump(config, f)
    out, again = os.path.join(folder, "a"), os.path.join(folder, "b")
    run(MAKE, path, out, "bf16", "q8_0", "q4_0")
    run(MAKE, path, again)
    weights = os.path.join(out, "model.safetensors")
    assert read(weights) == read(os.path.join(again, "model.safetensors"))
    run(MAKE, "--seed", "2", path, again)
    assert read(weights) != read(os.path.join(again, "model.safetensors"))
    tensors = safetensors(weights)
    for kind in ("bf16", "q8_0", "q4_0"):
        check_gguf(out, kind, tensors, config)
    prompts = os.path.join(folder, "prompts.json")
    with open(prompts, "w") as f:
        json.dump([[1, 2, 3], [95, 0]], f)
    ids = json.loads(run(WORKER, "--model", out, "--greedy", prompts, "--tokens", "4"))
    assert [len(i) for i in ids] == [4, 4] and all(0 <= i < 96 for row in ids for i in row), ids
    print(config["model_type"], values_in(tensors), "weights")


def refused(*args):
    p = subprocess.run((MAKE,) + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return p.returncode, p.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        for config in FAMILIES:
            sub = os.path.join(folder, config["model_type"])
            os.mkdir(sub)
            check_family(sub, config)
        path = os.path.join(folder, "bad.json")
        with open(path, "w") as f:
            json.dump({k: v for k, v in DEEPSEEK.items() if k != "kv_lora_rank"}, f)
        code, text = refused(path, os.path.join(folder, "bad"))
        assert code == 1 and text.count("\n") == 1 and "kv_lora_rank" in text, text
    assert refused("only-one")[0] == 2


FAMILIES = [DEEPSEEK, QWEN2]
if __name__ == "__main__":
    sys.exit(main())
