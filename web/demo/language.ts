/** Puts texts on elements so that they change when the language does. */

import { STRINGS } from './strings.ts';
import type { Language, StringKey } from './strings.ts';

type Values = Record<string, string | number>;
type Slot = 'text' | 'aria-label' | 'placeholder';
interface Spoken {
  key: StringKey;
  values: Values;
}

const STORAGE_KEY = 'huatuo.language';
/** Elements with texts carry this attribute, so that they can be found without keeping them alive. */
const MARK = 'data-localized';

const texts = new WeakMap<Element, Map<Slot, Spoken>>();
const listeners: (() => void)[] = [];
let current: Language = localStorage.getItem(STORAGE_KEY) === 'en' ? 'en' : 'zh';

/** The present language. */
export function language(): Language {
  return current;
}

/** A text in the present language. */
export function say(key: StringKey, values: Values = {}): string {
  return STRINGS[current][key].replace(/\{(\w+)\}/g, (hole, name: string) => String(values[name] ?? hole));
}

/** Gives an element a text (or a label) that follows the language; returns the element. */
export function localize<E extends Element>(element: E, key: StringKey, values: Values = {}, slot: Slot = 'text'): E {
  const slots = texts.get(element) ?? new Map<Slot, Spoken>();
  slots.set(slot, { key, values });
  texts.set(element, slots);
  element.setAttribute(MARK, '');
  write(element, slot, { key, values });
  return element;
}

/** Called after each change of language. */
export function onLanguageChange(listener: () => void): void {
  listeners.push(listener);
}

/** Switches between Chinese and English. */
export function toggleLanguage(): void {
  current = current === 'zh' ? 'en' : 'zh';
  localStorage.setItem(STORAGE_KEY, current);
  applyLanguage();
  for (const listener of listeners) listener();
}

/** Writes the page's language and every localized text. */
export function applyLanguage(): void {
  document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll(`[${MARK}]`)) {
    texts.get(element)?.forEach((spoken, slot) => write(element, slot, spoken));
  }
}

function write(element: Element, slot: Slot, { key, values }: Spoken): void {
  const text = say(key, values);
  if (slot === 'text') element.textContent = text;
  else element.setAttribute(slot, text);
  if (slot === 'aria-label' && element instanceof HTMLButtonElement) element.title = text;
}
