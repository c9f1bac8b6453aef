/** Which words of a record also stand in the question or in the sentence that cites it. */

/** A run of text, matched or not. */
export interface Run {
  text: string;
  matched: boolean;
}

/** Words of every question; a match of these says nothing. */
const EMPTY_WORDS = /什么|怎么|哪些|如何|为什么|多少|是不是|能不能|可以|应该|需要|一般|平时|请问|有没有/gu;
const LETTER = /[\p{L}\p{N}]/u;
const CHINESE = /\p{Script=Han}/u;
const FOREIGN_WORD = /(?:(?!\p{Script=Han})[\p{L}\p{N}]){2,}/gu;
const CHINESE_OR_DIGIT = /[\p{Script=Han}0-9]/u;

/** Splits a text into matched and other runs. Chinese matches from two characters on, other scripts by whole words. */
export function markMatches(text: string, sources: readonly string[]): Run[] {
  const wanted = new Set(sources.flatMap((source) => terms(source.replace(EMPTY_WORDS, ' '))));
  const matched = new Array<boolean>(text.length).fill(false);
  for (const { at, term } of termsWithPlace(text)) {
    if (wanted.has(term)) matched.fill(true, at, at + term.length);
  }
  return runs(text, matched);
}

function terms(text: string): string[] {
  return termsWithPlace(text).map(({ term }) => term);
}

/** Chinese bigrams and whole words of other scripts, lower case. */
function termsWithPlace(text: string): { at: number; term: string }[] {
  const lower = text.toLowerCase();
  const found: { at: number; term: string }[] = [];
  for (let at = 0; at < lower.length - 1; at++) {
    const pair = lower.slice(at, at + 2);
    const [first, second] = [pair.charAt(0), pair.charAt(1)];
    // A digit counts beside a Chinese character, as in 2型糖尿病.
    if (CHINESE_OR_DIGIT.test(first) && CHINESE_OR_DIGIT.test(second) && CHINESE.test(pair))
      found.push({ at, term: pair });
  }
  for (const word of lower.matchAll(FOREIGN_WORD)) found.push({ at: word.index, term: word[0] });
  return found;
}

function runs(text: string, matched: boolean[]): Run[] {
  const found: Run[] = [];
  for (let at = 0; at < text.length; at++) {
    const last = found.at(-1);
    // Punctuation between two matches belongs to them: fewer, longer marks are easier to read.
    const between = !LETTER.test(text.charAt(at)) && matched[at - 1] === true && matched[at + 1] === true;
    const state = matched[at] === true || between;
    if (last && last.matched === state) last.text += text.charAt(at);
    else found.push({ text: text.charAt(at), matched: state });
  }
  return found;
}
