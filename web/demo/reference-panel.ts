/** Where references are read: a side column on wide screens, a bottom sheet on phones. */

import type { Reference } from '../sdk/index.ts';
import { announce } from './announcer.ts';
import { iconButton } from './button.ts';
import { element } from './element.ts';
import { icon } from './icons.ts';
import type { IconName } from './icons.ts';
import { localize } from './language.ts';
import { markMatches } from './matched-words.ts';
import type { StringKey } from './strings.ts';

/** Where the page has room for the column; the same number stands in reference-panel.css. */
const WIDE = matchMedia('(min-width: 1080px)');

/** The answer whose references are shown. */
export interface PanelContext {
  question: string;
  references: Reference[];
}

/** Shows an introduction, the list of references, or one record. */
export class ReferencePanel {
  readonly element: HTMLElement;
  readonly backdrop = element('div', { class: 'panel-backdrop' });
  readonly #body = element('div', { class: 'panel-body' });
  readonly #title = element('h2', { class: 'panel-title', tabindex: '-1' });
  readonly #back: HTMLButtonElement;
  readonly #behind: () => HTMLElement[];
  #context: PanelContext | null = null;
  #opener: HTMLElement | null = null;

  /** `behind` are the parts of the page that the sheet covers. */
  constructor(behind: () => HTMLElement[]) {
    this.#behind = behind;
    this.#back = iconButton('back', 'panelBack', 'reference-back', () => this.#showList());
    const close = iconButton('close', 'close', 'reference-close', () => this.close());
    close.classList.add('panel-close');
    this.element = element(
      'div',
      { class: 'reference-panel', role: 'complementary', id: 'reference-panel', 'data-testid': 'reference-panel' },
      element('div', { class: 'panel-head' }, this.#back, this.#title, close),
      this.#body,
    );
    localize(this.element, 'panelTitle', {}, 'aria-label');
    this.backdrop.addEventListener('click', () => this.close());
    this.element.addEventListener('keydown', (event) => event.key === 'Escape' && this.close());
    WIDE.addEventListener('change', () => this.close());
    this.showIntroduction();
  }

  /** What the panel is for, before there are references. */
  showIntroduction(): void {
    this.#context = null;
    const step = (name: IconName, key: StringKey): HTMLElement =>
      element('li', {}, icon(name), localize(element('span'), key));
    this.#show(
      'panelTitle',
      {},
      null,
      localize(element('p', { class: 'panel-intro' }), 'panelIntro'),
      element(
        'ul',
        { class: 'panel-steps' },
        step('search', 'panelStep1'),
        step('book', 'panelStep2'),
        step('shield', 'panelStep3'),
      ),
    );
  }

  /** Lists the references of an answer; on phones this waits for a citation to be opened. */
  showReferences(context: PanelContext): void {
    this.#context = context;
    this.#showList();
  }

  /** Opens one record; `sentence` is the text that cites it. */
  open(context: PanelContext, n: number, sentence: string | null, opener: HTMLElement | null): void {
    const reference = context.references.find((reference) => reference.n === n);
    if (!reference) return;
    this.#context = context;
    this.#opener = opener;
    const sources = [context.question, ...(sentence ? [sentence] : [])];
    this.#show('record', { n }, reference.id, this.#tabs(context, n, sentence), ...this.#record(reference, sources));
    announce('openedReference', { n, question: reference.question });
    if (!WIDE.matches) this.#openSheet();
  }

  /** Closes the sheet, or goes back to the list in the column; focus returns to where it came from. */
  close(): void {
    const wasOpen = this.element.classList.contains('open');
    this.element.classList.remove('open');
    this.backdrop.classList.remove('open');
    this.element.removeAttribute('aria-modal');
    this.element.setAttribute('role', 'complementary');
    for (const part of this.#behind()) part.inert = false;
    if (this.#context) this.#showList();
    if (wasOpen) this.#opener?.focus();
    this.#opener = null;
  }

  #openSheet(): void {
    this.element.classList.add('open');
    this.backdrop.classList.add('open');
    this.element.setAttribute('role', 'dialog');
    this.element.setAttribute('aria-modal', 'true');
    for (const part of this.#behind()) part.inert = true;
    this.#title.focus({ preventScroll: true });
  }

  #show(title: StringKey, values: Record<string, number>, recordId: string | null, ...content: Node[]): void {
    localize(this.#title, title, values);
    this.#back.hidden = recordId === null;
    if (recordId === null) delete this.element.dataset['recordId'];
    else this.element.dataset['recordId'] = recordId;
    this.#body.replaceChildren(...content);
    this.#body.scrollTop = 0;
  }

  #showList(): void {
    const context = this.#context;
    if (!context) return;
    const cards = context.references.map((reference) => {
      const card = element(
        'button',
        { type: 'button', class: 'reference-card' },
        element('span', { class: 'source-number' }, String(reference.n)),
        element(
          'span',
          { class: 'card-text' },
          element('span', { class: 'card-question' }, reference.question),
          element('span', { class: 'card-answer' }, reference.answer),
          element(
            'span',
            { class: 'card-meta' },
            [reference.department, ...reference.related_diseases].filter(Boolean).join(' · '),
          ),
        ),
      );
      card.addEventListener('click', () => this.open(context, reference.n, null, card));
      return element('li', {}, card);
    });
    this.#show('panelTitle', {}, null, element('ul', { class: 'reference-list' }, ...cards));
  }

  /** Buttons to go from one record to the next. */
  #tabs(context: PanelContext, current: number, sentence: string | null): HTMLElement {
    const tabs = context.references.map(({ n, question }) => {
      const tab = element(
        'button',
        { type: 'button', class: 'record-tab', 'aria-current': n === current && 'true' },
        String(n),
      );
      tab.addEventListener('click', () => this.open(context, n, sentence, this.#opener));
      return localize(tab, 'citation', { n, question }, 'aria-label');
    });
    return element('nav', { class: 'record-tabs' }, ...tabs);
  }

  #record(reference: Reference, sources: string[]): HTMLElement[] {
    return [
      element(
        'div',
        { class: 'record' },
        localize(element('h3'), 'recordQuestion'),
        element('p', { class: 'record-question' }, ...marked(reference.question, sources)),
        localize(element('h3'), 'recordAnswer'),
        element('p', { class: 'record-answer' }, ...marked(reference.answer, sources)),
        localize(element('p', { class: 'record-hint' }), 'matched'),
      ),
      element(
        'dl',
        { class: 'record-facts' },
        ...fact('department', reference.department),
        ...fact('relatedDiseases', reference.related_diseases.join('、')),
        ...fact('source', reference.source),
        ...fact('similarity', similarity(reference.score)),
        ...fact('recordId', element('code', {}, reference.id)),
      ),
    ];
  }
}

function similarity(score: number): HTMLElement {
  const bar = element('meter', { min: 0, max: 1, value: score, 'aria-hidden': 'true' });
  return element('span', { class: 'similarity' }, bar, score.toFixed(2));
}

function fact(key: StringKey, value: string | Node): HTMLElement[] {
  return value === '' ? [] : [localize(element('dt'), key), element('dd', {}, value)];
}

function marked(text: string, sources: string[]): (Node | string)[] {
  return markMatches(text, sources).map((run) => (run.matched ? element('mark', {}, run.text) : run.text));
}
