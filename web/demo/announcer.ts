import { element } from './element.ts';
import { say } from './language.ts';
import type { StringKey } from './strings.ts';

const region = element('div', { class: 'visually-hidden', role: 'status', 'aria-live': 'polite' });

/** The page's one polite live region; tokens never go through it. */
export function announcerElement(): HTMLElement {
  return region;
}

/** Has screen readers speak a text. */
export function announce(key: StringKey, values: Record<string, string | number> = {}): void {
  region.textContent = say(key, values);
}
