// The decoder's worker, its use of WebGPU counted.
import './gpu-counts.mjs';
import './decoder-worker.mjs';
