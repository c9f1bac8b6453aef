//! An answer goes on by itself, and unchanged, on another device when the one it was begun on is lost; default generator.

use huatuo_compute::{Cpu, Device, Gpu, GpuOptions};
use huatuo_core::{Generator, Prompt, PromptForm, Reference};
use huatuo_generate::{AnyDecoder, Decoder, GenerateError, Gguf, NeverPause, RecoveringGenerator, Reload, Sampling};
use huatuo_tests::root;
use pollster::block_on;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(root().join("models/generator").join(name)).unwrap()
}

/// The model; with `is_free` one that may write what it likes, and whose tokens are chosen ahead.
fn model(is_free: bool) -> Vec<u8> {
    let mut model = file("model.gguf");
    if is_free {
        let at = model.windows(10).position(|bytes| bytes == b"extractive").unwrap();
        model[at] = b'E';
    }
    model
}

fn gpu() -> Gpu {
    block_on(Gpu::request(&GpuOptions::default())).expect("an adapter; `cargo xtask test` installs Mesa's")
}

fn decoder<D: Device>(device: D, model: &[u8]) -> Decoder<D> {
    Decoder::load(device, &Gguf::parse(model).unwrap()).unwrap()
}

/// A new graphics processor `gpus` times, then the CPU.
struct Devices {
    model: Vec<u8>,
    gpus: usize,
}

impl Reload for Devices {
    async fn reload(&mut self, losses: usize) -> Result<AnyDecoder, GenerateError> {
        Ok(match losses < self.gpus {
            true => AnyDecoder::Gpu(decoder(gpu(), &self.model)),
            false => AnyDecoder::Cpu(decoder(Cpu::new(), &self.model)),
        })
    }
}

fn prompt() -> Prompt {
    let reference = Reference {
        id: "r".to_owned(),
        question: "高血压要注意什么".to_owned(),
        answer: "高血压患者应低盐饮食。应规律服药，定期测量血压。".to_owned(),
        source: String::new(),
        department: String::new(),
        related_diseases: Vec::new(),
        score: 0.9,
    };
    let excerpt = reference.answer.clone();
    PromptForm::OneMessage.prompt(("高血压", "高血压"), &Default::default(), &[reference], &[excerpt])
}

/// Answers once, losing the graphics processor before each of these pieces; gives the answer and what was lost.
fn answer(is_free: bool, gpus: usize, lost_before: impl Fn(usize) -> bool) -> (String, usize, bool) {
    answer_on(decoder(gpu(), &model(is_free)), is_free, gpus, lost_before)
}

fn answer_on(
    first: Decoder<Gpu>,
    is_free: bool,
    gpus: usize,
    lost_before: impl Fn(usize) -> bool,
) -> (String, usize, bool) {
    let (model, first) = (model(is_free), AnyDecoder::Gpu(first));
    let gguf = Gguf::parse(&model).unwrap();
    let devices = Devices { model: model.clone(), gpus };
    let mut generator =
        RecoveringGenerator::new(first, &gguf, Some(&file("tokenizer.json")), NeverPause, devices).unwrap();
    generator.set_sampling(Sampling { max_tokens: 24, ..Sampling::default() });
    block_on(async {
        generator.start(&prompt()).await.unwrap();
        let mut text = String::new();
        for n in 0.. {
            if let Some(gpu) = generator.gpu().filter(|_| lost_before(n)) {
                gpu.lose();
            }
            let Some(piece) = generator.next().await.unwrap() else { break };
            text.push_str(&piece);
        }
        (text, generator.statistics().recoveries, generator.gpu().is_some())
    })
}

#[test]
fn ten_losses_in_one_answer_change_nothing() {
    for is_free in [false, true] {
        let (undisturbed, none, _) = answer(is_free, 0, |_| false);
        assert!(!undisturbed.is_empty() && none == 0);
        let (disturbed, losses, on_gpu) = answer(is_free, usize::MAX, |n| n < 10);
        assert_eq!((disturbed, losses, on_gpu), (undisturbed.clone(), 10, true));
    }
}

#[test]
fn the_processor_takes_over_when_there_is_no_other() {
    let (undisturbed, ..) = answer(false, 0, |_| false);
    let (disturbed, losses, on_gpu) = answer(false, 0, |n| n == 3);
    assert_eq!((disturbed, losses, on_gpu), (undisturbed, 1, false));
}

#[test]
fn the_processor_takes_over_when_memory_runs_out() {
    let (undisturbed, ..) = answer(false, 0, |_| false);
    let gpu = block_on(Gpu::request(&GpuOptions { budget: Some(200 << 20), ..GpuOptions::default() })).unwrap();
    let first = decoder(gpu.clone(), &model(false));
    let _others = gpu.buffer(gpu.room().unwrap() as usize / 4); // nothing is left for keys and values
    let (disturbed, losses, on_gpu) = answer_on(first, false, usize::MAX, |_| false);
    assert_eq!((disturbed, losses, on_gpu), (undisturbed, 1, false));
}
