//! What each chat template writes around the messages.

use std::fmt;

use huatuo_core::Message;

use crate::ChatTemplate;

/// What Llama 3.1's and 3.2's templates write where no date is given.
const LLAMA_DATES: &str = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
/// What HuatuoGPT was trained to be (its `huatuo_cli_demo_stream.py`).
const HUATUO: &str = "一位用户和智能医疗大模型HuatuoGPT之间的对话。对于用户的医疗问诊，HuatuoGPT给出准确的、详细的、温暖的指导建议。\
                      对于用户的指令问题，HuatuoGPT给出有益的、详细的、有礼貌的回答。";

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One special token, which the model must have.
    Mark(&'static str),
    /// One special token where the model has it, else text.
    Label(&'static str),
    /// Text, read without special tokens.
    Text(String),
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(text) | Self::Label(text) => f.write_str(text),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl ChatTemplate {
    /// Marks and texts of the messages, ending where the assistant begins to speak. Texts that follow each other are one.
    pub fn pieces(self, messages: &[Message]) -> Vec<Piece> {
        let mut script = Script::default();
        match self {
            Self::ChatMl { default_system } => script.chat_ml(messages, default_system),
            Self::Qwen3 => script.qwen3(messages),
            Self::Llama2 => script.llama2(messages),
            Self::Llama3 => script.llama3(messages),
            Self::Llama31 => script.llama31(messages),
            Self::Baichuan2 => script.baichuan2(messages),
            Self::ChatGlm2 => script.chatglm2(messages),
            Self::ChatGlm3 => script.chatglm3(messages),
            Self::HuatuoGpt => script.huatuo(messages),
            Self::HuatuoGpt2 => script.turns(messages, ["<问>", "<答>"], "："),
            Self::Ziya => script.turns(messages, ["<human>", "<bot>"], ":"),
        }
        script.pieces
    }
}

#[derive(Default)]
struct Script {
    pieces: Vec<Piece>,
}

impl Script {
    fn mark(&mut self, mark: &'static str) {
        self.pieces.push(Piece::Mark(mark));
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn chat_ml(&mut self, messages: &[Message], default_system: Option<&str>) {
        if let Some(system) = default_system.filter(|_| messages.first().is_none_or(|m| m.role != "system")) {
            self.chat_ml_message("system", system);
        }
        for message in messages {
            self.chat_ml_message(message.role, &message.content);
        }
        self.mark("<|im_start|>");
        self.text("assistant\n");
    }

    fn chat_ml_message(&mut self, role: &str, content: &str) {
        self.mark("<|im_start|>");
        self.text(&format!("{role}\n{content}"));
        self.mark("<|im_end|>");
        self.text("\n");
    }

    fn qwen3(&mut self, messages: &[Message]) {
        for message in messages {
            // Earlier answers are read without the thoughts before them.
            let content = match message.content.rsplit_once("</think>") {
                Some((_, answer)) if message.role == "assistant" => answer.trim_start_matches('\n'),
                _ => &message.content,
            };
            self.chat_ml_message(message.role, content);
        }
        self.mark("<|im_start|>");
        self.text("assistant\n<think>\n\n</think>\n\n");
    }

    fn llama2(&mut self, messages: &[Message]) {
        let (mut system, messages) = split_system(messages);
        for message in messages {
            let opening = system.take().map(|text| format!("<<SYS>>\n{text}\n<</SYS>>\n\n")).unwrap_or_default();
            let content = format!("{opening}{}", message.content);
            if message.role == "assistant" {
                self.text(&format!(" {} ", strip(&content)));
                self.mark("</s>");
            } else {
                self.mark("<s>");
                self.text(&format!("[INST] {} [/INST]", strip(&content)));
            }
        }
    }

    fn llama3(&mut self, messages: &[Message]) {
        self.mark("<|begin_of_text|>");
        for message in messages {
            self.llama3_message(message.role, strip(&message.content));
        }
        self.llama3_header("assistant");
    }

    fn llama31(&mut self, messages: &[Message]) {
        let (system, messages) = split_system(messages);
        self.mark("<|begin_of_text|>");
        self.llama3_message("system", &format!("{LLAMA_DATES}{}", strip(system.unwrap_or_default())));
        for message in messages {
            self.llama3_message(message.role, strip(&message.content));
        }
        self.llama3_header("assistant");
    }

    fn llama3_header(&mut self, role: &str) {
        self.mark("<|start_header_id|>");
        self.text(role);
        self.mark("<|end_header_id|>");
        self.text("\n\n");
    }

    fn llama3_message(&mut self, role: &str, content: &str) {
        self.llama3_header(role);
        self.text(content);
        self.mark("<|eot_id|>");
    }

    fn baichuan2(&mut self, messages: &[Message]) {
        for message in messages {
            match message.role {
                "system" => {}
                "assistant" => self.mark("<reserved_107>"),
                _ => self.mark("<reserved_106>"),
            }
            self.text(&message.content);
        }
        self.mark("<reserved_107>");
    }

    fn chatglm2(&mut self, messages: &[Message]) {
        self.mark("[gMASK]");
        self.mark("sop");
        let (mut system, messages) = split_system(messages);
        for (round, turn) in (1..).zip(messages.chunks(2)) {
            let question = with_system(system.take(), &turn[0].content);
            self.text(&format!("[Round {round}]\n\n问：{question}\n\n答："));
            if let Some(answer) = turn.get(1) {
                self.text(&format!("{}\n\n", answer.content));
            }
        }
    }

    fn chatglm3(&mut self, messages: &[Message]) {
        self.mark("[gMASK]");
        self.mark("sop");
        for message in messages {
            self.mark(match message.role {
                "system" => "<|system|>",
                "assistant" => "<|assistant|>",
                _ => "<|user|>",
            });
            self.text(&format!("\n {}", message.content));
        }
        self.mark("<|assistant|>");
    }

    fn huatuo(&mut self, messages: &[Message]) {
        let (system, messages) = split_system(messages);
        self.text(system.unwrap_or(HUATUO));
        for message in messages {
            if message.role == "assistant" {
                self.text(&message.content);
                self.mark("</s>");
            } else {
                self.text(&format!("<病人>：{} <HuatuoGPT>：", message.content));
            }
        }
    }

    /// Turns behind labels, for models that know no system text: it stands in front of the first question.
    fn turns(&mut self, messages: &[Message], [user, assistant]: [&'static str; 2], colon: &str) {
        let (mut system, messages) = split_system(messages);
        for message in messages {
            self.pieces.push(Piece::Label(if message.role == "assistant" { assistant } else { user }));
            self.text(&format!("{colon}{}\n", with_system(system.take(), &message.content)));
        }
        self.pieces.push(Piece::Label(assistant));
        self.text(colon);
    }
}

fn split_system(messages: &[Message]) -> (Option<&str>, &[Message]) {
    match messages.split_first() {
        Some((first, rest)) if first.role == "system" => (Some(&first.content), rest),
        _ => (None, messages),
    }
}

fn with_system(system: Option<&str>, content: &str) -> String {
    system.map_or_else(|| content.to_owned(), |system| format!("{system}\n{content}"))
}

/// Without the white space at both ends, as Python's `strip` (and so a Jinja template) sees it.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}
