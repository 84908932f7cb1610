import { createHash } from 'node:crypto'
import { median } from './stats.ts'

const text = JSON.stringify(Array.from({ length: 2_000 }, (_, index) => ({ index, text: `Buy milk ${index}` })))
const times = 50
/** Before the first one counts: V8 has compiled it by then. */
const toWarm = 10

/** Computes the same thing again; the answer is how long a processor was at it, in milliseconds. */
function computeOnce(): number {
  const before = process.cpuUsage()
  for (let time = 0; time < times; time++)
    createHash('sha256')
      .update(JSON.stringify(JSON.parse(text)))
      .digest()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1_000
}

/** How fast the machine is meanwhile, which others may share. */
export interface Reference {
  /** The median time that a processor took for a fixed computation since the last answer, in milliseconds. */
  read(): number
  stop(): void
}

/** Computes the same thing every few seconds, which takes a hundredth of a processor. */
export function startReference(): Reference {
  let taken: number[] = []
  for (let time = 0; time < toWarm; time++) computeOnce()
  const timer = setInterval(() => taken.push(computeOnce()), 2_000)
  return {
    read() {
      const took = taken.length > 0 ? median(taken) : computeOnce()
      taken = []
      return took
    },
    stop: () => clearInterval(timer),
  }
}
