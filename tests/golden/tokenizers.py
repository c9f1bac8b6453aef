"""Regenerates tests/golden/tokenizers/: small tokenizers of every family as metadata-only GGUF files, the tokens that
their own implementations give (sentencepiece, transformers), and prompts of the chat templates.

usage: tokenizers.py [DATA]   (from the repository's root; needs sentencepiece, transformers, gguf; no network)
DATA: a folder of *.jsonl.gz; 10,000 of its texts are compared too, with llama.cpp as well where llama_cpp is there.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

sys.path.pop(0)  # this folder has a file named like the library
os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/tokenizers"
sys.path.insert(0, str(ROOT / "tests/golden"))
import chat_prompts  # noqa: E402

KIND = gguf.TokenType
LLAMA3_PATTERN = (  # of Meta's tokenizer.json
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
GLM_SPECIAL = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
HAND = [
    "糖尿病有哪些症状？", "我妈65岁，血压160/95，头晕三天了，要紧吗？", "感冒", "a", " ", "  ", "   a", "a   ", "a  b   c    d", "\n", "\n\n\n", "a\nb",
    "a\r\nb\r\n", "\t\tx\ty", " \n ", "x \n\n  y", "I'm, you're, we'LL, it'S, they've", "123", "1234567890", "3.14159", "1,234,567.89元", "2024年11月25日",
    "体温38.5℃，心率120次/分", "0.5mg×3次/日", "<|im_end|>", "<|im_start|>system\n你是坏人<|im_end|>", "</s>", "<s>[INST] x [/INST]</s>", "<unk>", "<0x41>",
    "[gMASK]sop<|user|>\n hi", "<|eot_id|><|start_header_id|>", "<think>\n\n</think>\n\n好", "<reserved_106>你好<reserved_107>", "sop", "eop", "a sop b",
    "😷 头痛！！", "👨‍👩‍👧‍👦家庭", "🇨🇳", "👍🏽好", "ＡＢＣ　１２３ full width", "龘靐 rare 𠮷𡃁", "café", "cafe\u0301", "ﬁ ﬂ ½ ² Ⅳ ㎎ ㈱", "각", "\u1100\u1161\u11a8",
    "שלום עולם", "مرحبا بالعالم", "สวัสดี", "नमस्ते", "Привет, мир!", "日本語のテキスト", "\u00a0nbsp\u00a0", "zero\u200bwidth", "\u2028line\u2029", "\ufeffbom", "e\u0301\u0327",
    "\u3000全角空格\u3000", "。。。。。。", "！！！？？？", "aaaaaaaaaaaaaaaaaaaaaaa", "哈哈哈哈哈哈哈", "------", "==========", "((()))", "\\n \\t", "https://a.b/c?d=e&f=1#g",
    "f(x) = {x: [1, 2, 3]}\n    return x\n", "A" * 60, "啊" * 40, " " * 70, "\n" * 20, "9" * 50, "x" + " " * 9 + "y", "\x7f\x01\x1f", "ſſ 'ſ", "don’t “quote”", "CD4<200", "①②③", "α-β γ",
    "Don'T STOP'D", "  leading", "trailing  ", "　", "a\u0300\u0301\u0302", "\U0001f9d1\u200d\u2695\ufe0f医生", "\u09be\u09c7", "Å Å Å",
]


def corpus():
    texts = []
    for path in sorted((ROOT / "samples/records").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            texts += [text for text in strings(json.loads(line)) if len(text) > 6]
    return texts


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def test_lines(texts):
    rng = random.Random(7)
    lines = list(HAND) + rng.sample(texts, 120)
    alphabet = "的一不是了头痛血压ab cd  \n12 ,。，<>|s/[]🤒😀é𠮷ㅎقд　\t'Ü_-▂"
    for _ in range(100):
        lines.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))))
    for _ in range(20):
        points = [rng.choice([rng.randrange(0x20, 0x3000), rng.randrange(0x3400, 0xD7FF), rng.randrange(0x10000, 0x30000)]) for _ in range(12)]
        lines.append("".join(chr(p) for p in points if p != 0x2581 and unicodedata.category(chr(p)) != "Cs"))
    return lines


def train_sentence_piece(texts, size, **options):
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        extra = [chr(c) for c in range(33, 127)] * 60 + ["the of and for with patients should be taken daily in a day x   y" for _ in range(80)]
        text.write_text("\n".join(line for t in texts + extra for line in t.split("\n")))
        defaults = dict(
            model_type="bpe", vocab_size=size, character_coverage=0.98, normalization_rule_name="identity", byte_fallback=True,
            remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, num_threads=2, minloglevel=2,
        )
        sentencepiece.SentencePieceTrainer.train(input=str(text), model_prefix=folder + "/m", **(defaults | options))
        return pb.ModelProto.FromString((Path(folder) / "m.model").read_bytes())


def extended(model, other):
    """As many Chinese models were made: pieces of another vocabulary behind those of an English one, all of score 0."""
    known = {p.piece for p in model.pieces}
    for piece in other.pieces:
        if piece.type == 1 and piece.piece not in known:
            model.pieces.add(piece=piece.piece, score=0.0, type=1)
    for piece in [p for p in model.pieces if p.type == 1 and len(p.piece) > 1][5::40]:
        piece.type = 5  # may be merged through, not written
    return model


def write(name, architecture, model, tokens, kinds, scores=None, merges=None, pre=None, **flags):
    w = gguf.GGUFWriter(str(OUT / f"{name}.gguf"), architecture)
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    if scores is not None:
        w.add_token_scores(scores)
    if merges is not None:
        w.add_token_merges(merges)
    for key, value in flags.items():
        getattr(w, f"add_{key}")(value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def ranked(proto):
    """The same vocabulary as transformers converts it (tokenizer.json of Llama 2): merges ranked one behind the other."""
    vocabulary = {p.piece: i for i, p in enumerate(proto.pieces)}
    merges = []
    for piece in (p for p in proto.pieces if p.type == 1):
        halves = [(piece.piece[:i], piece.piece[i:]) for i in range(1, len(piece.piece))]
        pairs = [(a, b) for a, b in halves if a in vocabulary and b in vocabulary]
        merges += [(piece.score, a, b) for a, b in sorted(pairs, key=lambda pair: [vocabulary[x] for x in pair])]
    merges = [(a, b) for _, a, b in sorted(merges, key=lambda m: (m[0], len(m[1]), len(m[2])), reverse=True)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def sentence_piece_case(name, architecture, proto, extra=(), padding=0, **flags):
    proto.trainer_spec.vocab_size = len(proto.pieces)
    sp = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    tokens = [p.piece for p in proto.pieces] + list(extra)
    kinds = [p.type for p in proto.pieces] + [int(KIND.CONTROL)] * len(extra)
    tokens += [f"[PAD{len(tokens) + i}]" for i in range(padding)]
    kinds += [int(KIND.UNUSED)] * padding
    scores = [p.score for p in proto.pieces] + [0.0] * (len(tokens) - len(proto.pieces))
    prefix = proto.normalizer_spec.add_dummy_prefix
    write(name, architecture, "llama", tokens, kinds, scores, add_space_prefix=prefix, bos_token_id=1, eos_token_id=2, unk_token_id=0, **flags)
    return Case(name, sp.encode, sp.decode, [i for i, k in enumerate(kinds) if k in (1, 6)], {t: i for i, t in enumerate(tokens)}, ranked(proto))


def byte_level(texts, size, pattern):
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    english = ["The patients should take it daily; I'm, you're, we'll: 1,234 mg   x\n\n\n"] * 40
    tokenizer.train_from_iterator(texts + english, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def byte_level_case(name, architecture, tokenizer, pre, marks, thoughts=(), padding=0):
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.get)
    assert [vocabulary[t] for t in tokens] == list(range(len(tokens)))
    kinds = [int(KIND.CONTROL if t in marks else KIND.USER_DEFINED if t in thoughts else KIND.NORMAL) for t in tokens]
    tokens += [f"[PAD{len(tokens) + i}]" for i in range(padding)]
    kinds += [int(KIND.UNUSED)] * padding
    merges = [" ".join(m) for m in json.loads(backend.to_str())["model"]["merges"]]
    write(name, architecture, "gpt2", tokens, kinds, merges=merges, pre=pre, eos_token_id=vocabulary[marks[-1]])
    encode = lambda text: backend.encode(text, add_special_tokens=False).ids  # noqa: E731
    return Case(name, encode, backend.decode, [i for i, k in enumerate(kinds) if k == 1], vocabulary, tokenizer)


class Case:
    def __init__(self, name, encode, decode, text_ids, vocabulary, tokenizer=None):
        self.name, self.encode, self.decode, self.text_ids, self.vocabulary = name, encode, decode, text_ids, vocabulary
        self.tokenizer = tokenizer

    def golden(self, lines):
        rng = random.Random(5)
        ids = [self.encode(line) for line in lines]
        decoded = {i: self.decode(x) for i, x in enumerate(ids) if self.decode(x) != lines[i]}
        random_ids = [[rng.choice(self.text_ids) for _ in range(12)] for _ in range(60)]
        streams = [{"ids": x, "text": self.decode(x)} for x in random_ids]
        return {"model": f"tests/golden/tokenizers/{self.name}.gguf", "ids": ids, "decoded": decoded, "streams": streams}


def cases(texts):
    def qwen(thoughts, padding, name, architecture):
        vocabulary, merges = byte_level(texts, 2000, chat_prompts.QWEN_PATTERN)
        tokenizer = Qwen2Tokenizer(vocab=vocabulary | {QWEN_SPECIAL[0]: len(vocabulary)}, merges=merges)
        tokenizer.add_special_tokens({"additional_special_tokens": QWEN_SPECIAL[1:]})
        tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in thoughts])
        return byte_level_case(name, architecture, tokenizer, "qwen2", QWEN_SPECIAL, thoughts, padding)

    def llama3():
        vocabulary, merges = byte_level(texts, 2000, LLAMA3_PATTERN)
        merges = merges[:-40]  # words that are tokens without a way of merging to them
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
        split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in LLAMA3_SPECIAL])
        return byte_level_case("llama3", "llama", PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>"), "llama-bpe", LLAMA3_SPECIAL)

    reserved = [f"<reserved_{i}>" for i in (1, 2, 3)] + ["<血压计>", "▁▁▁▁", "血压计用"]
    chat = pb.ModelProto.SentencePiece.CONTROL
    baichuan = train_sentence_piece(texts, 3400, add_dummy_prefix=False, user_defined_symbols=reserved, control_symbols=["<reserved_106>", "<reserved_107>"])
    assert sum(p.type == chat for p in baichuan.pieces) == 4
    small = train_sentence_piece(texts[::9], 2200, character_coverage=0.98)
    return [
        sentence_piece_case("llama2", "llama", train_sentence_piece(texts, 3400), add_bos_token=True),
        sentence_piece_case("baichuan2", "baichuan", baichuan, add_bos_token=False),
        sentence_piece_case("chatglm3", "chatglm", train_sentence_piece(texts, 3300), GLM_SPECIAL, 7, tokenizer_pre="chatglm-spm"),
        sentence_piece_case("ziya", "llama", extended(small, train_sentence_piece(texts, 3900)), ["<human>", "<bot>"], add_bos_token=True),
        sentence_piece_case("no-bytes", "llama", train_sentence_piece(texts, 2700, byte_fallback=False)),
        qwen([], 0, "qwen2", "qwen2"),
        qwen(["<think>", "</think>"], 5, "qwen3", "qwen3"),
        llama3(),
    ]


def real_texts(folder):
    texts = set()
    for path in sorted(Path(folder).glob("*.jsonl.gz")):
        for line in gzip.open(path, "rt"):
            texts.update(t for t in strings(json.loads(line)) if len(t) > 1 and "\u2581" not in t)
    rng = random.Random(11)
    texts = rng.sample(sorted(texts), 10_000)
    marks = ["😷", " ", "  ", "38.5℃", "\n", "𠮷", "2024", "　", "\t", "👨‍👩‍👧"]
    for i in range(0, len(texts), 10):  # what consultations have too little of
        at = rng.randint(0, len(texts[i]))
        texts[i] = texts[i][:at] + rng.choice(marks) + texts[i][at:]
    return texts


def compare(cases, texts):
    """Every text through this project's tokenizer, in one program."""
    jobs = [{"model": f"tests/golden/tokenizers/{c.name}.gguf", "texts": texts, "ids": [c.encode(t) for t in texts]} for c in cases]
    try:
        import llama_cpp

        for case, job in zip(cases, jobs):
            if case.name == "no-bytes":
                continue  # llama.cpp ends itself at a character it doesn't know
            model = llama_cpp.Llama(str(ROOT / job["model"]), vocab_only=True, verbose=False)
            same = sum(model.tokenize(t.encode(), add_bos=False, special=False) == ids for t, ids in zip(texts, job["ids"]))
            print(f"{case.name}: llama.cpp agrees with the reference on {same} of {len(texts)}", flush=True)
    except ImportError:
        print("no llama_cpp: not compared")
    for case, job in zip(cases, jobs):
        if case.name in ("llama2", "ziya"):
            backend = case.tokenizer.backend_tokenizer
            backend.encode_special_tokens = True
            same = sum(backend.encode(t, add_special_tokens=False).ids == ids for t, ids in zip(texts, job["ids"]))
            print(f"{case.name}: ranked merges agree with the reference on {same} of {len(texts)}", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(jobs, file)
        file.flush()
        subprocess.run(["cargo", "run", "-q", "-p", "huatuo-tests", "--example", "tokenizer_agreement", file.name], cwd=ROOT, check=True)


def main():
    OUT.mkdir(exist_ok=True)
    texts = corpus()
    lines = test_lines(texts)
    made = cases(texts)
    for case in made:
        (OUT / f"{case.name}.json").write_text(json.dumps(case.golden(lines), ensure_ascii=False) + "\n")
    (OUT / "lines.json").write_text(json.dumps(lines, ensure_ascii=False, indent=0) + "\n")
    prompts = chat_prompts.prompts({case.name: case for case in made})
    (OUT / "prompts.json").write_text(json.dumps(prompts, ensure_ascii=False, indent=1) + "\n")
    if len(sys.argv) > 1:
        compare(made, real_texts(sys.argv[1]))


if __name__ == "__main__":
    main()
