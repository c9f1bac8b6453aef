import { element } from './element.ts';
import { icon } from './icons.ts';
import type { IconName } from './icons.ts';
import { localize } from './language.ts';
import type { StringKey } from './strings.ts';

/** A square button with an icon; its label is read aloud and shown as a tooltip. */
export function iconButton(name: IconName, label: StringKey, testId: string, onClick: () => void): HTMLButtonElement {
  const button = element('button', { type: 'button', class: 'icon-button', 'data-testid': testId }, icon(name));
  button.addEventListener('click', onClick);
  return localize(button, label, {}, 'aria-label');
}

/** A button with a text. */
export function textButton(
  label: StringKey,
  className: string,
  testId: string,
  onClick: () => void,
): HTMLButtonElement {
  const button = element('button', { type: 'button', class: className, 'data-testid': testId });
  button.addEventListener('click', onClick);
  return localize(button, label);
}
