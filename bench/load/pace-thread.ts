// Says when it is time. The timers of an event loop are whole milliseconds; a thread that sleeps is exact.
import { parentPort, workerData } from 'node:worker_threads'
import { now } from '../core/clock.ts'
import type { Pace } from './pace.ts'

const { perSecond, seconds } = workerData as Pace
const nobody = new Int32Array(new SharedArrayBuffer(4))
const begun = now()

for (let count = 0; count < perSecond * seconds; count++) {
  const due = begun + (count * 1000) / perSecond
  const early = due - now()
  if (early > 0) Atomics.wait(nobody, 0, 0, early)
  parentPort?.postMessage(due)
}
