/** The row of buttons under an answer. */

import { announce } from './announcer.ts';
import { iconButton } from './button.ts';
import { element } from './element.ts';
import { answerAsSpeech, answerAsText } from './export.ts';
import { icon } from './icons.ts';
import { localize } from './language.ts';
import type { Feedback, Round } from './round.ts';
import { speak, stopSpeaking } from './speech.ts';
import type { StringKey } from './strings.ts';

const CONFIRMATION_MS = 2500;

/** What a row needs to know and to tell. */
export interface ActionHost {
  /** The finished round, null while it is being answered. */
  round(): Round | null;
  regenerate(): void;
  /** Ends when the rating is kept. */
  feedback(feedback: Feedback): Promise<void>;
}

/** Keeps its place while the answer streams, so that nothing moves when it appears. */
export class RoundActions {
  readonly element: HTMLElement;
  readonly #host: ActionHost;
  readonly #copy: HTMLButtonElement;
  readonly #up: HTMLButtonElement;
  readonly #down: HTMLButtonElement;
  readonly #speak: HTMLButtonElement;
  readonly #message = element('span', { class: 'action-message' });
  #messageTimer = 0;

  constructor(host: ActionHost) {
    this.#host = host;
    const regenerate = iconButton('refresh', 'regenerate', 'regenerate', () => host.regenerate());
    this.#copy = iconButton('copy', 'copy', 'copy', () => void this.#copyAnswer());
    this.#up = iconButton('thumbUp', 'thumbUp', 'thumb-up', () => void this.#rate('up'));
    this.#down = iconButton('thumbDown', 'thumbDown', 'thumb-down', () => void this.#rate('down'));
    this.#speak = iconButton('speaker', 'speak', 'speak', () => void this.#toggleSpeech());
    this.element = element(
      'div',
      { class: 'actions' },
      regenerate,
      this.#copy,
      this.#speak,
      this.#up,
      this.#down,
      this.#message,
    );
    this.refresh();
  }

  /** Shows the state of the round. */
  refresh(): void {
    const round = this.#host.round();
    this.element.classList.toggle('pending', round === null);
    this.#up.setAttribute('aria-pressed', String(round?.feedback === 'up'));
    this.#down.setAttribute('aria-pressed', String(round?.feedback === 'down'));
  }

  async #rate(pressed: 'up' | 'down'): Promise<void> {
    const feedback = this.#host.round()?.feedback === pressed ? null : pressed;
    const kept = this.#host.feedback(feedback);
    this.refresh();
    await kept;
    this.#say(feedback ? 'feedbackKept' : 'feedbackRemoved');
  }

  async #copyAnswer(): Promise<void> {
    const round = this.#host.round();
    if (!round) return;
    try {
      await navigator.clipboard.writeText(answerAsText(round));
    } catch {
      this.#say('copyFailed');
      return;
    }
    this.#copy.replaceChildren(icon('check'));
    setTimeout(() => this.#copy.replaceChildren(icon('copy')), CONFIRMATION_MS);
    this.#say('copied');
  }

  async #toggleSpeech(): Promise<void> {
    const round = this.#host.round();
    if (this.#speak.getAttribute('aria-pressed') === 'true') {
      stopSpeaking();
      return;
    }
    if (!round) return;
    this.#speaking(true);
    const spoken = await speak(answerAsSpeech(round), () => this.#speaking(false));
    if (spoken) return;
    this.#speaking(false);
    this.#say('noVoice');
  }

  #speaking(on: boolean): void {
    this.#speak.setAttribute('aria-pressed', String(on));
    this.#speak.replaceChildren(icon(on ? 'stop' : 'speaker'));
    localize(this.#speak, on ? 'stopSpeaking' : 'speak', {}, 'aria-label');
  }

  #say(key: StringKey): void {
    announce(key);
    localize(this.#message, key);
    clearTimeout(this.#messageTimer);
    this.#messageTimer = window.setTimeout(() => (this.#message.textContent = ''), CONFIRMATION_MS);
  }
}
