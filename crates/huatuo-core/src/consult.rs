//! One consultation: red flags, retrieval, abstention or generation, grounding. Every host goes through here.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll};

use crate::excerpt::{best_excerpt, further_excerpts};
use crate::grounding::mark;
use crate::prompt::one_line;
use crate::safety::{self, RedFlag, red_flags};
use crate::stream_gate::{Release, StreamGate};
use crate::{
    Conversation, Message, Prompt, PromptForm, PromptReference, Question, Reference, Sentence, split_sentences,
    without_citations,
};

/// Finds references for a question in the light of the conversation.
#[allow(async_fn_in_trait)] // hosts run it on one thread: the browser's futures are not Send
pub trait Retriever {
    /// What can go wrong.
    type Error: std::error::Error;
    /// The best references, best first, at most `limit`. Where they aren't weak, `on_best` is given the query and the best
    /// one as soon as it is here, while the others may still be on their way.
    async fn retrieve(
        &self,
        question: &Question,
        conversation: &Conversation,
        limit: usize,
        on_best: impl AsyncFnOnce(&str, &Reference),
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
    /// Devices that were lost meanwhile.
    pub recoveries: usize,
}

/// Writes an answer piece by piece.
#[allow(async_fn_in_trait)]
pub trait Generator {
    /// What can go wrong.
    type Error: std::error::Error;
    /// The form of prompts that the model answers best.
    fn form(&self) -> PromptForm;
    /// References of the prompt read last, in their order: a prompt that begins with them again is not read twice.
    fn references_read(&self) -> &[PromptReference];
    /// Reads what two beginnings of prompts share, so that [`Self::start`] finds it done.
    async fn read_ahead(&mut self, beginnings: &[Vec<Message>; 2]) -> Result<(), Self::Error>;
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
    /// Tokens of the prompt, those in the KV cache included.
    pub prompt_tokens: usize,
    /// Prompt tokens that were in the KV cache when the prompt was whole, those read ahead included.
    pub cached_tokens: usize,
    /// Messages of earlier turns that were left out because the model's context is too short for them.
    pub dropped_turns: usize,
    /// How often the device was lost and the answer went on on another one.
    pub recoveries: usize,
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

    /// Ready once the consultation is to stop, to end it while it only waits for references; never by default.
    fn poll_stopped(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
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
    /// Whether the generator begins to read while references are on their way, and keeps to the order it has read them
    /// in; without it only for comparisons.
    pub reads_ahead: bool,
    /// Milliseconds since some moment, for [`Timings`].
    pub clock: fn() -> f64,
}

impl Limits {
    /// The usual bounds, with the host's clock.
    pub fn new(clock: fn() -> f64) -> Self {
        Self { references: 4, prompt_characters: 240, reads_ahead: true, clock }
    }
}

/// Milliseconds by stage; stages that ran while references were on their way are not counted in `retrieve`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// The question's vector.
    pub embed: f64,
    /// Index and ranking.
    pub retrieve: f64,
    /// Choosing sentences of the references.
    pub excerpt: f64,
    /// Reading the prompt's beginning before all references had come.
    pub read_ahead: f64,
    /// Reading the rest of the prompt.
    pub prefill: f64,
    /// From the question to the first piece of the answer; zero where there is none.
    pub first_token: f64,
    /// Writing the answer.
    pub decode: f64,
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
    /// Where the time went.
    pub timings: Timings,
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
    retriever: &R,
    mut generator: Option<&mut G>,
    limits: Limits,
    observer: &mut impl Observer,
) -> Result<Consultation, ConsultError<R::Error, G::Error>> {
    let began = (limits.clock)();
    let mut result = Consultation {
        red_flags: red_flags(question.text(), conversation.patient_texts()),
        notices: vec![safety::NOTICE_NOT_A_DIAGNOSIS.to_owned()],
        ..Consultation::default()
    };
    if !result.red_flags.is_empty() && observer.observe(Event::RedFlags(&result.red_flags)).is_break() {
        result.aborted = true;
        return Ok(result);
    }
    let mut excerpter = Excerpter { retriever, limits, milliseconds: 0.0 };
    let mut best = None;
    let is_reading = Cell::new(false);
    let read_best = async |query: &str, reference: &Reference| {
        let Some(generator) = generator.as_deref_mut().filter(|_| limits.reads_ahead) else { return };
        if is_among(reference, generator.references_read()) {
            return; // it keeps its place, behind those that were read before it
        }
        let excerpt = excerpter.best(query, reference);
        let beginnings = generator.form().beginnings(std::slice::from_ref(reference), std::slice::from_ref(&excerpt));
        let started = (limits.clock)();
        is_reading.set(true);
        // What goes wrong here goes wrong again, and is told, when the whole prompt is read.
        let _ = generator.read_ahead(&beginnings).await;
        is_reading.set(false);
        best = Some((excerpt, (limits.clock)() - started));
    };
    let retrieving = retriever.retrieve(question, conversation, limits.references, read_best);
    let Some(retrieval) = unless_stopped(retrieving, &is_reading, observer).await else {
        result.aborted = true;
        return Ok(result);
    };
    let retrieval = retrieval.map_err(ConsultError::Retrieve)?;
    let (best, read_ahead) = best.map_or((None, 0.0), |(excerpt, milliseconds)| (Some(excerpt), milliseconds));
    result.timings.embed = retrieval.embed_ms;
    if retrieval.recoveries > 0 {
        result.notices.push(safety::NOTICE_DEVICE_LOST.to_owned());
    }
    result.timings.retrieve = retrieval.retrieve_ms - excerpter.milliseconds - read_ahead;
    result.timings.read_ahead = read_ahead;
    let answers = !retrieval.weak && !retrieval.references.is_empty();
    let Some(generator) = generator.filter(|_| answers) else {
        result.aborted = observer.observe(Event::References(&retrieval)).is_break();
        result.references = retrieval.references;
        if !answers && !result.aborted {
            abstain(&mut result, observer);
        }
        tell_notices(&result, observer);
        return Ok(result);
    };
    let (retrieval, excerpts) = excerpter.all(retrieval, best, generator.references_read());
    result.timings.excerpt = excerpter.milliseconds;
    result.aborted = observer.observe(Event::References(&retrieval)).is_break();
    let texts = (question.text(), retrieval.query.as_str());
    let prompt = generator.form().prompt(texts, conversation, &retrieval.references, &excerpts);
    result.references = retrieval.references;
    if !result.aborted {
        let written = write_answer(&prompt, &mut result, generator, observer, || (limits.clock)() - began).await;
        result.generation = generator.statistics();
        (result.timings.prefill, result.timings.decode) = (result.generation.prefill_ms, result.generation.decode_ms);
        written.map_err(ConsultError::Generate)?;
    }
    tell_notices(&result, observer);
    Ok(result)
}

/// Waits for references until the consultation is stopped. A generator that reads ahead is not cut off: it ends by itself.
async fn unless_stopped<T>(
    retrieving: impl Future<Output = T>,
    is_reading: &Cell<bool>,
    observer: &mut impl Observer,
) -> Option<T> {
    let mut retrieving = pin!(retrieving);
    poll_fn(|context| {
        if let Poll::Ready(retrieval) = retrieving.as_mut().poll(context) {
            return Poll::Ready(Some(retrieval));
        }
        match observer.poll_stopped(context) {
            Poll::Ready(()) if !is_reading.get() => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await
}

fn tell_notices(result: &Consultation, observer: &mut impl Observer) {
    for notice in &result.notices {
        let _ = observer.observe(Event::Notice(notice)); // nothing is left to stop
    }
}

fn is_among(reference: &Reference, read: &[PromptReference]) -> bool {
    read.iter().any(|known| known.id == reference.id)
}

/// Chooses what the generator is given of the references.
struct Excerpter<'a, R> {
    retriever: &'a R,
    limits: Limits,
    milliseconds: f64,
}

impl<R: Retriever> Excerpter<'_, R> {
    fn best(&mut self, query: &str, best: &Reference) -> String {
        self.timed(|this| best_excerpt(best, this.limits.prompt_characters, |sentences| this.scores(query, sentences)))
    }

    /// The references in the order in which they are given, each with its excerpt. Those that were read last stand first,
    /// as they were read, as far as they are here again and nothing that matters now was left out of them.
    fn all(
        &mut self,
        mut retrieval: Retrieval,
        best: Option<String>,
        read: &[PromptReference],
    ) -> (Retrieval, Vec<String>) {
        let (query, room) = (&retrieval.query, self.limits.prompt_characters);
        let best = best.unwrap_or_else(|| self.best(query, &retrieval.references[0]));
        let further = self.timed(|this| {
            further_excerpts(&retrieval.references[1..], room, |sentences| this.scores(query, sentences))
        });
        let mut given: Vec<(Reference, String)> =
            retrieval.references.into_iter().zip([vec![best], further].concat()).collect();
        if self.limits.reads_ahead && given.first().is_some_and(|(best, _)| is_among(best, read)) {
            for (place, known) in read.iter().enumerate() {
                let again = given.iter().skip(place).position(|(reference, excerpt)| {
                    let covers = |sentence: &str| known.answer.contains(sentence);
                    reference.id == known.id && split_sentences(&one_line(excerpt)).into_iter().all(covers)
                });
                let Some(at) = again else { break };
                given[place..=place + at].rotate_right(1);
                given[place].1.clone_from(&known.answer);
            }
        }
        let excerpts;
        (retrieval.references, excerpts) = given.into_iter().unzip();
        (retrieval, excerpts)
    }

    /// Scores only choose: without them the sentences keep their order, and the consultation goes on.
    fn scores(&self, query: &str, sentences: &[&str]) -> Vec<f32> {
        self.retriever.score_sentences(query, sentences).unwrap_or_default()
    }

    fn timed<T>(&mut self, work: impl FnOnce(&Self) -> T) -> T {
        let started = (self.limits.clock)();
        let done = work(self);
        self.milliseconds += (self.limits.clock)() - started;
        done
    }
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
    since_question: impl Fn() -> f64,
) -> Result<(), G::Error> {
    let mut gate = StreamGate::default();
    generator.start(prompt).await?;
    if generator.statistics().dropped_turns > 0 {
        result.notices.push(safety::NOTICE_TURNS_LEFT_OUT.to_owned());
    }
    show(Release::default(), result, observer); // a stop given while the prompt was read
    while !result.aborted {
        let Some(piece) = generator.next().await? else { break };
        if result.timings.first_token == 0.0 {
            result.timings.first_token = since_question();
        }
        let release = gate.push(&piece, &result.references);
        show(release, result, observer);
        if says_it_again(&result.sentences) {
            break; // nothing new follows a sentence that was said before
        }
    }
    let told = result.notices.iter().any(|notice| notice == safety::NOTICE_DEVICE_LOST);
    if generator.statistics().recoveries > 0 && !told {
        result.notices.push(safety::NOTICE_DEVICE_LOST.to_owned());
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
        async fn retrieve(
            &self,
            _: &Question,
            _: &Conversation,
            limit: usize,
            on_best: impl AsyncFnOnce(&str, &Reference),
        ) -> Result<Retrieval, Infallible> {
            let references: Vec<Reference> = self.0.iter().take(limit).cloned().collect();
            if !self.1 {
                on_best("q", &references[0]).await;
            }
            Ok(Retrieval {
                query: "q".to_owned(),
                references,
                weak: self.1,
                embed_ms: 0.0,
                retrieve_ms: 0.0,
                recoveries: 0,
            })
        }
        fn score_sentences(&self, _: &str, sentences: &[&str]) -> Result<Vec<f32>, Infallible> {
            Ok(vec![0.0; sentences.len()])
        }
    }

    /// Reads prepared pieces, and keeps what it was given.
    #[derive(Default)]
    struct Reader {
        pieces: std::vec::IntoIter<&'static str>,
        read: Vec<PromptReference>,
        ahead: Vec<[Vec<Message>; 2]>,
        prompts: Vec<Prompt>,
        dropped_turns: usize,
    }
    impl Generator for Reader {
        type Error = Infallible;
        fn form(&self) -> PromptForm {
            PromptForm::OneMessage
        }
        fn references_read(&self) -> &[PromptReference] {
            &self.read
        }
        async fn read_ahead(&mut self, beginnings: &[Vec<Message>; 2]) -> Result<(), Infallible> {
            self.ahead.push(beginnings.clone());
            Ok(())
        }
        async fn start(&mut self, prompt: &Prompt) -> Result<(), Infallible> {
            self.read.clone_from(&prompt.references);
            self.prompts.push(prompt.clone());
            Ok(())
        }
        async fn next(&mut self) -> Result<Option<String>, Infallible> {
            Ok(self.pieces.next().map(str::to_owned))
        }
        fn statistics(&self) -> GenerationStatistics {
            GenerationStatistics { dropped_turns: self.dropped_turns, ..GenerationStatistics::default() }
        }
    }

    fn reference(id: &str, answer: &str) -> Reference {
        Reference {
            id: id.into(),
            question: "心绞痛怎么办".into(),
            answer: answer.into(),
            source: String::new(),
            department: String::new(),
            related_diseases: Vec::new(),
            score: 1.0,
        }
    }

    fn shelf(weak: bool) -> Shelf {
        Shelf(vec![reference("r", "心绞痛发作时应立即停止活动并休息。")], weak)
    }

    /// Asks about references, the best first, and gives their identifiers in the order of the prompt.
    fn ask_about(references: &[Reference], reader: &mut Reader) -> String {
        let shelf = Shelf(references.to_vec(), false);
        let question = Question::new("心绞痛怎么办").unwrap();
        let mut observer = |_: Event<'_>| ControlFlow::Continue(());
        let history = Conversation::default();
        let asked = consult(&question, &history, &shelf, Some(&mut *reader), Limits::new(|| 0.0), &mut observer);
        let result = pollster::block_on(asked).unwrap();
        result.references.iter().map(|reference| reference.id.as_str()).collect()
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
        let mut generator = Reader { pieces: pieces.into_iter(), ..Reader::default() };
        let shelf = shelf(weak);
        let result = pollster::block_on(consult(
            &question,
            &Conversation::default(),
            &shelf,
            Some(&mut generator),
            Limits::new(|| 0.0),
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

    #[test]
    fn the_best_reference_is_read_while_the_others_come() {
        let mut reader = Reader::default();
        let (a, b) = (reference("a", "甲。"), reference("b", "乙。"));
        assert_eq!(ask_about(&[a, b], &mut reader), "ab");
        let [beginnings] = &reader.ahead[..] else { panic!("read ahead {} times", reader.ahead.len()) };
        let prompt = &reader.prompts[0].messages[1].content;
        let shared = "参考资料：\n[1] 心绞痛怎么办\n甲。\n";
        assert!(
            beginnings.iter().all(|messages| messages[1].content.starts_with(shared)) && prompt.starts_with(shared)
        );
    }

    #[test]
    fn references_of_the_round_before_keep_their_places() {
        let mut reader = Reader::default();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| reference(id, &format!("{id}。")));
        assert_eq!(ask_about(&[a.clone(), b.clone(), c.clone()], &mut reader), "abc");
        assert_eq!(ask_about(&[b.clone(), d.clone(), a.clone()], &mut reader), "abd");
        assert_eq!(reader.ahead.len(), 1); // nothing new was best
        assert_eq!(ask_about(&[c, b, a], &mut reader), "cba");
        assert_eq!(reader.ahead.len(), 2);
    }

    #[test]
    fn a_reference_is_read_anew_when_its_excerpt_lacks_what_matters_now() {
        let mut reader = Reader::default();
        let [a, b] = ["a", "b"].map(|id| reference(id, &format!("{id}。")));
        ask_about(&[a.clone(), b.clone()], &mut reader);
        reader.read[0].answer = "别的。".to_owned();
        assert_eq!(ask_about(&[b, a], &mut reader), "ba");
        assert_eq!(reader.prompts[1].references[1].answer, "a。");
    }

    #[test]
    fn turns_that_were_left_out_are_said() {
        let mut reader = Reader { dropped_turns: 2, ..Reader::default() };
        let question = Question::new("心绞痛怎么办").unwrap();
        let mut observer = |_: Event<'_>| ControlFlow::Continue(());
        let (history, shelf) = (Conversation::default(), shelf(false));
        let asked = consult(&question, &history, &shelf, Some(&mut reader), Limits::new(|| 0.0), &mut observer);
        let result = pollster::block_on(asked).unwrap();
        assert!(result.notices.iter().any(|notice| notice == safety::NOTICE_TURNS_LEFT_OUT));
    }
}
