// Posts a message at each due time. A sleeping thread is more exact than an event loop, whose timers are rounded to
// whole milliseconds.
import { parentPort, workerData } from 'node:worker_threads'
import { now } from '../core/clock.ts'
import type { Pace } from './pace.ts'

const { perSecond, seconds } = workerData as Pace
const neverNotified = new Int32Array(new SharedArrayBuffer(4))
const begun = now()

for (let count = 0; count < perSecond * seconds; count++) {
  const due = begun + (count * 1000) / perSecond
  const early = due - now()
  if (early > 0) Atomics.wait(neverNotified, 0, 0, early)
  parentPort?.postMessage(due)
}
