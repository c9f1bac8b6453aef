//! The processes of a cluster: Ballista's scheduler and executors, which know the function of tasks.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::utils::default_session_builder;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use datafusion::execution::SessionStateBuilder;
use url::Url;

use crate::function::{TASK_FUNCTION, task_function};
use crate::{ClusterError, Session};

/// Parts of an executor's time limit after which the scheduler looks again which are alive.
const LOOKS: u64 = 4;
/// Seconds that an executor waits for its scheduler to come up.
const CONNECT_SECONDS: u16 = 30;
/// Seconds between signs of life.
const HEARTBEAT_SECONDS: u64 = 2;
/// Stack of a scheduler's or executor's thread, as in Ballista's own programs: plans are walked recursively.
const STACK_BYTES: usize = 32 << 20;

/// How a scheduler runs.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// Address that executors and clients connect to.
    pub bind: SocketAddr,
    /// Time without a sign of life after which an executor's tasks go to others; at least a second.
    pub executor_timeout: Duration,
}

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// The scheduler, as `df://host:port`.
    pub scheduler: String,
    /// Folder for outcomes until clients have read them, on this machine.
    pub work_dir: PathBuf,
    /// Tasks that run at once; 0 for as many as there are cores.
    pub concurrent_tasks: usize,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Name or address under which clients and other executors reach this machine; none when it is the one they see.
    pub host: Option<String>,
}

/// Runs a scheduler until the process ends.
///
/// # Errors
/// [`ClusterError::Process`].
pub fn run_scheduler(options: &SchedulerOptions) -> Result<(), ClusterError> {
    let timeout = options.executor_timeout.as_secs().max(1);
    let config = SchedulerConfig {
        bind_host: options.bind.ip().to_string(),
        bind_port: options.bind.port(),
        executor_timeout_seconds: timeout,
        expire_dead_executor_interval_seconds: (timeout / LOOKS).max(1),
        override_session_builder: Some(Arc::new(|config| {
            let state = default_session_builder(config)?;
            let mut functions: Vec<_> = state.scalar_functions().values().cloned().collect();
            functions.push(Arc::new(task_function()));
            Ok(SessionStateBuilder::new_from_existing(state).with_scalar_functions(functions).build())
        })),
        ..SchedulerConfig::default()
    };
    let failed = |detail: String| ClusterError::Process { process: "scheduler", detail };
    runtime("scheduler")?.block_on(async {
        let cluster = BallistaCluster::new_from_config(&config).await.map_err(|error| failed(error.to_string()))?;
        let served = start_server(cluster, options.bind, Arc::new(config)).await;
        served.map_err(|error| failed(format!("{}: {error}", options.bind)))
    })
}

/// Runs an executor until the process is told to end.
///
/// # Errors
/// [`ClusterError::Address`] and [`ClusterError::Process`].
pub fn run_executor(options: &ExecutorOptions) -> Result<(), ClusterError> {
    Session::ballista(&options.scheduler)?; // checks the address
    let failed = |detail: String| ClusterError::Process { process: "executor", detail };
    let scheduler = Url::parse(&options.scheduler).map_err(|error| failed(error.to_string()))?;
    std::fs::create_dir_all(&options.work_dir).map_err(|error| ClusterError::file(&options.work_dir, error))?;
    let mut functions = BallistaFunctionRegistry::default();
    functions.scalar_functions.insert(TASK_FUNCTION.to_owned(), Arc::new(task_function()));
    let (port, grpc_port) = free_ports(options.bind).map_err(|error| failed(error.to_string()))?;
    let config = ExecutorProcessConfig {
        bind_host: options.bind.to_string(),
        external_host: options.host.clone(),
        port,
        grpc_port,
        scheduler_host: scheduler.host_str().unwrap_or_default().to_owned(),
        scheduler_port: scheduler.port().unwrap_or_default(),
        scheduler_connect_timeout_seconds: CONNECT_SECONDS,
        vcores: options.concurrent_tasks,
        work_dir: Some(options.work_dir.display().to_string()),
        executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
        override_function_registry: Some(Arc::new(functions)),
        ..ExecutorProcessConfig::default()
    };
    let run = start_executor_process(Arc::new(config));
    runtime("executor")?.block_on(run).map_err(|error| failed(format!("{}: {error}", options.scheduler)))
}

/// Two ports that nobody listens on: an executor tells the scheduler its ports before it listens.
fn free_ports(bind: IpAddr) -> std::io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind((bind, 0))?, TcpListener::bind((bind, 0))?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

fn runtime(process: &'static str) -> Result<tokio::runtime::Runtime, ClusterError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().thread_stack_size(STACK_BYTES).build();
    runtime.map_err(|error| ClusterError::Process { process, detail: error.to_string() })
}
