//! Running a stage as a query: embedded, or on a Ballista scheduler. Outcomes are checkpointed, because a scheduler keeps its state
//! in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ballista::prelude::SessionContextExt;
use ballista_core::config::BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK;
use ballista_core::extension::SessionConfigExt;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result as QueryResult;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::col;
use datafusion::prelude::{SessionConfig, SessionContext};
use huatuo_index::{Part, WORK_FOLDER};
use url::Url;

use crate::ClusterError;
use crate::function::task_function;
use crate::task::{
    Task, hash_of, outcome_batch, outcome_fields, outcomes_from, read_table, task_batch, task_fields, write_table,
};

/// Partitions of a stage at most; one has several tasks where there are more. Each is a file.
const MOST_PARTITIONS: usize = 1024;
/// How often a stage is begun before its error counts: an executor that is lost between its last task and the client's reading of
/// outcomes fails the query, and what is done is not done again.
const ATTEMPTS: usize = 3;

/// Where queries run.
#[derive(Clone, Debug)]
pub struct Session {
    /// Address of a Ballista scheduler; none for this process.
    scheduler: Option<String>,
}

impl Session {
    /// DataFusion in this process.
    pub fn embedded() -> Self {
        Self { scheduler: None }
    }

    /// A Ballista scheduler, as `df://host:port`.
    ///
    /// # Errors
    /// [`ClusterError::Address`].
    pub fn ballista(scheduler: &str) -> Result<Self, ClusterError> {
        let wrong = |detail: String| ClusterError::Address {
            given: scheduler.to_owned(),
            detail,
            example: "df://scheduler.example:50050",
        };
        let url = Url::parse(scheduler).map_err(|error| wrong(error.to_string()))?;
        if url.scheme() != "df" {
            return Err(wrong(format!("it begins with {}", url.scheme())));
        }
        if url.host_str().is_none_or(str::is_empty) || url.port().is_none() {
            return Err(wrong("host or port is missing".to_owned()));
        }
        Ok(Self { scheduler: Some(scheduler.to_owned()) })
    }

    /// Runs the tasks of a stage, all of one folder, unless a checkpoint says that they were run and `holds` says that their parts
    /// are there; gives the outcomes in the order of the tasks.
    pub(crate) async fn run(
        &self,
        folder: &Path,
        tasks: &[Task],
        holds: impl Fn(&Part) -> bool,
    ) -> Result<Vec<Part>, ClusterError> {
        let Some(first) = tasks.first() else { return Ok(Vec::new()) };
        let (work, hash) = (folder.join(WORK_FOLDER), hash_of(tasks));
        let checkpoint = work.join(format!("stage-{hash:016x}.parquet"));
        if let Some(parts) = kept(&checkpoint, tasks)
            && parts.iter().all(holds)
        {
            return Ok(parts);
        }
        let table = work.join(format!("tasks-{hash:016x}"));
        let partitions = write_tasks(&table, tasks)?;
        let failed = |source| ClusterError::Stage { stage: first.stage.clone(), source };
        let mut attempt = 1;
        let outcomes = loop {
            match self.query(&table, partitions).await {
                Ok(outcomes) => break outcomes,
                // In this process nothing is lost; what failed there fails again.
                Err(error) if attempt == ATTEMPTS || self.scheduler.is_none() => return Err(failed(error)),
                Err(error) => eprintln!("the stage {} is tried again: {error}", first.stage),
            }
            attempt += 1;
        };
        let of_task: BTreeMap<u32, Part> = outcomes.into_iter().collect();
        let parts: Vec<Part> = tasks.iter().filter_map(|task| of_task.get(&task.number).cloned()).collect();
        if parts.len() < tasks.len() {
            let (expected, found) = (tasks.len(), parts.len());
            return Err(ClusterError::Outcomes { stage: first.stage.clone(), expected, found });
        }
        if let Some(part) = parts.iter().find(|part| !work.join(&part.name).is_file()) {
            return Err(ClusterError::NotShared { folder: work.join(&part.name).display().to_string() });
        }
        let numbered: Vec<(u32, Part)> = tasks.iter().map(|task| task.number).zip(parts.iter().cloned()).collect();
        let batch = outcome_batch(&numbered).map_err(|error| ClusterError::damaged(&checkpoint, error))?;
        write_table(&checkpoint, &batch)?;
        std::fs::remove_dir_all(&table).map_err(|error| ClusterError::file(&table, error))?;
        Ok(parts)
    }

    async fn query(&self, table: &Path, partitions: usize) -> QueryResult<Vec<(u32, Part)>> {
        let context = self.context(partitions).await?;
        let function = task_function();
        context.register_udf(function.clone());
        let schema = Arc::new(Schema::new(task_fields()));
        let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
        let url = ListingTableUrl::parse(format!("{}/", table.display()))?;
        let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
        let tasks = context.read_table(Arc::new(ListingTable::try_new(config)?))?;
        let columns = task_fields().iter().map(|field| col(field.name())).collect();
        let batches = tasks.select(vec![function.call(columns).alias("outcome")])?.collect().await?;
        let mut outcomes = Vec::new();
        for batch in batches {
            let columns = batch.column(0).as_struct_opt().map(|column| column.columns().to_vec());
            let found = columns.and_then(|columns| outcomes_from(&columns));
            outcomes.extend(found.ok_or_else(|| DataFusionError::Internal("outcomes of another shape".to_owned()))?);
        }
        Ok(outcomes)
    }

    /// A context in which each file of tasks is a partition, and each partition a task of the scheduler.
    async fn context(&self, partitions: usize) -> QueryResult<SessionContext> {
        let configure = |config: SessionConfig| {
            config
                .with_target_partitions(partitions)
                .with_repartition_file_scans(false)
                .with_round_robin_repartition(false)
                .with_collect_statistics(false)
        };
        let Some(scheduler) = &self.scheduler else {
            return Ok(SessionContext::new_with_config(configure(SessionConfig::new())));
        };
        let config =
            configure(SessionConfig::new_with_ballista()).set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 1);
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        SessionContext::remote_with_state(scheduler, state).await
    }
}

/// Parts of a checkpoint that is complete.
fn kept(checkpoint: &Path, tasks: &[Task]) -> Option<Vec<Part>> {
    let batches = read_table(checkpoint, &Arc::new(Schema::new(outcome_fields()))).ok()?;
    let outcomes: Vec<(u32, Part)> =
        batches.iter().map(|batch| outcomes_from(batch.columns())).collect::<Option<Vec<_>>>()?.concat();
    let is_same = outcomes.iter().map(|(number, _)| *number).eq(tasks.iter().map(|task| task.number));
    is_same.then(|| outcomes.into_iter().map(|(_, part)| part).collect())
}

/// Writes a table of tasks, a file for each partition, and gives the number of partitions.
fn write_tasks(table: &Path, tasks: &[Task]) -> Result<usize, ClusterError> {
    std::fs::create_dir_all(table).map_err(|error| ClusterError::file(table, error))?;
    let partitions = tasks.chunks(tasks.len().div_ceil(MOST_PARTITIONS).max(1));
    let count = partitions.len();
    for (number, tasks) in partitions.enumerate() {
        let path = table.join(format!("{number:05}.parquet"));
        write_table(&path, &task_batch(tasks).map_err(|error| ClusterError::damaged(&path, error))?)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_scheme_or_port_is_refused() {
        assert!(Session::ballista("df://localhost:50050").is_ok());
        for wrong in ["localhost:50050", "http://localhost:50050", "df://localhost", "df://", ""] {
            assert!(matches!(Session::ballista(wrong), Err(ClusterError::Address { .. })), "{wrong}");
        }
    }
}
