/** Numbers as people read them. */

import { language } from './language.ts';

const KIB = 1024;

/** Bytes in the unit that fits, such as `86 KB` or `18.4 MB` (1 KB = 1024 bytes). */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return `${Math.round(bytes)} B`;
  if (bytes < KIB * KIB) return `${Math.round(bytes / KIB)} KB`;
  return `${(bytes / KIB / KIB).toFixed(1)} MB`;
}

/** Seconds, rounded up, such as `8 秒` or `2 分钟`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  const minutes = Math.ceil(whole / 60);
  if (language() === 'zh') return whole < 60 ? `${whole} 秒` : `${minutes} 分钟`;
  return whole < 60 ? `${whole} s` : `${minutes} min`;
}

/** Milliseconds, such as `12.3 ms` or `840 ms`. */
export function formatMilliseconds(milliseconds: number): string {
  return `${milliseconds.toFixed(milliseconds < 100 ? 1 : 0)} ms`;
}
