const begun = performance.now()

/** Prints a line of progress to stderr, with the seconds since the start. */
export function log(text: string): void {
  const seconds = Math.round((performance.now() - begun) / 1000)
  console.error(`${String(seconds).padStart(5)} s  ${text}`)
}
