/** Starts engine and page. Files are expected beside this page: `models/` and `index/`. */

import { HuatuoConsult } from '../sdk/index.ts';
import { ConsultationPage } from './consultation-page.ts';
import { loadConversation } from './history-store.ts';
import { applyLanguage } from './language.ts';
import './timings.ts';

const openBefore = ConsultationPage.lastId(); // before the page begins a new conversation
/** `?device=cpu` or `?device=gpu` in the address; else what suits the model. */
const device = (['cpu', 'gpu'] as const).find((name) => name === new URLSearchParams(location.search).get('device'));
/** `?decoys=2` in the address: so many searches for nothing go with each question, 8 at most. */
const decoys = Math.min(8, Math.max(0, Math.floor(Number(new URLSearchParams(location.search).get('decoys') ?? 0)) || 0));
const consult = new HuatuoConsult({
  base: new URL('./', location.href),
  device: device ?? 'auto',
  decoys,
  onStatus: (status) => page.showStatus(status),
});
window.huatuo.loseGpu = () => consult.loseGpu();
const page = new ConsultationPage(consult);
document.getElementById('page')?.replaceChildren(page.element);
applyLanguage();
void consult.load().catch(() => {}); // the status says it

const stored = openBefore ? await loadConversation(openBefore) : undefined;
if (stored && page.isEmpty) page.show(stored);
