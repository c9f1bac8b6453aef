// The header of a GGUF file whose weights are still to come: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

const ALIGNMENT = 32;
const [U32, F32, STRING] = [4, 6, 8];
const [TYPE_F32, TYPE_Q4_0] = [0, 2];
const aligned = (n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

class Writer {
  bytes = [];
  int(value, size) {
    for (let i = 0; i < size; i++) this.bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 255n));
  }
  text(text) {
    const encoded = new TextEncoder().encode(text);
    this.int(encoded.length, 8);
    this.bytes.push(...encoded);
  }
  key(key, type) {
    this.text(key);
    this.int(type, 4);
  }
}

/** The header of a Llama in Q4_0 with this shape, and the bytes of the whole file. */
export function ggufHeader({ layers, hidden, feedForward, vocabulary, heads }) {
  const tensors = [];
  const matrix = (name, rows, columns) => tensors.push({ name, shape: [columns, rows], type: TYPE_Q4_0, bytes: (rows * columns * 18) / 32 });
  const vector = (name, length) => tensors.push({ name, shape: [length], type: TYPE_F32, bytes: 4 * length });
  matrix('token_embd.weight', vocabulary, hidden);
  matrix('output.weight', vocabulary, hidden);
  vector('output_norm.weight', hidden);
  for (let i = 0; i < layers; i++) {
    for (const part of ['q', 'k', 'v', 'output']) matrix(`blk.${i}.attn_${part}.weight`, hidden, hidden);
    matrix(`blk.${i}.ffn_gate.weight`, feedForward, hidden);
    matrix(`blk.${i}.ffn_up.weight`, feedForward, hidden);
    matrix(`blk.${i}.ffn_down.weight`, hidden, feedForward);
    vector(`blk.${i}.attn_norm.weight`, hidden);
    vector(`blk.${i}.ffn_norm.weight`, hidden);
  }
  const writer = new Writer();
  writer.bytes.push(...new TextEncoder().encode('GGUF'));
  writer.int(3, 4);
  writer.int(tensors.length, 8);
  const numbers = { block_count: layers, context_length: 2048, embedding_length: hidden, feed_forward_length: feedForward, 'attention.head_count': heads };
  writer.int(Object.keys(numbers).length + 2, 8);
  writer.key('general.architecture', STRING);
  writer.text('llama');
  for (const [key, value] of Object.entries(numbers)) {
    writer.key(`llama.${key}`, U32);
    writer.int(value, 4);
  }
  writer.key('llama.attention.layer_norm_rms_epsilon', F32);
  writer.bytes.push(...new Uint8Array(Float32Array.of(1e-5).buffer));
  let offset = 0;
  for (const { name, shape, type, bytes } of tensors) {
    writer.text(name);
    writer.int(shape.length, 4);
    shape.forEach((size) => writer.int(size, 8));
    writer.int(type, 4);
    writer.int(offset, 8);
    offset = aligned(offset + bytes);
  }
  while (writer.bytes.length % ALIGNMENT) writer.bytes.push(0);
  const header = Uint8Array.from(writer.bytes);
  return { header, bytes: header.length + offset };
}
