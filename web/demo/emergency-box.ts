import type { RedFlag } from '../sdk/index.ts';
import { element } from './element.ts';
import { icon } from './icons.ts';
import { language, localize, onLanguageChange } from './language.ts';

/** Emergency advice, read aloud at once by screen readers; stands above everything of its answer. */
export function emergencyBox(flags: RedFlag[]): HTMLElement {
  const advice = element('div', { class: 'emergency-advice' });
  const showAdvice = (): void => {
    const texts = flags.map((flag) => (language() === 'en' ? flag.advice_en : flag.advice));
    advice.replaceChildren(...texts.map((text) => element('p', {}, text)));
  };
  showAdvice();
  onLanguageChange(showAdvice);
  const call = element(
    'a',
    { class: 'emergency-call', href: 'tel:120' },
    icon('phone'),
    localize(element('span'), 'emergencyCall'),
  );
  return element(
    'div',
    {
      class: 'emergency',
      role: 'alert',
      'data-testid': 'emergency',
      'data-flags': flags.map((flag) => flag.id).join(' '),
    },
    element('div', { class: 'emergency-head' }, icon('alert'), localize(element('strong'), 'emergencyTitle')),
    advice,
    call,
  );
}
