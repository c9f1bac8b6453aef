/** The list of kept conversations. */

import { iconButton, textButton } from './button.ts';
import { element } from './element.ts';
import { language, localize } from './language.ts';
import { deleteAllConversations, deleteConversation, listConversations } from './history-store.ts';
import type { StoredConversation } from './round.ts';

/** What the dialog asks of the page. */
export interface HistoryActions {
  open(conversation: StoredConversation): void;
  /** Ids that were deleted, `null` for all. */
  deleted(id: string | null): void;
}

/** A modal dialog; Escape and the close button close it. */
export class HistoryDialog {
  readonly element: HTMLDialogElement;
  readonly #list = element('ul', { class: 'history-list' });
  readonly #actions: HistoryActions;
  readonly #deleteAll: HTMLButtonElement;

  constructor(actions: HistoryActions) {
    this.#actions = actions;
    this.#deleteAll = textButton(
      'historyDeleteAll',
      'button danger',
      'history-delete-all',
      () => void this.#confirmDelete(),
    );
    this.element = element(
      'dialog',
      { class: 'history-dialog', 'aria-labelledby': 'history-title', 'data-testid': 'history-dialog' },
      element(
        'div',
        { class: 'dialog-head' },
        localize(element('h2', { id: 'history-title' }), 'historyTitle'),
        iconButton('close', 'close', 'history-close', () => this.element.close()),
      ),
      localize(element('p', { class: 'dialog-note' }), 'historyText'),
      this.#list,
      this.#deleteAll,
    );
    this.element.addEventListener('click', (event) => event.target === this.element && this.element.close());
  }

  /** Reads the list and opens the dialog. */
  async open(): Promise<void> {
    await this.#show();
    this.element.showModal();
  }

  async #show(): Promise<void> {
    const conversations = await listConversations();
    const items = conversations.map((conversation) => this.#item(conversation));
    this.#list.replaceChildren(
      ...(items.length > 0 ? items : [localize(element('li', { class: 'history-empty' }), 'historyEmpty')]),
    );
    this.#deleteAll.hidden = items.length === 0;
    localize(this.#deleteAll, 'historyDeleteAll').classList.remove('confirming');
  }

  #item(conversation: StoredConversation): HTMLElement {
    const when = new Date(conversation.updatedAt).toLocaleString(language() === 'zh' ? 'zh-CN' : 'en', {
      dateStyle: 'medium',
      timeStyle: 'short',
    });
    const open = element(
      'button',
      { type: 'button', class: 'history-open' },
      element('span', { class: 'history-question' }, conversation.rounds[0]?.question ?? ''),
      element(
        'span',
        { class: 'history-when' },
        when,
        ' · ',
        localize(element('span'), 'rounds', { count: conversation.rounds.length }),
      ),
    );
    open.addEventListener('click', () => {
      this.element.close();
      this.#actions.open(conversation);
    });
    const remove = iconButton('trash', 'historyDelete', 'history-delete', () => void this.#delete(conversation.id));
    return element('li', {}, open, remove);
  }

  async #delete(id: string): Promise<void> {
    await deleteConversation(id);
    this.#actions.deleted(id);
    await this.#show();
  }

  async #confirmDelete(): Promise<void> {
    if (!this.#deleteAll.classList.contains('confirming')) {
      localize(this.#deleteAll, 'historyConfirm').classList.add('confirming');
      return;
    }
    await deleteAllConversations();
    this.#actions.deleted(null);
    await this.#show();
  }
}
