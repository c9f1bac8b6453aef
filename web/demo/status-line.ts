/** What runs where, what is being loaded, and what the last question cost. */

import type { PartName, PartStatus, Status } from '../sdk/index.ts';
import { element } from './element.ts';
import { formatBytes, formatSeconds } from './format.ts';
import { icon } from './icons.ts';
import { onLanguageChange, say } from './language.ts';
import type { Round } from './round.ts';
import type { StringKey } from './strings.ts';

const PART_NAMES: Record<PartName, StringKey> = {
  encoder: 'partEncoder',
  index: 'partIndex',
  generator: 'partGenerator',
};
const MILLISECONDS = 1000;

/** One line that keeps its height. */
export class StatusLine {
  readonly element = element('div', { class: 'status-line', 'data-testid': 'status' });
  #status: Status | null = null;
  #round: Round | null = null;

  constructor() {
    onLanguageChange(() => this.#show());
  }

  set status(status: Status) {
    this.#status = status;
    this.#show();
  }

  /** The last finished round. */
  set round(round: Round | null) {
    this.#round = round;
    this.#show();
  }

  #show(): void {
    const status = this.#status;
    if (!status) return;
    this.element.dataset['phase'] = status.phase;
    const loading = status.phase === 'loading' || status.phase === 'error';
    if (status.phase === 'starting') this.element.replaceChildren(element('span', {}, say('starting')));
    else if (loading) this.element.replaceChildren(...status.parts.map((part) => this.#part(part)));
    else
      this.element.replaceChildren(
        ...this.#facts(status).map((facts) => element('span', { class: 'status-facts' }, facts.join(' · '))),
      );
    this.element.append(element('span', { class: 'status-private' }, icon('shield'), say('nothingSent')));
  }

  #part(part: PartStatus): HTMLElement {
    const progress =
      part.state === 'loading' &&
      element('progress', { max: Math.max(1, part.total), value: part.done, 'aria-label': say(PART_NAMES[part.part]) });
    return element(
      'span',
      { class: `status-part ${part.state}`, 'data-part': part.part, 'data-state': part.state },
      element('span', { class: 'part-name' }, part.state === 'ready' && icon('check'), say(PART_NAMES[part.part])),
      progress,
      element('span', { class: 'part-detail' }, this.#detail(part)),
    );
  }

  #detail(part: PartStatus): string {
    if (part.state !== 'loading') return say(part.state === 'ready' ? 'partReady' : 'partWaiting');
    const facts = [say('partBytes', { done: formatBytes(part.done), total: formatBytes(part.total) })];
    if (part.bytesPerSecond) facts.push(`${formatBytes(part.bytesPerSecond)}/s`);
    if (part.secondsLeft) facts.push(say('timeLeft', { time: formatSeconds(part.secondsLeft) }));
    return facts.join(' · ');
  }

  /** Where it runs, and what the last question cost. */
  #facts(status: Status): string[][] {
    const runs = [say('runsHere'), say('runsOn'), say('threads', { count: status.capabilities?.threads ?? 1 })];
    const round = this.#round;
    if (!round) return [runs];
    const cost: string[] = [];
    const rate = (round.tokens / round.timings.decode) * MILLISECONDS;
    if (round.tokens > 0 && Number.isFinite(rate)) cost.push(say('tokensPerSecond', { rate: rate.toFixed(1) }));
    const { bytes, requests } = round.statistics;
    return [runs, [...cost, say('fetched', { bytes: formatBytes(bytes), requests })]];
  }
}
