// Quads of a row of activations.
override QUADS: u32 = 8u;
override NORM: bool = false;
