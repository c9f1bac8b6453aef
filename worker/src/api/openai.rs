//! What OpenAI's clients send beside messages and prompts, and what becomes of it.

use std::fmt;

use huatuo_generate::Sampling;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::ApiError;
use super::error::ErrorBody;
use crate::config::Limits;

/// Fields that chat and text completions share.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Wishes {
    /// A name of `GET /v1/models`; without one, the first of them.
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// Whether the answer comes as server-sent events.
    #[serde(default)]
    #[schema(nullable = true)]
    pub stream: Option<bool>,
    /// What a stream tells beside the text.
    pub stream_options: Option<StreamOptions>,
    /// Most tokens of the answer; at most the operator's `limits.max_tokens`.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The same under its newer name.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// 0 is greedy; 1 where it is not given.
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub temperature: Option<f64>,
    /// Probability mass considered.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub top_p: Option<f64>,
    /// Likeliest tokens considered; 0 considers all.
    pub top_k: Option<u64>,
    /// Probability a token must have as a share of the likeliest one's.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub min_p: Option<f64>,
    /// Above 1, tokens that the answer has already become less likely.
    #[schema(minimum = 0.01, maximum = 100.0)]
    pub repetition_penalty: Option<f64>,
    /// Seed of the random numbers.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Option<Stop>,
    /// Answers.
    #[schema(minimum = 1)]
    pub n: Option<u64>,
    /// Whether the text goes on behind tokens that end it, for measurements.
    pub ignore_eos: Option<bool>,
    /// Only 0 is supported.
    #[schema(minimum = 0, maximum = 0)]
    pub presence_penalty: Option<f64>,
    /// Only 0 is supported.
    #[schema(minimum = 0, maximum = 0)]
    pub frequency_penalty: Option<f64>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    pub logit_bias: Option<Shape>,
}

/// What a stream tells beside the text.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk tells how many tokens there were.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// An event of a stream: a part of the answer, or, as the last one, why it ended early.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum Streamed<T> {
    /// A part.
    Part(T),
    /// Why it ended early.
    Error(ErrorBody),
}

/// The schema of a switch that can't be switched on.
pub fn only_false() -> utoipa::openapi::schema::Object {
    let any = utoipa::openapi::schema::SchemaType::AnyValue;
    utoipa::openapi::ObjectBuilder::new().schema_type(any).enum_values(Some([Value::Bool(false), Value::Null])).build()
}

/// One text or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of all answers.
    pub completion_tokens: usize,
    /// Of both.
    pub total_tokens: usize,
    /// Of the prompt, those that had not to be read.
    pub prompt_tokens_details: PromptTokens,
}

/// Parts of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokens {
    /// Tokens that had not to be read.
    pub cached_tokens: usize,
}

/// Limits checked before anything is made, and how the text is written.
pub struct Asked {
    /// How the text is written; `max_tokens` is what was asked for, or the limit.
    pub sampling: Sampling,
    /// Whether the client said how long the answer may be.
    pub has_max_tokens: bool,
    /// Answers.
    pub n: usize,
    /// Whether the text goes on behind tokens that end it.
    pub ignores_stops: bool,
    /// Whether it is streamed.
    pub stream: bool,
    /// Whether a stream tells its tokens.
    pub include_usage: bool,
}

impl Wishes {
    /// Checks everything against the limits.
    pub fn check(&self, limits: &Limits) -> Result<Asked, ApiError> {
        if self.presence_penalty.is_some_and(|penalty| penalty != 0.0) {
            return Err(unsupported("presence_penalty", "leave it out, or use repetition_penalty"));
        }
        if self.frequency_penalty.is_some_and(|penalty| penalty != 0.0) {
            return Err(unsupported("frequency_penalty", "leave it out, or use repetition_penalty"));
        }
        if self.logit_bias.as_ref().is_some_and(|bias| *bias != Shape::EmptyObject) {
            return Err(unsupported("logit_bias", "leave it out"));
        }
        let most = |field, value: Option<u64>, most: usize, default: usize| match value {
            None => Ok(default),
            Some(value) if (1..=most as u64).contains(&value) => Ok(value as usize),
            Some(value) => Err(ApiError::field(field, format!("is {value}, expected 1 to {most}"))),
        };
        let n = most("n", self.n, limits.choices, 1)?;
        let asked = self.max_completion_tokens.or(self.max_tokens);
        let max_tokens = most(self.max_tokens_field(), asked, limits.max_tokens, limits.max_tokens)?;
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0).try_into().unwrap_or(usize::MAX),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            seed: seed(self.seed)?,
            max_tokens,
            stop_strings: stops(self.stop.as_ref(), limits)?,
            ..Sampling::default()
        };
        Ok(Asked {
            sampling,
            has_max_tokens: asked.is_some(),
            n,
            ignores_stops: self.ignore_eos.unwrap_or(false),
            stream: self.stream.unwrap_or(false),
            include_usage: self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false),
        })
    }

    /// The name under which a client says how long the answer may be: some servers know but one of them.
    fn max_tokens_field(&self) -> &'static str {
        if self.max_completion_tokens.is_some() { "max_completion_tokens" } else { "max_tokens" }
    }

    /// What an upstream is asked beside the prompt: fields that were checked, and no others.
    pub fn forwarded(&self, asked: &Asked) -> Map<String, Value> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        };
        set("stream", json!(true));
        set("stream_options", json!({ "include_usage": asked.include_usage || !asked.stream }));
        set("n", json!(asked.n));
        set(self.max_tokens_field(), json!(asked.sampling.max_tokens));
        set("temperature", json!(self.temperature));
        set("top_p", json!(self.top_p));
        set("top_k", json!(self.top_k));
        set("min_p", json!(self.min_p));
        set("repetition_penalty", json!(self.repetition_penalty));
        set("seed", json!(self.seed));
        set("ignore_eos", json!(self.ignore_eos));
        if !asked.sampling.stop_strings.is_empty() {
            set("stop", json!(asked.sampling.stop_strings));
        }
        body
    }
}

/// What stands in a field that is not supported, without keeping it: it may be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[]`.
    EmptyList,
    /// `{}`.
    EmptyObject,
    /// A text.
    Text(String),
    /// Anything else.
    Something,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Something)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Something)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Something)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Something)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Something)
            }
            fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
                Ok(Shape::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
                let mut shape = Shape::EmptyList;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    shape = Shape::Something;
                }
                Ok(shape)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
                let mut shape = Shape::EmptyObject;
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    shape = Shape::Something;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

/// What this server doesn't do.
pub fn unsupported(field: &'static str, instead: &'static str) -> ApiError {
    ApiError::Unsupported { field, instead }
}

/// Refuses a number out of its range.
pub fn within(field: &'static str, value: Option<f64>, least: f64, most: f64) -> Result<(), ApiError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(ApiError::field(field, format!("is {value}, expected {least} to {most}")))
        }
        _ => Ok(()),
    }
}

/// A seed, one that differs from request to request where none is given.
pub fn seed(given: Option<i64>) -> Result<u64, ApiError> {
    match given {
        Some(seed) => Ok(seed.cast_unsigned()),
        None => getrandom::u64().map_err(|error| ApiError::Failed(error.to_string())),
    }
}

/// Stop texts within the limits.
pub fn stops(stop: Option<&Stop>, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text.clone()],
        Some(Stop::Several(texts)) => texts.clone(),
    };
    if stops.len() > limits.stops {
        return Err(ApiError::field("stop", format!("has {} texts, expected at most {}", stops.len(), limits.stops)));
    }
    let most = limits.stop_characters;
    if stops.iter().any(|stop| stop.is_empty() || stop.chars().count() > most) {
        return Err(ApiError::field("stop", format!("has a text that is empty or longer than {most} characters")));
    }
    Ok(stops)
}

/// Refuses a prompt that is longer than the limits, before anything is made of it.
pub fn check_characters(field: &'static str, texts: &[&str], limits: &Limits) -> Result<(), ApiError> {
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    match characters > limits.prompt_characters {
        true => Err(ApiError::field(
            field,
            format!("has {characters} characters, expected at most {}", limits.prompt_characters),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<Asked, ApiError> {
        serde_json::from_str::<Wishes>(json).unwrap().check(&Limits::default())
    }

    #[test]
    fn a_giant_n_or_max_tokens_is_refused_before_anything_is_made() {
        for json in [r#"{"n":1000000000}"#, r#"{"max_tokens":18446744073709551615}"#, r#"{"max_completion_tokens":0}"#]
        {
            assert!(matches!(check(json), Err(ApiError::Field { .. })), "{json}");
        }
    }

    #[test]
    fn negative_numbers_are_no_sizes() {
        for json in [r#"{"n":-1}"#, r#"{"max_tokens":-5}"#, r#"{"top_k":-1}"#, r#"{"max_tokens":1e99}"#] {
            assert!(serde_json::from_str::<Wishes>(json).is_err(), "{json}");
        }
        assert_eq!(check(r#"{"seed":-1}"#).ok().map(|asked| asked.sampling.seed), Some(u64::MAX));
    }

    #[test]
    fn what_is_not_done_is_said_to_be_so() {
        for json in [r#"{"presence_penalty":1}"#, r#"{"logit_bias":{"1":5}}"#, r#"{"logit_bias":[]}"#] {
            assert!(matches!(check(json), Err(ApiError::Unsupported { .. })), "{json}");
        }
        assert!(check(r#"{"presence_penalty":0,"logit_bias":{}}"#).is_ok());
    }

    #[test]
    fn an_upstream_is_asked_for_what_was_checked() {
        let wishes: Wishes =
            serde_json::from_str(r#"{"max_completion_tokens":3,"max_tokens":1000000,"seed":-1}"#).unwrap();
        let asked = wishes.check(&Limits::default()).ok().unwrap();
        let body = Value::Object(wishes.forwarded(&asked));
        let wanted =
            json!({"stream":true,"stream_options":{"include_usage":true},"n":1,"max_completion_tokens":3,"seed":-1});
        assert_eq!(body, wanted);
        let body = Wishes::default().forwarded(&Wishes::default().check(&Limits::default()).ok().unwrap());
        assert_eq!(body["max_tokens"], json!(Limits::default().max_tokens));
    }

    #[test]
    fn stop_texts_are_bounded() {
        assert!(check(r#"{"stop":["1","2","3","4","5","6","7","8","9"]}"#).is_err());
        assert!(check(r#"{"stop":""}"#).is_err());
        assert_eq!(
            check(r#"{"stop":"。"}"#).ok().map(|asked| asked.sampling.stop_strings),
            Some(vec!["。".to_owned()])
        );
    }
}
