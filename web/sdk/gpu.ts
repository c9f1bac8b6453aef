/** The graphics processor: whether one is used, and for which models. */

import type { WasmPackage } from './builds.ts';
import type { DeviceName } from './types.ts';

type GpuDevice = Awaited<ReturnType<WasmPackage['GpuDevice']['request']>>;

/** Smaller models are as fast on the processor, and start sooner there. */
const LEAST_MODEL_BYTES = 200e6;
/** One that is lost again and again in one answer is not worth waiting for. */
const MOST_LOSSES = 3;

/** What this file needs of WebGPU, of which TypeScript's library knows nothing yet. */
interface Adapter {
  info?: { vendor?: string; architecture?: string; isFallbackAdapter?: boolean };
}
interface WebGpu {
  requestAdapter(options: { powerPreference: 'high-performance' }): Promise<Adapter | null>;
}

/** A browser's graphics processor, asked for when a model wants it. */
export class GraphicsProcessor {
  readonly #wanted: DeviceName;
  /** The last one given out. */
  #device: GpuDevice | null = null;
  /** The adapter, for people; `null` where there is none, or only one that computes on the processor and wasn't asked for. */
  readonly name: string | null;

  readonly #memoryBytes: number | undefined;

  /** What was found out about the adapter. */
  #tuning: string | null = null;

  private constructor(wanted: DeviceName, memoryBytes: number | undefined, name: string | null) {
    this.#wanted = wanted;
    this.#memoryBytes = memoryBytes;
    this.name = name;
  }

  /** Looks for an adapter; never fails. */
  static async find(wanted: DeviceName, memoryBytes?: number): Promise<GraphicsProcessor> {
    const gpu = (navigator as unknown as { gpu?: WebGpu }).gpu;
    const found = (name: string | null): GraphicsProcessor => new GraphicsProcessor(wanted, memoryBytes, name);
    if (wanted === 'cpu' || !gpu) return found(null);
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
    const { vendor = '', architecture = '', isFallbackAdapter = false } = adapter?.info ?? {};
    const isSoftware = isFallbackAdapter || architecture === 'swiftshader';
    if (!adapter || (wanted === 'auto' && isSoftware)) return found(null);
    return found([vendor, architecture].filter(Boolean).join(' ') || 'WebGPU');
  }

  /** Takes what an earlier start found out about the adapter. */
  take(tuning: string | null): void {
    this.#tuning = tuning;
  }

  /**
   * The device for a model of so many bytes, the same for all models until it is lost, or `null` where the model is better off
   * on the processor.
   */
  async deviceFor(wasm: WasmPackage, modelBytes: number, losses: number): Promise<GpuDevice | null> {
    const isLarge = this.#wanted === 'gpu' || modelBytes >= LEAST_MODEL_BYTES;
    if (!this.name || !isLarge || losses >= MOST_LOSSES) return null;
    if (this.#device && !this.#device.isLost) return this.#device;
    this.#device?.free();
    this.#device = null;
    const request = wasm.GpuDevice.request(true, this.#memoryBytes ?? null, this.#tuning);
    this.#device = await request.catch(() => null);
    return this.#device;
  }

  /** Loses the device, to try what happens then. */
  lose(): void {
    this.#device?.lose();
  }
}
