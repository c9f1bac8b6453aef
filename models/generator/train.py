"""Trains the default generator: a small Qwen2 decoder that reads references and answers from them with citations.

usage: train.py --data ../shared/data --samples samples --work DIR [--stage tokenizer|pretrain|finetune|export|all]

The task is grounded answering: the prompt holds two to four numbered references and a question, the target is the
sentences of the references that answer it, each closed with the number it came from. So the model learns to select
and to copy, which is what a decoder of this size can do honestly; it is not taught facts.

Stages, each resumable from the files of the one before (all in --work):
  tokenizer  byte-level BPE in Qwen2's form, with one token for each citation mark
  pretrain   grounded answering on the public consultations of --data (rows marked `train` in its README)
  finetune   the same on the sample corpus, with hard distractors, follow-ups and paraphrased questions
  export     F16 safetensors -> GGUF Q8_0 + tokenizer.json, read back and compared
"""

import argparse
import gzip
import json
import math
import random
import re
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

SEED = 20
SYSTEM = "你是华佗医疗咨询助手。只依据参考资料回答，每句话用[编号]注明出处。"
CITATIONS = [f"[{n}]" for n in range(1, 10)]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 6144
CONTEXT = 512  # tokens of a training sequence; longer examples are left out
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_jsonl(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def sentences(text, limit=110):
    """Whole sentences of a text, up to `limit` characters in all."""
    text = re.sub(r"\s+", "", text)
    found, length = [], 0
    for sentence in re.findall(r"[^。！？!?；;]+[。！？!?；;]", text):
        length += len(sentence)
        if length > limit:
            break
        if len(sentence) > 4:
            found.append(sentence[:-1] + "。")
    return found


# ---------------------------------------------------------------- examples


class Pool:
    """Records with the questions that ask for them, and the records most easily confused with each."""

    def __init__(self, records):
        self.records = [r for r in records if r["sentences"]]
        self.by_bigram = {}
        for i, record in enumerate(self.records):
            for bigram in {record["title"][j : j + 2] for j in range(len(record["title"]) - 1)}:
                self.by_bigram.setdefault(bigram, []).append(i)

    def distractors(self, i, count, rng):
        title = self.records[i]["title"]
        near = []
        for _ in range(6):
            j = rng.randrange(max(1, len(title) - 1))
            near.extend(rng.sample(c, min(3, len(c))) if (c := self.by_bigram.get(title[j : j + 2], [])) else [])
        near = [j for j in dict.fromkeys(near) if j != i and self.records[j]["answer"] != self.records[i]["answer"]]
        rng.shuffle(near)
        chosen = near[:count]
        while len(chosen) < count:
            j = rng.randrange(len(self.records))
            if j != i and j not in chosen:
                chosen.append(j)
        return chosen


def prompt_text(references, question):
    """The user's message, exactly as huatuo-core's prompt module writes it."""
    lines = ["参考资料："]
    for n, (title, answer) in enumerate(references, 1):
        lines.append(f"[{n}] {title}\n{answer}")
    lines.append(f"问题：{question}")
    return "\n".join(lines)


def chat(references, question):
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        f"{prompt_text(references, question)}<|im_end|>\n<|im_start|>assistant\n"
    )


def cited(record_sentences, n):
    return "".join(s[:-1] + f"[{n}]。" for s in record_sentences)


def example(pool, i, rng, most):
    """(prompt, target) for record i among at most `most` distractors: the right one stands first half of the time."""
    record = pool.records[i]
    chosen = pool.distractors(i, rng.randint(min(most, 1), most), rng)
    place = 0 if rng.random() < 0.5 else rng.randrange(len(chosen) + 1)
    chosen.insert(place, i)
    references = [(pool.records[j]["title"], pool.records[j]["answer"]) for j in chosen]
    return chat(references, rng.choice(record["asks"])), cited(record["sentences"], place + 1) + "<|im_end|>"


def public_records(data):
    """Consultations of the rows that may be trained on, cut to whole sentences."""
    records = []
    for row in read_jsonl(data / "toyhom_neike_sample.jsonl.gz"):
        kept = sentences(row["answer"])
        if kept:
            asks = [q[:90] for q in row["questions"]]
            records.append({"title": row["questions"][0][:40], "answer": "".join(kept), "sentences": kept, "asks": asks})
    for row in read_jsonl(data / "cpsycoun_dialogues.jsonl.gz") + read_jsonl(data / "cmdd_dialogues.jsonl.gz"):
        turns = row.get("turns", [])
        for asked, said in zip(turns, turns[1:]):
            if asked["role"] == "patient" and said["role"] == "doctor" and len(asked["text"]) > 8:
                kept = sentences(said["text"])
                if kept and len(said["text"]) > 25:
                    title = asked["text"][:40]
                    records.append({"title": title, "answer": "".join(kept), "sentences": kept, "asks": [asked["text"][:90]]})
    return records


def sample_records(samples, paraphrases):
    """Sample records; `paraphrases` maps a record id to further questions (never the held-out ones)."""
    records = []
    for path in sorted((samples / "records").glob("*.jsonl")):
        for row in read_jsonl(path):
            questions = row.get("questions") or [row["question"]]
            answer = row["answers"][0] if "answers" in row else row["answer"]
            kept = sentences(answer, 160)
            asks = questions + paraphrases.get(row["id"], [])
            records.append({"title": questions[0], "answer": "".join(kept), "sentences": kept, "asks": asks})
    return records


# ---------------------------------------------------------------- stages


def train_tokenizer(args):
    texts = [r["answer"] for r in public_records(args.data)] + [r["title"] for r in public_records(args.data)]
    for row in read_jsonl(args.data / "cmedqq_paraphrase.jsonl.gz"):
        texts += row["questions"]
    lexicon = json.load(gzip.open(args.data / "lexicon_disease_kb.json.gz", "rt"))
    texts += [name for names in lexicon.values() if isinstance(names, list) for name in names if isinstance(name, str)]
    for path in sorted(args.samples.rglob("*.jsonl")):
        if "held" not in path.name:
            texts += 4 * [line for line in path.read_text().splitlines()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(CITATIONS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(c, normalized=False, special=False) for c in CITATIONS])
    tokenizer.save(str(args.work / "tokenizer.json"))
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens from {len(texts)} texts")


def new_model():
    torch.manual_seed(SEED)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
            num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=2048,
            rope_theta=1e6, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=VOCABULARY - 10, pad_token_id=None,
        )
    )
    start_with_copying(model)
    return model


@torch.no_grad()
def start_with_copying(model):
    """Initialises an induction circuit (Olsson et al. 2022), which a run of this length would spend half its time to find.

    Layer 0: three heads look one, two and three tokens back (query and key biases that agree at that rotary distance)
    and write what they see into subspaces of their own. Layer 1: one head compares the last three tokens with the
    three before every earlier token, and writes the token that followed. Everything is trained on from there.
    """
    config, generator = model.config, torch.Generator().manual_seed(SEED)
    hidden, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    half, width = head // 2, hidden // 2  # embeddings start in the first half of the residual stream
    random = lambda *shape: torch.randn(*shape, generator=generator)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.mul_(0.25)
    embeddings = model.model.embed_tokens.weight
    embeddings.normal_(0, 0.05, generator=generator)
    embeddings[:, width:] = 0

    # Pairs 0..8 of a head turn fast enough to tell neighbours apart, pairs 16.. hardly turn over the whole context.
    fast, slow = torch.arange(8), torch.arange(half // 2, half)
    still = torch.cat([slow, slow + half])
    angle = config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    read = random(len(still), width) / width**0.5  # a token's 32-number summary
    first = model.model.layers[0].self_attn
    first.k_proj.weight[:head] = 0
    first.k_proj.bias[:head] = 0
    first.k_proj.bias[fast] = 7.0
    first.v_proj.weight[:head] = 0
    first.v_proj.weight[: len(still), :width] = read
    places = []
    for back in (1, 2, 3):
        rows = slice((back - 1) * head, back * head)
        first.q_proj.weight[rows] = 0
        bias = torch.zeros(head)
        bias[fast], bias[fast + half] = 7.0 * torch.cos(back * angle[fast]), -7.0 * torch.sin(back * angle[fast])
        first.q_proj.bias[rows] = bias
        place = width + (back - 1) * head + torch.arange(len(still))
        first.o_proj.weight[:, rows] = 0
        first.o_proj.weight[place, torch.arange(len(still)) + rows.start] = 0.05
        places.append(place)
    second = model.model.layers[1].self_attn
    turn = torch.linalg.qr(random(len(still), len(still)))[0]  # keeps the three comparisons apart
    second.k_proj.weight[:head] = 0
    second.q_proj.weight[:head] = 0
    for k, q_place in enumerate([None, places[0], places[1]]):
        mix = torch.linalg.matrix_power(turn, k)
        keys, queries = torch.zeros(len(still), hidden), torch.zeros(len(still), hidden)
        keys[:, places[k]] = mix
        if q_place is None:
            queries[:, :width] = read
        else:
            queries[:, q_place] = mix
        second.k_proj.weight[still] += keys
        second.q_proj.weight[still] += 2.0 * queries
    write = random(head, width) / width**0.5
    second.v_proj.weight[:head] = 0
    second.v_proj.weight[:head, :width] = write
    second.o_proj.weight[:, :head] = 0
    second.o_proj.weight[:width, :head] = 0.25 * write.T


def batches(pool, tokenizer, seed, weights=None, curriculum=((0.0, 3),)):
    """A function of progress (0 to 1) giving (ids, labels), padded; labels cover the target only.

    `curriculum` gives the most distractors from a progress on: copying is learned from one short reference first,
    choosing among several after that. A batch holds about 3,000 tokens.
    """
    rng = random.Random(seed)
    end = tokenizer.token_to_id("<|endoftext|>")

    def batch(progress):
        most = [count for begin, count in curriculum if progress >= begin][-1]
        size = {0: 20, 1: 13, 2: 9, 3: 8}[most]
        ids = np.full((size, CONTEXT), end, np.int64)
        labels = np.full((size, CONTEXT), -100, np.int64)
        row = 0
        while row < size:
            source = pool if not isinstance(pool, list) else rng.choices(pool, weights)[0]
            prompt, target = example(source, rng.randrange(len(source.records)), rng, most)
            a, b = tokenizer.encode(prompt).ids, tokenizer.encode(target).ids
            if len(a) + len(b) > CONTEXT:
                continue
            ids[row, : len(a) + len(b)] = a + b
            labels[row, len(a) : len(a) + len(b)] = b
            row += 1
        width = int((ids != end).sum(1).max())
        width = min(CONTEXT, -(-width // 64) * 64)  # few distinct widths, so that compiled graphs are reused
        return torch.from_numpy(ids[:, :width].copy()), torch.from_numpy(labels[:, :width].copy())

    return batch


def fit(model, source, args, minutes, peak, language_share, name):
    """AdamW, warm-up then cosine over the given minutes of processor time a thread, bf16; `language_share` of the batches learn the prompt too."""
    torch.manual_seed(SEED)
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=peak, betas=(0.9, 0.97)
    )
    body = torch.compile(model.model, dynamic=True) if args.compile else model.model
    rng, start, step, seen, mean = random.Random(SEED), time.process_time(), 0, 0, None
    while (done := (time.process_time() - start) / (60 * minutes * args.threads)) < 1:
        rate = peak * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = source(done)
        whole = rng.random() < language_share
        if whole:
            labels = ids.clone()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = body(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            wanted = labels[:, 1:]
            picked = wanted != -100
            logits = model.lm_head(hidden[picked])
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted[picked])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + ids.numel()
        if not whole:
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            log(args, f"{name} step {step} minutes {done * minutes:.1f} tokens {seen} answer loss {mean:.3f} rate {rate:.1e}")
        if step % 500 == 0:
            model.save_pretrained(args.work / name)
    model.save_pretrained(args.work / name)
    log(args, f"{name} done: {step} steps, {seen} tokens, {minutes} minutes, answer loss {mean:.3f}")


def log(args, line):
    print(line, flush=True)
    with open(args.work / "train.log", "a") as file:
        file.write(line + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--paraphrases", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stage", default="all")
    parser.add_argument("--pretrain-minutes", type=float, default=40)
    parser.add_argument("--finetune-minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    wanted = lambda stage: args.stage in (stage, "all")

    if wanted("tokenizer"):
        train_tokenizer(args)
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    if wanted("pretrain"):
        pool = Pool(public_records(args.data))
        log(args, f"pretrain: {len(pool.records)} records, seed {SEED}")
        source = batches(pool, tokenizer, SEED, curriculum=((0.0, 0), (0.1, 1), (0.25, 2), (0.4, 3)))
        fit(new_model(), source, args, args.pretrain_minutes, 1e-3, 0.3, "pretrain")
    if wanted("finetune"):
        model = Qwen2ForCausalLM.from_pretrained(args.work / "pretrain", dtype=torch.float32)
        paraphrases = {}
        for path in sorted(args.paraphrases.glob("*.jsonl")) if args.paraphrases else []:
            for row in read_jsonl(path):
                paraphrases.setdefault(row["id"], []).append(row["question"])
        pools = [Pool(sample_records(args.samples, paraphrases)), Pool(public_records(args.data))]
        log(args, f"finetune: {len(pools[0].records)} sample records, seed {SEED + 1}")
        source = batches(pools, tokenizer, SEED + 1, [0.75, 0.25])
        fit(model, source, args, args.finetune_minutes, 6e-4, 0.1, "finetune")
    if wanted("export"):
        from export import export  # gguf is needed only here

        export(args.work / "finetune", args.work / "tokenizer.json", Path(__file__).parent)


if __name__ == "__main__":
    main()
