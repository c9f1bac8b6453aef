//! The steps before and after the model: normalizers, pre-tokenizers, post-processors and decoders.
//!
//! Only steps that were read through are let pass, with the parameters that they can take: some panic at others, some
//! make a text longer each time they stand in a sequence, and expressions may be compiled to many times their length.

use serde_json::Value;

use crate::TokenizerError;
use crate::error::bad;

/// Steps of one kind, those in sequences counted; published files have up to six.
const MAX_STEPS: usize = 32;
/// How many times longer a text may become through the steps of one kind; Llama's normalizers make it 16 at most.
const MAX_GROWTH: usize = 256;
/// Expressions in a file, and bytes of each; published ones have up to 500.
const MAX_EXPRESSIONS: usize = 8;
const MAX_EXPRESSION: usize = 1024;
/// Product of all counted repetitions (`{1,3}`) of an expression, which is how often its parts are compiled.
const MAX_REPETITIONS: usize = 64;
/// A character of another text, in bytes, with the one that it stands before.
const CHARACTER: usize = 4;

/// What the steps of all kinds have asked for so far.
#[derive(Default)]
pub(crate) struct Steps {
    expressions: usize,
}

/// A kind of steps: its field, its name for the list in a sequence, and the check of one step.
struct Kind {
    field: &'static str,
    list: &'static str,
    /// How many times longer the step makes a text.
    growth: fn(&Step<'_>) -> Result<usize, TokenizerError>,
}

/// One step.
struct Step<'a> {
    /// Where it stands in the file.
    path: String,
    name: &'a str,
    value: &'a Value,
}

impl Steps {
    /// Checks the value of `normalizer`.
    pub fn normalizer(&mut self, value: &Value) -> Result<(), TokenizerError> {
        self.kind(&Kind { field: "normalizer", list: "normalizers", growth: normalizer }, value)
    }

    /// Checks the value of `pre_tokenizer`.
    pub fn pre_tokenizer(&mut self, value: &Value) -> Result<(), TokenizerError> {
        self.kind(&Kind { field: "pre_tokenizer", list: "pretokenizers", growth: pre_tokenizer }, value)
    }

    /// Checks the value of `post_processor`.
    pub fn post_processor(&mut self, value: &Value) -> Result<(), TokenizerError> {
        self.kind(&Kind { field: "post_processor", list: "processors", growth: post_processor }, value)
    }

    /// Checks the value of `decoder`.
    pub fn decoder(&mut self, value: &Value) -> Result<(), TokenizerError> {
        self.kind(&Kind { field: "decoder", list: "decoders", growth: decoder }, value)
    }

    fn kind(&mut self, kind: &Kind, value: &Value) -> Result<(), TokenizerError> {
        let (mut open, mut steps, mut growth) = (vec![(kind.field.to_owned(), value)], 0, 1usize);
        while let Some((path, value)) = open.pop() {
            if value.is_null() && path == kind.field {
                continue;
            }
            let name = value["type"].as_str().ok_or_else(|| bad(&path, "has no type"))?;
            steps += 1;
            if steps > MAX_STEPS {
                return Err(bad(kind.field, format!("has more than {MAX_STEPS} steps")));
            }
            if name == "Sequence" {
                let list = format!("{path}.{}", kind.list);
                let inner = value[kind.list].as_array().ok_or_else(|| bad(&list, "is not a list"))?;
                open.extend(inner.iter().enumerate().map(|(i, step)| (format!("{list}[{i}]"), step)));
                continue;
            }
            let step = Step { path, name, value };
            self.pattern(&step)?;
            growth = growth.saturating_mul((kind.growth)(&step)?);
            if growth > MAX_GROWTH {
                return Err(bad(kind.field, format!("makes texts more than {MAX_GROWTH} times longer")));
            }
        }
        Ok(())
    }

    fn pattern(&mut self, step: &Step<'_>) -> Result<(), TokenizerError> {
        let field = format!("{}.pattern", step.path);
        let pattern = &step.value["pattern"];
        let Some(text) = pattern["Regex"].as_str().or(pattern["String"].as_str()) else { return Ok(()) };
        self.expressions += 1;
        if self.expressions > MAX_EXPRESSIONS || text.len() > MAX_EXPRESSION {
            let reason = format!("is one too many or too long, at most {MAX_EXPRESSIONS} of {MAX_EXPRESSION} bytes");
            return Err(bad(&field, reason));
        }
        match pattern["Regex"].as_str().map_or(1, repetitions) {
            0..=MAX_REPETITIONS => Ok(()),
            _ => Err(bad(&field, format!("repeats its parts more than {MAX_REPETITIONS} times"))),
        }
    }
}

impl Step<'_> {
    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Bytes of a text that the step writes.
    fn len(&self, name: &str) -> Result<usize, TokenizerError> {
        let text = self.value[name].as_str().ok_or_else(|| bad(&self.field(name), "is not a text"))?;
        Ok(text.len())
    }

    fn unsupported(&self) -> TokenizerError {
        bad(&self.path, format!("is `{}`, which is not supported", self.name.chars().take(40).collect::<String>()))
    }
}

fn normalizer(step: &Step<'_>) -> Result<usize, TokenizerError> {
    match step.name {
        "BertNormalizer" | "Strip" | "StripAccents" | "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "Nmt" => Ok(1),
        "ByteLevel" => Ok(2),
        "Prepend" => Ok(1 + step.len("prepend")?),
        "Replace" => Ok(1 + step.len("content")?),
        _ => Err(step.unsupported()), // `Precompiled` believes every number of its table
    }
}

fn pre_tokenizer(step: &Step<'_>) -> Result<usize, TokenizerError> {
    match step.name {
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" | "Punctuation" | "Digits" | "UnicodeScripts"
        | "CharDelimiterSplit" | "Split" => Ok(1),
        "ByteLevel" => Ok(2),
        "Metaspace" => Ok(CHARACTER),
        "FixedLength" if step.value["length"] == 0 => Err(bad(&step.field("length"), "is 0")),
        "FixedLength" => Ok(1),
        _ => Err(step.unsupported()),
    }
}

fn post_processor(step: &Step<'_>) -> Result<usize, TokenizerError> {
    match step.name {
        "BertProcessing" | "RobertaProcessing" | "ByteLevel" => Ok(1),
        "TemplateProcessing" => template(step).map(|()| 1),
        _ => Err(step.unsupported()),
    }
}

/// The template of one text: the text once, and marks that the step defines.
fn template(step: &Step<'_>) -> Result<(), TokenizerError> {
    let field = step.field("single");
    let pieces = step.value["single"].as_array().map_or(&[][..], Vec::as_slice);
    let (tokens, mut texts, mut marks) = (&step.value["special_tokens"], 0, 0);
    for piece in pieces {
        let mark = &piece["SpecialToken"];
        if mark.is_null() {
            texts += usize::from(piece["Sequence"]["id"] == "A");
            continue;
        }
        marks += 1;
        let known = mark["id"].as_str().and_then(|id| tokens.get(id));
        let known = known.ok_or_else(|| bad(&field, format!("has {mark}, which `special_tokens` lacks")))?;
        if known["ids"].as_array().map(Vec::len) != known["tokens"].as_array().map(Vec::len) {
            return Err(bad(&step.field("special_tokens"), format!("has other ids than tokens for {mark}")));
        }
    }
    match texts == 1 && marks + 1 == pieces.len() {
        true => Ok(()),
        false => Err(bad(&field, "does not hold the text `A` once and marks")),
    }
}

fn decoder(step: &Step<'_>) -> Result<usize, TokenizerError> {
    match step.name {
        "ByteLevel" | "WordPiece" | "Fuse" | "ByteFallback" => Ok(1),
        // Each may write a space between any two characters.
        "BPEDecoder" | "CTC" => Ok(2),
        "Metaspace" => Ok(CHARACTER),
        "Replace" => Ok(1 + step.len("content")?),
        // At the end of a text that is all of the character, it would cut on.
        "Strip" if step.value["stop"] != 0 => Err(bad(&step.field("stop"), "is not 0, which is not supported")),
        "Strip" => Ok(1),
        _ => Err(step.unsupported()),
    }
}

/// Product of the counted repetitions in an expression; what only looks like one (`[{9}]`) counts too.
fn repetitions(expression: &str) -> usize {
    let counts = expression.split('{').skip(1).filter_map(|rest| {
        let (count, _) = rest.split_once('}')?;
        let numbers = count.split(',').map(|number| number.trim().parse::<usize>());
        numbers.filter_map(Result::ok).max()
    });
    counts.fold(1, |product: usize, count| product.saturating_mul(count.max(1)))
}
