/** The text of an answer while it streams and after each sentence has been checked. */

import type { Consultation, Reference, Sentence } from '../sdk/index.ts';
import { checkedPieces, draftPieces, keepTogether, withoutMarks } from './citations.ts';
import type { Piece } from './citations.ts';
import { element } from './element.ts';
import { localize } from './language.ts';

/** Opens a reference; `sentence` is the text that cites it. */
export type OpenCitation = (n: number, sentence: string, opener: HTMLElement) => void;

/** Shows text as text nodes; a citation is a button. */
export class AnswerBody {
  readonly element = element('div', { class: 'answer-text' });
  readonly #tail = element('span', { class: 'answer-tail' });
  readonly #open: OpenCitation;
  #references: Reference[] = [];
  #answer = '';
  /** Characters of the answer that stand in finished elements. */
  #settled = 0;

  constructor(open: OpenCitation) {
    this.#open = open;
    this.element.append(this.#tail);
  }

  /** Citations beyond these references are not shown. */
  set references(references: Reference[]) {
    this.#references = references;
  }

  /** Whether nothing has been written yet. */
  get isEmpty(): boolean {
    return this.#answer === '';
  }

  /** Adds a piece of the answer. */
  text(text: string): void {
    this.#answer += text;
    this.#showTail();
  }

  /** Settles a sentence whose text has been written; text skipped before it is no sentence (a withheld dose). */
  sentence(sentence: Sentence): void {
    const at = this.#answer.indexOf(sentence.text, this.#settled);
    if (at < 0) return;
    this.#settle(this.#answer.slice(this.#settled, at));
    this.#tail.before(this.#sentence(sentence));
    this.#settled = at + sentence.text.length;
    this.#showTail();
  }

  /** Makes the element show exactly this result. */
  finish(result: Pick<Consultation, 'answer' | 'sentences'>): void {
    if (
      result.answer !== this.#answer ||
      result.sentences.length !== this.element.querySelectorAll('.sentence').length
    ) {
      this.#answer = '';
      this.#settled = 0;
      this.element.replaceChildren(this.#tail);
      this.text(result.answer);
      for (const sentence of result.sentences) this.sentence(sentence);
    }
    this.#settle(this.#answer.slice(this.#settled));
    this.#settled = this.#answer.length;
    this.#tail.replaceChildren();
  }

  #settle(text: string): void {
    if (text !== '') this.#tail.before(...this.#nodes(draftPieces(text), text));
  }

  #showTail(): void {
    const tail = this.#answer.slice(this.#settled);
    this.#tail.replaceChildren(...this.#nodes(draftPieces(tail), tail));
  }

  #sentence(sentence: Sentence): HTMLElement {
    const nodes = this.#nodes(checkedPieces(sentence), sentence.text);
    const text = element('span', { class: 'sentence-text' }, ...nodes);
    const shown = element(
      'span',
      { class: 'sentence', 'data-testid': 'sentence', 'data-supported': String(sentence.supported) },
      text,
    );
    if (!sentence.supported) shown.append(localize(element('small', { class: 'unsupported-label' }), 'unsupported'));
    return shown;
  }

  #nodes(pieces: Piece[], sentence: string): Node[] {
    const known = pieces.filter((piece) => 'text' in piece || this.#reference(piece.citation));
    return keepTogether(known).map((group) => {
      const nodes = group.map((piece) => this.#node(piece, sentence));
      return nodes.length === 1 && nodes[0] ? nodes[0] : element('span', { class: 'cited' }, ...nodes);
    });
  }

  #node(piece: Piece, sentence: string): Node | null {
    if ('text' in piece) return document.createTextNode(piece.text);
    const reference = this.#reference(piece.citation);
    return reference ? this.#citation(reference, withoutMarks(sentence)) : null;
  }

  #reference(n: number): Reference | undefined {
    return this.#references.find((reference) => reference.n === n);
  }

  #citation({ n, question }: Reference, sentence: string): HTMLButtonElement {
    const button = element(
      'button',
      { type: 'button', class: 'citation', 'data-testid': 'citation', 'data-n': n, 'aria-controls': 'reference-panel' },
      String(n),
    );
    button.addEventListener('click', () => this.#open(n, sentence, button));
    return localize(button, 'citation', { n, question }, 'aria-label');
  }
}
