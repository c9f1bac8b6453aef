//! Chat templates, known ones only: a template from a model file is recognised, never executed.

use huatuo_core::Message;

use crate::{GenerateError, GgufHeader, TextTokenizer};

/// How messages become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// `<|im_start|>role\ntext<|im_end|>\n` (Qwen and many others).
    ChatMl,
}

impl ChatTemplate {
    /// Recognises the template that a model file carries.
    pub fn from_gguf(gguf: &GgufHeader) -> Result<Self, GenerateError> {
        match gguf.text("tokenizer.chat_template") {
            Ok(template) if template.contains("<|im_start|>") && template.contains("<|im_end|>") => Ok(Self::ChatMl),
            _ => Err(GenerateError::UnknownChatTemplate),
        }
    }

    /// Tokens of the messages, ending where the assistant begins to speak. Marks inside a message stay text.
    pub fn encode(self, messages: &[Message], tokenizer: &TextTokenizer) -> Result<Vec<u32>, GenerateError> {
        let (start, end) = (tokenizer.mark("<|im_start|>")?, tokenizer.mark("<|im_end|>")?);
        let mut ids = Vec::new();
        for message in messages {
            ids.push(start);
            ids.extend(tokenizer.encode(&format!("{}\n{}", message.role, message.content))?);
            ids.push(end);
            ids.extend(tokenizer.encode("\n")?);
        }
        ids.push(start);
        ids.extend(tokenizer.encode("assistant\n")?);
        Ok(ids)
    }

    /// Marks that end the assistant's message.
    pub fn stops(self) -> &'static [&'static str] {
        match self {
            Self::ChatMl => &["<|im_end|>", "<|endoftext|>"],
        }
    }
}
