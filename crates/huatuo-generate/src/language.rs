//! What a model's tokens mean: its tokenizer, its chat template, and what ends an answer.

use std::sync::Arc;

use huatuo_core::{Message, Prompt, PromptForm};

use crate::citation_mask::MarkTokens;
use crate::{ChatTemplate, GenerateError, GgufHeader, TextTokenizer};

/// Turns give way to the longest answer, but not to more than this part of the context.
const ANSWER_SHARE: usize = 4;

/// All of a model but its network.
pub struct Language {
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    stops: Vec<u32>,
    /// Marks of the template that are no tokens, which end an answer as texts.
    text_stops: Vec<&'static str>,
    /// Whether the model may only quote.
    is_extractive: bool,
    marks: Arc<MarkTokens>,
    /// Rows of the embedding.
    vocabulary: usize,
    /// Most tokens of prompt and answer together.
    context: usize,
}

impl Language {
    /// Reads a model file's header, with the tokenizer of a `tokenizer.json` where one is given, else with the file's own.
    /// `vocabulary` is how many tokens the network knows, `context` how many it can hold.
    pub fn new(
        gguf: &GgufHeader,
        tokenizer: Option<&[u8]>,
        vocabulary: usize,
        context: usize,
    ) -> Result<Self, GenerateError> {
        let template = ChatTemplate::from_gguf(gguf)?;
        let tokenizer = match tokenizer {
            Some(json) => TextTokenizer::from_json(json)?.with_ends(gguf)?,
            None => TextTokenizer::from_gguf(gguf)?,
        };
        let (stops, text_stops) = stops(template, &tokenizer)?;
        let tokens = tokenizer.len();
        if tokens > vocabulary {
            return Err(GenerateError::TokenizerMismatch { tokens, rows: vocabulary });
        }
        let is_extractive = gguf.text("huatuo.answering") == Ok("extractive");
        let marks = Arc::new(MarkTokens::new(&tokenizer, vocabulary));
        Ok(Self { tokenizer, template, stops, text_stops, is_extractive, marks, vocabulary, context })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Tokens that end an answer.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Texts that end an answer.
    pub(crate) fn text_stops(&self) -> &[&'static str] {
        &self.text_stops
    }

    /// Whether the model may only quote its references.
    pub fn is_extractive(&self) -> bool {
        self.is_extractive
    }

    /// The tokens that citation marks are made of.
    pub(crate) fn marks(&self) -> &Arc<MarkTokens> {
        &self.marks
    }

    /// Tokens that the network knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Most tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The same where there is room for no more than `tokens`.
    pub fn within(self, tokens: usize) -> Self {
        Self { context: self.context.min(tokens), ..self }
    }

    /// The form of prompts that the model answers best.
    pub fn form(&self) -> PromptForm {
        match self.is_extractive {
            true => PromptForm::OneMessage,
            false => PromptForm::Turns,
        }
    }

    /// Tokens of a prompt's messages under the chat template.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        self.template.encode(messages, &self.tokenizer)
    }

    /// Refuses a text that the network can't hold together with one token more.
    pub fn check(&self, ids: &[u32]) -> Result<(), GenerateError> {
        if ids.is_empty() {
            return Err(GenerateError::Tokenizer("it has no token for any of the prompt".to_owned()));
        }
        match ids.len() < self.context {
            true => Ok(()),
            false => Err(GenerateError::ContextOverflow { tokens: ids.len(), context: self.context }),
        }
    }

    /// Tokens of a prompt, without as many of its oldest turns as there is no room for beside an answer of `max_tokens`, and
    /// the number of messages left out. System text, references and question are never shortened.
    pub fn fit(&self, prompt: &Prompt, max_tokens: usize) -> Result<(Vec<u32>, usize), GenerateError> {
        let answer = max_tokens.min(self.context / ANSWER_SHARE);
        let mut messages = prompt.messages.clone();
        loop {
            let ids = self.encode_prompt(&messages)?;
            let dropped = prompt.messages.len() - messages.len();
            if ids.len() + answer <= self.context || drop_oldest_round(&mut messages) == 0 {
                return Ok((ids, dropped));
            }
        }
    }
}

/// Takes the oldest round out of a prompt's messages: a question and, where there is one, its answer.
fn drop_oldest_round(messages: &mut Vec<Message>) -> usize {
    let earlier = 1..messages.len() - 1; // between system text and question
    let second = messages[earlier.clone()].get(1).is_some_and(|message| message.role == "assistant");
    let dropped = earlier.len().min(1 + usize::from(second));
    messages.drain(1..1 + dropped);
    dropped
}

/// Tokens that end an answer: the template's, as far as the tokenizer has them, and those that the file names. Then the
/// template's marks that are no tokens.
fn stops(template: ChatTemplate, tokenizer: &TextTokenizer) -> Result<(Vec<u32>, Vec<&'static str>), GenerateError> {
    let (marks, texts): (Vec<&str>, _) = template.stops().iter().partition(|mark| tokenizer.mark(mark).is_ok());
    let mut stops = marks.iter().map(|mark| tokenizer.mark(mark)).collect::<Result<Vec<u32>, _>>()?;
    stops.extend(tokenizer.eos());
    match stops.is_empty() {
        true => Err(GenerateError::Tokenizer("it has no token that ends an answer".to_owned())),
        false => Ok((stops, texts)),
    }
}
