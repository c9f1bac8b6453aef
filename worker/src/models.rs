//! The models that are served, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use huatuo_compute::{Cpu, Device};
use huatuo_generate::{Decoder, Language};
use huatuo_native::{ModelFile, Processor};

use crate::config;
use crate::scheduler::{Engine, SchedulerOptions, start};

/// Models by name; they are loaded and let go while the worker runs.
pub struct Models {
    served: Vec<config::Model>,
    options: config::Scheduler,
    states: Mutex<BTreeMap<String, State>>,
}

#[derive(Clone)]
enum State {
    Unloaded,
    Loading,
    Loaded(Arc<Engine>),
    /// Why it could not be loaded.
    Failed(String),
}

/// Why a model can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No model has this name.
    #[error("there is no model `{name}`; GET /v1/models lists those that are served")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The model is not loaded.
    #[error("the model `{name}` is not loaded: POST /v1/models/{name}/load loads it")]
    NotLoaded {
        /// Its name.
        name: String,
    },
    /// The model is being loaded.
    #[error("the model `{name}` is being loaded: try again")]
    Loading {
        /// Its name.
        name: String,
    },
    /// The model could not be loaded.
    #[error("the model `{name}` could not be loaded: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Models {
    /// Models that may be loaded.
    pub fn new(served: Vec<config::Model>, options: config::Scheduler) -> Self {
        let states = served.iter().map(|model| (model.name.clone(), State::Unloaded)).collect();
        Self { served, options, states: Mutex::new(states) }
    }

    /// Names of all models, and the engines of those that are loaded, in the order of the configuration.
    pub fn list(&self) -> Vec<(String, Option<Arc<Engine>>)> {
        let states = self.states();
        let engine = |name: &str| match states.get(name) {
            Some(State::Loaded(engine)) => Some(Arc::clone(engine)),
            _ => None,
        };
        self.served.iter().map(|model| (model.name.clone(), engine(&model.name))).collect()
    }

    /// A loaded model and its name; without a name, the first one of the configuration.
    pub fn get(&self, name: Option<&str>) -> Result<(String, Arc<Engine>), ModelError> {
        let first = || self.served.first().map(|model| model.name.as_str()).unwrap_or_default();
        let name = name.unwrap_or_else(first).to_owned();
        match self.states().get(&name).cloned() {
            None => Err(ModelError::Unknown { name }),
            Some(State::Unloaded) => Err(ModelError::NotLoaded { name }),
            Some(State::Loading) => Err(ModelError::Loading { name }),
            Some(State::Failed(reason)) => Err(ModelError::Failed { name, reason }),
            Some(State::Loaded(engine)) => Ok((name, engine)),
        }
    }

    /// Whether the first model can take a text.
    pub fn are_ready(&self) -> bool {
        self.get(None).is_ok_and(|(_, engine)| engine.is_ready())
    }

    /// Loads the models that are wanted from the start.
    pub fn preload(&self) -> Result<(), ModelError> {
        self.served.iter().filter(|model| model.preload).try_for_each(|model| self.load(&model.name))
    }

    /// Loads a model, unless it is loaded; takes as long as that takes.
    pub fn load(&self, name: &str) -> Result<(), ModelError> {
        let name = name.to_owned();
        let Some(model) = self.served.iter().find(|model| model.name == name) else {
            return Err(ModelError::Unknown { name });
        };
        match self.states().entry(name.clone()).or_insert(State::Unloaded) {
            State::Loaded(_) => return Ok(()),
            State::Loading => return Err(ModelError::Loading { name }),
            state => *state = State::Loading,
        }
        let loaded = load(model, &self.options);
        let (state, result) = match loaded {
            Ok(engine) => (State::Loaded(Arc::new(engine)), Ok(())),
            Err(error) => {
                let reason = format!("{error:#}");
                (State::Failed(reason.clone()), Err(ModelError::Failed { name: name.clone(), reason }))
            }
        };
        self.states().insert(name, state);
        result
    }

    /// Lets a model go once the texts that it writes are done; its memory is free then.
    pub fn unload(&self, name: &str) -> Result<(), ModelError> {
        match self.states().get_mut(name) {
            None => Err(ModelError::Unknown { name: name.to_owned() }),
            Some(State::Loading) => Err(ModelError::Loading { name: name.to_owned() }),
            Some(state) => {
                *state = State::Unloaded;
                Ok(())
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(model: &config::Model, scheduler: &config::Scheduler) -> anyhow::Result<Engine> {
    let &config::Scheduler { threads, most_running, most_waiting, kv_bytes, step_tokens } = scheduler;
    let options = SchedulerOptions { most_running, most_waiting, kv_bytes, step_tokens };
    let file = model.path.clone().map_or(ModelFile::Default, ModelFile::Path);
    match model.device {
        Processor::Cpu => start(&model.name, options, move || {
            let cpu = match threads {
                0 => huatuo_native::all_processors()?,
                threads => Cpu::with_threads(threads)?,
            };
            let device = format!("CPU, {} with {} threads", cpu.instruction_set(), cpu.threads());
            let (decoder, language) = decoder(cpu, &file)?;
            Ok((decoder, language, device))
        }),
        Processor::Gpu => start(&model.name, options, move || {
            let gpu = huatuo_native::gpu()?;
            let device = gpu.name();
            let (mut decoder, language) = decoder(gpu.clone(), &file)?;
            huatuo_native::tune(&gpu, || pollster::block_on(decoder.tune()))?;
            Ok((decoder, language, device))
        }),
    }
}

fn decoder<D: Device>(device: D, file: &ModelFile) -> anyhow::Result<(Decoder<D>, Language)> {
    let (decoder, header) = huatuo_native::decoder(device, file)?;
    let (vocabulary, context) = (decoder.vocabulary(), decoder.architecture().context);
    let language = Language::new(&header, file.tokenizer()?.as_deref(), vocabulary, context)?;
    Ok((decoder, language))
}
