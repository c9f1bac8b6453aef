"""The peer's decoder for `cargo xtask bench browser-gpu`: an ONNX graph of the weights of a synthetic Q4_0 file.

Usage: decoder_models.py GGUF OUT. The graph is what onnxruntime-genai's model builder makes of Qwen2 for WebGPU: 4-bit
matrices in blocks of 32 with the file's own scales, query, key and value in one, rotation and cache within the attention,
and the head only for a prompt's last token. The lengths that the builder computes from an attention mask are inputs.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
BLOCK = 32
#: Activations keep their precision: rounding them to 8 bits (level 4) was slower on SwiftShader, for prompts fourfold.
ACCURACY_LEVEL = 0
#: Whether a matrix product adds its bias itself: the older of the runtime's implementations of WebGPU can't.
FORMS = {"native": True, "jsep": False}


class Gguf:
    """A file's numbers and tensors."""

    NUMBERS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))) | {10: "Q", 11: "q", 12: "d"}
    TEXT, ARRAY = 8, 9
    F32, Q4_0 = 0, 2
    ALIGNMENT = 32

    def __init__(self, path):
        self.data, self.at = path.read_bytes(), 8
        tensors, entries = self.number("Q"), self.number("Q")
        self.metadata = {self.text(): self.value(self.number("I")) for _ in range(entries)}
        self.places = {}
        for _ in range(tensors):
            name = self.text()
            shape = [self.number("Q") for _ in range(self.number("I"))][::-1]
            self.places[name] = shape, self.number("I"), self.number("Q")
        self.start = -(-self.at // self.ALIGNMENT) * self.ALIGNMENT

    def number(self, kind):
        self.at += struct.calcsize(kind)
        return struct.unpack_from("<" + kind, self.data, self.at - struct.calcsize(kind))[0]

    def text(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        if kind == self.TEXT:
            return self.text()
        if kind == self.ARRAY:
            kind = self.number("I")
            return [self.value(kind) for _ in range(self.number("Q"))]
        return self.number(self.NUMBERS[kind])

    def vector(self, name):
        (size,), kind, offset = self.places[name]
        assert kind == self.F32, name
        return np.frombuffer(self.data, "<f4", size, self.start + offset)

    def matrix(self, name):
        """4-bit weights, neighbours in a byte where the file has halves of a block in it, and the blocks' scales."""
        (rows, columns), kind, offset = self.places[name]
        assert kind == self.Q4_0, name
        block = np.dtype([("scale", "<f2"), ("weights", "u1", BLOCK // 2)])
        blocks = np.frombuffer(self.data, block, rows * columns // BLOCK, self.start + offset)
        blocks = blocks.reshape(rows, columns // BLOCK)
        weights = np.concatenate([blocks["weights"] & 15, blocks["weights"] >> 4], axis=-1)
        return weights[..., ::2] | weights[..., 1::2] << 4, blocks["scale"].astype(np.float32)


class Graph:
    """Nodes and weights under way to an ONNX file."""

    def __init__(self, gguf, bias_inside):
        self.gguf, self.bias_inside, self.nodes, self.weights = gguf, bias_inside, [], {}

    def weight(self, name, value):
        self.weights[name] = value
        return name

    def node(self, kind, *inputs, domain=MICROSOFT, outputs=None, **attributes):
        outputs = outputs or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], domain=domain, **attributes))
        return outputs[0]

    def quantized(self, names):
        """Matrices one below the other."""
        weights, scales = zip(*(self.gguf.matrix(f"{name}.weight") for name in names))
        return np.concatenate(weights), np.concatenate(scales)

    def linear(self, x, *names, bias=(), **out):
        weights, scales = self.quantized(names)
        rows, blocks = scales.shape
        inputs = self.weight(f"{names[0]}.weight", weights), self.weight(f"{names[0]}.scales", scales), *bias
        return self.node("MatMulNBits", x, *inputs, K=blocks * BLOCK, N=rows, bits=4, block_size=BLOCK,
                         accuracy_level=ACCURACY_LEVEL, **out)

    def linear_with_bias(self, x, *names):
        bias = self.weight(f"{names[0]}.bias", np.concatenate([self.gguf.vector(f"{name}.bias") for name in names]))
        if self.bias_inside:
            return self.linear(x, *names, bias=("", "", bias))
        return self.node("Add", self.linear(x, *names), bias, domain="")

    def norm_weight(self, name):
        return self.weight(name, self.gguf.vector(f"{name}.weight"))

    def skip_norm(self, name, x, residual):
        """The sum, and its norm."""
        total = f"{name}.sum"
        return total, self.node("SkipSimplifiedLayerNormalization", x, residual, self.norm_weight(name),
                                outputs=[f"{name}.out", "", "", total], epsilon=self.epsilon)


def rotations(base, head, context):
    angles = np.arange(context)[:, None] / base ** (np.arange(0, head, 2) / head)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def decoder(gguf, bias_inside):
    about = {key.removeprefix("qwen2."): value for key, value in gguf.metadata.items()}
    layers, hidden, heads = about["block_count"], about["embedding_length"], about["attention.head_count"]
    kv_heads, head, context = about["attention.head_count_kv"], hidden // heads, about["context_length"]
    g = Graph(gguf, bias_inside)
    g.epsilon = about["attention.layer_norm_rms_epsilon"]
    cos, sin = rotations(about["rope.freq_base"], head, context)
    g.weight("cos", cos), g.weight("sin", sin)
    embedding, scales = g.quantized(["token_embd"])
    g.weight("token_embd.weight", embedding.reshape(len(embedding), -1)), g.weight("token_embd.scales", scales)

    x = g.node("GatherBlockQuantized", "token_embd.weight", "ids", "token_embd.scales", bits=4, block_size=BLOCK,
               gather_axis=0, quantize_axis=1)
    normed = g.node("SimplifiedLayerNormalization", x, g.norm_weight("blk.0.attn_norm"), domain="", axis=-1,
                    epsilon=g.epsilon)
    for i in range(layers):
        at = f"blk.{i}"
        qkv = g.linear_with_bias(normed, *(f"{at}.attn_{part}" for part in "qkv"))
        past, present = ([f"{side}.{i}.key", f"{side}.{i}.value"] for side in ("past", "present"))
        mixed = g.node("GroupQueryAttention", qkv, "", "", *past, "last", "total", "cos", "sin",
                       outputs=[f"{at}.mixed", *present], num_heads=heads, kv_num_heads=kv_heads, do_rotary=1,
                       scale=head ** -0.5)
        x, normed = g.skip_norm(f"{at}.ffn_norm", x, g.linear(mixed, f"{at}.attn_output"))
        gate, up = g.linear(normed, f"{at}.ffn_gate"), g.linear(normed, f"{at}.ffn_up")
        gated = g.node("Mul", g.node("Mul", gate, g.node("Sigmoid", gate, domain=""), domain=""), up, domain="")
        after = f"blk.{i + 1}.attn_norm" if i + 1 < layers else "output_norm"
        x, normed = g.skip_norm(after, x, g.linear(gated, f"{at}.ffn_down"))
    del g.nodes[-1].output[1:]  # nothing follows the last sum
    newest = g.node("Gather", normed, g.weight("newest", np.array([-1], np.int32)), domain="", axis=1)
    g.linear(newest, "output", outputs=["logits"])

    def port(name, kind, *shape):
        return helper.make_tensor_value_info(name, kind, shape)

    def caches(side, room):
        return [port(f"{side}.{i}.{part}", TensorProto.FLOAT, 1, kv_heads, room, head)
                for i in range(layers) for part in ("key", "value")]

    inputs = [port("ids", TensorProto.INT32, 1, "tokens"), port("last", TensorProto.INT32, 1),
              port("total", TensorProto.INT32, 1), *caches("past", "room")]
    outputs = [port("logits", TensorProto.FLOAT, 1, 1, "vocabulary"), *caches("present", "room")]
    weights = [numpy_helper.from_array(value, name) for name, value in g.weights.items()]
    graph = helper.make_graph(g.nodes, "qwen2", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def main(source, out):
    for form, bias_inside in FORMS.items():
        path = out / f"decoder-{form}.onnx"
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            onnx.save(decoder(Gguf(source), bias_inside), unfinished)
            unfinished.rename(path)


main(Path(sys.argv[1]), Path(sys.argv[2]))
