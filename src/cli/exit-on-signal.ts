import { constants } from 'node:os'

/** The signals that end the process. A closed terminal sends SIGHUP. */
export const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Exits as if the signal had killed the process. */
const exit = (signal: NodeJS.Signals) => process.exit(128 + constants.signals[signal])
const exitWithParent = () => process.exit(1)

/**
 * Lets these signals end the process. They do so without a listener too, unless the process has the id 1, as in a
 * container: then the kernel ignores them. Nothing is running yet that must be stopped.
 */
export function exitOnSignal(): void {
  for (const signal of signals) process.on(signal, exit)
  // When the parent process is gone, its IPC channel closes.
  process.on('disconnect', exitWithParent)
}

/** Ends what {@link exitOnSignal} has begun. Call it when other listeners have taken over. */
export function stopExitingOnSignal(): void {
  for (const signal of signals) process.off(signal, exit)
  process.off('disconnect', exitWithParent)
}
