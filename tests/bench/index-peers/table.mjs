/** The table of the index benchmark in Markdown, and its footnotes. */

const MEGA = 1e6;

const megabytes = (bytes, digits = 2) => (bytes / MEGA).toFixed(digits);
const thousands = (count) => count.toLocaleString('en-US');

/** How many times ours a peer needs, code left out, whose share shrinks as more is asked. */
function ratios(row, ours) {
  if (!ours?.bytes) return '';
  const ofIndex = ({ bytes, codeBytes }) => bytes - codeBytes;
  return `${(ofIndex(row) / ofIndex(ours)).toFixed(1)} × index bytes, ${(row.ms / ours.ms).toFixed(1)} × time`;
}

function cells(row, ours) {
  const { name, version, records, kind, site, disk, files, bytes, codeBytes, requests, trips, ms, recalls, found, questions } = row;
  const first = [`${name}${site === 'Chromium' ? '' : ` (${site})`}`, version ?? ''];
  if (bytes === undefined) return [...first, 'none', kind, ...Array(9).fill('')];
  const quality = recalls ? recalls.map((recall) => recall.toFixed(1)).join(' ') : `${found} of ${questions} found`;
  return [
    ...first, thousands(records), kind, megabytes(disk, 1), thousands(files), megabytes(bytes), megabytes(codeBytes),
    requests, trips, Math.round(ms), quality, ratios(row, ours),
  ];
}

/**
 * @param {object} result
 * @param {object[]} result.rows as measured
 * @param {object} [result.ours] the row among them that others are compared with
 * @param {{rttMs: number, mbit: number}} result.profile
 */
export function markdown({ rows, ours, profile }) {
  const head = [
    'peer', 'version', 'records', 'kind', 'whole index (MB)', 'its files', 'to first result (MB)', 'of it code (MB)',
    'requests', 'trips', `ms at ${profile.rttMs} ms, ${profile.mbit} Mbit/s`, 'recall@10 of each question', 'against ours',
  ];
  const body = rows.map((row) => cells(row, ours));
  const line = (values) => `| ${values.join(' | ')} |`;
  const notes = rows.flatMap(({ name, refused }) => refused.map(({ records, reason }) => `- ${name}, ${thousands(records)} records: ${reason}`));
  return [line(head), line(head.map(() => '---')), ...body.map(line), ...(notes.length ? ['', ...notes] : [])].join('\n');
}
