/** Capabilities, timings and versions, folded away until somebody asks. */

import type { HuatuoConsult, Status } from '../sdk/index.ts';
import { element } from './element.ts';
import { formatBytes, formatMilliseconds } from './format.ts';
import { localize, say } from './language.ts';
import type { Round } from './round.ts';
import { StoredModels } from './stored-models.ts';
import type { StringKey } from './strings.ts';
import { timings } from './timings.ts';

const VERSION = '0.1.0';

/** A table that is filled when it is opened. */
export class Diagnostics {
  readonly element: HTMLDetailsElement;
  readonly #table = element('dl', { class: 'diagnostics-table' });
  status: Status | null = null;
  round: Round | null = null;

  readonly #models: StoredModels;

  constructor(consult: HuatuoConsult) {
    this.#models = new StoredModels(consult);
    this.element = element(
      'details',
      { class: 'diagnostics', 'data-testid': 'diagnostics' },
      localize(element('summary'), 'diagnostics'),
      this.#table,
      this.#models.element,
    );
    this.element.addEventListener('toggle', () => this.element.open && void this.#show());
  }

  async #show(): Promise<void> {
    void this.#models.show();
    const storage = await navigator.storage?.estimate().catch(() => null);
    const rows = [...this.#device(storage?.usage ?? null), ...this.#page(), ...this.#lastRound()];
    this.#table.replaceChildren(
      ...rows.map(([key, value]) => element('div', {}, localize(element('dt'), key), element('dd', {}, value))),
    );
  }

  #device(storageBytes: number | null): [StringKey, string][] {
    const device = this.status?.capabilities;
    const yesNo = (value: boolean | undefined): string => (value === undefined ? '–' : say(value ? 'yes' : 'no'));
    return [
      ['diagPhase', this.status?.phase ?? '–'],
      ['diagWasm', device ? formatBytes(device.wasmBytes) : '–'],
      ['diagBuild', device?.build ?? '–'],
      ['diagSimd', device?.instructionSet ?? '–'],
      ['diagThreads', device ? `${device.threads} / ${device.logicalProcessors}` : '–'],
      ['diagGpu', device?.gpu ?? say('none')],
      ['diagDecoys', device ? String(device.decoys) : '–'],
      ['diagIsolated', yesNo(device?.crossOriginIsolated)],
      ['diagStart', device ? formatMilliseconds(device.startMilliseconds) : '–'],
      ['diagStorage', storageBytes === null ? '–' : formatBytes(storageBytes)],
      ['diagVersion', VERSION],
    ];
  }

  #page(): [StringKey, string][] {
    const moment = (value: number | null): string => (value === null ? '–' : formatMilliseconds(value));
    return [
      ['diagRetriever', moment(timings.retrieverReady)],
      ['diagFirstReferences', moment(timings.firstReferences)],
      ['diagGenerator', moment(timings.generatorReady)],
    ];
  }

  #lastRound(): [StringKey, string][] {
    const round = this.round;
    if (!round) return [];
    const { embed, retrieve, excerpt, read_ahead, prefill, first_token, decode } = round.timings;
    const { trips, requests, bytes, lists, stored_bytes } = round.statistics;
    return [
      ['diagEmbed', formatMilliseconds(embed)],
      ['diagRetrieve', formatMilliseconds(retrieve)],
      ['diagExcerpt', formatMilliseconds(excerpt)],
      ['diagReadAhead', formatMilliseconds(read_ahead)],
      ['diagPrefill', formatMilliseconds(prefill)],
      ['diagFirstToken', formatMilliseconds(first_token)],
      ['diagDecode', formatMilliseconds(decode)],
      ['diagTokens', String(round.tokens)],
      ['diagTrips', `${trips} / ${requests} / ${formatBytes(bytes)}`],
      ['diagLists', String(lists)],
      ['diagStored', formatBytes(stored_bytes)],
    ];
  }
}
