"""Trains the default retriever: a small Chinese BERT bi-encoder in the sentence-transformers layout.

usage: train.py --data ../shared/data --samples samples --paraphrases samples/questions --work DIR [--minutes 25]
       train.py … --resume --minutes 0 --corpus-minutes 14 --peak 1.5e-3 --threads 1    (tunes WORK/retriever)

What makes a transformer of this size work from random weights:
* tokens are words where the corpus has them (BPE over characters, merges dropped at random while training, so that
  single characters are learned too): the embedding layer alone is a bag of character n-grams;
* the blocks start as the identity (zero output projections), so training starts from that bag and only adds to it;
* half of each batch are all attributes of a few diseases: the hard negatives of "which medicine" are "which diet"
  of the same disease.
Loss: InfoNCE in both directions with in-batch negatives (van den Oord et al. 2018).

What tuning on the sample corpus adds (`tune_on_corpus`): every record is a negative of every question; wordings that a
record carries are asked too, of the record without them; the loss is taken of the cosine alone and of cosine + BM25,
which is what ranks in the end; public pairs in each step keep what was learned before; the moving average of the
weights is what is kept. The log shows it on `dev_questions.jsonl`, on which this was chosen and which is never trained on.
"""

import argparse
import copy
import gzip
import json
import math
import random
import re
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel

SEED = 11
VOCABULARY = 16000
QUERY_TOKENS, TEXT_TOKENS, POSITIONS = 40, 88, 256
TEMPERATURE = 0.05
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def read_jsonl(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def public_pairs(data):
    """(query, text) pairs of the rows that may be trained on."""
    pairs = []
    for row in read_jsonl(data / "toyhom_neike_sample.jsonl.gz"):
        questions = row["questions"]
        pairs.append((questions[-1], row["answer"]))
        if len(questions) > 1:
            pairs.append((questions[0], row["answer"]))
            pairs.append((questions[0], questions[1]))
    for row in read_jsonl(data / "cmedqq_paraphrase.jsonl.gz"):
        if row["label"] == 1:
            pairs.append(tuple(row["questions"]))
    for row in read_jsonl(data / "cmedir_query_titles.jsonl.gz"):
        pairs += [(row["questions"][0], doc["title"]) for doc in row["docs"] if doc["label"] == 2]
    for row in read_jsonl(data / "cmdd_dialogues.jsonl.gz"):
        doctor = "".join(t["text"] for t in row["turns"] if t["role"] == "doctor")
        pairs.append((row["questions"][0][:120], doctor[:200]))
    return [(a, b) for a, b in pairs if len(a) > 2 and len(b) > 2]


def sample_groups(samples, paraphrases):
    """Lists of (asks, wordings, answer, id) that are hard to tell apart: the attributes of one entry, or any dozen others."""
    asks = {}
    for path in sorted(paraphrases.glob("*.jsonl")):
        for row in read_jsonl(path):
            asks.setdefault(row["id"], []).append(row["question"])
    groups, others, about = {}, [], []
    for path in sorted((samples / "records").glob("*.jsonl")):
        for row in read_jsonl(path):
            wordings = row.get("questions") or [row["question"]]
            answer = row["answers"][0] if "answers" in row else row["answer"]
            record = ([a for a in asks.get(row["id"], []) if a not in wordings], wordings, answer, row["id"])
            parts = row["id"].split(":")
            if len(parts) == 3:
                groups.setdefault(parts[1], []).append(record)
            else:
                others.append(record)
                about.append(row.get("related_diseases", []))
    for record, diseases in zip(others, about):  # a consultation is easily taken for its disease's own records
        for disease in diseases:
            if disease in groups:
                groups[disease].append(record)
    return list(groups.values()), others


def train_tokenizer(args, texts):
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, limit_alphabet=6500, max_token_length=6, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(args.work / "tokenizer.json"))


def new_model(tokenizer):
    model = BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=1024, max_position_embeddings=POSITIONS, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
        ),
        add_pooling_layer=False,
    )
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight.zero_()
        model.embeddings.word_embeddings.weight.mul_(5)
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    return model


def encode(model, tokenizer, texts, limit):
    """Unit vectors of texts."""
    return encode_ids(model, token_ids(tokenizer, texts, limit))


def token_ids(tokenizer, texts, limit):
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return [e.ids for e in tokenizer.encode_batch(texts)]


def encode_ids(model, ids):
    """The model's forward pass in bfloat16 over all texts as one list of tokens; only attention sees single texts,
    in buckets of about one length. Padding each text to the longest took twice as long."""
    half = torch.bfloat16
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    padded = lambda i: -(-len(ids[i]) // 4) * 4 if len(ids[i]) <= 48 else -(-len(ids[i]) // 16) * 16
    buckets = sorted(Counter(map(padded, order)).items())  # (length, texts)
    tokens, places, real = [], [], []
    for i in order:
        rest = padded(i) - len(ids[i])
        tokens += ids[i] + [0] * rest
        places += range(padded(i))
        real += [1.0] * len(ids[i]) + [0.0] * rest
    sizes, real = [length * count for length, count in buckets], torch.tensor(real)
    masked = ((1 - real) * -1e4).to(half).split(sizes)
    linear = lambda layer, x: F.linear(x, layer.weight.to(half), layer.bias.to(half))
    norm = lambda layer, x: F.layer_norm(x, (256,), layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.eps)
    table = model.embeddings
    x = F.embedding(torch.tensor(tokens), table.word_embeddings.weight)
    x = x + F.embedding(torch.tensor(places), table.position_embeddings.weight) + table.token_type_embeddings.weight[0]
    x = norm(table.LayerNorm, x).to(half)
    for layer in model.encoder.layer:
        attention, attended = layer.attention, []
        q, k, v = (linear(part, x).split(sizes) for part in (attention.self.query, attention.self.key, attention.self.value))
        for (length, count), mask, *parts in zip(buckets, masked, q, k, v):
            a, b, c = (part.view(count, length, 4, 64).transpose(1, 2) for part in parts)
            weights = torch.softmax(a / 8 @ b.transpose(-1, -2) + mask.view(count, 1, 1, length), -1)
            attended.append((weights @ c).transpose(1, 2).reshape(-1, 256))
        x = norm(attention.output.LayerNorm, x + linear(attention.output.dense, torch.cat(attended)))
        wide = F.gelu(linear(layer.intermediate.dense, x))
        x = norm(layer.output.LayerNorm, x + linear(layer.output.dense, wide))
    pooled = []
    for (length, count), hidden, mask in zip(buckets, x.float().split(sizes), real.split(sizes)):
        mask = mask.view(count, length, 1)
        pooled.append((hidden.view(count, length, 256) * mask).sum(1) / mask.sum(1))
    place = torch.tensor(order).argsort()
    return F.normalize(torch.cat(pooled)[place], dim=-1)


def batch(public, groups, others, rng):
    """About 200 (query, text) pairs: a few whole groups, some other sample records, public pairs."""
    chosen = {id(record): record for group in rng.sample(groups, 9) for record in group}
    chosen.update({id(record): record for record in rng.sample(others, 50)})
    return [record_pair(record, rng) for record in chosen.values()] + rng.sample(public, 50)


def record_pair(record, rng):
    asks, wordings, answer, _ = record
    query = rng.choice(asks) if asks and rng.random() < 0.9 else rng.choice(wordings)
    questions = " ".join(wordings)
    text = rng.choice([questions, questions + "\n" + answer, questions + "\n" + answer, questions + "\n" + answer, answer])
    return query, text


@torch.no_grad()
def recall_dev(model, tokenizer, data):
    """huatuo26m_dev: question -> own answer among the 1,000 answers."""
    rows = read_jsonl(data / "huatuo26m_dev.jsonl.gz")
    both = []
    for texts, limit in (([r["questions"][0] for r in rows], 64), ([r["answer"] for r in rows], 128)):
        both.append(torch.cat([encode(model, tokenizer, texts[i : i + 100], limit) for i in range(0, len(rows), 100)]))
    rank = (both[0] @ both[1].T).argsort(1, descending=True)
    place = (rank == torch.arange(len(rows)).unsqueeze(1)).float().argmax(1)
    return (place < 1).float().mean().item(), (place < 10).float().mean().item()


def save(model, work):
    """The sentence-transformers layout, weights in half precision (computed in single)."""
    folder = work / "retriever"
    model.half().save_pretrained(folder)
    model.float()
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    config["architectures"] = ["BertModel"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, "pad_token": "[PAD]",
                    "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}, indent=2) + "\n")
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": n, "path": p, "type": f"sentence_transformers.models.{t}"} for i, (n, p, t) in enumerate(modules)],
        indent=2) + "\n")
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": POSITIONS, "do_lower_case": False}, indent=2) + "\n")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 256, "pooling_mode_mean_tokens": True}, indent=2) + "\n")


def log(args, line):
    print(line, flush=True)
    with open(args.work / "train.log", "a") as file:
        file.write(line + "\n")


def terms(text):
    """What BM25 counts: bigrams of Chinese, whole words of everything else."""
    found = []
    for run in re.findall(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+", text.lower()):
        found += [run[i : i + 2] for i in range(max(1, len(run) - 1))] if run[0] >= "\u3400" else [run]
    return found


def bm25(queries, texts):
    """Scores [queries, texts] with the parameters of `huatuo-index`."""
    counts = [Counter(terms(text)) for text in texts]
    mean = sum(c.total() for c in counts) / len(counts)
    postings = {}
    for row, count in enumerate(counts):
        for term, n in count.items():
            postings.setdefault(term, []).append((row, n * 2.2 / (n + 1.2 * (0.25 + 0.75 * count.total() / mean))))
    for term, found in postings.items():
        rows, weights = zip(*found)
        idf = math.log(1 + (len(texts) - len(rows) + 0.5) / (len(rows) + 0.5))
        postings[term] = torch.tensor(rows), torch.tensor(weights) * idf
    scores = torch.zeros(len(queries), len(texts), dtype=torch.float16)
    for row, query in zip(scores, queries):
        total = torch.zeros(len(texts))
        for term in set(terms(query)) & postings.keys():
            total[postings[term][0]] += postings[term][1]
        row.copy_(total)
    return scores


def full_text(record):
    return " ".join(record[1]) + "\n" + record[2]


def part_of_text(record, without, rng):
    """A record's text less the wordings `without` and about one in seven others, shuffled; at times one half of it."""
    _, wordings, answer, _ = record
    others = [w for w in wordings if w not in without]
    kept = [w for w in others if rng.random() > 0.15] or others[:1]
    rng.shuffle(kept)
    draw = rng.random()
    if draw < 0.1 and not without:
        return answer
    return " ".join(kept) if draw < 0.2 and kept else " ".join(kept) + "\n" + answer


def tune_on_corpus(args, model, tokenizer, plain, public, records):
    """Every question against every record of the sample corpus.

    The records' vectors are kept in a bank and renewed once an epoch, so a step has the whole corpus as negatives
    though it encodes about a hundred texts: those of carried wordings, without them, and those of some other questions.
    Keeps the moving average of the weights.
    """
    asked = [(query, i) for i, record in enumerate(records) for query in record[0]]
    carried = [(query, i) for i, record in enumerate(records) for query in record[1]]
    texts = [full_text(record) for record in records]
    lexical = bm25([query for query, _ in asked], texts)
    dev = read_jsonl(args.samples / "dev_questions.jsonl")
    place = {record[3]: i for i, record in enumerate(records)}
    dev_target = torch.tensor([place[row["id"]] for row in dev])
    dev_lexical = bm25([row["question"] for row in dev], texts)
    optimizer = torch.optim.AdamW(
        [{"params": model.embeddings.parameters(), "lr": args.peak}, {"params": model.encoder.parameters(), "lr": args.peak * 4 / 30}],
        weight_decay=0.01, fused=True,
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    average = copy.deepcopy(model)
    rng, start, step, epoch, mean, tested, testing = random.Random(args.seed), time.process_time(), 0, 0, None, 0.0, 0.0
    asks, others = [], []
    bank_of = lambda model: torch.cat([encode(model, plain, texts[i : i + 200], POSITIONS) for i in range(0, len(texts), 200)])
    progress = lambda: (time.process_time() - start - testing) / (60 * args.corpus_minutes * args.threads)

    def test():
        with torch.no_grad():
            cosines = encode(average, plain, [row["question"] for row in dev], POSITIONS) @ bank_of(average).T
        found = [((cosines + weight * dev_lexical).argmax(1) == dev_target).float().mean().item() for weight in (0, args.lexical_weight)]
        r1, r10 = recall_dev(average, plain, args.data)
        log(args, f"corpus step {step} epoch {epoch} minutes {progress() * args.corpus_minutes:.1f} loss {mean:.3f} dev dense R@1 {found[0]:.3f} "
                  f"hybrid R@1 {found[1]:.3f} huatuo26m_dev R@1 {r1:.3f} R@10 {r10:.3f}")

    while (done := progress()) < 1:
        if len(asks) < 256:
            asks, epoch = rng.sample(range(len(asked)), len(asked)), epoch + 1
            with torch.no_grad():
                bank = bank_of(model)
        if len(others) < 64:
            others = rng.sample(carried, len(carried))
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * min(1, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        chosen, asks = asks[:256], asks[256:]
        inside, others = others[:64], others[64:]
        pairs = rng.sample(public, 48)
        without = {}
        for query, i in inside:
            without.setdefault(i, set()).add(query)
        for n in chosen[:32]:
            without.setdefault(asked[n][1], set())
        queries = [asked[n][0] for n in chosen] + [query for query, _ in inside]
        target = torch.tensor([asked[n][1] for n in chosen] + [i for _, i in inside])
        ids = token_ids(tokenizer, queries + [q for q, _ in pairs], 48)
        ids += token_ids(tokenizer, [part_of_text(records[i], gone, rng) for i, gone in without.items()], 200)
        ids += token_ids(tokenizer, [t for _, t in pairs], 96)
        a, b, c, d = encode_ids(model, ids).split([len(queries), len(pairs), len(without), len(pairs)])
        all_texts = bank.clone()
        all_texts[torch.tensor(list(without))] = c
        cosines = a @ all_texts.T
        fused = cosines + args.lexical_weight * F.pad(lexical[chosen].float(), (0, 0, 0, len(inside)))
        loss = (F.cross_entropy(cosines / TEMPERATURE, target) + F.cross_entropy(fused / TEMPERATURE, target)) / 2
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        scores, own = b @ d.T / TEMPERATURE, torch.arange(len(pairs))
        loss = loss + 0.25 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters()):
                kept.lerp_(new, 1 - min(0.99, (1 + step) / (10 + step)))
        if done - tested >= 0.2:
            tested, before = done, time.process_time()
            test()
            testing += time.process_time() - before
    test()
    save(average, args.work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--paraphrases", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--corpus-minutes", type=float, default=15, help="then every question against the whole sample corpus")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=float, default=3e-3, help="learning rate of the embeddings; blocks learn at 4/30 of it")
    parser.add_argument("--lexical-weight", type=float, default=0.004, help="what a point of BM25 is worth while tuning on the corpus")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--resume", action="store_true", help="go on from WORK/retriever with its tokenizer")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    public = public_pairs(args.data)
    groups, others = sample_groups(args.samples, args.paraphrases)
    lexicon = json.load(gzip.open(args.data / "lexicon_disease_kb.json.gz", "rt"))
    texts = [t for pair in public for t in pair] + [
        name for names in lexicon.values() if isinstance(names, list) for name in names if isinstance(name, str)
    ]
    for record in [r for g in groups for r in g] + others:
        texts += record[0] + record[1] + [record[2]]
    if not args.resume:
        train_tokenizer(args, texts)
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    tokenizer.model.dropout = 0.1
    plain = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    torch.manual_seed(args.seed)
    model = new_model(tokenizer)
    if args.resume:
        model = BertModel.from_pretrained(args.work / "retriever", add_pooling_layer=False, dtype=torch.float32)
    log(args, f"{len(public)} public pairs, {sum(map(len, groups))} + {len(others)} sample records, "
              f"{sum(p.numel() for p in model.parameters())} parameters, seed {args.seed}, {args.minutes} + {args.corpus_minutes} minutes, peak {args.peak}{', resumed' if args.resume else ''}")
    embeddings = list(model.embeddings.parameters())
    blocks = list(model.encoder.parameters())
    optimizer = torch.optim.AdamW([{"params": embeddings, "lr": args.peak}, {"params": blocks, "lr": args.peak * 4 / 30}], weight_decay=0.01)
    peaks = [group["lr"] for group in optimizer.param_groups]
    rng, start, step, mean = random.Random(args.seed), time.process_time(), 0, None
    while args.minutes and (done := (time.process_time() - start) / (60 * args.minutes * args.threads)) < 1:
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        pairs = batch(public, groups, others, rng)
        a = encode(model, tokenizer, [q for q, _ in pairs], QUERY_TOKENS)
        b = encode(model, tokenizer, [t for _, t in pairs], TEXT_TOKENS)
        scores = a @ b.T / TEMPERATURE
        target = torch.arange(len(pairs))
        loss = (torch.nn.functional.cross_entropy(scores, target) + torch.nn.functional.cross_entropy(scores.T, target)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        if step % 100 == 0:
            r1, r10 = recall_dev(model, plain, args.data)
            log(args, f"step {step} minutes {done * args.minutes:.1f} loss {mean:.3f} huatuo26m_dev (1,000 answers) R@1 {r1:.3f} R@10 {r10:.3f}")
    if step:
        save(model, args.work)
        log(args, f"done: {step} steps, loss {mean:.3f}")
    if args.corpus_minutes:
        seen = {id(record): record for group in groups for record in group} | {id(record): record for record in others}
        tune_on_corpus(args, model, tokenizer, plain, public, list(seen.values()))


if __name__ == "__main__":
    main()
