// Tiles in half precision, with four products added before the sum, which is single. Activations are made smaller, so that
// large ones stay in range.
alias Number = f16;
alias Four = vec4<f16>;
// What activations are multiplied by in a tile.
const X_SCALE: f32 = 0.0625;
