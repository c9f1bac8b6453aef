/** The models on this device and what is kept of the index, each with a button that removes it. */

import type { HuatuoConsult, StoredModel, StoredName } from '../sdk/index.ts';
import { textButton } from './button.ts';
import { element } from './element.ts';
import { formatBytes } from './format.ts';
import { localize } from './language.ts';
import type { StringKey } from './strings.ts';

const NAMES: Record<StoredName, StringKey> = {
  retriever: 'partEncoder',
  generator: 'partGenerator',
  index: 'partIndex',
};

/** A list that is filled when {@link show} is called. */
export class StoredModels {
  readonly element = element('ul', { class: 'stored-models', 'data-testid': 'stored-models' });
  readonly #consult: HuatuoConsult;

  constructor(consult: HuatuoConsult) {
    this.#consult = consult;
  }

  /** Reads what is stored. */
  async show(): Promise<void> {
    const models = await this.#consult.storedModels().catch(() => []);
    const items = models.map((model) => this.#item(model));
    this.element.replaceChildren(...(items.length ? items : [localize(element('li'), 'noStoredModels')]));
  }

  #item(model: StoredModel): HTMLElement {
    const remove = textButton('deleteModel', 'button', 'delete-model', () => {
      // A file in use in another tab can't be removed now: it stays listed.
      void this.#consult.deleteModel(model.model).catch(() => {}).then(() => this.show());
    });
    const size = `${formatBytes(model.stored)} / ${formatBytes(model.bytes)}`;
    const name = localize(element('span'), NAMES[model.model]);
    return element('li', { 'data-model': model.model }, name, element('span', {}, size), remove);
  }
}
