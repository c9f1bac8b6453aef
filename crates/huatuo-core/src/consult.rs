//! One consultation: red flags, retrieval, abstention or generation, grounding. Every host goes through here.

use std::ops::ControlFlow;

use crate::excerpt::excerpts;
use crate::grounding::mark;
use crate::safety::{self, RedFlag, red_flags};
use crate::stream_gate::{Release, StreamGate};
use crate::{Conversation, Prompt, Question, Reference, Sentence, build_prompt, without_citations};

/// Finds references for a question in the light of the conversation.
#[allow(async_fn_in_trait)] // hosts run it on one thread: the browser's futures are not Send
pub trait Retriever {
    /// What can go wrong.
    type Error: std::error::Error;
    /// The best references, best first, at most `limit`.
    async fn retrieve(
        &mut self,
        question: &Question,
        conversation: &Conversation,
        limit: usize,
    ) -> Result<Retrieval, Self::Error>;

    /// How close sentences are to a query; comparable within one call.
    fn score_sentences(&self, query: &str, sentences: &[&str]) -> Result<Vec<f32>, Self::Error>;
}

/// References and how much they can be trusted to be about the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval {
    /// The query that was searched: the question, completed from the conversation where it was elliptical.
    pub query: String,
    /// Best first.
    pub references: Vec<Reference>,
    /// Whether the best reference is too far from the question to answer from.
    pub weak: bool,
    /// Milliseconds spent on the question's vector.
    pub embed_ms: f64,
    /// Milliseconds spent on index and ranking.
    pub retrieve_ms: f64,
}

/// Writes an answer piece by piece.
#[allow(async_fn_in_trait)]
pub trait Generator {
    /// What can go wrong.
    type Error: std::error::Error;
    /// Reads the prompt; no text may cite a number above that of `prompt.references`.
    async fn start(&mut self, prompt: &Prompt) -> Result<(), Self::Error>;
    /// The next piece of text in whole characters, `None` at the end.
    async fn next(&mut self) -> Result<Option<String>, Self::Error>;
    /// Counts and times of the present answer.
    fn statistics(&self) -> GenerationStatistics;
}

/// Counts and times of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerationStatistics {
    /// Tokens written.
    pub tokens: usize,
    /// Tokens of the prompt that had to be computed, and those found in the KV cache.
    pub prompt_tokens: usize,
    /// Prompt tokens reused from the KV cache of an earlier turn.
    pub cached_tokens: usize,
    /// Milliseconds to read the prompt.
    pub prefill_ms: f64,
    /// Milliseconds to write the answer.
    pub decode_ms: f64,
}

/// What happens during a consultation, in order: red flags (if any) always come first.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// Emergency advice, before anything else is done.
    RedFlags(&'a [RedFlag]),
    /// The references, before the first piece of text.
    References(&'a Retrieval),
    /// The next piece of the answer.
    Text(&'a str),
    /// A sentence is complete and checked.
    Sentence(&'a Sentence),
    /// A notice that goes with the answer.
    Notice(&'a str),
}

/// Listens to a consultation; `Break` stops it within one token.
pub trait Observer {
    /// Called for each event.
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(Event<'_>) -> ControlFlow<()>> Observer for F {
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()> {
        self(event)
    }
}

/// Bounds of a consultation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// References retrieved and given to the generator.
    pub references: usize,
    /// Characters of their answers that the generator is given, in whole sentences.
    pub prompt_characters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { references: 4, prompt_characters: 240 }
    }
}

/// The whole result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consultation {
    /// The answer as shown; empty when only references were asked for.
    pub answer: String,
    /// Its sentences with their support.
    pub sentences: Vec<Sentence>,
    /// References in the order of their numbers.
    pub references: Vec<Reference>,
    /// Danger signs found.
    pub red_flags: Vec<RedFlag>,
    /// Notices that go with the answer; the first is always that this is no diagnosis.
    pub notices: Vec<String>,
    /// Whether the system declined to answer because retrieval was weak.
    pub abstained: bool,
    /// Whether the observer stopped it.
    pub aborted: bool,
    /// Milliseconds for the question's vector.
    pub embed_ms: f64,
    /// Milliseconds for index and ranking.
    pub retrieve_ms: f64,
    /// Counts and times of the generator.
    pub generation: GenerationStatistics,
}

/// A consultation failed; what was observed before stays valid.
#[derive(Debug, thiserror::Error)]
pub enum ConsultError<R: std::error::Error, G: std::error::Error> {
    /// The retriever failed.
    #[error("references could not be retrieved: {0}")]
    Retrieve(R),
    /// The generator failed.
    #[error("the answer could not be generated: {0}")]
    Generate(G),
}

/// Answers a question. Without a generator only references are given.
pub async fn consult<R: Retriever, G: Generator>(
    question: &Question,
    conversation: &Conversation,
    retriever: &mut R,
    generator: Option<&mut G>,
    limits: Limits,
    observer: &mut impl Observer,
) -> Result<Consultation, ConsultError<R::Error, G::Error>> {
    let mut result = Consultation {
        red_flags: red_flags(question.text(), conversation.patient_texts()),
        notices: vec![safety::NOTICE_NOT_A_DIAGNOSIS.to_owned()],
        ..Consultation::default()
    };
    if !result.red_flags.is_empty() && observer.observe(Event::RedFlags(&result.red_flags)).is_break() {
        result.aborted = true;
        return Ok(result);
    }
    let retrieval =
        retriever.retrieve(question, conversation, limits.references).await.map_err(ConsultError::Retrieve)?;
    (result.embed_ms, result.retrieve_ms) = (retrieval.embed_ms, retrieval.retrieve_ms);
    let stopped = observer.observe(Event::References(&retrieval)).is_break();
    result.references = retrieval.references;
    if stopped {
        result.aborted = true;
    } else if retrieval.weak || result.references.is_empty() {
        abstain(&mut result, observer);
    } else if let Some(generator) = generator {
        let excerpts = excerpts(&result.references, limits.prompt_characters, |sentences| {
            // Scores only choose: without them the sentences keep their order, and the consultation goes on.
            retriever.score_sentences(&retrieval.query, sentences).unwrap_or_default()
        });
        let prompt = build_prompt(&retrieval.query, &result.references, &excerpts);
        let written = write_answer(&prompt, &mut result, generator, observer).await;
        result.generation = generator.statistics();
        written.map_err(ConsultError::Generate)?;
    }
    for notice in &result.notices {
        let _ = observer.observe(Event::Notice(notice)); // nothing is left to stop
    }
    Ok(result)
}

fn abstain(result: &mut Consultation, observer: &mut impl Observer) {
    result.abstained = true;
    result.answer = safety::ABSTENTION.to_owned();
    result.aborted = observer.observe(Event::Text(safety::ABSTENTION)).is_break();
}

async fn write_answer<G: Generator>(
    prompt: &Prompt,
    result: &mut Consultation,
    generator: &mut G,
    observer: &mut impl Observer,
) -> Result<(), G::Error> {
    let mut gate = StreamGate::default();
    generator.start(prompt).await?;
    show(Release::default(), result, observer); // a stop given while the prompt was read
    while !result.aborted {
        let Some(piece) = generator.next().await? else { break };
        let release = gate.push(&piece, &result.references);
        show(release, result, observer);
        if says_it_again(&result.sentences) {
            break; // nothing new follows a sentence that was said before
        }
    }
    if !result.aborted {
        let release = gate.finish(&result.references);
        show(release, result, observer);
    }
    if gate.withheld() {
        result.notices.push(safety::NOTICE_DOSE_WITHHELD.to_owned());
    }
    if !result.aborted && !result.sentences.iter().any(|sentence| sentence.supported) {
        result.notices.push(safety::NOTICE_UNSUPPORTED.to_owned());
    }
    Ok(())
}

/// Whether the last sentence, its citations aside, stands earlier in the answer.
fn says_it_again(sentences: &[Sentence]) -> bool {
    let Some((last, earlier)) = sentences.split_last() else { return false };
    let text = without_citations(&last.text);
    earlier.iter().any(|sentence| without_citations(&sentence.text) == text)
}

fn show(release: Release, result: &mut Consultation, observer: &mut impl Observer) {
    // The host is asked even when nothing may be shown yet, so that a stop takes effect within one token.
    result.answer.push_str(&release.text);
    result.aborted = observer.observe(Event::Text(&release.text)).is_break();
    for text in release.sentences {
        let sentence = mark(&text, &result.references);
        result.aborted |= observer.observe(Event::Sentence(&sentence)).is_break();
        result.sentences.push(sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Gives the same references to every question.
    struct Shelf(Vec<Reference>, bool);
    impl Retriever for Shelf {
        type Error = Infallible;
        async fn retrieve(&mut self, _: &Question, _: &Conversation, limit: usize) -> Result<Retrieval, Infallible> {
            let references = self.0.iter().take(limit).cloned().collect();
            Ok(Retrieval { query: "q".to_owned(), references, weak: self.1, embed_ms: 0.0, retrieve_ms: 0.0 })
        }
        fn score_sentences(&self, _: &str, sentences: &[&str]) -> Result<Vec<f32>, Infallible> {
            Ok(vec![0.0; sentences.len()])
        }
    }

    /// Reads prepared pieces.
    struct Reader(std::vec::IntoIter<&'static str>);
    impl Generator for Reader {
        type Error = Infallible;
        async fn start(&mut self, _: &Prompt) -> Result<(), Infallible> {
            Ok(())
        }
        async fn next(&mut self) -> Result<Option<String>, Infallible> {
            Ok(self.0.next().map(str::to_owned))
        }
        fn statistics(&self) -> GenerationStatistics {
            GenerationStatistics::default()
        }
    }

    fn shelf(weak: bool) -> Shelf {
        let answer = "心绞痛发作时应立即停止活动并休息。";
        let reference = Reference {
            id: "r".into(),
            question: "心绞痛怎么办".into(),
            answer: answer.into(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score: 1.0,
        };
        Shelf(vec![reference], weak)
    }

    fn run(question: &str, weak: bool, pieces: Vec<&'static str>, stop_after: usize) -> (Consultation, Vec<String>) {
        let mut log = Vec::new();
        let mut texts = 0;
        let mut observer = |event: Event<'_>| {
            log.push(match event {
                Event::RedFlags(_) => "flags".to_owned(),
                Event::References(_) => "references".to_owned(),
                Event::Text(text) => {
                    texts += 1;
                    format!("text {text}")
                }
                Event::Sentence(sentence) => format!("sentence {}", sentence.supported),
                Event::Notice(_) => "notice".to_owned(),
            });
            if texts >= stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let question = Question::new(question).unwrap();
        let mut generator = Reader(pieces.into_iter());
        let result = pollster::block_on(consult(
            &question,
            &Conversation::default(),
            &mut shelf(weak),
            Some(&mut generator),
            Limits::default(),
            &mut observer,
        ))
        .unwrap();
        (result, log)
    }

    #[test]
    fn emergency_advice_comes_before_everything_else() {
        let (result, log) = run("胸痛伴冷汗", false, vec!["心绞痛发作时应立即停止活动并休息[1]。"], usize::MAX);
        assert_eq!(log[..2], ["flags", "references"]);
        assert_eq!(result.sentences[0].citations, [1]);
    }

    #[test]
    fn weak_retrieval_abstains_without_generating() {
        let (result, _) = run("怎么修自行车", true, vec!["胡说。"], usize::MAX);
        assert!(result.abstained && result.answer == safety::ABSTENTION && result.sentences.is_empty());
    }

    #[test]
    fn a_stop_takes_effect_after_the_piece_it_was_given_on() {
        let (result, _) = run("心绞痛怎么办", false, vec!["心绞痛", "发作时", "应休息。"], 3);
        assert!(result.aborted);
        assert_eq!(result.answer, "心绞痛发作时");
    }

    #[test]
    fn an_invented_dose_is_withheld_and_said_so() {
        let (result, _) = run("心绞痛怎么办", false, vec!["口服阿司匹林300mg。"], usize::MAX);
        assert!(!result.answer.contains("300"));
        assert!(result.notices.iter().any(|notice| notice == safety::NOTICE_DOSE_WITHHELD));
    }

    #[test]
    fn an_answer_that_repeats_itself_ends() {
        let (result, _) = run("心绞痛怎么办", false, vec!["休息。"; 50], usize::MAX);
        assert_eq!(result.answer, "休息。休息。");
    }

    #[test]
    fn the_standing_notice_is_always_there() {
        let (result, _) = run("心绞痛怎么办", false, vec!["休息。"], usize::MAX);
        assert_eq!(result.notices[0], safety::NOTICE_NOT_A_DIAGNOSIS);
    }
}
