/** For the pools of others: ours keep their connections while it is the turn of others, and so do theirs, for good. */
export const idleTimeoutMillis = 0

/** For a module of the bench in a process of its own: tells that it is ready. It ends with whoever started it. */
export function ready(): void {
  process.once('disconnect', () => process.exit())
  process.send?.({})
}
