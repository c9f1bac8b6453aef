/** A conversation as text for the clipboard and as a file. */

import type { Round } from './round.ts';
import { withoutMarks } from './citations.ts';

/** An answer with its references, for pasting elsewhere. */
export function answerAsText(round: Round): string {
  const emergency = round.redFlags.map((flag) => `【紧急】${flag.advice}`);
  const references = round.references.map(
    ({ n, question, answer, source, id }) => `[${n}] ${question}\n${answer}\n（${source}，${id}）`,
  );
  const parts = [
    ...emergency,
    round.answer,
    ...(references.length > 0 ? ['参考资料', ...references] : []),
    ...round.notices,
  ];
  return parts.join('\n\n');
}

/** The words of an answer, for reading aloud. */
export function answerAsSpeech(round: Round): string {
  return [...round.redFlags.map((flag) => flag.advice), withoutMarks(round.answer)].join('\n');
}

/** Saves the rounds as a JSON file. */
export function downloadConversation(rounds: Round[]): void {
  const exportedAt = new Date().toISOString();
  const content = { format: 'huatuo-conversation', version: 1, exportedAt, rounds };
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `huatuo-${exportedAt.slice(0, 16).replace(/[-:]/g, '').replace('T', '-')}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000); // the download has taken the content over by then
}
