/** The SDK alone, for measurements: `HuatuoConsult` on the page's global object. */

import { HuatuoConsult } from '../../../web/sdk/index.ts';

Object.assign(globalThis, { HuatuoConsult });
