/** So near to the end counts as reading the end, in pixels. */
const NEAR_END = 64;

/** Keeps the end of a growing conversation in view, but only while the reader is there. */
export class ScrollKeeper {
  readonly #box: HTMLElement;
  readonly #onChange: (atEnd: boolean) => void;
  #following = true;
  /** Something has to stay in sight until the reader scrolls. */
  #held = false;

  /** `onChange` hears whether the end is in view. */
  constructor(box: HTMLElement, content: HTMLElement, onChange: (atEnd: boolean) => void) {
    this.#box = box;
    this.#onChange = onChange;
    box.addEventListener('scroll', () => this.#moved(), { passive: true });
    for (const type of ['wheel', 'touchmove', 'keydown', 'pointerdown'] as const) {
      box.addEventListener(type, () => (this.#held = false), { passive: true });
    }
    const resized = new ResizeObserver(() => (this.#following ? this.#jump() : this.#moved()));
    resized.observe(content);
    resized.observe(box); // the dock below grows with a long question
  }

  /** Goes to the end and stays there. */
  follow(): void {
    this.#held = false;
    this.#following = true;
    this.#jump();
    this.#onChange(true);
  }

  /** Brings something to the top; what is written below must not push it out of sight. */
  hold(element: HTMLElement): void {
    this.#held = true;
    this.#following = false;
    element.scrollIntoView({ block: 'start' });
  }

  #jump(): void {
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  #moved(): void {
    const left = this.#box.scrollHeight - this.#box.clientHeight - this.#box.scrollTop;
    const atEnd = left < NEAR_END;
    this.#following = atEnd && !this.#held;
    this.#onChange(atEnd);
  }
}
