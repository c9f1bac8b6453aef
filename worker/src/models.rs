//! The models that are served, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use huatuo_compute::{Cpu, Device};
use huatuo_generate::{Decoder, Language};
use huatuo_native::{ModelFile, Processor};

use crate::config;
use crate::scheduler::{Engine, SchedulerOptions, start};
use crate::upstream::Upstreams;

/// Models by name; they are loaded and let go while the worker runs.
pub struct Models {
    served: Vec<config::Model>,
    upstreams: Arc<Upstreams>,
    options: config::Scheduler,
    states: Mutex<BTreeMap<String, State>>,
}

/// Who computes a model.
#[derive(Clone)]
pub enum Backend {
    /// This process.
    Local(Arc<Engine>),
    /// Other servers.
    Upstream(Arc<Upstreams>),
}

#[derive(Clone)]
enum State {
    Unloaded,
    Loading,
    Loaded(Arc<Engine>),
    Failed,
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
    /// Other servers compute the model.
    #[error("the model `{name}` is one of upstreams, which load it and let it go themselves")]
    Elsewhere {
        /// Its name.
        name: String,
    },
    /// The model was loaded and has failed since.
    #[error("the model `{name}` has stopped: POST /v1/models/{name}/load loads it again; the worker's log says why")]
    Stopped {
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
    pub fn new(served: Vec<config::Model>, options: config::Scheduler, upstreams: Upstreams) -> Self {
        let states = served.iter().map(|model| (model.name.clone(), State::Unloaded)).collect();
        Self { served, upstreams: Arc::new(upstreams), options, states: Mutex::new(states) }
    }

    /// Names of all models, and who computes those that are loaded, in the order of the configuration, upstreams' last.
    pub fn list(&self) -> Vec<(String, Option<Backend>)> {
        let states = self.states();
        let engine = |name: &str| match states.get(name) {
            Some(State::Loaded(engine)) if !engine.is_dead() => Some(Backend::Local(Arc::clone(engine))),
            _ => None,
        };
        let local = self.served.iter().map(|model| (model.name.clone(), engine(&model.name)));
        let upstream = |name: &str| (name.to_owned(), Some(Backend::Upstream(Arc::clone(&self.upstreams))));
        local.chain(self.upstreams.models().into_iter().map(upstream)).collect()
    }

    /// The engines of models that are loaded.
    pub fn engines(&self) -> Vec<(String, Arc<Engine>)> {
        let engine = |(name, backend): (String, Option<Backend>)| match backend {
            Some(Backend::Local(engine)) => Some((name, engine)),
            _ => None,
        };
        self.list().into_iter().filter_map(engine).collect()
    }

    /// Servers that generate in this one's place.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// A model's name and who computes it; without a name, the first one of the configuration.
    pub fn get(&self, name: Option<&str>) -> Result<(String, Backend), ModelError> {
        let name = self.name(name)?;
        match self.states().get(&name).cloned() {
            None => Ok((name, Backend::Upstream(Arc::clone(&self.upstreams)))),
            Some(State::Unloaded) => Err(ModelError::NotLoaded { name }),
            Some(State::Loading) => Err(ModelError::Loading { name }),
            // The reason has names of files in it.
            Some(State::Failed) => Err(ModelError::Failed { name, reason: "the worker's log says why".to_owned() }),
            Some(State::Loaded(engine)) if engine.is_dead() => Err(ModelError::Stopped { name }),
            Some(State::Loaded(engine)) => Ok((name, Backend::Local(engine))),
        }
    }

    /// A model's name, whether it is loaded or not; without a name, the first one's.
    pub fn name(&self, name: Option<&str>) -> Result<String, ModelError> {
        let (served, upstream) = (self.served.iter().map(|model| model.name.as_str()), self.upstreams.models());
        let mut known = served.chain(upstream);
        let found = match name {
            None => known.next(),
            Some(name) => known.find(|known| *known == name),
        };
        found.map(str::to_owned).ok_or_else(|| ModelError::Unknown { name: name.unwrap_or_default().to_owned() })
    }

    /// Whether the first model can take a text.
    pub fn are_ready(&self) -> bool {
        match self.get(None) {
            Ok((_, Backend::Local(engine))) => engine.is_ready(),
            Ok((name, Backend::Upstream(upstreams))) => upstreams.is_ready(&name),
            Err(_) => false,
        }
    }

    /// Whether a model that was loaded has failed since, which only loading it again ends.
    pub fn has_dead(&self) -> bool {
        self.states().values().any(|state| matches!(state, State::Loaded(engine) if engine.is_dead()))
    }

    /// Loads the models that are wanted from the start.
    pub fn preload(&self) -> Result<(), ModelError> {
        self.served.iter().filter(|model| model.preload).try_for_each(|model| self.load(&model.name))
    }

    /// Loads a model, unless it is loaded; takes as long as that takes.
    pub fn load(&self, name: &str) -> Result<(), ModelError> {
        let name = self.name(Some(name))?;
        let Some(model) = self.served.iter().find(|model| model.name == name) else {
            return Err(ModelError::Elsewhere { name });
        };
        match self.states().entry(name.clone()).or_insert(State::Unloaded) {
            State::Loaded(engine) if !engine.is_dead() => return Ok(()),
            State::Loading => return Err(ModelError::Loading { name }),
            state => *state = State::Loading,
        }
        let loaded = load(model, &self.options);
        let (state, result) = match loaded {
            Ok(engine) => (State::Loaded(Arc::new(engine)), Ok(())),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!(model = name, reason, "the model could not be loaded");
                (State::Failed, Err(ModelError::Failed { name: name.clone(), reason }))
            }
        };
        self.states().insert(name, state);
        result
    }

    /// Lets a model go once the texts that it writes are done; its memory is free then.
    pub fn unload(&self, name: &str) -> Result<(), ModelError> {
        let name = self.name(Some(name))?;
        match self.states().get_mut(&name) {
            None => Err(ModelError::Elsewhere { name }),
            Some(State::Loading) => Err(ModelError::Loading { name }),
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
    let &config::Scheduler { threads, most_running, most_waiting, kv_bytes, step_tokens, .. } = scheduler;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_has_failed_is_told_from_one_that_has_not_and_can_be_loaded_again() {
        let config = config::Config::default();
        let upstreams = Upstreams::new(&[], 1).unwrap();
        let models = Models::new(config.served_models(), config.scheduler, upstreams);
        models.preload().unwrap();
        let name = models.name(None).unwrap();
        let (_, Backend::Local(engine)) = models.get(None).unwrap() else { panic!("it is of this process") };
        assert!(models.are_ready() && !models.has_dead());
        engine.die();
        assert!(!models.are_ready() && models.has_dead());
        assert_eq!(models.get(None).err(), Some(ModelError::Stopped { name: name.clone() }));
        assert!(models.list()[0].1.is_none());
        models.load(&name).unwrap();
        assert!(models.are_ready() && !models.has_dead());
        assert_eq!(models.unload("other").err(), Some(ModelError::Unknown { name: "other".to_owned() }));
    }
}
