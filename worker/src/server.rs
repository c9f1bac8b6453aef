//! Listening, and ending well.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::net::TcpSocket;
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::{App, Keys, Metrics, random_key, router, starting};
use crate::config::{Config, duration};
use crate::connections::Bounded;
use crate::consultations::Consultations;
use crate::models::{Backend, Models};
use crate::traces::Traces;
use crate::upstream::Upstreams;

/// A worker that listens.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<Result<()>>,
    /// What is served once they are set.
    routes: Arc<OnceLock<Router>>,
}

impl Server {
    /// Takes the address, where probes are answered from then on; loads what is configured, and says what was loaded.
    pub async fn open(mut config: Config) -> Result<Self> {
        let listener = listen(&config)
            .with_context(|| format!("could not listen on {}: choose another address with --listen", config.listen))?;
        let address = listener.local_addr()?;
        config.listen = address;
        let (handle, routes) = (Handle::new(), Arc::default());
        let serving = tokio::spawn(serve(config.clone(), listener, handle.clone(), front(Arc::clone(&routes))));
        tracing::info!("starting at {address}");
        let keys = keys(&config)?;
        let traces = config.traces.as_ref().map(Traces::start).transpose()?.unwrap_or_default();
        let upstreams = Upstreams::new(&config.upstreams, config.scheduler.most_forwarded)?;
        let models = Models::new(config.served_models(), config.scheduler.clone(), upstreams);
        let (retrieval, most) = (config.retrieval.clone(), config.scheduler.most_waiting);
        let (models, consultations) = tokio::task::spawn_blocking(move || -> Result<_> {
            models.preload()?;
            Ok((models, Consultations::start(&retrieval, most)?))
        })
        .await??;
        for (name, backend) in models.list() {
            match backend {
                Some(Backend::Local(engine)) => {
                    let (device, context) = (engine.device(), engine.most_tokens());
                    tracing::info!(model = name, device, context, "model loaded");
                }
                Some(Backend::Upstream(_)) => tracing::info!(model = name, "model of upstreams"),
                None => tracing::info!(model = name, "model not loaded yet"),
            }
        }
        let index = &consultations.index;
        tracing::info!(index = index.place, records = index.records, dimensions = index.dimensions, "index opened");
        let app = Arc::new(App {
            config,
            models,
            consultations,
            keys,
            metrics: Metrics::default(),
            traces,
            draining: false.into(),
            under_way: Sender::new(()),
            ending: CancellationToken::new(),
        });
        Ok(Self { app, address, handle, serving, routes })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its routes, for who brings requests without a connection.
    pub fn routes(&self) -> Router {
        router(Arc::clone(&self.app))
    }

    /// Serves until `stop` is ready; then takes no new work, and ends answers that are not done by the deadline with an error event.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let _ = self.routes.set(self.routes());
        let Self { app, address, handle, serving, .. } = self;
        let scheme = if app.config.tls.is_some() { "https" } else { "http" };
        tracing::info!("listening on {scheme}://{address}");
        tokio::spawn(end(Arc::clone(&app), handle, stop));
        serving.await??;
        tokio::task::spawn_blocking(move || app.traces.end()).await?;
        tracing::info!("ended");
        Ok(())
    }
}

/// Takes the address. As many may connect at once as there are places: who finds the system's queue full is not refused but tries
/// again a second later, probes of health among them.
fn listen(config: &Config) -> std::io::Result<TcpListener> {
    let socket = if config.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(config.listen)?;
    socket.listen(config.limits.connections.try_into().unwrap_or(u32::MAX))?.into_std()
}

/// The routes, once they are set; before, what a worker that loads has to say.
fn front(routes: Arc<OnceLock<Router>>) -> Router {
    Router::new().fallback(async move |request: Request| match routes.get() {
        Some(routes) => routes.clone().oneshot(request).await.into_response(),
        None => starting(request.uri().clone()).await.into_response(),
    })
}

async fn serve(config: Config, listener: TcpListener, handle: Handle<SocketAddr>, routes: Router) -> Result<()> {
    let service = routes.into_make_service();
    let (most, patience) = (config.limits.connections, duration(config.deadlines.request_ms));
    match &config.tls {
        None => {
            let server = axum_server::from_tcp(listener)?.handle(handle);
            let mut server = server.map(|inner| Bounded::new(inner, most, patience));
            bound(server.http_builder(), patience);
            server.serve(service).await?;
        }
        Some(tls) => {
            // The only one compiled in; that it was chosen before is no failure.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let certificate = RustlsConfig::from_pem_file(&tls.certificate, &tls.key)
                .await
                .with_context(|| format!("could not read {} and {}", tls.certificate.display(), tls.key.display()))?;
            let server = axum_server::from_tcp_rustls(listener, certificate)?.handle(handle);
            let mut server = server.map(|inner| Bounded::new(inner, most, patience));
            bound(server.http_builder(), patience);
            server.serve(service).await?;
        }
    }
    Ok(())
}

type HttpBuilder = hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>;

/// A client that sends its headers byte by byte, or says nothing any more, is not waited for.
fn bound(builder: &mut HttpBuilder, patience: Duration) {
    let timer = hyper_util::rt::TokioTimer::new();
    builder.http1().timer(timer.clone()).header_read_timeout(patience);
    builder.http2().timer(timer).max_concurrent_streams(256).keep_alive_interval(patience).keep_alive_timeout(patience);
}

async fn end(app: Arc<App>, handle: Handle<SocketAddr>, stop: impl Future<Output = ()>) {
    /// Time for error events to reach their clients.
    const LAST_WORDS_MS: u64 = 2_000;
    stop.await;
    let drain = duration(app.config.deadlines.drain_ms);
    tracing::info!(drain_ms = app.config.deadlines.drain_ms, "ending: no new work is taken");
    app.drain();
    // Until then it still listens, so that probes hear of it and clients get an error that names it.
    let _ = tokio::time::timeout(drain, app.under_way.closed()).await;
    app.ending.cancel();
    handle.graceful_shutdown(Some(duration(LAST_WORDS_MS)));
}

fn keys(config: &Config) -> Result<Keys> {
    if config.without_keys {
        tracing::warn!("serving without keys: every program on this machine can ask");
        return Ok(Keys::none());
    }
    if config.api_keys.is_empty() && config.admin_keys.is_empty() {
        let key = random_key().context("no random numbers for a key")?;
        // Whoever collects logs need not be able to ask.
        match std::io::stderr().is_terminal() {
            true => eprintln!("no api_keys are configured; for this run the key is {}", key.0),
            false => {
                let path = huatuo_native::defaults::worker_key_file(config.listen.port());
                write_private(&path, &key.0).with_context(|| format!("could not write {}", path.display()))?;
                tracing::warn!(file = %path.display(), "no api_keys are configured; the key for this run is in a file");
            }
        }
        return Ok(Keys::new(&[], &[key]));
    }
    Ok(Keys::new(&config.api_keys, &config.admin_keys))
}

/// Writes a file that only this user can read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Its mode is given when it is made.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
