import inspector from 'node:inspector'
import { Worker } from 'node:worker_threads'

/** A thread that watches the event loop of this process. */
export interface Watchdog {
  stop(): Promise<void>
}

const tickIntervalMs = 1_000

// The thread gets source text instead of a file, because the path of a file would differ between the build and the
// sources.
const source = `
  const { workerData: { ticks, maxBlockedMs } } = require('node:worker_threads')
  let lastTicks = 0
  let tickedAt = performance.now()
  let checkedAt = tickedAt
  setInterval(() => {
    const now = performance.now()
    const current = Atomics.load(ticks, 0)
    // If this thread has not run either, the whole process was suspended, and no handler has blocked the event loop.
    if (current !== lastTicks || now - checkedAt > 3 * ${tickIntervalMs}) tickedAt = now
    lastTicks = current
    checkedAt = now
    if (now - tickedAt < maxBlockedMs) return
    require('node:fs').writeSync(2, 'error: A handler has blocked the event loop for ' + maxBlockedMs / 1000 + ' s. The worker is killed, so that its jobs can run elsewhere. Run long computations in a child process: see the option isolate.\\n')
    process.kill(process.pid, 'SIGKILL')
  }, ${tickIntervalMs})`

/**
 * Kills the process when its event loop has been blocked for too long. An endless loop in one handler stops all other
 * jobs, and a blocked worker cannot detect this itself. Use the watchdog only in a process that a supervisor restarts.
 * Does nothing while a debugger is attached.
 *
 * @param maxBlockedMs how long the event loop may be blocked, in milliseconds
 */
export function startWatchdog(maxBlockedMs: number): Watchdog {
  // A breakpoint blocks the event loop as well.
  if (inspector.url()) return { stop: async () => {} }
  const ticks = new Int32Array(new SharedArrayBuffer(4))
  const timer = setInterval(() => Atomics.add(ticks, 0, 1), tickIntervalMs)
  timer.unref()
  const thread = new Worker(source, { eval: true, execArgv: [], env: {}, workerData: { ticks, maxBlockedMs } })
  thread.unref()
  return {
    async stop() {
      clearInterval(timer)
      await thread.terminate()
    },
  }
}
