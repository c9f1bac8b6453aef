//! Plain objects that cross to JavaScript and back.

use huatuo_core::{Consultation, Conversation, Event, Reference, Role, Timings, Turn, safety::RedFlag};
use huatuo_generate::Sampling;
use huatuo_index::{Statistics, StoreState};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use crate::error::EngineError;

/// One turn of the history.
#[derive(Deserialize)]
pub struct WireTurn {
    role: WireRole,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireRole {
    Patient,
    Assistant,
}

/// Options of a consultation; absent ones have the defaults of the command line.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WireOptions {
    seed: u64,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    repetition_penalty: f64,
    repetition_window: usize,
    repetition_in_prompt: bool,
    max_tokens: usize,
    stop: Vec<String>,
    pub references_only: bool,
    /// References retrieved and given to the generator.
    pub references: Option<usize>,
    /// Characters of their answers that the generator is given.
    pub prompt_characters: Option<usize>,
    /// Read everything anew and nothing ahead, for comparisons.
    pub without_reuse: bool,
}

impl Default for WireOptions {
    fn default() -> Self {
        let sampling = Sampling::default();
        Self {
            seed: sampling.seed,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            repetition_window: sampling.repetition_window,
            repetition_in_prompt: sampling.repetition_in_prompt,
            max_tokens: sampling.max_tokens,
            stop: sampling.stop_strings,
            references_only: false,
            references: None,
            prompt_characters: None,
            without_reuse: false,
        }
    }
}

impl WireOptions {
    /// Reads the options and checks that they are in range.
    pub fn from_js(options: JsValue) -> Result<Self, EngineError> {
        let options: Self =
            serde_wasm_bindgen::from_value(options).map_err(|error| EngineError::options(error.to_string()))?;
        options.sampling().check()?;
        Ok(options)
    }

    /// How the answer is written.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            repetition_window: self.repetition_window,
            repetition_in_prompt: self.repetition_in_prompt,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop_strings: self.stop.clone(),
        }
    }
}

/// The history as the core knows it.
pub fn conversation(turns: Vec<WireTurn>) -> Conversation {
    let turn = |turn: WireTurn| Turn {
        role: match turn.role {
            WireRole::Patient => Role::Patient,
            WireRole::Assistant => Role::Assistant,
        },
        text: turn.text,
    };
    Conversation { turns: turns.into_iter().map(turn).collect() }
}

#[derive(Clone, Copy, Serialize)]
pub struct WireRedFlag {
    id: &'static str,
    advice: &'static str,
    advice_en: &'static str,
}

/// Red flags as plain objects.
pub fn red_flags(flags: &[RedFlag]) -> Vec<WireRedFlag> {
    let flag = |f: &RedFlag| WireRedFlag { id: f.id, advice: f.advice, advice_en: f.advice_en };
    flags.iter().map(flag).collect()
}

#[derive(Serialize)]
struct WireReference<'a> {
    n: usize,
    id: &'a str,
    question: &'a str,
    answer: &'a str,
    source: &'a str,
    department: &'a str,
    related_diseases: &'a [String],
    score: f32,
    /// The same number under the name that a patient reads.
    similarity: f32,
}

fn references(references: &[Reference]) -> Vec<WireReference<'_>> {
    references
        .iter()
        .enumerate()
        .map(|(i, r)| WireReference {
            n: i + 1,
            id: &r.id,
            question: &r.question,
            answer: &r.answer,
            source: &r.source,
            department: &r.department,
            related_diseases: &r.related_diseases,
            score: r.score,
            similarity: r.score,
        })
        .collect()
}

#[derive(Serialize)]
struct WireSentence<'a> {
    text: &'a str,
    supported: bool,
    citations: &'a [usize],
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireEvent<'a> {
    RedFlags { flags: Vec<WireRedFlag> },
    References { references: Vec<WireReference<'a>>, query: &'a str, weak: bool },
    Text { text: &'a str },
    Sentence(WireSentence<'a>),
    Notice { text: &'a str },
}

/// An event as a plain object.
pub fn event(event: &Event<'_>) -> JsValue {
    let wire = match event {
        Event::RedFlags(flags) => WireEvent::RedFlags { flags: red_flags(flags) },
        Event::References(retrieval) => WireEvent::References {
            references: references(&retrieval.references),
            query: &retrieval.query,
            weak: retrieval.weak,
        },
        Event::Text(text) => WireEvent::Text { text },
        Event::Sentence(s) => {
            WireEvent::Sentence(WireSentence { text: &s.text, supported: s.supported, citations: &s.citations })
        }
        Event::Notice(text) => WireEvent::Notice { text },
    };
    to_js(&wire)
}

#[derive(Serialize)]
struct WireConsultation<'a> {
    answer: &'a str,
    sentences: Vec<WireSentence<'a>>,
    references: Vec<WireReference<'a>>,
    safety: WireSafety<'a>,
    abstained: bool,
    aborted: bool,
    tokens: usize,
    prompt_tokens: usize,
    cached_tokens: usize,
    timings_ms: WireTimings,
    statistics: WireStatistics,
}

#[derive(Serialize)]
struct WireSafety<'a> {
    red_flags: Vec<WireRedFlag>,
    notices: &'a [String],
}

#[derive(Serialize)]
struct WireTimings {
    embed: f64,
    retrieve: f64,
    excerpt: f64,
    read_ahead: f64,
    prefill: f64,
    first_token: f64,
    decode: f64,
}

impl From<Timings> for WireTimings {
    fn from(timings: Timings) -> Self {
        let Timings { embed, retrieve, excerpt, read_ahead, prefill, first_token, decode } = timings;
        Self { embed, retrieve, excerpt, read_ahead, prefill, first_token, decode }
    }
}

#[derive(Serialize)]
struct WireStatistics {
    bytes: f64,
    requests: f64,
    stored_bytes: f64,
    trips: f64,
    lists: f64,
    milliseconds: WireMilliseconds,
}

/// What is kept of the index on the device.
#[derive(Serialize)]
pub struct WireStore {
    bytes: f64,
    full: bool,
}

impl From<StoreState> for WireStore {
    fn from(StoreState { bytes, full }: StoreState) -> Self {
        Self { bytes: bytes as f64, full }
    }
}

#[derive(Serialize)]
struct WireMilliseconds {
    fetch: f64,
    decode: f64,
    scan: f64,
}

/// A finished consultation as a plain object.
pub fn consultation(result: &Consultation, statistics: &Statistics) -> JsValue {
    to_js(&WireConsultation {
        answer: &result.answer,
        sentences: (result.sentences.iter())
            .map(|s| WireSentence { text: &s.text, supported: s.supported, citations: &s.citations })
            .collect(),
        references: references(&result.references),
        safety: WireSafety { red_flags: red_flags(&result.red_flags), notices: &result.notices },
        abstained: result.abstained,
        aborted: result.aborted,
        tokens: result.generation.tokens,
        prompt_tokens: result.generation.prompt_tokens,
        cached_tokens: result.generation.cached_tokens,
        timings_ms: result.timings.into(),
        statistics: WireStatistics {
            bytes: statistics.bytes as f64,
            requests: statistics.requests as f64,
            stored_bytes: statistics.stored_bytes as f64,
            trips: statistics.trips as f64,
            lists: statistics.lists as f64,
            milliseconds: WireMilliseconds {
                fetch: statistics.fetch_ms,
                decode: statistics.decode_ms,
                scan: statistics.scan_ms,
            },
        },
    })
}

/// Objects rather than maps, so that JavaScript reads fields.
pub fn to_js(value: &impl Serialize) -> JsValue {
    // Plain data of numbers, texts and lists always has a JavaScript form.
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}
