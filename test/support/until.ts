/** How long a condition may stay false before the test fails. */
const defaultTimeoutMs = 45_000
const pollIntervalMs = 20

/** Evaluates a condition repeatedly until it is truthy. Resolves to its value. */
export async function until<Value>(
  condition: () => Promise<Value | undefined | false | null> | Value | undefined | false | null,
  timeoutMs = defaultTimeoutMs,
): Promise<Value> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (value) return value
    if (performance.now() > deadline)
      throw new Error(`The condition is still false after ${timeoutMs} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, pollIntervalMs))
  }
}
