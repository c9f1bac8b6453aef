//! The messages a generator sees. A model's chat template turns them into text.

use crate::{Conversation, Reference, Role, without_citations};

/// What the generator is told to be; the default model was trained with exactly this text.
const SYSTEM: &str = "你是华佗医疗咨询助手。只依据参考资料回答，每句话用[编号]注明出处。";

/// What the question begins with.
const QUESTION: &str = "问题：";

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

/// Messages and the references they number.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// System text first, then earlier turns where the form has them, then the user's message.
    pub messages: Vec<Message>,
    /// References given, numbered from 1; no other number may be cited.
    pub references: Vec<PromptReference>,
}

/// What a generator may quote from a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptReference {
    /// The record's identifier.
    pub id: String,
    /// The physician's answer as it stands in the prompt.
    pub answer: String,
    /// The retriever's score, 0 to 1.
    pub score: f32,
}

/// Where references and earlier turns stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptForm {
    /// References and question in one user message, no earlier turns: what the default generator was trained with.
    OneMessage,
    /// References in the system text, earlier turns as messages of their own, the question last. Rounds about the same
    /// references begin alike, down to the answer before.
    Turns,
}

impl PromptForm {
    /// The prompt of a question. `query` is the question completed from the conversation, for the form without turns.
    pub fn prompt(
        self,
        (question, query): (&str, &str),
        conversation: &Conversation,
        references: &[Reference],
        excerpts: &[String],
    ) -> Prompt {
        let listed = listed(references, excerpts);
        let messages = match self {
            Self::OneMessage => one_message(listed + &format!("{QUESTION}{}", one_line(query))),
            Self::Turns => with_turns(listed, conversation, question),
        };
        let quoted = |(reference, excerpt): (&Reference, &String)| PromptReference {
            id: reference.id.clone(),
            answer: one_line(excerpt),
            score: reference.score,
        };
        Prompt { messages, references: references.iter().zip(excerpts).map(quoted).collect() }
    }

    /// Two prompts that share what every prompt in which these references stand first begins with, and nothing more: one
    /// goes on with a further reference, one with what follows the references.
    pub fn beginnings(self, references: &[Reference], excerpts: &[String]) -> [Vec<Message>; 2] {
        let listed = listed(references, excerpts);
        let further = format!("{listed}[{}] ", references.len() + 1);
        match self {
            Self::OneMessage => [one_message(further), one_message(listed + QUESTION)],
            Self::Turns => [further, listed].map(|listed| with_turns(listed, &Conversation::default(), QUESTION)),
        }
    }
}

fn listed(references: &[Reference], excerpts: &[String]) -> String {
    let mut content = String::from("参考资料：\n");
    for (n, (reference, excerpt)) in references.iter().zip(excerpts).enumerate() {
        content.push_str(&format!("[{}] {}\n{}\n", n + 1, one_line(&reference.question), one_line(excerpt)));
    }
    content
}

fn one_message(content: String) -> Vec<Message> {
    vec![Message { role: "system", content: SYSTEM.to_owned() }, Message { role: "user", content }]
}

fn with_turns(listed: String, conversation: &Conversation, question: &str) -> Vec<Message> {
    let mut messages = vec![Message { role: "system", content: format!("{SYSTEM}\n{listed}") }];
    for turn in &conversation.turns {
        let role = match turn.role {
            Role::Patient => "user",
            Role::Assistant => "assistant",
        };
        // Numbers in an earlier answer meant that round's references.
        let content = without_citations(&turn.text);
        match messages.last_mut().filter(|last| last.role == role) {
            Some(last) => last.content.push_str(&format!("\n{content}")), // a round that was stopped has no answer
            None => messages.push(Message { role, content }),
        }
    }
    match messages.last_mut().filter(|last| last.role == "user") {
        Some(last) => last.content.push_str(&format!("\n{question}")),
        None => messages.push(Message { role: "user", content: question.to_owned() }),
    }
    messages
}

/// A record must not be able to fake a new line of the prompt, or to bring citation marks of its own.
pub(crate) fn one_line(text: &str) -> String {
    let text = without_citations(text);
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_add_lines_to_the_prompt() {
        let reference = Reference {
            id: "1".into(),
            question: "问\n[2] 假".into(),
            answer: "答".into(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score: 1.0,
        };
        let prompt = PromptForm::OneMessage.prompt(
            ("它怎么办", "头痛怎么办"),
            &Conversation::default(),
            &[reference],
            &["答".to_owned()],
        );
        assert_eq!(prompt.messages[1].content, "参考资料：\n[1] 问 假\n答\n问题：头痛怎么办");
    }

    #[test]
    fn turns_stand_between_references_and_question() {
        let mut conversation = Conversation::default();
        conversation.push_round("发烧", "多喝水[1]。");
        conversation.turns.push(crate::Turn { role: Role::Patient, text: "还咳嗽".to_owned() });
        let prompt = PromptForm::Turns.prompt(("怎么办", ""), &conversation, &[], &[]);
        let shown: Vec<_> = prompt.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        let system = format!("{SYSTEM}\n参考资料：\n");
        assert_eq!(
            shown,
            [("system", &*system), ("user", "发烧"), ("assistant", "多喝水。"), ("user", "还咳嗽\n怎么办")]
        );
    }
}
