/** Node processes with a limit of time and of memory; what they wrote, or why they failed in one line. */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const HEAP_MEGABYTES = 8192;
const MINUTE_MS = 60_000;

/** What tells most of an error output, most telling first: Node's message of an error, its abort, anything. */
const TELLING = [/^\w*Error: .*/m, /^FATAL ERROR: .*/m, /panicked at .*/, /\S.*$/];
const LONGEST_REASON = 160;

function reason(output, signal) {
  const [told] = TELLING.map((pattern) => pattern.exec(output)?.[0]).filter(Boolean);
  return told?.slice(0, LONGEST_REASON) ?? `ended by ${signal}`;
}

/**
 * Runs a script beside this one with a JSON argument.
 *
 * @param {string} script
 * @param {object} argument
 * @param {number} minutes it may take
 * @returns {Promise<string>} its standard output
 */
export function runScript(script, argument, minutes) {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(process.execPath, [`--max-old-space-size=${HEAP_MEGABYTES}`, file, JSON.stringify(argument)]);
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (output[name] += text));
  let late = false;
  const timer = setTimeout(() => (late = true, child.kill('SIGKILL')), minutes * MINUTE_MS);
  return new Promise((resolve, reject) =>
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(output.stdout);
      else reject(new Error(late ? `took longer than ${minutes} minutes` : reason(output.stderr, signal)));
    }),
  );
}
