//! The engine of a page: one retriever, one generator, one consultation at a time.

use std::cell::RefCell;
use std::ops::ControlFlow;

use huatuo_compute::Cpu;
use huatuo_core::{Event, Limits, Question, consult};
use huatuo_fetch::Source;
use huatuo_fetch::clock::now_ms;
use huatuo_generate::LocalGenerator;
use huatuo_index::Index;
use huatuo_retrieve::{Calibration, Encoder, HybridRetriever, ModelFiles};
use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};

use crate::cpu::cpu;
use crate::error::EngineError;
use crate::loading::{FileGroup, ModelManifest};
use crate::model_loader::ModelLoader;
use crate::pace::EventLoop;
use crate::wire::{self, WireOptions, WireTurn};

/// Loads models and index from one base URL and answers questions.
#[wasm_bindgen]
pub struct Engine {
    source: Source,
    index_source: Source,
    pace: EventLoop,
    // Each part is taken out while it works, so a second call meanwhile finds it absent instead of a broken borrow.
    manifest: RefCell<Option<ModelManifest>>,
    retriever_files: RefCell<Option<FileGroup>>,
    encoder: RefCell<Option<(Encoder<Cpu>, Calibration)>>,
    retriever: RefCell<Option<HybridRetriever<Cpu>>>,
    generator: RefCell<Option<LocalGenerator<Cpu, EventLoop>>>,
}

#[derive(Serialize)]
struct Progress<'a> {
    part: &'a str,
    file: &'a str,
    done: f64,
    total: f64,
}

#[wasm_bindgen]
impl Engine {
    /// An engine over `models/` and `index/` below a base URL that ends with `/`. Nothing is fetched yet.
    #[wasm_bindgen(constructor)]
    pub fn new(base: &str) -> Self {
        Self {
            source: Source::http(base),
            index_source: Source::http(format!("{}/index", base.trim_end_matches('/'))),
            pace: EventLoop::default(),
            manifest: RefCell::default(),
            retriever_files: RefCell::default(),
            encoder: RefCell::default(),
            retriever: RefCell::default(),
            generator: RefCell::default(),
        }
    }

    /// Loads encoder and index root. After an error, another call goes on where it stopped.
    #[wasm_bindgen(js_name = loadRetriever)]
    pub async fn load_retriever(&self, progress: Function) -> Result<(), JsValue> {
        if self.retriever.borrow().is_some() {
            return Ok(());
        }
        if self.encoder.borrow().is_none() {
            let manifest = self.manifest().await?;
            let files = self.download(&manifest, &progress).await?;
            let mut model_files = ModelFiles::default();
            for (path, bytes) in files {
                model_files.insert(&path, bytes);
            }
            let calibration = Calibration::from_files(&model_files).map_err(EngineError::from)?;
            let encoder = Encoder::load(cpu(), &model_files).map_err(EngineError::from)?;
            *self.encoder.borrow_mut() = Some((encoder, calibration));
        }
        let index = Index::open(self.index_source.clone()).await.map_err(EngineError::from)?;
        let bytes = index.opening().bytes;
        report(&progress, "index", "manifest.json", bytes, bytes);
        let built_with = index.manifest().encoder.sha256.clone();
        if self.encoder.borrow().as_ref().is_some_and(|(encoder, _)| encoder.sha256() != built_with) {
            return Err(EngineError::corrupt(
                "the index was built with another encoder; publish both together".to_owned(),
            )
            .into());
        }
        let Some((encoder, calibration)) = self.encoder.borrow_mut().take() else {
            return Err(EngineError::state("the retriever is being loaded already").into());
        };
        let retriever = HybridRetriever::new(encoder, index, calibration).map_err(EngineError::from)?;
        *self.retriever.borrow_mut() = Some(retriever);
        Ok(())
    }

    /// Takes over a model that has arrived, with its `tokenizer.json`; without one the model file's own is used.
    #[wasm_bindgen(js_name = setGenerator)]
    pub fn set_generator(&self, loader: ModelLoader, tokenizer: Option<Vec<u8>>) -> Result<(), JsValue> {
        let (decoder, header) = loader.into_decoder().map_err(EngineError::from)?;
        let generator = LocalGenerator::new(decoder, &header, tokenizer.as_deref(), self.pace.clone())
            .map_err(EngineError::from)?;
        *self.generator.borrow_mut() = Some(generator);
        Ok(())
    }

    /// Reads what all prompts begin with, or takes it from the bytes that an earlier call gave. Gives bytes to keep
    /// beside the model when it had to be read, else nothing.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self, kept: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, JsValue> {
        let Some(mut generator) = self.generator.borrow_mut().take() else { return Ok(None) };
        let read = generator.warm_up(kept.as_deref()).await;
        *self.generator.borrow_mut() = Some(generator);
        Ok(read.map_err(EngineError::from)?)
    }

    /// Whether a generator is there.
    #[wasm_bindgen(js_name = hasGenerator)]
    pub fn has_generator(&self) -> bool {
        self.generator.borrow().is_some()
    }

    /// Answers a question; `on_event` is called for each event. One consultation at a time.
    pub async fn consult(
        &self,
        question: String,
        history: JsValue,
        options: JsValue,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let question = Question::new(&question).map_err(EngineError::from)?;
        let turns: Vec<WireTurn> = serde_wasm_bindgen::from_value(history).map_err(JsError::from)?;
        let options = WireOptions::from_js(options)?;
        let conversation = wire::conversation(turns);
        let retriever = (self.retriever.borrow_mut().take())
            .ok_or_else(|| EngineError::state("the retriever is not loaded, or another question is being answered"))?;
        let mut generator = match options.references_only {
            true => None,
            false => self.generator.borrow_mut().take(),
        };
        let mut limits = Limits::new(now_ms);
        limits.references = options.references.unwrap_or(limits.references);
        limits.prompt_characters = options.prompt_characters.unwrap_or(limits.prompt_characters);
        limits.reads_ahead = !options.without_reuse;
        if let Some(generator) = &mut generator {
            if options.without_reuse {
                generator.forget();
            }
            generator.set_sampling(options.sampling());
        }
        self.pace.set_stopped(false);
        let pace = self.pace.clone();
        let mut observer = |event: Event<'_>| {
            let _ = on_event.call1(&JsValue::UNDEFINED, &wire::event(&event)); // a listener's error is its own
            if pace.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = consult(&question, &conversation, &retriever, generator.as_mut(), limits, &mut observer).await;
        let statistics = retriever.statistics();
        *self.retriever.borrow_mut() = Some(retriever);
        if generator.is_some() {
            *self.generator.borrow_mut() = generator;
        }
        Ok(wire::consultation(&result.map_err(EngineError::from)?, &statistics))
    }

    /// Stops the running consultation within one token.
    pub fn abort(&self) {
        self.pace.set_stopped(true);
    }

    /// Danger signs in a question; needs nothing loaded.
    #[wasm_bindgen(js_name = redFlags)]
    pub fn red_flags(&self, question: &str, history: JsValue) -> Result<JsValue, JsValue> {
        let turns: Vec<WireTurn> = serde_wasm_bindgen::from_value(history).map_err(JsError::from)?;
        let conversation = wire::conversation(turns);
        let flags = huatuo_core::safety::red_flags(question, conversation.patient_texts());
        Ok(wire::to_js(&wire::red_flags(&flags)))
    }

    async fn manifest(&self) -> Result<ModelManifest, EngineError> {
        if let Some(manifest) = &*self.manifest.borrow() {
            return Ok(manifest.clone());
        }
        let manifest = ModelManifest::fetch(&self.source).await?;
        *self.manifest.borrow_mut() = Some(manifest.clone());
        Ok(manifest)
    }

    async fn download(
        &self,
        manifest: &ModelManifest,
        progress: &Function,
    ) -> Result<std::collections::BTreeMap<String, Vec<u8>>, EngineError> {
        let kept = self.retriever_files.borrow_mut().take();
        let mut group = kept.unwrap_or_else(|| FileGroup::new(&self.source, "retriever", &manifest.retriever));
        let mut on_progress = |file: &str, done: u64, total: u64| report(progress, "encoder", file, done, total);
        match group.run(&mut on_progress).await {
            Ok(()) => Ok(group.into_files()),
            Err(error) => {
                if matches!(error.code, "corrupt" | "not_found") {
                    *self.manifest.borrow_mut() = None; // the site may have been replaced: ask again what it has
                } else {
                    *self.retriever_files.borrow_mut() = Some(group); // a retry goes on from here
                }
                Err(error)
            }
        }
    }
}

fn report(progress: &Function, part: &str, file: &str, done: u64, total: u64) {
    let value = wire::to_js(&Progress { part, file, done: done as f64, total: total as f64 });
    let _ = progress.call1(&JsValue::UNDEFINED, &value); // a listener's error is its own
}
