//! `huatuo cluster scheduler | executor`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use huatuo_cluster::{ExecutorOptions, SchedulerOptions, run_executor, run_scheduler};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Run the scheduler that clients and executors connect to
    Scheduler {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:50050")]
        bind: SocketAddr,
        /// Seconds without a sign of life after which an executor's tasks go to others
        #[arg(long, default_value_t = 30)]
        executor_timeout: u64,
    },
    /// Run an executor; it shares the indexes' folders with the clients under the same paths
    Executor {
        /// Address of the scheduler, df://host:port
        #[arg(long)]
        scheduler: String,
        /// Folder on this machine for outcomes until they are read
        #[arg(long)]
        work_dir: PathBuf,
        /// Tasks that run at once; 0 for as many as there are cores
        #[arg(long, default_value_t = 0)]
        concurrent_tasks: usize,
        /// Address to listen on
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
        bind: IpAddr,
        /// Name or address under which others reach this machine
        #[arg(long)]
        host: Option<String>,
    },
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Scheduler { bind, executor_timeout } => {
            let executor_timeout = Duration::from_secs(executor_timeout);
            Ok(run_scheduler(&SchedulerOptions { bind, executor_timeout })?)
        }
        Command::Executor { scheduler, work_dir, concurrent_tasks, bind, host } => {
            Ok(run_executor(&ExecutorOptions { scheduler, work_dir, concurrent_tasks, bind, host })?)
        }
    }
}
