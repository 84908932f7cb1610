import inspector from 'node:inspector'
import { Worker } from 'node:worker_threads'

/** A look at the event loop from another thread. */
export interface Watchdog {
  stop(): Promise<void>
}

const tickEvery = 1_000

// Whatever it imported would have to be found both in the sources and in what is built.
const source = `
  const { workerData: { ticks, limit } } = require('node:worker_threads')
  let ticked = 0
  let tickedAt = performance.now()
  let lookedAt = tickedAt
  setInterval(() => {
    const now = performance.now()
    const found = Atomics.load(ticks, 0)
    // When this thread did not run either, the whole process was stopped.
    if (found !== ticked || now - lookedAt > 3 * ${tickEvery}) tickedAt = now
    ticked = found
    lookedAt = now
    if (now - tickedAt < limit) return
    require('node:fs').writeSync(2, 'error: A handler has kept the event loop busy for ' + limit / 1000 + ' s; the worker is killed, so that its jobs can run elsewhere. A perform that computes for long belongs into a process of its own: see isolate.\\n')
    process.kill(process.pid, 'SIGKILL')
  }, ${tickEvery})`

/**
 * Kills the process when its event loop has stood still for so long, in milliseconds: a handler that loops for ever would
 * keep the others from running, and everything else from being noticed, until somebody looks. For a process that is
 * started anew when it has ended.
 */
export function startWatchdog(limit: number): Watchdog {
  // A breakpoint stops it as well.
  if (inspector.url()) return { stop: async () => {} }
  const ticks = new Int32Array(new SharedArrayBuffer(4))
  const tick = setInterval(() => Atomics.add(ticks, 0, 1), tickEvery)
  tick.unref()
  const thread = new Worker(source, { eval: true, execArgv: [], env: {}, workerData: { ticks, limit } })
  thread.unref()
  return {
    async stop() {
      clearInterval(tick)
      await thread.terminate()
    },
  }
}
