// Tiles in single precision.
alias Number = f32;
alias Four = vec4<f32>;
// What activations are multiplied by in a tile.
const X_SCALE: f32 = 1.0;
