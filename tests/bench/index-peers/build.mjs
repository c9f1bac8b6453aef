// Builds one peer's index in a process of its own, whose memory and time the caller limits.
import { PEERS } from './peers.mjs';

const { peer, input, folders } = JSON.parse(process.argv[2]);
await PEERS[peer].build(input, folders);
process.exit(); // services and thread pools of some peers would keep it alive
