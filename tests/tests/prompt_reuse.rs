//! What was read of a prompt before is never read again, and never changes what is written; default generator.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use huatuo_compute::Cpu;
use huatuo_core::{Conversation, Generator, Prompt, PromptForm, Reference};
use huatuo_generate::{Architecture, GenerateError, Gguf, LocalGenerator, NeverPause, Pace};
use huatuo_tests::root;
use pollster::block_on;

const QUESTIONS: [&str; 2] = ["高血压平时要注意什么", "高血压会引起头晕吗"];

fn model() -> Vec<u8> {
    std::fs::read(root().join("models/generator/model.gguf")).unwrap()
}

fn generator(model: &[u8]) -> LocalGenerator<Cpu, NeverPause> {
    let tokenizer = std::fs::read(root().join("models/generator/tokenizer.json")).unwrap();
    LocalGenerator::load(Cpu::new(), model, Some(&tokenizer), NeverPause).unwrap()
}

/// The same weights as a model that may write freely, and so gets earlier turns.
fn free_model() -> Vec<u8> {
    let mut model = model();
    let at = model.windows(10).position(|bytes| bytes == b"extractive").unwrap();
    model[at] = b'E';
    model
}

fn references() -> (Vec<Reference>, Vec<String>) {
    let texts = [
        ("高血压要注意什么", "高血压患者应低盐饮食，规律服药，定期测量血压。"),
        ("高血压头晕怎么回事", "血压升高会引起头晕、头痛，应及时测量血压并就医。"),
        ("血压高能运动吗", "血压平稳时可以散步、慢跑，避免剧烈运动。"),
    ];
    let reference = |(n, (question, answer)): (usize, &(&str, &str))| Reference {
        id: format!("r{n}"),
        question: (*question).to_owned(),
        answer: (*answer).to_owned(),
        source: String::new(),
        department: String::new(),
        related_diseases: Vec::new(),
        score: 0.9,
    };
    let references: Vec<Reference> = texts.iter().enumerate().map(reference).collect();
    let excerpts = references.iter().map(|reference| reference.answer.clone()).collect();
    (references, excerpts)
}

fn prompt(question: &str, conversation: &Conversation, form: PromptForm) -> Prompt {
    let (references, excerpts) = references();
    form.prompt((question, question), conversation, &references, &excerpts)
}

fn one_message(question: &str) -> Prompt {
    prompt(question, &Conversation::default(), PromptForm::OneMessage)
}

fn answer<P: Pace>(generator: &mut LocalGenerator<Cpu, P>, prompt: &Prompt) -> String {
    block_on(async {
        generator.start(prompt).await.unwrap();
        let mut answer = String::new();
        while let Some(piece) = generator.next().await.unwrap() {
            answer.push_str(&piece);
        }
        answer
    })
}

#[test]
fn a_beginning_that_was_read_ahead_is_not_read_again() {
    let model = model();
    let expected = answer(&mut generator(&model), &one_message(QUESTIONS[0]));
    let mut ahead = generator(&model);
    let (references, excerpts) = references();
    for n in 0..=references.len() {
        let beginnings = ahead.form().beginnings(&references[..n], &excerpts[..n]);
        block_on(ahead.read_ahead(&beginnings)).unwrap();
    }
    assert_eq!(answer(&mut ahead, &one_message(QUESTIONS[0])), expected);
    let statistics = ahead.statistics();
    let question = ahead.tokenizer().encode(QUESTIONS[0]).unwrap().len();
    // All but the question, its label and the marks behind it were there.
    assert!(statistics.prompt_tokens - statistics.cached_tokens <= question + 14, "{statistics:?}");
}

#[test]
fn another_question_about_the_same_references_reads_the_question_alone() {
    let model = model();
    let expected = answer(&mut generator(&model), &one_message(QUESTIONS[1]));
    let mut asked = generator(&model);
    answer(&mut asked, &one_message(QUESTIONS[0]));
    assert_eq!(asked.references_read().len(), 3);
    assert_eq!(answer(&mut asked, &one_message(QUESTIONS[1])), expected);
    let statistics = asked.statistics();
    assert!(statistics.prompt_tokens - statistics.cached_tokens < 30, "{statistics:?}");
    asked.forget();
    assert!(asked.references_read().is_empty());
    assert_eq!(answer(&mut asked, &one_message(QUESTIONS[1])), expected);
    assert_eq!(asked.statistics().cached_tokens, 0);
}

#[test]
fn the_beginning_of_all_prompts_is_kept_as_bytes() {
    let model = model();
    let expected = answer(&mut generator(&model), &one_message(QUESTIONS[0]));
    let kept = block_on(generator(&model).warm_up(None)).unwrap().expect("nothing was kept before");
    let mut warm = generator(&model);
    assert_eq!(block_on(warm.warm_up(Some(&kept))).unwrap(), None);
    assert_eq!(answer(&mut warm, &one_message(QUESTIONS[0])), expected);
    assert!(warm.statistics().cached_tokens > 30, "{:?}", warm.statistics());
}

#[test]
fn kept_bytes_that_do_not_fit_are_made_anew() {
    let model = model();
    let mut generator = generator(&model);
    let kept = block_on(generator.warm_up(None)).unwrap().unwrap();
    let mut cases = vec![Vec::new(), kept[..kept.len() - 1].to_vec(), [&kept[..], b"x"].concat()];
    for at in [0, 8, 12, 16, 20, 24, 200, kept.len() / 2, kept.len() - 1] {
        let mut damaged = kept.clone();
        damaged[at] ^= 1;
        cases.push(damaged);
    }
    for damaged in cases {
        assert_eq!(block_on(generator.warm_up(Some(&damaged))).unwrap().as_ref(), Some(&kept));
    }
}

#[test]
fn the_oldest_turns_give_way_and_the_references_stay() {
    let mut generator = generator(&free_model());
    assert_eq!(generator.form(), PromptForm::Turns);
    let mut conversation = Conversation::default();
    for round in 0..60 {
        conversation
            .push_round(&format!("第{round}次问：血压高怎么办，头晕怎么办"), "请规律服药，定期测量血压，低盐饮食。");
    }
    let long = prompt(QUESTIONS[0], &conversation, PromptForm::Turns);
    block_on(generator.start(&long)).unwrap();
    let statistics = generator.statistics();
    let (dropped, context) =
        (statistics.dropped_turns, Architecture::from_gguf(&Gguf::parse(&model()).unwrap()).unwrap().context);
    assert!(dropped > 0 && dropped < 120 && dropped.is_multiple_of(2), "{statistics:?}");
    assert!(statistics.prompt_tokens < context && generator.references_read() == long.references);
    // The prompt is that of a conversation that began later.
    conversation.turns.drain(..dropped);
    let later = prompt(QUESTIONS[0], &conversation, PromptForm::Turns);
    block_on(generator.start(&later)).unwrap();
    assert_eq!(generator.statistics().cached_tokens, statistics.prompt_tokens - 1);
    // One round fewer left out would have been too much.
    assert!(statistics.prompt_tokens + statistics.prompt_tokens / 20 > context / 4 * 3, "{statistics:?}");
}

#[test]
fn references_longer_than_the_context_are_refused() {
    let mut generator = generator(&model());
    let (mut references, _) = references();
    references[0].answer = "低盐饮食。".repeat(2_000);
    let excerpts: Vec<String> = references.iter().map(|reference| reference.answer.clone()).collect();
    let beginnings = PromptForm::OneMessage.beginnings(&references[..1], &excerpts[..1]);
    block_on(generator.read_ahead(&beginnings)).unwrap();
    let prompt = PromptForm::OneMessage.prompt(("", "头晕"), &Conversation::default(), &references, &excerpts);
    let error = block_on(generator.start(&prompt)).unwrap_err();
    assert!(matches!(error, GenerateError::ContextOverflow { .. }), "{error}");
    assert!(!answer(&mut generator, &one_message(QUESTIONS[0])).is_empty());
}

/// Stops when it is asked for the n-th time.
#[derive(Clone)]
struct StopsAt(Rc<Cell<usize>>);

impl Pace for StopsAt {
    async fn pause(&mut self) -> ControlFlow<()> {
        self.0.set(self.0.get().wrapping_sub(1));
        if self.0.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_stop_between_two_layers_loses_nothing() {
    let (model, prompt) = (model(), one_message(QUESTIONS[0]));
    let expected = answer(&mut generator(&model), &prompt);
    let tokenizer = std::fs::read(root().join("models/generator/tokenizer.json")).unwrap();
    let pace = StopsAt(Rc::default());
    // The first part is one layer, the second no more than two.
    for n in [1, 2] {
        let mut stopped = LocalGenerator::load(Cpu::new(), &model, Some(&tokenizer), pace.clone()).unwrap();
        pace.0.set(n);
        assert_eq!(answer(&mut stopped, &prompt), "", "stopped at part {n}");
        pace.0.set(0);
        assert_eq!(answer(&mut stopped, &prompt), expected);
        assert_eq!(stopped.statistics().cached_tokens, 0);
    }
}
