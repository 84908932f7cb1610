/**
 * For the `pg` pools of other contenders: like ours, they keep their connections while other contenders are measured.
 */
export const idleTimeoutMillis = 0

/** Reports that this process is ready. It exits when the process that started it disconnects. */
export function ready(): void {
  process.once('disconnect', () => process.exit())
  process.send?.({})
}
