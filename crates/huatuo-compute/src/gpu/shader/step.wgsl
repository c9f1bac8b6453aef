// What changes from one call of a kernel to the next; all else is an override, so that pipelines know it.
struct Step {
    // Rows of activations (tokens).
    rows: u32,
    // Tokens before the first row.
    position: u32,
    // First row of the part of a matrix, or first of a count.
    first: u32,
    // Rows of that part, splits of an attention, or numbers.
    count: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
