/** The page: conversation, composer, reference panel, status. */

import { ConsultError } from '../sdk/index.ts';
import type { HuatuoConsult, Status } from '../sdk/index.ts';
import { announce, announcerElement } from './announcer.ts';
import { Composer } from './composer.ts';
import { Diagnostics } from './diagnostics.ts';
import { element } from './element.ts';
import { errorBox } from './errors.ts';
import { downloadConversation } from './export.ts';
import { HistoryDialog } from './history-dialog.ts';
import { saveConversation } from './history-store.ts';
import { icon } from './icons.ts';
import { localize } from './language.ts';
import { pageHeader } from './page-header.ts';
import { ReferencePanel } from './reference-panel.ts';
import { historyOf, roundOf } from './round.ts';
import type { Feedback, Round, StoredConversation } from './round.ts';
import { RoundView } from './round-view.ts';
import type { RoundHost } from './round-view.ts';
import { ScrollKeeper } from './scroll-keeper.ts';
import { stopSpeaking } from './speech.ts';
import { StatusLine } from './status-line.ts';
import { noteMoment } from './timings.ts';
import { welcome } from './welcome.ts';

/** The first answer to a question is reproducible; regenerating draws another seed. */
const FIRST_SEED = 0;
const MAX_SEED = 2 ** 31;
/** The conversation that a reload opens again; gone when the tab closes. */
const SESSION_KEY = 'huatuo.conversation';

/** Wires the parts together; holds the rounds of the present conversation. */
export class ConsultationPage implements RoundHost {
  readonly element: HTMLElement;
  readonly #consult: HuatuoConsult;
  readonly #list = element('div', { class: 'rounds' });
  readonly #scroller: HTMLElement;
  readonly #loadError = element('div', { class: 'load-error' });
  readonly #composer: Composer;
  readonly #panel: ReferencePanel;
  readonly #statusLine = new StatusLine();
  readonly #diagnostics: Diagnostics;
  readonly #history: HistoryDialog;
  readonly #scroll: ScrollKeeper;
  #views: RoundView[] = [];
  #id: string = crypto.randomUUID();
  /** Counts questions: what a superseded one still reports is dropped. */
  #asked = 0;
  #shownError: ConsultError | null = null;

  constructor(consult: HuatuoConsult) {
    this.#consult = consult;
    this.#diagnostics = new Diagnostics(consult);
    this.#composer = new Composer({
      send: (question, editing) => this.ask(question, editing),
      stop: () => consult.stop(),
    });
    this.#history = new HistoryDialog({ open: (stored) => this.show(stored), deleted: (id) => this.#deleted(id) });
    const header = pageHeader({
      newConversation: () => this.newConversation(),
      openHistory: () => void this.#history.open(),
      exportConversation: () => downloadConversation(this.#rounds()),
    });
    const toLatest = element('button', { type: 'button', class: 'to-latest', hidden: true }, icon('down'));
    localize(toLatest, 'toLatest', {}, 'aria-label');
    this.#scroller = localize(
      element('div', { class: 'scroller', tabindex: '0', role: 'region' }, this.#list),
      'conversation',
      {},
      'aria-label',
    );
    const dock = element('div', { class: 'dock' }, toLatest, this.#loadError, this.#composer.element, this.#footer());
    const main = element('main', { class: 'main' }, this.#scroller, dock);
    this.#panel = new ReferencePanel(() => [header, main]);
    this.#scroll = new ScrollKeeper(this.#scroller, this.#list, (atEnd) => (toLatest.hidden = atEnd));
    toLatest.addEventListener('click', () => this.#scroll.follow());
    const skip = localize(element('a', { class: 'skip-link', href: '#question' }), 'skip');
    this.element = element(
      'div',
      { class: 'page' },
      skip,
      header,
      main,
      this.#panel.backdrop,
      this.#panel.element,
      this.#history.element,
      announcerElement(),
    );
    this.newConversation();
  }

  /** Whether nothing has been asked yet. */
  get isEmpty(): boolean {
    return this.#views.length === 0;
  }

  /** Shows the state of the engine. */
  showStatus(status: Status): void {
    if (status.retrieverReady) noteMoment('retrieverReady');
    if (status.generatorReady) noteMoment('generatorReady');
    this.#statusLine.status = status;
    this.#diagnostics.status = status;
    if (status.error === this.#shownError) return;
    this.#shownError = status.error;
    const retry = (): void => void this.#consult.retry().catch(() => {}); // the status says it
    this.#loadError.replaceChildren(...(status.error ? [errorBox(status.error, 'loading', retry)] : []));
  }

  /** Asks a question; `editing` replaces the last round. */
  ask(question: string, editing = false): void {
    if (editing) this.#views.pop()?.element.remove();
    this.#panel.close();
    if (this.#views.length === 0) this.#list.replaceChildren();
    const view = new RoundView(question, this);
    this.#views.push(view);
    this.#list.append(view.element);
    this.#markLast();
    this.#scroll.follow();
    void this.#answer(view, FIRST_SEED);
  }

  /** Starts over; the old conversation stays in the history. */
  newConversation(): void {
    this.#leave();
    this.#id = crypto.randomUUID();
    sessionStorage.removeItem(SESSION_KEY);
    this.#views = [];
    this.#list.replaceChildren(welcome((question) => this.ask(question)));
    this.#panel.showIntroduction();
    this.#statusLine.round = null;
    this.#composer.clear();
  }

  /** Opens a kept conversation. */
  show(stored: StoredConversation): void {
    this.#leave();
    this.#id = stored.id;
    sessionStorage.setItem(SESSION_KEY, stored.id);
    this.#views = stored.rounds.map((round) => {
      const view = new RoundView(round.question, this);
      view.finish(round);
      return view;
    });
    this.#list.replaceChildren(...this.#views.map((view) => view.element));
    this.#markLast();
    this.#showReferences(this.#views.at(-1));
    this.#scroll.follow();
  }

  /** The conversation that this tab had open before a reload. */
  static lastId(): string | null {
    return sessionStorage.getItem(SESSION_KEY);
  }

  openReference(view: RoundView, n: number, sentence: string | null, opener: HTMLElement): void {
    this.#panel.open({ question: view.question, references: view.references }, n, sentence, opener);
  }

  regenerate(view: RoundView): void {
    view.restart();
    void this.#answer(view, 1 + Math.floor(Math.random() * MAX_SEED));
  }

  retry(view: RoundView): void {
    // The engine may have to be started or loaded first; the question waits for that.
    if (this.#consult.status.phase === 'error') void this.#consult.retry().catch(() => {});
    view.restart();
    void this.#answer(view, FIRST_SEED);
  }

  edit(view: RoundView): void {
    this.#consult.stop();
    this.#composer.edit(view.question);
  }

  async feedback(view: RoundView, feedback: Feedback): Promise<void> {
    if (!view.round) return;
    view.round.feedback = feedback;
    await this.#save();
  }

  async #answer(view: RoundView, seed: number): Promise<void> {
    const number = ++this.#asked;
    const askedAt = new Date().toISOString();
    const current = (): boolean => number === this.#asked;
    stopSpeaking();
    announce('answering');
    this.#composer.answering = true;
    try {
      const result = await this.#consult.ask(view.question, {
        history: historyOf(this.#roundsBefore(view)),
        seed,
        onEvent: (event) => {
          view.handle(event);
          if (event.type === 'references') this.#showReferences(view);
          if (event.type === 'red_flags') this.#scroll.hold(view.element);
        },
      });
      this.#finish(view, roundOf(view.question, askedAt, seed, result));
    } catch (error) {
      this.#fail(view, error instanceof ConsultError ? error : new ConsultError('internal', String(error)));
    } finally {
      if (current()) this.#composer.answering = false;
    }
  }

  #finish(view: RoundView, round: Round): void {
    view.finish(round);
    if (!this.#views.includes(view)) return;
    this.#showReferences(view);
    this.#statusLine.round = round;
    this.#diagnostics.round = round;
    const citations = new Set(round.sentences.flatMap((sentence) => sentence.citations)).size;
    if (round.aborted) announce('answerStopped');
    else announce('answered', { sentences: round.sentences.length, citations });
    void this.#save();
  }

  #fail(view: RoundView, error: ConsultError): void {
    announce('answerFailed');
    if (error.code !== 'question') {
      view.fail(error);
      return;
    }
    this.#views = this.#views.filter((kept) => kept !== view);
    view.element.remove();
    this.#markLast();
    this.#composer.refuse(view.question, error.message);
  }

  /** The column shows the newest references; a record that is being read is not taken away. */
  #showReferences(view: RoundView | undefined): void {
    if (!view || this.#views.at(-1) !== view || this.#panel.element.dataset['recordId']) return;
    this.#panel.showReferences({ question: view.question, references: view.references });
  }

  #rounds(): Round[] {
    return this.#views.flatMap((view) => (view.round ? [view.round] : []));
  }

  #roundsBefore(view: RoundView): Round[] {
    const before = this.#views.slice(0, this.#views.indexOf(view));
    return before.flatMap((earlier) => (earlier.round ? [earlier.round] : []));
  }

  async #save(): Promise<void> {
    const rounds = this.#rounds();
    if (rounds.length === 0) return;
    sessionStorage.setItem(SESSION_KEY, this.#id);
    await saveConversation({ id: this.#id, updatedAt: new Date().toISOString(), rounds });
  }

  #deleted(id: string | null): void {
    if (id === null || id === this.#id) this.newConversation();
  }

  #leave(): void {
    this.#consult.stop();
    this.#asked += 1;
    this.#composer.answering = false;
    stopSpeaking();
    this.#panel.close();
  }

  /** Only the last question can be edited. */
  #markLast(): void {
    const last = this.#views.at(-1);
    for (const view of this.#views) view.editButton.hidden = view !== last;
  }

  #footer(): HTMLElement {
    return element(
      'footer',
      { class: 'footer' },
      this.#statusLine.element,
      element(
        'div',
        { class: 'footer-row' },
        element(
          'p',
          { class: 'urgent' },
          localize(element('span'), 'urgent'),
          ' ',
          element('a', { href: 'tel:120' }, '120'),
        ),
        this.#diagnostics.element,
      ),
    );
  }
}
