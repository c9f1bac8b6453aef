import { iconButton } from './button.ts';
import { element } from './element.ts';
import { localize, toggleLanguage } from './language.ts';

/** What the header's buttons do. */
export interface HeaderActions {
  newConversation(): void;
  openHistory(): void;
  exportConversation(): void;
}

/** Name of the product and the actions on the whole conversation. */
export function pageHeader(actions: HeaderActions): HTMLElement {
  const language = element('button', { type: 'button', class: 'text-button language', 'data-testid': 'language' });
  localize(language, 'otherLanguage');
  localize(language, 'switchLanguage', {}, 'aria-label');
  language.addEventListener('click', toggleLanguage);
  return element(
    'header',
    { class: 'page-header' },
    element('img', { src: './icon.svg', alt: '', width: 32, height: 32 }),
    element('div', { class: 'brand' }, localize(element('h1'), 'title'), localize(element('p'), 'subtitle')),
    element(
      'div',
      { class: 'header-actions' },
      iconButton('plus', 'newConversation', 'new-conversation', actions.newConversation),
      iconButton('history', 'history', 'history', actions.openHistory),
      iconButton('download', 'export', 'export', actions.exportConversation),
      language,
    ),
  );
}
