/** Moments of the first visit, in milliseconds since navigation began (`performance.now()`), for measurements. */
export interface PageTimings {
  pageStart: number;
  retrieverReady: number | null;
  firstReferences: number | null;
  generatorReady: number | null;
  firstToken: number | null;
}

declare global {
  interface Window {
    huatuo: {
      timings: PageTimings;
      /** Loses the graphics processor, to try what happens then. */
      loseGpu?: () => Promise<void>;
    };
  }
}

/** `performance.now()` counts from the start of the navigation, so the page starts at zero. */
export const timings: PageTimings = {
  pageStart: 0,
  retrieverReady: null,
  firstReferences: null,
  generatorReady: null,
  firstToken: null,
};

window.huatuo = { timings };

/** Notes a moment the first time it comes. */
export function noteMoment(name: Exclude<keyof PageTimings, 'pageStart'>): void {
  timings[name] ??= performance.now();
}
