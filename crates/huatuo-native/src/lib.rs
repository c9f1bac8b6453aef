//! Models and indexes by path, URL or default, for programs that run natively: what the command line and the worker have in
//! common.

pub mod defaults;
mod indexing;
mod models;

pub use indexing::{BATCH, BatchEncoder, add_records, index_record, options, write_index};
pub use models::{
    ModelFile, Processor, all_processors, decoder, generator, gpu, gpu_with, manifest, map, map_checkpoint, retriever,
    retriever_files, source, tune,
};
