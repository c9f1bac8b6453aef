//! The function that queries call for each task.

use std::sync::Arc;

use datafusion::arrow::array::{Array, StructArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::task::{outcome_batch, outcome_fields, task_fields, tasks_from};
use crate::worker::run_task;

/// Name of the function.
pub const TASK_FUNCTION: &str = "huatuo_index_task";

/// The function: from the columns of a task to its outcome. Scheduler, executors and client must all know it.
pub fn task_function() -> ScalarUDF {
    ScalarUDF::new_from_impl(TaskFunction::default())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TaskFunction {
    signature: Signature,
}

impl Default for TaskFunction {
    fn default() -> Self {
        let types = task_fields().iter().map(|field| field.data_type().clone()).collect();
        // Volatile, so that no optimizer runs a task while it plans.
        Self { signature: Signature::exact(types, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for TaskFunction {
    fn name(&self) -> &str {
        TASK_FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(outcome_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let tasks = tasks_from(&columns)
            .ok_or_else(|| DataFusionError::Execution(format!("{TASK_FUNCTION} was called with other columns")))?;
        let mut outcomes = Vec::new();
        for task in &tasks {
            outcomes.push((task.number, run_task(task)?));
        }
        let outcomes: Arc<dyn Array> = Arc::new(StructArray::from(outcome_batch(&outcomes)?));
        Ok(ColumnarValue::Array(outcomes))
    }
}
