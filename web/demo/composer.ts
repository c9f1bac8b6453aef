/** Where the question is typed. */

import { textButton } from './button.ts';
import { element } from './element.ts';
import { icon } from './icons.ts';
import { localize } from './language.ts';
import { cleanQuestion, countCharacters, MAX_QUESTION_CHARS, questionProblem } from './question-check.ts';

/** The counter appears when so many characters are left. */
const COUNTER_FROM = MAX_QUESTION_CHARS - 200;

/** What the composer tells the page. */
export interface ComposerHost {
  send(question: string, editing: boolean): void;
  stop(): void;
}

/** Enter sends, Shift+Enter starts a new line; an input method's Enter does neither. */
export class Composer {
  readonly element: HTMLFormElement;
  readonly #host: ComposerHost;
  #answering = false;
  readonly #input = element('textarea', {
    id: 'question',
    rows: 1,
    'data-testid': 'question-input',
    'aria-describedby': 'question-message',
    enterkeyhint: 'send',
    autocomplete: 'off',
  });
  readonly #counter = element('span', { class: 'counter' });
  readonly #message = element('p', {
    class: 'input-message',
    id: 'question-message',
    role: 'alert',
    'data-testid': 'input-message',
  });
  readonly #editing: HTMLElement;
  readonly #send = element('button', { type: 'submit', class: 'send-button', 'data-testid': 'send' }, icon('send'));
  readonly #stop = element(
    'button',
    { type: 'button', class: 'send-button stop', 'data-testid': 'stop' },
    icon('stop'),
  );

  constructor(host: ComposerHost) {
    this.#host = host;
    localize(this.#input, 'inputLabel', {}, 'aria-label');
    localize(this.#input, 'placeholder', {}, 'placeholder');
    localize(this.#send, 'send', {}, 'aria-label');
    localize(this.#stop, 'stop', {}, 'aria-label');
    this.#editing = element(
      'div',
      { class: 'editing' },
      icon('edit'),
      localize(element('span'), 'editing'),
      textButton('cancel', 'text-button', 'edit-cancel', () => this.#endEditing()),
    );
    this.#editing.hidden = true;
    this.#stop.hidden = true;
    this.element = element(
      'form',
      { class: 'composer', novalidate: true },
      this.#editing,
      element('div', { class: 'input-row' }, this.#input, this.#send, this.#stop),
      element('div', { class: 'composer-foot' }, this.#message, this.#counter),
    );
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener('input', () => this.#changed());
    this.#input.addEventListener('keydown', (event) => this.#key(event));
    this.#stop.addEventListener('click', () => host.stop());
  }

  /** Swaps the send button for the stop button. */
  set answering(answering: boolean) {
    const hadFocus = document.activeElement === this.#send || document.activeElement === this.#stop;
    this.#answering = answering;
    this.#send.hidden = answering;
    this.#stop.hidden = !answering;
    if (hadFocus) this.#input.focus();
  }

  focus(): void {
    this.#input.focus();
  }

  /** Puts the last question back for editing. */
  edit(question: string): void {
    this.#editing.hidden = false;
    this.#set(question);
    this.#input.focus();
  }

  /** Shows why a question was refused, with the question back in the input. */
  refuse(question: string, message: string): void {
    this.#set(question);
    this.#complain(() => localize(this.#message, 'questionRefused', { message }));
  }

  /** Empties the input. */
  clear(): void {
    this.#endEditing();
  }

  #key(event: KeyboardEvent): void {
    if (event.key === 'Escape' && !this.#editing.hidden) this.#endEditing();
    // Safari reports the Enter that ends a composition with keyCode 229 and isComposing false.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key !== 'Enter' || event.shiftKey || composing) return;
    event.preventDefault();
    this.#submit();
  }

  /** While an answer is being written the next question can be typed, but waits to be sent. */
  #submit(): void {
    if (this.#answering) return;
    const question = cleanQuestion(this.#input.value);
    const problem = questionProblem(question);
    if (problem) {
      const values = { count: countCharacters(question), max: MAX_QUESTION_CHARS };
      this.#complain(() => localize(this.#message, problem, values));
      return;
    }
    const editing = !this.#editing.hidden;
    this.#endEditing();
    this.#host.send(question, editing);
  }

  #complain(write: () => void): void {
    write();
    this.#input.setAttribute('aria-invalid', 'true');
    this.#input.focus();
  }

  #endEditing(): void {
    this.#editing.hidden = true;
    this.#set('');
  }

  #set(text: string): void {
    this.#input.value = text;
    this.#changed();
  }

  #changed(): void {
    this.#message.textContent = '';
    this.#input.removeAttribute('aria-invalid');
    const count = countCharacters(this.#input.value);
    this.#counter.hidden = count < COUNTER_FROM;
    this.#counter.classList.toggle('over', count > MAX_QUESTION_CHARS);
    localize(this.#counter, 'counter', { count, max: MAX_QUESTION_CHARS });
    this.#input.style.height = 'auto';
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
