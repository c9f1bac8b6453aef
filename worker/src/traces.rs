//! OpenTelemetry traces: a span for each request, and one for each thing that it waits for. Spans carry numbers, identifiers and
//! names that were declared, never what a request says.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::config;

/// W3C's header that says which trace a request belongs to.
pub const TRACEPARENT: &str = "traceparent";
/// A number of HTTP.
pub const STATUS: &str = "http.response.status_code";
/// A span: writing an answer, waiting for its turn included.
pub const GENERATE: &str = "generate";
/// An event of that span.
pub const FIRST_TOKEN: &str = "first token";
/// A span: finding references, waiting for their turn included.
pub const RETRIEVE: &str = "retrieve";
/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// Time for the collector to take a batch; one that says nothing costs that batch, not all later ones.
const EXPORT: Duration = Duration::from_secs(10);

/// Where spans are made, and sent from in batches on a thread of their own; nothing is where no collector is configured.
#[derive(Default)]
pub struct Traces(Option<Recorder>);

struct Recorder {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A span that ends when all who hold it, or a part of it, are done with it.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Recorded>);

#[derive(Clone, Debug)]
struct Recorded {
    context: Context,
    tracer: SdkTracer,
    /// What it is a part of.
    _whole: Context,
}

impl Traces {
    /// Sends spans to a collector, from the present runtime.
    pub fn start(config: &config::Traces) -> Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client, runtime: Handle::current() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
            .build()
            .with_context(|| format!("traces can't be sent to {}", config.endpoint))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_resource(Resource::builder().with_service_name("huatuo-worker").with_attribute(version).build())
            .build();
        let tracer = provider.tracer("huatuo-worker");
        Ok(Self(Some(Recorder { provider, tracer })))
    }

    /// The span of a request, in the trace that its headers name.
    pub fn request(&self, method: &str, route: &str, headers: &HeaderMap) -> Span {
        let Some(Recorder { tracer, .. }) = &self.0 else { return Span::default() };
        Span::begin(tracer, format!("{method} {route}"), SpanKind::Server, &parent(headers))
    }

    /// Sends what was not sent yet.
    pub fn end(&self) {
        if let Some(Recorder { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
        {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

/// The span that a request belongs to. Its state is left alone: a client may write into it what it likes.
fn parent(headers: &HeaderMap) -> Context {
    struct Traceparent<'a>(Option<&'a str>);
    impl Extractor for Traceparent<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.filter(|_| key == TRACEPARENT)
        }

        fn keys(&self) -> Vec<&str> {
            vec![TRACEPARENT]
        }
    }
    let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(given));
    let span = found.span().span_context().clone();
    if !span.is_valid() {
        return Context::new(); // the sampler would take it for a parent that is not traced
    }
    let plain = SpanContext::new(span.trace_id(), span.span_id(), span.trace_flags(), true, TraceState::NONE);
    Context::new().with_remote_span_context(plain)
}

impl Span {
    fn begin(tracer: &SdkTracer, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: &Context) -> Self {
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Self(Some(Recorded { context: parent.with_span(span), tracer: tracer.clone(), _whole: parent.clone() }))
    }

    /// A part of it that this process does.
    pub fn part(&self, name: &'static str) -> Self {
        self.child(name, SpanKind::Internal)
    }

    /// A part of it that another server does.
    pub fn call(&self, name: &'static str) -> Self {
        self.child(name, SpanKind::Client)
    }

    fn child(&self, name: &'static str, kind: SpanKind) -> Self {
        let Some(Recorded { context, tracer, .. }) = &self.0 else { return Self::default() };
        Self::begin(tracer, name, kind, context)
    }

    /// Notes a number or a declared name.
    pub fn note(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(Recorded { context, .. }) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes which model answers.
    pub fn model(&self, name: &str) {
        self.note("gen_ai.request.model", name.to_owned());
    }

    /// Notes the tokens of an answer, in the words of OpenTelemetry's conventions for generative models.
    pub fn tokens(&self, prompt: usize, cached: usize, written: usize) {
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", prompt),
            ("gen_ai.usage.cache_read.input_tokens", cached),
            ("gen_ai.usage.output_tokens", written),
        ] {
            self.note(key, tokens as i64);
        }
    }

    /// Notes that something happened now.
    pub fn event(&self, name: &'static str) {
        if let Some(Recorded { context, .. }) = &self.0 {
            context.span().add_event(name, Vec::new());
        }
    }

    /// Notes that it failed; `code` is one of those declared for errors.
    pub fn fail(&self, code: &'static str) {
        if let Some(Recorded { context, .. }) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", code));
            context.span().set_status(Status::error(code));
        }
    }

    /// The header for a server that does a part of it.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        struct Traceparent(Option<HeaderValue>);
        impl Injector for Traceparent {
            fn set(&mut self, key: &str, value: String) {
                if key == TRACEPARENT {
                    self.0 = value.try_into().ok();
                }
            }
        }
        let Recorded { context, .. } = self.0.as_ref()?;
        let mut header = Traceparent(None);
        TraceContextPropagator::new().inject_context(context, &mut header);
        header.0
    }
}

/// Sends spans through the runtime of the worker: the thread that batches them has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.client.execute(request.try_into()?);
        let answered = async {
            let mut response = sent.await?.error_for_status()?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let mut answer = Response::new(response.bytes().await?);
            (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(answer)
        };
        Ok(self.runtime.spawn(async { tokio::time::timeout(EXPORT, answered).await }).await???)
    }
}
