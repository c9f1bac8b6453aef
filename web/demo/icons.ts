/** Line icons on a 24-unit grid, drawn for this page. */

const PATHS = {
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7.5 7.5h9v9h-9z',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  check: 'M5 12.5 10 17.5 19.5 7',
  refresh: 'M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 4v4h-4',
  thumbUp:
    'M7.5 20V10.5L11.5 3.5c1.4 0 2.3 1 2 2.5l-.7 3.5h5.2c1.2 0 2 1.1 1.7 2.2l-1.7 6.6c-.3 1-1.1 1.7-2.2 1.7zM7.5 10.5H4V20h3.5',
  thumbDown:
    'M16.5 4v9.5l-4 7c-1.4 0-2.3-1-2-2.5l.7-3.5H6c-1.2 0-2-1.1-1.7-2.2L6 5.7C6.3 4.7 7.1 4 8.2 4zM16.5 13.5H20V4h-3.5',
  speaker: 'M4 9.5v5h3.5l5 4v-13l-5 4zM16 9a4.2 4.2 0 0 1 0 6M18.5 6.5a8 8 0 0 1 0 11',
  edit: 'M4.5 19.5h4L19 9l-4-4L4.5 15.5zM13 7l4 4',
  close: 'M6 6l12 12M18 6 6 18',
  back: 'M14.5 6 8.5 12l6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  plus: 'M12 5v14M5 12h14',
  history: 'M4.5 12a7.5 7.5 0 1 0 2.5-5.6M4.5 4.5v3.5h3.5M12 8v4.3l3 1.7',
  download: 'M12 4v11M7 10.5l5 5 5-5M5 19.5h14',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7M10.5 10.5v6M13.5 10.5v6',
  alert: 'M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.2',
  info: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.7v.2',
  phone:
    'M6 4h3.5l1.5 4.5-2.2 1.6a11 11 0 0 0 5.1 5.1l1.6-2.2L20 14.5V18c0 1.1-.9 2-2 2A14 14 0 0 1 4 6c0-1.1.9-2 2-2z',
  shield: 'M12 3.5 5 6v5.5c0 4.3 2.9 7.5 7 9 4.1-1.5 7-4.7 7-9V6zM9 12l2.2 2.2L15.2 10',
  book: 'M12 6.5C10 5 7 4.5 4 4.7V18c3-.2 6 .3 8 1.8 2-1.5 5-2 8-1.8V4.7c-3-.2-6 .3-8 1.8zM12 6.5v13.3',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20',
} as const;

/** Names of the icons. */
export type IconName = keyof typeof PATHS;

const SVG = 'http://www.w3.org/2000/svg';

/** A decorative icon in the colour of the text around it; its button carries the label. */
export function icon(name: IconName): SVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}
