"""Small random models and what the `transformers` library computes with them, for
tests/unit/worker/test_reference.c:

    pip install torch transformers safetensors
    python tests/tools/make_reference.py tests/golden/models

Each folder has a model in the published form, prompts (golden.json) and the logits of the last
`rows` tokens of each prompt (logits.f32), computed in float32 on the stored weights."""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB, ROWS = 96, 12
SHAPE = {"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 64, "rms_norm_eps": 1e-5,
         "hidden_act": "silu", "num_attention_heads": 4, "num_key_value_heads": 2,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16"}

# Prompts that end before a window does, past it, and past a segment of the attention kernels.
MODELS = {
    "llama-odd-heads": ({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2,
        "head_dim": 20, "max_position_embeddings": 512, "rope_theta": 10000.0,
        "rope_scaling": {"type": "linear", "factor": 4.0}}, (7, 61, 300)),
    "mistral-window": ({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_hidden_layers": 2,
        "head_dim": 24, "max_position_embeddings": 4096, "rope_theta": 10000.0,
        "sliding_window": 600}, (40, 650, 1300)),
    "qwen2-windows": ({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 3,
        "max_position_embeddings": 2048, "rope_theta": 1000000.0, "use_sliding_window": True,
        "sliding_window": 37, "max_window_layers": 1}, (37, 90, 560)),
    "qwen3-layer-types": ({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 2,
        "head_dim": 36, "num_attention_heads": 8, "num_key_value_heads": 1,
        "max_position_embeddings": 2048, "use_sliding_window": True, "sliding_window": 16,
        "attention_bias": False,
        "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500000.0},
        "layer_types": ["sliding_attention", "full_attention"]}, (16, 33, 200)),
}


def random_weights(model):
    for name, p in model.named_parameters():
        spread = 0.15 if p.dim() > 1 else 0.1
        centre = 1.0 if "norm" in name else 0.0
        p.data = torch.normal(centre, spread, p.shape).to(torch.bfloat16).to(torch.float32)


def make(folder, fields, lengths):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(fields, f, indent=1)
        f.write("\n")
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                             dtype=torch.float32).eval()
    random_weights(model)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()},
              os.path.join(folder, "model.safetensors"), {"format": "pt"})
    prompts = [torch.randint(0, VOCAB, (n,)).tolist() for n in lengths]
    with open(os.path.join(folder, "golden.json"), "w") as f:
        json.dump({"rows": ROWS, "prompts": prompts}, f, separators=(",", ":"))
        f.write("\n")
    with open(os.path.join(folder, "logits.f32"), "wb") as f, torch.no_grad():
        for prompt in prompts:
            logits = model(torch.tensor([prompt])).logits[0]
            f.write(logits[-ROWS:].to(torch.float32).contiguous().numpy().tobytes())


torch.manual_seed(4)
for name, (fields, lengths) in MODELS.items():
    make(os.path.join(sys.argv[1], name), {**SHAPE, **fields}, lengths)
