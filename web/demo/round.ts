/** One question and its answer, as kept and exported. */

import type { Consultation, RedFlag, Reference, Sentence, Statistics, Timings, Turn } from '../sdk/index.ts';

/** What the patient thought of an answer. */
export type Feedback = 'up' | 'down' | null;

/** A finished round; `error` rounds are not kept. */
export interface Round {
  question: string;
  /** ISO 8601. */
  askedAt: string;
  seed: number;
  answer: string;
  sentences: Sentence[];
  references: Reference[];
  redFlags: RedFlag[];
  notices: string[];
  abstained: boolean;
  aborted: boolean;
  feedback: Feedback;
  tokens: number;
  timings: Timings;
  statistics: Statistics;
}

/** Rounds in the order in which they were asked. */
export interface StoredConversation {
  id: string;
  updatedAt: string;
  rounds: Round[];
}

/** The kept form of a result. */
export function roundOf(question: string, askedAt: string, seed: number, result: Consultation): Round {
  return {
    question,
    askedAt,
    seed,
    answer: result.answer,
    sentences: result.sentences,
    references: result.references,
    redFlags: result.safety.red_flags,
    notices: result.safety.notices,
    abstained: result.abstained,
    aborted: result.aborted,
    feedback: null,
    tokens: result.tokens,
    timings: result.timings_ms,
    statistics: result.statistics,
  };
}

/** What the engine is told of earlier rounds. */
export function historyOf(rounds: Round[]): Turn[] {
  return rounds.flatMap((round): Turn[] => [
    { role: 'patient', text: round.question },
    { role: 'assistant', text: round.answer },
  ]);
}
