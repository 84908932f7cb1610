/**
 * Is loaded into the API of the run before the API starts, and answers questions about its memory. It changes nothing
 * else. A collection by force makes the memory comparable: without it, V8 keeps garbage for as long as it likes.
 */
import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** What the API answers to `memory`. */
export interface ProbeAnswer {
  /** The memory of the JavaScript heap and of buffers outside of it, after a collection, in bytes. */
  usedBytes: number
  /** The longest time that the event loop was blocked since the last answer, in milliseconds. */
  maxBlockedMs: number
}

export type ProbeQuestion = 'memory' | { startProfile: true } | { stopProfile: string }

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')
const delays = monitorEventLoopDelay({ resolution: 10 })
delays.enable()
const session = new Session()

process.on('message', async (question: ProbeQuestion) => {
  if (question === 'memory') {
    const maxBlockedMs = delays.max / 1e6
    // What the first collection finalises is freed by the second.
    collect()
    await new Promise(setImmediate)
    collect()
    const { heapUsed, external } = process.memoryUsage()
    process.send?.({ usedBytes: heapUsed + external, maxBlockedMs } satisfies ProbeAnswer)
    delays.reset()
  } else if ('startProfile' in question) {
    session.connect()
    await session.post('Profiler.enable')
    await session.post('Profiler.start')
  } else {
    const { profile } = await session.post('Profiler.stop')
    session.disconnect()
    writeFileSync(question.stopProfile, JSON.stringify(profile))
  }
})
// The listener must not keep the process alive.
process.channel?.unref()
