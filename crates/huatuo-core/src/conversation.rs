//! The rounds before the present question.

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person who asks.
    Patient,
    /// The answer that was given.
    Assistant,
}

/// One utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who spoke.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// Earlier turns, oldest first; the present question is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The turns, oldest first.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// What the patient said so far, newest first.
    pub fn patient_texts(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().rev().filter(|turn| turn.role == Role::Patient).map(|turn| turn.text.as_str())
    }

    /// Adds a finished round.
    pub fn push_round(&mut self, question: &str, answer: &str) {
        self.turns.push(Turn { role: Role::Patient, text: question.to_owned() });
        self.turns.push(Turn { role: Role::Assistant, text: answer.to_owned() });
    }
}
