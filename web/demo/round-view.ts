/** One round on the page: question, emergency advice, references, answer, notices, actions. */

import type { AskEvent, ConsultError, RedFlag, Reference } from '../sdk/index.ts';
import { AnswerBody } from './answer-body.ts';
import { iconButton } from './button.ts';
import { element } from './element.ts';
import { emergencyBox } from './emergency-box.ts';
import { errorBox } from './errors.ts';
import { icon } from './icons.ts';
import { language, localize, onLanguageChange } from './language.ts';
import type { Feedback, Round } from './round.ts';
import { RoundActions } from './round-actions.ts';
import { ENGINE_TEXTS_EN } from './strings.ts';
import type { StringKey } from './strings.ts';
import { noteMoment } from './timings.ts';

/** What a round asks of the page. */
export interface RoundHost {
  openReference(view: RoundView, n: number, sentence: string | null, opener: HTMLElement): void;
  /** Asks the question again with a new seed. */
  regenerate(view: RoundView): void;
  /** Asks the question again after an error. */
  retry(view: RoundView): void;
  edit(view: RoundView): void;
  feedback(view: RoundView, feedback: Feedback): Promise<void>;
}

export type RoundState = 'streaming' | 'done' | 'aborted' | 'error';

/** Shows events as they come, then the result. */
export class RoundView {
  readonly element: HTMLElement;
  readonly question: string;
  readonly editButton: HTMLButtonElement;
  round: Round | null = null;
  references: Reference[] = [];
  readonly #host: RoundHost;
  readonly #answer = element('div', { class: 'answer', role: 'group', 'data-testid': 'answer' });
  readonly #sources = element('div', { class: 'sources', role: 'list' });
  readonly #state = element('p', { class: 'answer-state' });
  readonly #notices = element('ul', { class: 'notices' });
  readonly #actions: RoundActions;
  #body: AnswerBody;
  #redFlags: RedFlag[] = [];
  #noticeTexts: string[] = [];

  constructor(question: string, host: RoundHost) {
    this.question = question;
    this.#host = host;
    this.#body = this.#newBody();
    this.#actions = new RoundActions({
      round: () => this.round,
      regenerate: () => host.regenerate(this),
      feedback: (feedback) => host.feedback(this, feedback),
    });
    this.editButton = iconButton('edit', 'editQuestion', 'edit', () => host.edit(this));
    localize(this.#answer, 'answer', {}, 'aria-label');
    this.element = element(
      'article',
      { class: 'round' },
      element('div', { class: 'question' }, this.editButton, element('p', { 'data-testid': 'question' }, question)),
      this.#answer,
    );
    onLanguageChange(() => this.#showNotices());
    this.restart();
  }

  get state(): RoundState {
    return this.#answer.dataset['state'] as RoundState;
  }

  /** Empties the answer for a new one. */
  restart(): void {
    this.round = null;
    this.references = [];
    this.#redFlags = [];
    this.#noticeTexts = [];
    this.#body = this.#newBody();
    this.#answer.dataset['state'] = 'streaming' satisfies RoundState;
    this.#answer.setAttribute('aria-busy', 'true');
    this.#sources.replaceChildren();
    this.#sources.classList.add('pending');
    this.#showNotices();
    this.#showState('stateSearching');
    this.#actions.refresh();
    this.#answer.replaceChildren(this.#sources, this.#state, this.#body.element, this.#notices, this.#actions.element);
  }

  /** Takes an event of the running consultation. */
  handle(event: AskEvent): void {
    switch (event.type) {
      case 'red_flags':
        this.#showRedFlags(event.flags);
        return;
      case 'waiting':
        this.#showState(event.for === 'retriever' ? 'stateRetriever' : 'stateGenerator');
        return;
      case 'working':
        this.#showState(this.references.length > 0 ? 'stateReading' : 'stateSearching');
        return;
      case 'references':
        this.#showReferences(event.references);
        noteMoment('firstReferences');
        this.#showState('stateReading');
        return;
      case 'text':
        noteMoment('firstToken');
        this.#showState(null);
        this.#body.text(event.text);
        return;
      case 'sentence':
        this.#body.sentence(event);
        return;
      case 'notice':
        this.#noticeTexts.push(event.text);
        this.#showNotices();
    }
  }

  /** Shows a finished round, streamed or read from the history. */
  finish(round: Round): void {
    this.round = round;
    this.#showRedFlags(round.redFlags);
    this.#showReferences(round.references);
    this.#body.finish(round);
    this.#noticeTexts = round.notices;
    this.#showNotices();
    if (round.aborted) this.#body.element.after(this.#state);
    this.#settle(round.aborted ? 'aborted' : 'done', round.aborted ? 'stopped' : round.abstained ? 'abstained' : null);
    this.#answer.classList.toggle('abstained', round.abstained);
  }

  /** Shows why there is no answer; what came before stays. */
  fail(error: ConsultError): void {
    this.#settle('error', null);
    this.#notices.before(errorBox(error, 'asking', () => this.#host.retry(this)));
  }

  #settle(state: RoundState, text: StringKey | null): void {
    this.#answer.dataset['state'] = state;
    this.#answer.removeAttribute('aria-busy');
    this.#sources.classList.remove('pending');
    this.#showState(text);
    this.#actions.refresh();
  }

  #newBody(): AnswerBody {
    return new AnswerBody((n, sentence, opener) => this.#host.openReference(this, n, sentence, opener));
  }

  #showState(key: StringKey | null): void {
    this.#state.hidden = key === null;
    this.#body.element.hidden = this.#body.isEmpty;
    if (key) this.#state.replaceChildren(localize(element('span'), key));
  }

  #showRedFlags(flags: RedFlag[]): void {
    if (flags.length === 0 || this.#redFlags.length > 0) return;
    this.#redFlags = flags;
    this.#answer.prepend(emergencyBox(flags));
  }

  #showReferences(references: Reference[]): void {
    this.references = references;
    this.#body.references = references;
    this.#sources.classList.remove('pending');
    this.#sources.replaceChildren(...references.map((reference) => this.#source(reference)));
  }

  #source({ n, question }: Reference): HTMLElement {
    const chip = element(
      'button',
      { type: 'button', class: 'source', 'data-testid': 'source', 'data-n': n, 'aria-controls': 'reference-panel' },
      element('span', { class: 'source-number' }, String(n)),
      element('span', { class: 'source-question' }, question),
    );
    chip.addEventListener('click', () => this.#host.openReference(this, n, null, chip));
    return element('div', { role: 'listitem' }, localize(chip, 'citation', { n, question }, 'aria-label'));
  }

  /** The standing notice is there from the start, so that it neither jumps in nor is missing after a stop. */
  #showNotices(): void {
    const items =
      this.#noticeTexts.length > 0
        ? this.#noticeTexts.map((text) =>
            element('li', {}, language() === 'en' ? (ENGINE_TEXTS_EN[text] ?? text) : text),
          )
        : [localize(element('li'), 'standingNotice')];
    for (const item of items) item.setAttribute('data-testid', 'notice');
    items[0]?.prepend(icon('info'));
    this.#notices.replaceChildren(...items);
  }
}
