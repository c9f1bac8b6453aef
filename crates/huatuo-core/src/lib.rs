//! The domain of a grounded medical consultation.
//!
//! This crate does no input or output and knows no tensor, no JavaScript and no HTTP. Every host (browser, edge,
//! command line, worker) answers through [`consult()`], so the safety rules and the grounding checks can't be skipped.

mod consult;
mod conversation;
mod excerpt;
mod grounding;
mod prompt;
mod question;
mod reference;
pub mod safety;
mod sentence;
mod stream_gate;

pub use consult::{
    ConsultError, Consultation, Event, GenerationStatistics, Generator, Limits, Observer, Retrieval, Retriever,
    Timings, consult,
};
pub use conversation::{Conversation, Role, Turn};
pub use grounding::{Support, check_sentence};
pub use prompt::{Message, Prompt, PromptForm, PromptReference};
pub use question::{MAX_QUESTION_CHARS, Question, QuestionError};
pub use reference::Reference;
pub use sentence::{Sentence, citations_in, split_sentences, without_citations};
