/** What a failure means to the person in front of the page. */

import type { ConsultError, ErrorCode } from '../sdk/index.ts';
import { element } from './element.ts';
import { icon } from './icons.ts';
import { localize } from './language.ts';
import { textButton } from './button.ts';
import type { StringKey } from './strings.ts';

const WHILE_LOADING: Record<ErrorCode, StringKey> = {
  question: 'errorQuestion',
  options: 'errorOptions',
  network: 'errorNetwork',
  ranges_ignored: 'errorRanges',
  not_found: 'errorNotFound',
  corrupt: 'errorCorrupt',
  unsupported: 'errorUnsupported',
  storage: 'errorStorage',
  internal: 'errorInternal',
};

/** A message with what happened, what to do, the technical details, and a button to try again. */
export function errorBox(error: ConsultError, when: 'loading' | 'asking', onRetry: () => void): HTMLElement {
  const key = when === 'asking' && error.code === 'network' ? 'errorNetworkAsk' : WHILE_LOADING[error.code];
  return element(
    'div',
    { class: 'error-box', role: 'alert', 'data-testid': 'error', 'data-code': error.code },
    icon('info'),
    element(
      'div',
      { class: 'error-text' },
      localize(element('p'), key),
      element(
        'details',
        {},
        localize(element('summary'), 'errorDetails'),
        element('p', { class: 'error-details' }, `${error.code}: ${error.message}`),
      ),
    ),
    textButton('retry', 'button primary', 'retry', onRetry),
  );
}
