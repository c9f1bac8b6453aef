/** The bounds of a question. The engine has the last word; this answers before anything is sent to it. */

/** Longest question, in characters; the same as in huatuo-core. */
export const MAX_QUESTION_CHARS = 1000;

/** Control characters and invisible formatting, which could hide text from the reader. */
const INVISIBLE = /[\p{Cc}\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu;

export type QuestionProblem = 'questionEmpty' | 'questionTooLong';

/** The text as the engine will read it. */
export function cleanQuestion(text: string): string {
  return text.replace(INVISIBLE, ' ').split(/\s+/u).filter(Boolean).join(' ');
}

/** Characters as people count them: an emoji of one code point is one. */
export function countCharacters(text: string): number {
  return [...text].length;
}

/** What is wrong with a cleaned question, or null. */
export function questionProblem(question: string): QuestionProblem | null {
  if (question === '') return 'questionEmpty';
  return countCharacters(question) > MAX_QUESTION_CHARS ? 'questionTooLong' : null;
}
