//! The engine of a page: one retriever, one generator, one consultation at a time.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use huatuo_compute::Gpu;
use huatuo_core::{Event, Limits, Observer, Question, consult};
use huatuo_fetch::Source;
use huatuo_fetch::clock::now_ms;
use huatuo_generate::RecoveringGenerator;
use huatuo_index::{DEFAULT_CACHE_BYTES, Index};
use huatuo_retrieve::{Calibration, HybridRetriever, RecoveringEncoder, TextEncoder};
use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};
use web_sys::FileSystemSyncAccessHandle;

use crate::block_files::BlockFiles;
use crate::encoder_files::EncoderFiles;
use crate::error::EngineError;
use crate::model_loader::ModelLoader;
use crate::pace::EventLoop;
use crate::reload::PageReload;
use crate::wire::{self, WireOptions, WireTurn};

/// Takes models over, opens the index and answers questions.
#[wasm_bindgen]
pub struct Engine {
    index_source: Source,
    /// Where blocks are kept between visits.
    block_files: RefCell<Option<BlockFiles>>,
    decoys: Cell<usize>,
    pace: EventLoop,
    // Each part is taken out while it works, so a second call meanwhile finds it absent instead of a broken borrow.
    encoder: RefCell<Option<(RecoveringEncoder<PageReload>, Calibration)>>,
    retriever: RefCell<Option<HybridRetriever<RecoveringEncoder<PageReload>>>>,
    generator: RefCell<Option<RecoveringGenerator<EventLoop, PageReload>>>,
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
    /// An engine over `index/` below a base URL. Nothing is fetched yet.
    #[wasm_bindgen(constructor)]
    pub fn new(base: &str) -> Self {
        Self {
            index_source: Source::http(format!("{}/index", base.trim_end_matches('/'))),
            block_files: RefCell::default(),
            decoys: Cell::default(),
            pace: EventLoop::default(),
            encoder: RefCell::default(),
            retriever: RefCell::default(),
            generator: RefCell::default(),
        }
    }

    /// Takes over an encoder whose files have arrived. When its device is lost, `reload` is called with the number of devices
    /// lost before for the same text, for a promise of the files once more.
    #[wasm_bindgen(js_name = setEncoder)]
    pub fn set_encoder(&self, files: EncoderFiles, reload: Function) -> Result<(), JsValue> {
        let (encoder, files) = files.into_encoder().map_err(EngineError::from)?;
        let calibration = Calibration::from_files(&files).map_err(EngineError::from)?;
        let encoder = RecoveringEncoder::new(encoder, PageReload(reload));
        *self.encoder.borrow_mut() = Some((encoder, calibration));
        Ok(())
    }

    /// Whether an encoder is there, alone or joined with the index.
    #[wasm_bindgen(js_name = hasEncoder)]
    pub fn has_encoder(&self) -> bool {
        self.encoder.borrow().is_some() || self.retriever.borrow().is_some()
    }

    /// Has so many searches for nothing go with each question; to be called before the index is opened.
    #[wasm_bindgen(js_name = setDecoys)]
    pub fn set_decoys(&self, count: usize) {
        self.decoys.set(count);
    }

    /// Has the index keep blocks in two files between visits, `limit_bytes` of them; to be called before it is opened.
    #[wasm_bindgen(js_name = keepBlocks)]
    pub fn keep_blocks(&self, a: FileSystemSyncAccessHandle, b: FileSystemSyncAccessHandle, limit_bytes: f64) {
        let limit_bytes = limit_bytes as u64;
        *self.block_files.borrow_mut() = Some(BlockFiles { files: [a, b], limit_bytes });
    }

    /// Bytes of the index kept on this device, and whether it refused more; nothing while the index is not open or nothing is kept.
    #[wasm_bindgen(js_name = keptBlocks)]
    pub fn kept_blocks(&self) -> JsValue {
        let retriever = self.retriever.borrow();
        let state = retriever.as_ref().and_then(|retriever| retriever.index().store_state());
        state.map_or(JsValue::NULL, |state| wire::to_js(&wire::WireStore::from(state)))
    }

    /// Removes what is kept of the index on this device.
    #[wasm_bindgen(js_name = forgetBlocks)]
    pub fn forget_blocks(&self) -> Result<(), JsValue> {
        let retriever = self.retriever.borrow();
        let cleared = retriever.as_ref().map_or(Ok(()), |retriever| retriever.index().clear_store());
        Ok(cleared.map_err(|error| EngineError::storage(error.to_string()))?)
    }

    /// Opens the index and joins it with the encoder. After an error, another call tries again.
    #[wasm_bindgen(js_name = openIndex)]
    pub async fn open_index(&self, progress: Function) -> Result<(), JsValue> {
        if self.retriever.borrow().is_some() {
            return Ok(());
        }
        let store = self.block_files.borrow().clone().and_then(BlockFiles::store);
        let index = Index::open_with_store(self.index_source.clone(), DEFAULT_CACHE_BYTES, store)
            .await
            .map_err(EngineError::from)?;
        // Every first text needs them, and nobody waits for them here.
        index.prepare_texts().await.map_err(EngineError::from)?;
        let bytes = index.opening().bytes;
        report(&progress, "index", "manifest.json", bytes, bytes);
        let built_with = index.manifest().encoder.sha256.clone();
        if self.encoder.borrow().as_ref().is_some_and(|(encoder, _)| encoder.sha256() != built_with) {
            *self.encoder.borrow_mut() = None; // the site may have been replaced: the next try asks what it has now
            return Err(EngineError::corrupt(
                "the index was built with another encoder; publish both together".to_owned(),
            )
            .into());
        }
        let Some((encoder, calibration)) = self.encoder.borrow_mut().take() else {
            return Err(EngineError::state("the encoder is not loaded, or the index is being opened already").into());
        };
        let mut retriever = HybridRetriever::new(encoder, index, calibration).map_err(EngineError::from)?;
        let seed = getrandom::u64().map_err(|error| EngineError::state(&error.to_string()))?;
        retriever.set_decoys(self.decoys.get(), seed);
        *self.retriever.borrow_mut() = Some(retriever);
        Ok(())
    }

    /// Takes over a model that has arrived, with its `tokenizer.json`; without one the model file's own is used. When its
    /// device is lost, `reload` is called with the number of devices lost before in the same answer, for a promise of the model once
    /// more.
    #[wasm_bindgen(js_name = setGenerator)]
    pub fn set_generator(
        &self,
        loader: ModelLoader,
        tokenizer: Option<Vec<u8>>,
        reload: Function,
    ) -> Result<(), JsValue> {
        let (decoder, header) = loader.into_decoder().map_err(EngineError::from)?;
        let (pace, reload) = (self.pace.clone(), PageReload(reload));
        let generator = RecoveringGenerator::new(decoder, &header, tokenizer.as_deref(), pace, reload)
            .map_err(EngineError::from)?;
        *self.generator.borrow_mut() = Some(generator);
        Ok(())
    }

    /// Lets the generator's device find out how it computes fastest; gives what is to be kept for the next start on the same
    /// adapter, for [`crate::GpuDevice::request`], nothing where it was known.
    pub async fn tune(&self) -> Result<Option<String>, JsValue> {
        let Some(mut generator) = self.generator.borrow_mut().take() else { return Ok(None) };
        let before = generator.gpu().map(Gpu::tuning);
        let tuned = generator.tune().await;
        let after = generator.gpu().map(Gpu::tuning);
        *self.generator.borrow_mut() = Some(generator);
        tuned.map_err(EngineError::from)?;
        Ok(after.filter(|_| after != before).map(|tuning| tuning.to_string()))
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
        let mut observer = Listener { on_event, pace: self.pace.clone() };
        let result = consult(&question, &conversation, &retriever, generator.as_mut(), limits, &mut observer).await;
        let statistics = retriever.statistics();
        *self.retriever.borrow_mut() = Some(retriever);
        if generator.is_some() {
            *self.generator.borrow_mut() = generator;
        }
        Ok(wire::consultation(&result.map_err(EngineError::from)?, &statistics))
    }

    /// Stops the running consultation within one token; while it waits for the network, at once.
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
}

/// The page as it listens to a consultation.
struct Listener {
    on_event: Function,
    pace: EventLoop,
}

impl Observer for Listener {
    fn observe(&mut self, event: Event<'_>) -> ControlFlow<()> {
        let _ = self.on_event.call1(&JsValue::UNDEFINED, &wire::event(&event)); // a listener's error is its own
        if self.pace.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn poll_stopped(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.pace.poll_stopped(context)
    }
}

fn report(progress: &Function, part: &str, file: &str, done: u64, total: u64) {
    let value = wire::to_js(&Progress { part, file, done: done as f64, total: total as f64 });
    let _ = progress.call1(&JsValue::UNDEFINED, &value); // a listener's error is its own
}
