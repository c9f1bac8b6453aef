// Asks one question of a peer that has no build for browsers; a new process each time, so that nothing is kept.
import { PEERS } from './peers.mjs';

const { peer, question } = JSON.parse(process.argv[2]);
process.stdout.write(JSON.stringify(await PEERS[peer].ask(question)));
process.exit();
