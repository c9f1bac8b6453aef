/** Reading aloud with a voice of this device. Voices that send the text to a server are never used. */

/** Browsers fill the list of voices late; after so long there is none. */
const VOICES_WAIT_MS = 1000;

let onEnd: (() => void) | null = null;

/** Reads a text; resolves false when the device has no local Chinese voice. `ended` is called once it is over. */
export async function speak(text: string, ended: () => void): Promise<boolean> {
  stopSpeaking();
  const voice = (await voices()).find((voice) => voice.localService && /^(zh|cmn)\b/i.test(voice.lang));
  if (!voice) return false;
  const utterance = new SpeechSynthesisUtterance(text);
  utterance.voice = voice;
  utterance.lang = voice.lang;
  onEnd = ended;
  utterance.onend = utterance.onerror = () => finish(ended);
  speechSynthesis.speak(utterance);
  return true;
}

/** Ends what is being read. */
export function stopSpeaking(): void {
  if (!('speechSynthesis' in window)) return;
  speechSynthesis.cancel();
  if (onEnd) finish(onEnd);
}

function finish(ended: () => void): void {
  if (onEnd !== ended) return;
  onEnd = null;
  ended();
}

function voices(): Promise<SpeechSynthesisVoice[]> {
  if (!('speechSynthesis' in window)) return Promise.resolve([]);
  const present = speechSynthesis.getVoices();
  if (present.length > 0) return Promise.resolve(present);
  return new Promise((resolve) => {
    const done = (): void => resolve(speechSynthesis.getVoices());
    speechSynthesis.addEventListener('voiceschanged', done, { once: true });
    setTimeout(done, VOICES_WAIT_MS);
  });
}
