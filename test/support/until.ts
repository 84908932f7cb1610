/** How long a condition may take before the test fails, in milliseconds. */
const patience = 45_000

/** Waits until a condition holds: looks again and again, and answers what it found. */
export async function until<Found>(
  look: () => Promise<Found | undefined | false | null> | Found | undefined | false | null,
): Promise<Found> {
  const deadline = performance.now() + patience
  for (;;) {
    const found = await look()
    if (found) return found
    if (performance.now() > deadline) throw new Error(`Waited ${patience} ms in vain for: ${look}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
