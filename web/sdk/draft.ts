/** What is known of a consultation that has not ended; it becomes the result when the patient stops early. */

import type { AskEvent, Consultation, RedFlag, Reference, Sentence, Statistics } from './types.ts';

/** Adds two costs of the index. */
export function addStatistics(a: Statistics, b: Statistics): Statistics {
  const milliseconds = { ...a.milliseconds };
  for (const [stage, value] of Object.entries(b.milliseconds)) {
    milliseconds[stage] = (milliseconds[stage] ?? 0) + value;
  }
  return {
    bytes: a.bytes + b.bytes,
    requests: a.requests + b.requests,
    stored_bytes: a.stored_bytes + b.stored_bytes,
    trips: a.trips + b.trips,
    lists: a.lists + b.lists,
    milliseconds,
  };
}

/** No cost. */
export const NO_STATISTICS: Statistics = { bytes: 0, requests: 0, stored_bytes: 0, trips: 0, lists: 0, milliseconds: {} };

/** Collects events. */
export class Draft {
  redFlags: RedFlag[] = [];
  references: Reference[] = [];
  /** Cost of the runs that have ended. */
  statistics: Statistics = NO_STATISTICS;
  readonly #sentences: Sentence[] = [];
  readonly #notices: string[] = [];
  #answer = '';

  /** Takes the event in; returns false for one that the listener has seen already. */
  take(event: AskEvent): boolean {
    switch (event.type) {
      case 'red_flags': {
        const known = sameIds(this.redFlags, event.flags);
        this.redFlags = event.flags;
        return !known && event.flags.length > 0;
      }
      case 'references': {
        const known = this.references.length > 0 && sameIds(this.references, event.references);
        this.references = event.references;
        return !known;
      }
      case 'text':
        this.#answer += event.text;
        return event.text !== '';
      case 'sentence':
        this.#sentences.push({ text: event.text, supported: event.supported, citations: event.citations });
        return true;
      case 'notice':
        if (this.#notices.includes(event.text)) return false;
        this.#notices.push(event.text);
        return true;
      default:
        return true;
    }
  }

  /** Adds the cost of a run; the result then holds that of all runs. */
  withCost(result: Consultation): Consultation {
    this.statistics = addStatistics(this.statistics, result.statistics);
    return { ...result, statistics: this.statistics };
  }

  /** The result as far as it got. */
  aborted(): Consultation {
    return {
      answer: this.#answer,
      sentences: this.#sentences,
      references: this.references,
      safety: { red_flags: this.redFlags, notices: this.#notices },
      abstained: false,
      aborted: true,
      tokens: 0,
      prompt_tokens: 0,
      cached_tokens: 0,
      timings_ms: { embed: 0, retrieve: 0, excerpt: 0, read_ahead: 0, prefill: 0, first_token: 0, decode: 0 },
      statistics: this.statistics,
    };
  }
}

function sameIds(a: { id: string }[], b: { id: string }[]): boolean {
  return a.length === b.length && a.every((item, at) => item.id === b[at]?.id);
}
