/** For the `pg` pools of other contenders: 0 keeps idle connections open, as our pool does. */
export const idleTimeoutMillis = 0

/** Reports to the parent process that this process is ready. Makes it exit when the parent process disconnects. */
export function ready(): void {
  process.once('disconnect', () => process.exit())
  process.send?.({})
}
