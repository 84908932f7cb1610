import { signals, stopExitingOnSignal } from './exit-on-signal.ts'

/**
 * A second signal kills API and worker, but only if more than this time has passed since the first signal. One Ctrl-C
 * may cause two signals: one from the terminal and one from npm.
 */
const minKillDelayMs = 1_000

const parentPollIntervalMs = 500

/** The signals to stop that `accepted dev` has received. */
export interface StopSignals {
  /** Aborts at the first signal. */
  requested: AbortSignal
  /** Aborts at a later signal. The processes are then killed, even if requests or jobs are running. */
  forced: AbortSignal
  /** Resolves at the first signal. */
  promise: Promise<undefined>
}

/** From now on, a signal no longer ends the process. */
export function listenForStop(): StopSignals {
  const requested = new AbortController()
  const forced = new AbortController()
  let firstSignalAt: number | undefined
  const onSignal = () => {
    firstSignalAt ??= performance.now()
    if (performance.now() - firstSignalAt > minKillDelayMs) forced.abort()
    requested.abort()
  }
  for (const signal of signals) process.on(signal, onSignal)
  // npm runs a script in a shell. When npm gets SIGTERM, it signals only the shell, which ends without its child.
  if (process.env.npm_lifecycle_event) onParentEnd(() => requested.abort())
  stopExitingOnSignal()
  // If the terminal is closed, writing fails. Ignores this error, because the processes must still be stopped.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  const promise = new Promise<undefined>((resolve) => {
    requested.signal.addEventListener('abort', () => resolve(undefined))
  })
  return { requested: requested.signal, forced: forced.signal, promise }
}

/** Calls `stop` when the parent process has ended: then this process has another parent. */
function onParentEnd(stop: () => void): void {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    stop()
  }, parentPollIntervalMs)
  timer.unref()
}
