//! The shaders' files and what kernels are put together from; shared with the build script, which validates all of them.

/// A kernel's file and those that it builds on, in order.
#[derive(Debug)]
pub struct KernelSource {
    /// Name of its file.
    pub name: &'static str,
    /// What comes before it.
    pub parts: &'static [Part],
    /// The binding that is bound anew for each call, where there is one, beside `step`.
    pub table: Option<u32>,
}

/// A file, or a choice of files behind one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Always the same file.
    File(&'static str),
    /// How weights are stored.
    Weights,
    /// The same, taken out as bytes: quantized weights alone.
    Bytes,
    /// How activations are read.
    Activations,
    /// What tiles are made of.
    Numbers,
    /// How many rows a lane has.
    Rows,
    /// How lanes sum up.
    Sum,
    /// How keys and values are stored.
    Cache,
    /// The same, in vectors of eight numbers.
    CacheEights,
    /// The same, for writing.
    CacheWrite,
}

use Part::{Activations, Bytes, Cache, CacheEights, CacheWrite, File, Numbers, Rows, Sum, Weights};

/// Each way that weights may be stored.
pub const WEIGHTS: [&str; 8] = [
    "weights_f32",
    "weights_f16",
    "weights_bf16",
    "weights_q8_0",
    "weights_q4_0",
    "weights_q4_k",
    "weights_q5_k",
    "weights_q6_k",
];
/// Each way that activations may be read.
pub const ACTIVATIONS: [&str; 5] = ["x_plain", "x_padded", "x_normed", "x_quad_plain", "x_quad_normed"];
/// In single and half precision; the latter needs shader-f16.
pub const NUMBERS: [&str; 2] = ["numbers_f32", "numbers_f16"];
/// Each number of rows that a lane may have.
pub const ROWS: [&str; 3] = ["rows_1", "rows_2", "rows_4"];
/// Without and with subgroups.
pub const SUMS: [&str; 2] = ["sum_shared", "sum_subgroup"];
/// In single and half precision.
pub const CACHES: [&str; 2] = ["cache_f32", "cache_f16"];
/// The same, in vectors of eight numbers.
pub const CACHES_OF_EIGHTS: [&str; 2] = ["cache_f32_eights", "cache_f16_eights"];
/// The same, for writing.
pub const CACHE_WRITES: [&str; 2] = ["cache_f32_write", "cache_f16_write"];

const fn kernel(name: &'static str, parts: &'static [Part], table: Option<u32>) -> KernelSource {
    KernelSource { name, parts, table }
}

/// All kernels.
pub const KERNELS: [KernelSource; 28] = [
    kernel("embed", &[File("block"), Weights], Some(3)),
    kernel(
        "matvec",
        &[File("block"), Weights, File("place"), File("quads"), Activations, File("product"), Rows, File("result")],
        None,
    ),
    kernel(
        "matvec_bytes",
        &[File("block"), Weights, Bytes, File("place"), File("quads"), Activations, File("packed"), File("result")],
        None,
    ),
    kernel("matmul_bytes", &[File("block"), Weights, Bytes, File("place"), File("tile_result")], None),
    kernel("to_bytes", &[File("packed")], None),
    kernel(
        "matmul",
        &[File("block"), Weights, File("place"), File("quads"), File("x_padded"), Numbers, File("tile_result")],
        None,
    ),
    kernel(
        "matmul_quads",
        &[File("block"), Weights, File("place"), File("quads"), Activations, File("tile_result")],
        None,
    ),
    kernel(
        "matvec_few",
        &[File("block"), Weights, File("place"), File("quads"), File("x_plain"), File("tile_result")],
        None,
    ),
    kernel("rms_norm", &[Sum], None),
    kernel("add_layer_norm", &[Sum], None),
    kernel("silu_mul", &[], None),
    kernel("gelu", &[], None),
    kernel("add", &[], None),
    kernel("copy_rows", &[], None),
    kernel("move", &[], None),
    kernel("rope", &[], Some(2)),
    kernel("store", &[CacheWrite], None),
    kernel("turn_and_store", &[CacheWrite], Some(8)),
    kernel("recall", &[Cache], None),
    kernel("attention", &[Cache], Some(5)),
    kernel("attention_eights", &[CacheEights], Some(5)),
    kernel("attention_join", &[], None),
    kernel("penalize", &[File("choice")], None),
    kernel("choose", &[File("choice")], None),
    kernel("choose_last", &[File("choice")], None),
    kernel("choose_likeliest", &[File("choice")], None),
    kernel("choose_drawn", &[File("choice")], None),
    kernel("choose_listed", &[File("choice")], Some(3)),
];

/// The text of a shader file.
pub fn file(name: &str) -> &'static str {
    macro_rules! files {
        ($($file:literal)*) => {
            match name {
                $($file => include_str!(concat!("shader/", $file, ".wgsl")),)*
                _ => unreachable!("a shader file that is not listed"),
            }
        };
    }
    files!(
        "step" "block" "place" "weights_f32" "weights_f16" "weights_bf16" "weights_q8_0" "weights_q4_0" "weights_q4_k"
        "weights_q5_k" "weights_q6_k" "sum_shared" "sum_subgroup" "cache_f32" "cache_f16" "cache_f32_write"
        "cache_f16_write" "embed" "matvec" "matmul" "rms_norm" "add_layer_norm" "silu_mul" "gelu" "add" "copy_rows" "rope"
        "store" "turn_and_store" "recall" "attention" "attention_join"
        "numbers_f32" "numbers_f16" "packed" "to_bytes" "matmul_bytes" "attention_eights" "cache_f16_eights" "cache_f32_eights" "bytes_nibbles" "bytes_q5_k" "bytes_q6_k" "bytes_q8_0" "matvec_bytes" "matvec_few" "move" "result" "tile_result"
        "quads" "matmul_quads" "x_quad_plain" "x_quad_normed" "product" "x_plain" "x_normed" "x_padded" "rows_1" "rows_2" "rows_4" "choice" "penalize" "choose" "choose_last" "choose_listed" "choose_likeliest" "choose_drawn"
    )
}

/// How weights that are stored so are taken out as bytes; `None` where they aren't quantized.
pub fn bytes_of(weights: &str) -> Option<&'static str> {
    match weights {
        "weights_q8_0" => Some("bytes_q8_0"),
        "weights_q4_0" | "weights_q4_k" => Some("bytes_nibbles"),
        "weights_q5_k" => Some("bytes_q5_k"),
        "weights_q6_k" => Some("bytes_q6_k"),
        _ => None,
    }
}

/// What stands at the place of each choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choices {
    /// One of [`WEIGHTS`].
    pub weights: &'static str,
    /// One of [`ACTIVATIONS`].
    pub activations: &'static str,
    /// One of [`NUMBERS`].
    pub numbers: &'static str,
    /// One of [`ROWS`].
    pub rows: &'static str,
    /// One of [`SUMS`].
    pub sum: &'static str,
    /// Index into [`CACHES`] and [`CACHE_WRITES`].
    pub cache: usize,
}

impl KernelSource {
    /// The whole text.
    pub fn text(&self, choices: Choices) -> String {
        let has_halves = self.parts.contains(&Numbers) && choices.numbers == NUMBERS[1];
        let mut text = if has_halves { "enable f16;\n".to_owned() } else { String::new() };
        text.push_str(file("step"));
        for part in self.parts {
            text.push_str(file(match part {
                File(name) => name,
                Weights => choices.weights,
                Bytes => bytes_of(choices.weights).unwrap_or_else(|| unreachable!("{} as bytes", choices.weights)),
                Activations => choices.activations,
                Numbers => choices.numbers,
                Rows => choices.rows,
                Sum => choices.sum,
                Cache => CACHES[choices.cache],
                CacheEights => CACHES_OF_EIGHTS[choices.cache],
                CacheWrite => CACHE_WRITES[choices.cache],
            }));
        }
        text.push_str(file(self.name));
        text
    }
}
