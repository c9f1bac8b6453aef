/** Bytes, rate and time left of each part that is loaded. */

import type { PartName, PartStatus, Progress } from './types.ts';

const PARTS: readonly PartName[] = ['encoder', 'index', 'generator'];
/** The rate is that of the last seconds: a longer window hides a stall, a shorter one flickers. */
const RATE_WINDOW_MS = 3000;

interface Sample {
  at: number;
  done: number;
}

/** Keeps the latest report of each part and measures its rate. */
export class LoadingMeter {
  readonly #latest = new Map<PartName, Progress>();
  readonly #samples = new Map<PartName, Sample[]>();
  readonly #ready = new Set<PartName>();

  /** Takes a progress report. `now` in milliseconds. */
  report(progress: Progress, now: number): void {
    this.#latest.set(progress.part, progress);
    const recent = (this.#samples.get(progress.part) ?? []).filter((sample) => now - sample.at < RATE_WINDOW_MS);
    this.#samples.set(progress.part, [...recent, { at: now, done: progress.done }]);
  }

  /** Marks a part as usable. */
  ready(...parts: PartName[]): void {
    for (const part of parts) this.#ready.add(part);
  }

  /** The time during which nothing is loaded must not count into the rate. */
  pause(): void {
    this.#samples.clear();
  }

  /** All parts in the order of loading. */
  parts(): PartStatus[] {
    return PARTS.map((part) => this.#part(part));
  }

  #part(part: PartName): PartStatus {
    const { done, total, file } = this.#latest.get(part) ?? { done: 0, total: 0, file: '' };
    const state = this.#ready.has(part) ? 'ready' : this.#latest.has(part) ? 'loading' : 'waiting';
    const bytesPerSecond = state === 'loading' ? this.#rate(part) : null;
    const secondsLeft = bytesPerSecond ? Math.max(0, total - done) / bytesPerSecond : null;
    return { part, state, file, done, total, bytesPerSecond, secondsLeft };
  }

  #rate(part: PartName): number | null {
    const samples = this.#samples.get(part) ?? [];
    const first = samples[0];
    const last = samples.at(-1);
    if (!first || !last || last.at === first.at) return null;
    return ((last.done - first.done) / (last.at - first.at)) * 1000;
  }
}
