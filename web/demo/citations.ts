/** Pure functions on answer text: where its citation marks stand and which of them hold. */

import type { Sentence } from '../sdk/index.ts';

/** A run of text or a citation. */
export type Piece = { text: string } | { citation: number };

const MARKS = /\[(\d+)\]/g;
/** A mark that is still being written. */
const OPEN_MARK = /\[\d*$/;
const LEADING_PUNCTUATION = /^\p{P}+/u;
const FINAL_PUNCTUATION = /[。！？!?；\s]+$/;

/** Splits a text at its marks `[n]`. */
export function splitMarks(text: string): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const mark of text.matchAll(MARKS)) {
    if (mark.index > from) pieces.push({ text: text.slice(from, mark.index) });
    pieces.push({ citation: Number(mark[1]) });
    from = mark.index + mark[0].length;
  }
  if (from < text.length) pieces.push({ text: text.slice(from) });
  return pieces;
}

/** The text without marks. */
export function withoutMarks(text: string): string {
  return text.replace(MARKS, '');
}

/** A sentence that is being written: a half-written mark is not shown yet. */
export function draftPieces(text: string): Piece[] {
  return splitMarks(text.replace(OPEN_MARK, ''));
}

/** A checked sentence: marks that don't hold are dropped, supports without a mark stand before the full stop. */
export function checkedPieces(sentence: Sentence): Piece[] {
  const shown = new Set<number>();
  const pieces = splitMarks(sentence.text).filter((piece) => {
    if ('text' in piece) return true;
    const holds = sentence.citations.includes(piece.citation) && !shown.has(piece.citation);
    shown.add(piece.citation);
    return holds;
  });
  const missing = sentence.citations.filter((n) => !shown.has(n)).map((citation) => ({ citation }));
  return missing.length === 0 ? pieces : insertBeforeFullStop(pieces, missing);
}

/**
 * Groups pieces that must stand on one line: citations, the character before them, and the punctuation after them. A
 * full stop at the start of a line is a mistake in Chinese, and browsers may break beside a button anywhere.
 */
export function keepTogether(pieces: Piece[]): Piece[][] {
  const groups: Piece[][] = [];
  for (const piece of pieces) {
    const group = groups.at(-1) ?? [];
    const cited = group.some((member) => 'citation' in member);
    if ('citation' in piece) {
      if (cited) group.push(piece);
      else groups.push([...takeLastCharacter(groups), piece]);
      continue;
    }
    const punctuation = cited ? (LEADING_PUNCTUATION.exec(piece.text)?.[0] ?? '') : '';
    if (punctuation) group.push({ text: punctuation });
    if (piece.text.length > punctuation.length) groups.push([{ text: piece.text.slice(punctuation.length) }]);
  }
  return groups;
}

/** Takes the last character off the text at the end. */
function takeLastCharacter(groups: Piece[][]): Piece[] {
  const last = groups.at(-1)?.at(-1);
  if (!last || !('text' in last)) return [];
  const character = [...last.text].at(-1) ?? '';
  last.text = last.text.slice(0, last.text.length - character.length);
  if (last.text === '') groups.pop();
  return character === '' ? [] : [{ text: character }];
}

function insertBeforeFullStop(pieces: Piece[], citations: Piece[]): Piece[] {
  const last = pieces.at(-1);
  if (!last || !('text' in last)) return [...pieces, ...citations];
  const end = FINAL_PUNCTUATION.exec(last.text)?.[0] ?? '';
  const body = last.text.slice(0, last.text.length - end.length);
  const parts: Piece[] = [{ text: body }, ...citations, { text: end }];
  return [...pieces.slice(0, -1), ...parts.filter((part) => !('text' in part) || part.text !== '')];
}
