//! What an operator may choose: one schema for file, environment and flags, each going before the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use huatuo_native::Processor;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Environment variables begin so; `__` stands between a section and its setting.
const PREFIX: &str = "HUATUO_WORKER_";

/// The whole configuration. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Keys that clients may use; where there is none, one is made up at the start and printed.
    pub api_keys: Vec<ApiKey>,
    /// Keys that may also load models and let them go; a key that was made up may, too.
    pub admin_keys: Vec<ApiKey>,
    /// Serve without keys; only on a loopback address.
    pub without_keys: bool,
    /// Names that a request's Host header may have, without port; loopback names and the address that is listened on always may.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages that may call, as `https://clinic.example`; none by default.
    pub allowed_origins: Vec<String>,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Log the text of questions, which are health data.
    pub log_questions: bool,
    /// TLS, where the worker ends it itself.
    pub tls: Option<Tls>,
    /// Models by name; the first one is the default. Without any, the model that the program carries.
    pub models: Vec<Model>,
    /// Servers that generate in this one's place.
    pub upstreams: Vec<Upstream>,
    /// Where traces are sent; nowhere by default.
    pub traces: Option<Traces>,
    /// References.
    pub retrieval: Retrieval,
    /// Batches.
    pub scheduler: Scheduler,
    /// What a request may ask for.
    pub limits: Limits,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// A secret that is not printed.
#[derive(Clone, Deserialize, PartialEq, Eq)]
pub struct ApiKey(pub String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for ApiKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// Certificate and key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate and those that vouch for it.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// OpenTelemetry traces.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// Address of a collector that takes OTLP over HTTP, without `/v1/traces`.
    pub endpoint: String,
    /// Share of requests that are traced where their client does not say whether they are, 0 to 1.
    #[serde(default = "all")]
    pub sample_ratio: f64,
}

fn all() -> f64 {
    1.0
}

/// A model that is served.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What clients call it.
    pub name: String,
    /// A GGUF file or a checkpoint folder with safetensors; without one, the model that the program carries.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// What computes it.
    #[serde(default = "cpu")]
    pub device: Processor,
    /// Whether it is loaded at the start; others are loaded by `POST /v1/models/{name}/load`.
    #[serde(default = "yes")]
    pub preload: bool,
}

/// A server that speaks OpenAI's protocol and generates in this one's place: vLLM, another worker, KServe, Ray Serve LLM, llm-d.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its address, without `/v1`.
    pub base_url: String,
    /// Names that models have here, and what they are called there.
    pub model_map: BTreeMap<String, String>,
    /// Variable of the environment that holds its key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Milliseconds until an answer begins; then another one is asked.
    #[serde(default = "first_byte_ms")]
    pub first_byte_ms: u64,
    /// Its share of requests, against the others'.
    #[serde(default = "one")]
    pub weight: u32,
}

fn first_byte_ms() -> u64 {
    30_000
}

fn one() -> u32 {
    1
}

fn cpu() -> Processor {
    Processor::Cpu
}

fn yes() -> bool {
    true
}

/// Where references come from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrieval {
    /// Folder of the encoder; without one, the encoder that the program carries.
    pub encoder: Option<PathBuf>,
    /// Folder or URL of the index; without one, the sample index.
    pub index: Option<String>,
}

/// How texts share a model.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scheduler {
    /// Threads that compute, 0 for all processors.
    pub threads: usize,
    /// Texts of a model that are read or written at once.
    pub most_running: usize,
    /// Texts of a model that may wait; more are refused with 429.
    pub most_waiting: usize,
    /// Answers of upstreams under way at once; more are refused with 429.
    pub most_forwarded: usize,
    /// Bytes of a model's keys and values.
    pub kv_bytes: usize,
    /// Tokens that a step reads at most, prompts and answers together; what the model takes at once bounds them, too.
    pub step_tokens: usize,
}

/// What a request may ask for; checked before anything is made for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Characters of a prompt, of all messages together.
    pub prompt_characters: usize,
    /// Messages, or turns of a conversation.
    pub messages: usize,
    /// Tokens of an answer.
    pub max_tokens: usize,
    /// Answers to one request (`n`).
    pub choices: usize,
    /// Stop texts.
    pub stops: usize,
    /// Characters of a stop text.
    pub stop_characters: usize,
    /// Texts embedded by one request.
    pub inputs: usize,
    /// References that a request may ask for or bring.
    pub references: usize,
}

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// Until a request's headers, and then its body, have arrived.
    pub request_ms: u64,
    /// Until the first token, waiting included.
    pub first_token_ms: u64,
    /// Between two tokens.
    pub between_tokens_ms: u64,
    /// For the whole answer.
    pub total_ms: u64,
    /// For answers under way when the worker is told to end.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8077)),
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            without_keys: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            log_json: false,
            log_questions: false,
            tls: None,
            models: Vec::new(),
            upstreams: Vec::new(),
            traces: None,
            retrieval: Retrieval::default(),
            scheduler: Scheduler::default(),
            limits: Limits::default(),
            deadlines: Deadlines::default(),
        }
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { threads: 0, most_running: 32, most_waiting: 64, most_forwarded: 256, kv_bytes: 1 << 30, step_tokens: 64 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            connections: 1024,
            prompt_characters: 32_768,
            messages: 64,
            max_tokens: 2048,
            choices: 4,
            stops: 8,
            stop_characters: 128,
            inputs: 64,
            references: 16,
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            request_ms: 15_000,
            first_token_ms: 60_000,
            between_tokens_ms: 15_000,
            total_ms: 300_000,
            drain_ms: 20_000,
        }
    }
}

/// A number of milliseconds as a duration.
pub fn duration(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("could not read the configuration {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration {path} is not TOML: {error}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A setting is not `section.name=value`.
    #[error("the setting `{0}` is not of the form section.name=value, as in limits.max_tokens=512")]
    NotASetting(String),
    /// A setting is not known or has a value of another kind.
    #[error("the configuration: {0}")]
    Schema(Box<toml::de::Error>),
    /// A value can't be right.
    #[error("the configuration's `{setting}` {reason}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Config {
    /// Reads the file, then variables of the environment, then settings `section.name=value`.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        settings: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => parse_file(path)?,
            None => Table::new(),
        };
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix(PREFIX).filter(|name| !is_service_link(name)) {
                set(&mut table, &name.to_lowercase().replace("__", "."), &value);
            }
        }
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| ConfigError::NotASetting(setting.clone()))?;
            set(&mut table, name.trim(), value);
        }
        let config: Self = Value::Table(table).try_into().map_err(|error| ConfigError::Schema(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// As it would be written into a file; keys are not shown.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# {error}"))
    }

    /// The models of this process; the program's own where none is named, here or upstream.
    pub fn served_models(&self) -> Vec<Model> {
        match self.models.is_empty() && self.upstreams.is_empty() {
            true => vec![Model { name: "huatuo".to_owned(), path: None, device: cpu(), preload: true }],
            false => self.models.clone(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, reason: String| Err(ConfigError::Value { setting, reason });
        if self.without_keys && !self.listen.ip().is_loopback() {
            let reason = format!("needs a loopback address, not {}: set api_keys, or listen on 127.0.0.1", self.listen);
            return wrong("without_keys", reason);
        }
        const SHORTEST_KEY: usize = 16;
        for (setting, keys) in [("api_keys", &self.api_keys), ("admin_keys", &self.admin_keys)] {
            if keys.iter().any(|key| key.0.len() < SHORTEST_KEY) {
                return wrong(setting, format!("has a key of fewer than {SHORTEST_KEY} characters: use a random one"));
            }
        }
        for origin in &self.allowed_origins {
            let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if !rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' '])) {
                return wrong(
                    "allowed_origins",
                    format!("has `{origin}`: name each as https://host or https://host:port"),
                );
            }
        }
        if let Some(Traces { endpoint, sample_ratio }) = &self.traces {
            if !is_http(endpoint) {
                return wrong("traces", format!("has the endpoint `{endpoint}`: {ADDRESSES}"));
            }
            if !(0.0..=1.0).contains(sample_ratio) {
                return wrong("traces", format!("has the sample_ratio {sample_ratio}, expected 0 to 1"));
            }
        }
        let models = self.served_models();
        for (at, Model { name, .. }) in models.iter().enumerate() {
            if !is_model_name(name) {
                return wrong("models", format!("has the name `{name}`: {MODEL_NAMES}"));
            }
            if models[..at].iter().any(|model| model.name == *name) {
                return wrong("models", format!("names `{name}` twice"));
            }
        }
        for upstream in &self.upstreams {
            if !is_http(&upstream.base_url) {
                return wrong("upstreams", format!("has the base_url `{}`: {ADDRESSES}", upstream.base_url));
            }
            if upstream.weight == 0 || upstream.model_map.is_empty() {
                return wrong("upstreams", "has one without weight or without models in its model_map".to_owned());
            }
            if let Some(name) = upstream.model_map.keys().find(|name| !is_model_name(name)) {
                return wrong("upstreams", format!("maps the name `{name}`: {MODEL_NAMES}"));
            }
            if let Some(name) = upstream.model_map.keys().find(|name| models.iter().any(|model| model.name == **name)) {
                return wrong(
                    "upstreams",
                    format!("maps `{name}`, which is a model of this worker: rename one of them"),
                );
            }
        }
        for (setting, value) in [
            ("scheduler.most_running", self.scheduler.most_running),
            ("scheduler.most_waiting", self.scheduler.most_waiting),
            ("scheduler.most_forwarded", self.scheduler.most_forwarded),
            ("scheduler.step_tokens", self.scheduler.step_tokens),
            ("limits.body_bytes", self.limits.body_bytes),
            ("limits.connections", self.limits.connections),
            ("limits.prompt_characters", self.limits.prompt_characters),
            ("limits.messages", self.limits.messages),
            ("limits.max_tokens", self.limits.max_tokens),
            ("limits.choices", self.limits.choices),
            ("limits.inputs", self.limits.inputs),
            ("limits.references", self.limits.references),
        ] {
            if value == 0 {
                return wrong(setting, "is 0, at least 1 is needed".to_owned());
            }
        }
        Ok(())
    }
}

const ADDRESSES: &str = "it begins with http:// or https://";

fn is_http(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

const MODEL_NAMES: &str = "up to 64 letters, digits, '.', '_' and '-', not beginning with '.'";

/// A name is never a path, and goes into paths of the API and labels of metrics.
fn is_model_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_plain)
}

/// Whether Kubernetes sets the variable, in all containers beside a service that is called `huatuo-worker`.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

fn parse_file(path: &Path) -> Result<Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    text.parse().map_err(|error| ConfigError::NotToml { path: path.to_owned(), error: Box::new(error) })
}

/// Sets `a.b.c`; a value that is no TOML is a text.
fn set(table: &mut Table, name: &str, value: &str) {
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts: Vec<&str> = name.split('.').collect();
    let Some(last) = parts.pop() else { return };
    let mut place = table;
    for part in parts {
        let section = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
        if !section.is_table() {
            *section = Value::Table(Table::new());
        }
        match section.as_table_mut() {
            Some(section) => place = section,
            None => return,
        }
    }
    place.insert(last.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[&str]) -> Result<Config, ConfigError> {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Config::read(None, [], &settings)
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.toml");
        std::fs::write(&path, "[limits]\nmax_tokens = 1\nmessages = 1\nstops = 1\n").unwrap();
        let environment =
            [("HUATUO_WORKER_LIMITS__MESSAGES", "2"), ("HUATUO_WORKER_LIMITS__STOPS", "2"), ("PATH", "x")];
        let links =
            ["PORT=tcp://10.0.0.1:80", "PORT_80_TCP_PROTO=tcp", "SERVICE_HOST=10.0.0.1", "SERVICE_PORT_HTTP=80"];
        let links = links.map(|link| link.split_once('=').unwrap());
        let links = links.map(|(name, value)| (format!("HUATUO_WORKER_{name}"), value.to_owned()));
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = environment.into_iter().chain(links);
        let config = Config::read(Some(&path), environment, &["limits.stops=3".to_owned()]).unwrap();
        assert_eq!((config.limits.max_tokens, config.limits.messages, config.limits.stops), (1, 2, 3));
    }

    #[test]
    fn texts_need_no_quotes_and_lists_are_toml() {
        let config = read(&["retrieval.index=https://cdn.example/index", "allowed_hosts=[\"a.example\"]"]).unwrap();
        assert_eq!(config.retrieval.index.as_deref(), Some("https://cdn.example/index"));
        assert_eq!(config.allowed_hosts, ["a.example"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error = read(&["limits.max_token=3"]).unwrap_err().to_string();
        assert!(error.contains("max_token") && error.contains("max_tokens"), "{error}");
        assert!(matches!(read(&["limits"]), Err(ConfigError::NotASetting(_))));
        assert!(matches!(read(&["limits.max_tokens=-1"]), Err(ConfigError::Schema(_))));
    }

    #[test]
    fn what_would_be_unsafe_is_refused() {
        assert!(read(&["without_keys=true", "listen=0.0.0.0:80"]).is_err());
        assert!(read(&["without_keys=true"]).is_ok());
        assert!(read(&["api_keys=[\"short\"]"]).is_err());
        assert!(read(&["admin_keys=[\"short\"]"]).is_err());
        assert!(read(&["allowed_origins=[\"*\"]"]).is_err());
        assert!(read(&["models=[{name=\"../etc\"}]"]).is_err());
        assert!(read(&["models=[{name=\"a\"},{name=\"a\"}]"]).is_err());
        let upstream = |url: &str| format!("upstreams=[{{base_url=\"{url}\",model_map={{a=\"b\"}}}}]");
        assert!(read(&[&upstream("file:///etc/passwd")]).is_err());
        assert!(read(&[&upstream("http://127.0.0.1:8000"), "models=[{name=\"a\"}]"]).is_err());
        assert!(read(&[&upstream("http://127.0.0.1:8000")]).is_ok());
    }

    #[test]
    fn the_printed_configuration_is_a_configuration_without_its_keys() {
        let config = read(&["api_keys=[\"0123456789abcdef\"]"]).unwrap();
        let printed = config.to_toml();
        assert!(!printed.contains("0123456789abcdef"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker.toml");
        std::fs::write(&path, printed.replace('…', "fedcba9876543210")).unwrap();
        Config::read(Some(&path), [], &[]).unwrap();
    }
}
