import { element } from './element.ts';
import { localize } from './language.ts';
import { EXAMPLES } from './strings.ts';

/** The empty page: what this is, and questions to begin with. */
export function welcome(ask: (question: string) => void): HTMLElement {
  const examples = EXAMPLES.map((question) => {
    const button = element(
      'button',
      { type: 'button', class: 'example', lang: 'zh-CN', 'data-testid': 'example' },
      question,
    );
    button.addEventListener('click', () => ask(question));
    return element('li', {}, button);
  });
  return element(
    'section',
    { class: 'welcome' },
    localize(element('h2'), 'welcome'),
    localize(element('p'), 'welcomeText'),
    localize(element('h3'), 'examplesTitle'),
    element('ul', { class: 'examples' }, ...examples),
  );
}
