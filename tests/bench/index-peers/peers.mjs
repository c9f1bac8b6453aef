/** All that are compared, by the name that `--peers` takes. */

import { lancedb, lancedbRefined } from './lancedb.mjs';
import { mememo } from './mememo.mjs';
import { ours } from './ours.mjs';
import { pagefind } from './pagefind.mjs';
import { voy } from './voy.mjs';

export const PEERS = { ours, pagefind, mememo, voy, lancedb, 'lancedb-refined': lancedbRefined };

/** What npm installs where no folder is given; newer versions of LanceDB need Node 22. */
export const PACKAGES = ['pagefind@1.6.0', 'mememo@0.1.0', 'voy-search@0.6.3', '@lancedb/lancedb@0.37.1'];
