//! The worker: consultations and generation over HTTP, from the same core as in the browser.

mod api;
pub mod config;
mod connections;
mod consultations;
mod generator;
mod models;
pub mod scheduler;
mod server;
mod traces;
mod upstream;

pub use api::{ApiError, App, router};
pub use server::Server;
