"""BERT encoders for `cargo xtask bench browser-embed`, as safetensors and as ONNX graphs of the same weights.

Usage: encoder_models.py RETRIEVER OUT. `small` is the default retriever (4 layers of 256), `base` has the shape of
BERT-base (12 of 768) and random weights. Each graph is written in two forms, of which the benchmark takes the faster:
`plain`, the operators that an export gives and the runtime's own optimiser fuses, and `fused`, the runtime's fused ones
(what its transformer optimiser makes of BERT). Both are also quantized dynamically, with signed and unsigned weights,
again for the benchmark to take the faster.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

MICROSOFT = "com.microsoft"
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "max_position_embeddings": 256, "type_vocab_size": 1, "vocab_size": 2000, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu"}


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    kinds = {"F16": np.float16, "F32": np.float32}
    return {name: np.frombuffer(data[8 + size:][slice(*entry["data_offsets"])], kinds[entry["dtype"]])
            .reshape(entry["shape"]) for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(t.tobytes() for t in tensors.values()))


def random_weights(config):
    random = np.random.default_rng(7)
    hidden, wide = config["hidden_size"], config["intermediate_size"]

    def normal(*shape, scale):
        return (random.standard_normal(shape, np.float32) * scale).astype(np.float16)

    tensors = {f"embeddings.{name}_embeddings.weight": normal(config[rows], hidden, scale=0.05)
               for name, rows in [("word", "vocab_size"), ("position", "max_position_embeddings"),
                                  ("token_type", "type_vocab_size")]}

    def norm(name):
        tensors[f"{name}.weight"] = 1 + normal(hidden, scale=0.1)
        tensors[f"{name}.bias"] = normal(hidden, scale=0.1)

    def linear(name, rows, columns):
        tensors[f"{name}.weight"] = normal(rows, columns, scale=columns ** -0.5)
        tensors[f"{name}.bias"] = normal(rows, scale=0.02)

    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{at}.attention.self.{part}", hidden, hidden)
        linear(f"{at}.attention.output.dense", hidden, hidden)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", wide, hidden)
        linear(f"{at}.output.dense", hidden, wide)
        norm(f"{at}.output.LayerNorm")
    return tensors


class Graph:
    """Nodes and weights under way to an ONNX file."""

    def __init__(self, config, tensors):
        self.config, self.nodes, self.weights = config, [], {}
        self.tensors = {name.removeprefix("bert."): tensor.astype(np.float32) for name, tensor in tensors.items()}

    def weight(self, name, value=None):
        self.weights[name] = self.tensors[name] if value is None else value
        return name

    def node(self, kind, *inputs, domain="", **attributes):
        out = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], out, domain=domain, **attributes))
        return out

    def matmul(self, name, x):
        return self.node("MatMul", x, self.weight(f"{name}.weight", self.tensors[f"{name}.weight"].T.copy()))

    def linear(self, name, x):
        return self.node("Add", self.matmul(name, x), self.weight(f"{name}.bias"))

    def norm(self, name, x):
        weights = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, *weights, axis=-1, epsilon=self.config["layer_norm_eps"])

    def shape(self, *numbers):
        return self.weight("shape" + "_".join(map(str, numbers)), np.array(numbers, np.int64))

    def model(self, x):
        self.nodes.append(helper.make_node("Identity", [x], ["hidden"]))
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        ids = helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "tokens"])
        size = ["batch", "tokens", self.config["hidden_size"]]
        hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, size)
        graph = helper.make_graph(self.nodes, "bert", [ids], [hidden], weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def embeddings(g):
    words = g.node("Gather", g.weight("embeddings.word_embeddings.weight"), "ids")
    tokens = g.node("Slice", g.node("Shape", "ids"), g.shape(1), g.shape(2))
    positions = g.node("Slice", g.weight("embeddings.position_embeddings.weight"), g.shape(0), tokens, g.shape(0))
    first_type = g.weight("type", g.tensors["embeddings.token_type_embeddings.weight"][0])
    x = g.node("Add", g.node("Add", words, first_type), positions)
    return g.norm("embeddings.LayerNorm", x)


def plain(config, tensors):
    g = Graph(config, tensors)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    x = embeddings(g)
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"

        def heads_of(part, order):
            rows = g.linear(f"{at}.attention.self.{part}", x)
            return g.node("Transpose", g.node("Reshape", rows, g.shape(0, 0, heads, hidden // heads)), perm=order)

        scores = g.node("MatMul", heads_of("query", [0, 2, 1, 3]), heads_of("key", [0, 2, 3, 1]))
        root = g.weight("root", np.array((hidden // heads) ** 0.5, np.float32))
        weights = g.node("Softmax", g.node("Div", scores, root), axis=-1)
        mixed = g.node("Transpose", g.node("MatMul", weights, heads_of("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        mixed = g.node("Reshape", mixed, g.shape(0, 0, hidden))
        x = g.norm(f"{at}.attention.output.LayerNorm", g.node("Add", g.linear(f"{at}.attention.output.dense", mixed), x))
        wide = g.linear(f"{at}.intermediate.dense", x)
        one, half, root2 = (g.weight(f"c{v:.3f}", np.array(v, np.float32)) for v in (1.0, 0.5, 2 ** 0.5))
        erf = g.node("Add", g.node("Erf", g.node("Div", wide, root2)), one)
        wide = g.node("Mul", g.node("Mul", wide, erf), half)
        x = g.norm(f"{at}.output.LayerNorm", g.node("Add", g.linear(f"{at}.output.dense", wide), x))
    return g.model(x)


def fused(config, tensors):
    g = Graph(config, tensors)
    epsilon = config["layer_norm_eps"]

    def skip_norm(name, x, skip, bias):
        weights = g.weight(f"{name}.weight"), g.weight(f"{name}.bias"), g.weight(f"{bias}.bias")
        return g.node("SkipLayerNormalization", x, skip, *weights, domain=MICROSOFT, epsilon=epsilon)

    x = embeddings(g)
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        qkv = np.concatenate([g.tensors[f"{part}.weight"].T for part in parts], axis=1).copy()
        bias = np.concatenate([g.tensors[f"{part}.bias"] for part in parts])
        mixed = g.node("Attention", x, g.weight(f"{at}.qkv", qkv), g.weight(f"{at}.qkv_bias", bias),
                       domain=MICROSOFT, num_heads=config["num_attention_heads"])
        out, up, down = f"{at}.attention.output.dense", f"{at}.intermediate.dense", f"{at}.output.dense"
        x = skip_norm(f"{at}.attention.output.LayerNorm", g.matmul(out, mixed), x, out)
        wide = g.node("BiasGelu", g.matmul(up, x), g.weight(f"{up}.bias"), domain=MICROSOFT)
        x = skip_norm(f"{at}.output.LayerNorm", g.matmul(down, wide), x, down)
    return g.model(x)


def write(folder, config, tensors):
    for form in (plain, fused):
        path = folder / f"f32-{form.__name__}.onnx"
        onnx.save(form(config, tensors), path)
        for name, kind in (("s8", QuantType.QInt8), ("u8", QuantType.QUInt8)):
            out = folder / f"int8-{form.__name__}-{name}.onnx"
            quantize_dynamic(path, out, weight_type=kind, op_types_to_quantize=["MatMul", "Attention"],
                             extra_options={"DefaultTensorType": TensorProto.FLOAT})


def main(retriever, out):
    for name in ("small", "base"):
        folder = out / f"encoder-{name}"
        if (folder / "complete").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if name == "small":
            config = json.loads((retriever / "config.json").read_text())
            tensors = read_safetensors(retriever / "model.safetensors")
        else:
            config, tensors = BASE, random_weights(BASE)
        (folder / "config.json").write_text(json.dumps(config))
        write_safetensors(folder / "model.safetensors", {k: v.astype(np.float16) for k, v in tensors.items()})
        write(folder, config, tensors)
        (folder / "complete").touch()


main(Path(sys.argv[1]), Path(sys.argv[2]))
