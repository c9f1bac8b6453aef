"""Trains the default retriever: a small Chinese BERT bi-encoder in the sentence-transformers layout.

usage: train.py --data ../shared/data --samples samples --paraphrases samples/questions --work DIR [--minutes 25]

What makes a transformer of this size work from random weights:
* tokens are words where the corpus has them (BPE over characters, merges dropped at random while training, so that
  single characters are learned too): the embedding layer alone is a bag of character n-grams;
* the blocks start as the identity (zero output projections), so training starts from that bag and only adds to it;
* half of each batch are all attributes of a few diseases: the hard negatives of "which medicine" are "which diet"
  of the same disease.
Loss: InfoNCE in both directions with in-batch negatives (van den Oord et al. 2018).
"""

import argparse
import gzip
import json
import math
import random
import re
import time
from pathlib import Path

import torch
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
    """Lists of (asks, wordings, answer) that are hard to tell apart: the attributes of one entry, or any dozen others."""
    asks = {}
    for path in sorted(paraphrases.glob("*.jsonl")):
        for row in read_jsonl(path):
            asks.setdefault(row["id"], []).append(row["question"])
    groups, others, about = {}, [], []
    for path in sorted((samples / "records").glob("*.jsonl")):
        for row in read_jsonl(path):
            wordings = row.get("questions") or [row["question"]]
            answer = row["answers"][0] if "answers" in row else row["answer"]
            record = ([a for a in asks.get(row["id"], []) if a not in wordings], wordings, answer)
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
    torch.manual_seed(SEED)
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
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize(((hidden * weights).sum(1) / weights.sum(1)).float(), dim=-1)


def batch(public, groups, others, rng):
    """About 200 (query, text) pairs: a few whole groups, some other sample records, public pairs."""
    chosen = {id(record): record for group in rng.sample(groups, 9) for record in group}
    chosen.update({id(record): record for record in rng.sample(others, 50)})
    return [record_pair(record, rng) for record in chosen.values()] + rng.sample(public, 50)


def record_pair(record, rng):
    asks, wordings, answer = record
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


def tune_on_corpus(args, model, tokenizer, plain, public, records):
    """Every question against every record of the sample corpus.

    The records' vectors are kept in a bank and renewed once an epoch, so a step costs only its short questions and
    still has the whole corpus as negatives. Every third step is an ordinary batch of public pairs, against forgetting.
    """
    asks = [(query, i) for i, (asked, wordings, _) in enumerate(records) for query in asked]
    texts = [" ".join(wordings) + "\n" + answer for _, wordings, answer in records]
    optimizer = torch.optim.AdamW(
        [{"params": model.embeddings.parameters(), "lr": args.peak}, {"params": model.encoder.parameters(), "lr": args.peak * 4 / 30}],
        weight_decay=0.01,
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    rng, start, epoch, mean = random.Random(SEED), time.process_time(), 0, None
    progress = lambda: (time.process_time() - start) / (60 * args.corpus_minutes * args.threads)
    while progress() < 1:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            bank = torch.cat([encode(model, plain, texts[i : i + 256], POSITIONS) for i in range(0, len(texts), 256)])
        rng.shuffle(asks)
        for step, i in enumerate(range(0, len(asks), 400)):
            if (done := progress()) >= 1:
                break
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * min(1, (epoch * 30 + step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            chosen = asks[i : i + 400]
            target = torch.tensor([t for _, t in chosen])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                a = encode(model, tokenizer, [q for q, _ in chosen], QUERY_TOKENS)
            loss = torch.nn.functional.cross_entropy(a @ bank.T / TEMPERATURE, target)
            mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
            if step % 3 == 0:  # texts learn too, and nothing is forgotten
                pairs = rng.sample(public, 40) + [record_pair(r, rng) for r in rng.sample(records, 60)]
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    a = encode(model, tokenizer, [q for q, _ in pairs], QUERY_TOKENS)
                    b = encode(model, tokenizer, [t for _, t in pairs], TEXT_TOKENS)
                loss = loss + 0.5 * torch.nn.functional.cross_entropy(a @ b.T / TEMPERATURE, torch.arange(len(pairs)))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        epoch += 1
        r1, r10 = recall_dev(model, plain, args.data)
        log(args, f"corpus epoch {epoch} minutes {progress() * args.corpus_minutes:.1f} questions {len(asks)} loss {mean:.3f} huatuo26m_dev R@1 {r1:.3f} R@10 {r10:.3f}")
        save(model, args.work)


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
    model = new_model(tokenizer)
    if args.resume:
        model = BertModel.from_pretrained(args.work / "retriever", add_pooling_layer=False, dtype=torch.float32)
        model.config.hidden_dropout_prob = 0.0
    log(args, f"{len(public)} public pairs, {sum(map(len, groups))} + {len(others)} sample records, "
              f"{sum(p.numel() for p in model.parameters())} parameters, seed {SEED}, {args.minutes} minutes, peak {args.peak}{', resumed' if args.resume else ''}")
    embeddings = list(model.embeddings.parameters())
    blocks = list(model.encoder.parameters())
    optimizer = torch.optim.AdamW([{"params": embeddings, "lr": args.peak}, {"params": blocks, "lr": args.peak * 4 / 30}], weight_decay=0.01)
    peaks = [group["lr"] for group in optimizer.param_groups]
    rng, start, step, mean = random.Random(SEED), time.process_time(), 0, None
    while args.minutes and (done := (time.process_time() - start) / (60 * args.minutes * args.threads)) < 1:
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        pairs = batch(public, groups, others, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
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
