//! The browser's surface: `Engine` for JavaScript, plain objects in and out, nothing else.

mod bare_decoder;
mod bare_encoder;
mod block_files;
mod cpu;
mod encoder_files;
mod engine;
mod error;
mod gpu;
mod model_loader;
mod pace;
mod reload;
mod wire;

pub use bare_decoder::BareDecoder;
pub use bare_encoder::BareEncoder;
pub use cpu::{Thread, add_threads};
pub use encoder_files::EncoderFiles;
pub use engine::Engine;
pub use gpu::GpuDevice;
pub use model_loader::ModelLoader;

use wasm_bindgen::prelude::wasm_bindgen;

/// Runs when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once(); // a panic is a bug: its place belongs in the console
}
