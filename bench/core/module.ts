/** How long our own pools keep a connection that nobody uses, in milliseconds: those of others as long, when it is not their turn. */
export const keptIdle = 300_000

/** For a module of the bench in a process of its own: tells that it is ready. It ends with whoever started it. */
export function ready(): void {
  process.once('disconnect', () => process.exit())
  process.send?.({})
}
