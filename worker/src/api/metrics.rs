//! Counts for Prometheus. Gauges mirror vLLM's names, so that routers made for it can weigh this worker, too.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{ApiError, App};
use crate::scheduler::EngineSnapshot;
use crate::upstream::Upstreams;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bounds in seconds.
const SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// As declared, never as asked for.
    route: String,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    /// Not its address, which is the operator's matter.
    number: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    code: &'static str,
}

/// Counts since the start.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    broken_streams: Family<StreamLabels, Counter>,
    red_flags: Counter,
    abstentions: Counter,
    first_token: Histogram,
    between_tokens: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            broken_streams: Family::default(),
            red_flags: Counter::default(),
            abstentions: Counter::default(),
            first_token: Histogram::new(SECONDS),
            between_tokens: Histogram::new(SECONDS),
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn count_request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), status: status.into() }).inc();
    }

    /// A stream, whose status had been 200, ended with an error.
    pub fn count_broken_stream(&self, code: &'static str) {
        self.broken_streams.get_or_create(&StreamLabels { code }).inc();
    }

    /// A question had danger signs.
    pub fn count_red_flags(&self) {
        self.red_flags.inc();
    }

    /// A question was not answered, because no reference was near enough.
    pub fn count_abstention(&self) {
        self.abstentions.inc();
    }

    /// A text's first token came.
    pub fn first_token(&self, seconds: f64) {
        self.first_token.observe(seconds);
    }

    /// A text's next token came.
    pub fn next_token(&self, seconds: f64) {
        self.between_tokens.observe(seconds);
    }

    /// All numbers of this moment, as OpenMetrics text.
    fn text(&self, models: &[(String, EngineSnapshot)], upstreams: &Upstreams) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register("huatuo_http_requests", "Requests by route and status", self.requests.clone());
        let help = "Streams that ended with an error, deadlines among them, by its code";
        registry.register("huatuo_broken_streams", help, self.broken_streams.clone());
        registry.register("huatuo_red_flags", "Questions with danger signs", self.red_flags.clone());
        registry.register(
            "huatuo_abstentions",
            "Questions that no reference was near enough for",
            self.abstentions.clone(),
        );
        let help = "Seconds from a request to its first token";
        registry.register("vllm:time_to_first_token_seconds", help, self.first_token.clone());
        let help = "Seconds between two tokens of a text";
        registry.register("vllm:time_per_output_token_seconds", help, self.between_tokens.clone());
        for (name, help, value) in GAUGES {
            let family = Family::<ModelLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
            for (model_name, snapshot) in models {
                family.get_or_create(&ModelLabels { model_name: model_name.clone() }).set(value(snapshot));
            }
            registry.register(*name, *help, family);
        }
        for (name, help, value) in COUNTERS {
            let family = Family::<ModelLabels, Counter>::default();
            for (model_name, snapshot) in models {
                family.get_or_create(&ModelLabels { model_name: model_name.clone() }).inc_by(value(snapshot));
            }
            registry.register(*name, *help, family);
        }
        let (requests, failures, shut) = <(Family<_, Counter>, Family<_, Counter>, Family<_, Gauge>)>::default();
        for (number, upstream) in upstreams.snapshots().into_iter().enumerate() {
            let labels = UpstreamLabels { number: number as u32 };
            requests.get_or_create(&labels).inc_by(upstream.requests);
            failures.get_or_create(&labels).inc_by(upstream.failures);
            shut.get_or_create(&labels).set(upstream.is_shut.into());
        }
        registry.register("huatuo_upstream_requests", "Requests by upstream, numbered as configured", requests);
        registry.register("huatuo_upstream_failures", "Of these, failures", failures);
        registry.register("huatuo_upstream_shut", "1 while nothing is sent to it", shut);
        let running = Gauge::<i64>::default();
        running.set(upstreams.running() as i64);
        registry.register("huatuo_upstream_running", "Answers of upstreams under way", running);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

type Value<T> = fn(&EngineSnapshot) -> T;

const GAUGES: &[(&str, &str, Value<f64>)] = &[
    ("vllm:num_requests_waiting", "Texts that wait for their first step", |s| s.waiting as f64),
    ("vllm:num_requests_running", "Texts that are read or written", |s| s.running as f64),
    ("vllm:kv_cache_usage_perc", "Share of the memory for keys and values that is used, 0 to 1", |s| {
        s.kv_used as f64 / s.kv_budget.max(1) as f64
    }),
];

const COUNTERS: &[(&str, &str, Value<u64>)] = &[
    ("vllm:prompt_tokens", "Tokens of prompts", |s| s.prompt_tokens),
    ("vllm:prefix_cache_hits", "Tokens of prompts that had not to be read", |s| s.cached_tokens),
    ("vllm:generation_tokens", "Tokens written", |s| s.tokens),
    ("vllm:num_preemptions", "Times that a text gave its memory to others", |s| s.preempted),
    ("huatuo_steps", "Steps of the batch", |s| s.steps),
    ("huatuo_step_rows", "Tokens read in steps, prompts and answers", |s| s.step_rows),
    ("huatuo_texts_finished", "Texts that ended", |s| s.finished),
    ("huatuo_texts_abandoned", "Texts whose client went away", |s| s.abandoned),
];

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models: Vec<(String, EngineSnapshot)> =
        app.models.engines().into_iter().map(|(name, engine)| (name, engine.snapshot())).collect();
    let text =
        app.metrics.text(&models, app.models.upstreams()).map_err(|error| ApiError::Failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, FORMAT)], text).into_response())
}
