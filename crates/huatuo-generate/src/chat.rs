//! Chat templates, known ones only: a template from a model file is recognised, never executed.

use huatuo_core::Message;

use crate::chat_forms::Piece;
use crate::{GenerateError, GgufHeader, TextTokenizer, Value};

/// Names of tokens that structure a conversation in one of the templates. Where a file declares them as tokens that a
/// user may write, they are not believed to be.
const MARKS: [&str; 24] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<reserved_102>",
    "<reserved_103>",
    "<reserved_106>",
    "<reserved_107>",
    "[gMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<human>",
    "<bot>",
];

/// How messages become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// `<|im_start|>role\ntext<|im_end|>\n` (Qwen2, Qwen2.5 and many others).
    ChatMl {
        /// System text of a conversation that has none.
        default_system: Option<&'static str>,
    },
    /// ChatML with an empty thought before the answer, so that Qwen3 answers directly (its `enable_thinking=False`).
    Qwen3,
    /// `[INST] <<SYS>>…<</SYS>> text [/INST]` (Llama 2).
    Llama2,
    /// `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>` (Llama 3).
    Llama3,
    /// Llama 3's with a date in the system text (Llama 3.1 and 3.2, HuatuoGPT-o1-8B).
    Llama31,
    /// `<reserved_106>text<reserved_107>` (Baichuan2-Chat).
    Baichuan2,
    /// `[Round 1]\n\n问：text\n\n答：` (ChatGLM2).
    ChatGlm2,
    /// `<|user|>\n text<|assistant|>` (ChatGLM3).
    ChatGlm3,
    /// `<病人>：text <HuatuoGPT>：` (HuatuoGPT-7B and 13B).
    HuatuoGpt,
    /// `<问>：text\n<答>：` (HuatuoGPT-II).
    HuatuoGpt2,
    /// `<human>:text\n<bot>:` (Ziya-LLaMA).
    Ziya,
}

impl ChatTemplate {
    /// The known templates, for messages.
    pub(crate) const NAMES: &'static str =
        "ChatML, Qwen3, Llama 2, Llama 3, Baichuan2-Chat, ChatGLM2, ChatGLM3, HuatuoGPT, HuatuoGPT-II, Ziya";

    /// Recognises the template that a model file carries, or its family's where it carries none.
    pub fn from_gguf(gguf: &GgufHeader) -> Result<Self, GenerateError> {
        let template = match gguf.metadata("tokenizer.chat_template") {
            Some(Value::Text(template)) => Self::from_text(template),
            Some(_) => None,
            None => Self::from_family(gguf),
        };
        template.ok_or(GenerateError::UnknownChatTemplate)
    }

    fn from_text(template: &str) -> Option<Self> {
        let has = |marks: &[&str]| marks.iter().all(|mark| template.contains(mark));
        Some(match () {
            () if has(&["<|im_start|>", "<|im_end|>", "enable_thinking"]) => Self::Qwen3,
            () if has(&["<|im_start|>", "<|im_end|>"]) => Self::ChatMl { default_system: default_system(template) },
            () if has(&["<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date"]) => Self::Llama31,
            () if has(&["<|start_header_id|>", "<|eot_id|>"]) => Self::Llama3,
            () if has(&["[INST]", "<<SYS>>"]) => Self::Llama2,
            () if has(&["<reserved_106>", "<reserved_107>"]) => Self::Baichuan2,
            () if has(&["[gMASK]sop", "<|"]) => Self::ChatGlm3,
            () if has(&["[Round ", "问：", "答："]) => Self::ChatGlm2,
            () if has(&["<病人>", "<HuatuoGPT>"]) => Self::HuatuoGpt,
            () if has(&["<问>：", "<答>："]) => Self::HuatuoGpt2,
            () if has(&["<human>", "<bot>"]) => Self::Ziya,
            () => return None,
        })
    }

    /// What the family's chat models were trained with. Baichuan and Llama are told apart by name, then by their tokens.
    fn from_family(gguf: &GgufHeader) -> Option<Self> {
        let name = gguf.text("general.name").unwrap_or_default().to_lowercase();
        let has_token = |token: &str| {
            let is_it = |value: &Value| matches!(value, Value::Text(text) if text == token);
            matches!(gguf.metadata("tokenizer.ggml.tokens"), Some(Value::Array(tokens)) if tokens.iter().any(is_it))
        };
        let is_huatuo2 = ["huatuogpt2", "huatuogpt-2", "huatuogpt-ii"].iter().any(|known| name.contains(known));
        Some(match gguf.text("general.architecture").ok()? {
            "baichuan" if is_huatuo2 => Self::HuatuoGpt2,
            "baichuan" | "llama" if name.contains("huatuo") && !name.contains("o1") => Self::HuatuoGpt,
            "baichuan" if has_token("<reserved_106>") => Self::Baichuan2,
            "baichuan" => Self::HuatuoGpt,
            "llama" if name.contains("ziya") => Self::Ziya,
            "llama" if has_token("<|start_header_id|>") => Self::Llama3,
            "llama" => Self::Llama2,
            "chatglm" if has_token("<|user|>") => Self::ChatGlm3,
            "chatglm" => Self::ChatGlm2,
            "qwen2" => Self::ChatMl { default_system: None },
            "qwen3" => Self::Qwen3,
            _ => return None,
        })
    }

    /// Tokens of the messages, ending where the assistant begins to speak. Marks inside a message stay text.
    pub fn encode(self, messages: &[Message], tokenizer: &TextTokenizer) -> Result<Vec<u32>, GenerateError> {
        let mut ids = Vec::new();
        if self.bos_is_the_tokenizers() {
            ids.extend(tokenizer.bos());
        }
        let mut text = String::new();
        for piece in self.pieces(messages) {
            let id = match piece {
                Piece::Mark(mark) => tokenizer.mark(mark)?,
                Piece::Label(label) => match tokenizer.mark(label) {
                    Ok(id) => id,
                    Err(_) => {
                        text.push_str(label);
                        continue;
                    }
                },
                Piece::Text(more) => {
                    text.push_str(&more);
                    continue;
                }
            };
            ids.extend(tokenizer.encode(&text)?);
            text.clear();
            ids.push(id);
        }
        ids.extend(tokenizer.encode(&text)?);
        Ok(ids)
    }

    /// Whether BOS stands in front where the model's tokenizer writes one by itself. The other templates write theirs
    /// (Llama 2 and 3) or want none (ChatML).
    fn bos_is_the_tokenizers(self) -> bool {
        matches!(self, Self::HuatuoGpt | Self::HuatuoGpt2 | Self::Ziya | Self::Baichuan2)
    }

    /// Marks that end the assistant's message: tokens where the model's tokenizer has them, else texts.
    pub fn stops(self) -> &'static [&'static str] {
        match self {
            Self::ChatMl { .. } | Self::Qwen3 => &["<|im_end|>", "<|endoftext|>"],
            Self::Llama3 | Self::Llama31 => &["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"],
            Self::Baichuan2 => &["</s>", "<reserved_106>"],
            Self::ChatGlm3 => &["</s>", "<eos>", "<|user|>", "<|observation|>"],
            Self::ChatGlm2 => &["</s>", "<eos>", "[Round"],
            Self::Llama2 => &["</s>"],
            Self::HuatuoGpt => &["</s>", "<病人>"],
            Self::HuatuoGpt2 => &["</s>", "<问>"],
            Self::Ziya => &["</s>", "<human>"],
        }
    }
}

/// System text that a ChatML template writes where a conversation has none.
fn default_system(template: &str) -> Option<&'static str> {
    [
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", // Qwen2.5
        "You are a helpful assistant.",                                         // Qwen2
    ]
    .into_iter()
    .find(|text| template.contains(text))
}

/// Whether a token structures conversations.
pub(crate) fn is_mark(token: &str) -> bool {
    MARKS.contains(&token)
}
