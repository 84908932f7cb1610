import type { Monitor, Progress } from '../jobs/monitor-schema.ts'
import type { Deadline } from './deadline.ts'
import { isTransient, responseError, retryAfterOf } from './error.ts'
import { createEventParser } from './event-stream.ts'
import { isJob, readJob, type Transport } from './transport.ts'

/** How long a request waits for a change, in seconds. Some proxies close a connection that is silent for 30 s. */
const waitSeconds = 25
const maxWaitMs = (waitSeconds + 10) * 1000
/** The API sends the first event at once. A stream that is silent for this long is held back by a proxy. */
const maxFirstEventMs = 3_000
/** The API sends a comment every 15 s. */
const maxSilenceMs = 40_000
const maxReconnectMs = 30_000
/** For a stream that was cut before the API has sent the time after which to reconnect. */
const defaultReconnectMs = 3_000
/** Retry-After is never shorter or longer than this for a job, in seconds. */
const minPollSeconds = 1
const maxPollSeconds = 30
/** An answer in less than this time did not wait: for example, the API is shutting down. */
const minWaitMs = 1_000

interface Following {
  readonly transport: Transport
  /** The URL of the monitor. */
  readonly monitor: URL
  readonly deadline: Deadline
  /** The newest version of the job. */
  last: Monitor | undefined
  /** How often in a row the current source failed although the API answered. */
  breaks: number
}

/** Yields each newer version of the job. Returns when the job has ended, or if another source has to be used. */
type Source = (following: Following) => AsyncGenerator<Monitor, void>

const isFinal = (job: Monitor | undefined): boolean =>
  job !== undefined && job.status !== 'queued' && job.status !== 'running'

function* take(following: Following, job: Monitor): Generator<Monitor, void> {
  if (following.last && following.last.sequence >= job.sequence) return
  following.last = job
  yield job
}

/**
 * Yields the current version of a job and then each newer version, until the job has ended.
 *
 * @param sources how to learn of changes, the best way first
 */
export async function* follow(
  transport: Transport,
  monitor: URL,
  deadline: Deadline,
  sources: readonly Source[],
): AsyncGenerator<Monitor, void> {
  const following: Following = { transport, monitor, deadline, last: undefined, breaks: 0 }
  const failures = transport.createFailures()
  const left = [...sources]
  const useNext = () => {
    if (left.length > 1) left.shift()
    following.breaks = 0
  }
  for (let isBroken = false; ; ) {
    try {
      if (isBroken) {
        // Shows whether the API fails or only this source. It also finds what the source has missed.
        const breaks = following.breaks + 1
        yield* take(following, await transport.send(monitor, {}, deadline, readJob))
        failures.reset()
        isBroken = false
        following.breaks = breaks
        if (breaks > 1) useNext()
      }
      if (!isFinal(following.last)) yield* (left[0] as Source)(following)
      if (isFinal(following.last)) return
      useNext()
    } catch (error) {
      await failures.pause(error, deadline)
      isBroken = true
    }
  }
}

interface PollOptions {
  /** Whether the API holds its answer. */
  waits: boolean
  /** Whether it holds its answer until the job ends, and not only until the job changes. */
  untilEnd?: boolean
}

/** Reads the monitor repeatedly. */
export const poll = ({ waits, untilEnd = false }: PollOptions): Source =>
  async function* readRepeatedly(following) {
    const { transport, monitor, deadline } = following
    for (;;) {
      const { last } = following
      // Without If-None-Match, the API waits until the job ends.
      const isWaiting = waits && (untilEnd || last !== undefined)
      const headers = {
        ...(isWaiting && { prefer: `wait=${waitSeconds}` }),
        ...(last && !untilEnd && { 'if-none-match': `"${last.sequence}"` }),
      }
      const startedAt = Date.now()
      const answer = await transport.send(
        monitor,
        { headers },
        deadline,
        async (response) => ({ headers: response.headers, job: await readChanged(response) }),
        maxWaitMs,
      )
      following.breaks = 0
      if (answer.job) yield* take(following, answer.job)
      if (isFinal(following.last)) return
      if (isWaiting && !answer.headers.get('preference-applied')?.includes('wait=')) return
      const isNew = waits && following.last !== last
      const hasWaited = isWaiting && Date.now() - startedAt >= minWaitMs
      if (isNew || hasWaited) continue
      const seconds = retryAfterOf(answer.headers) || minPollSeconds
      await deadline.sleep(Math.min(seconds, maxPollSeconds) * 1000)
    }
  }

const readChanged = async (response: Response): Promise<Monitor | undefined> =>
  response.status === 304 ? undefined : readJob(response)

/** Reads the event stream, and resumes it when it breaks. */
export const stream: Source = async function* readStream(following) {
  const { transport, deadline } = following
  /** How many streams in a row have ended without a newer version. */
  for (let empty = 0; ; ) {
    const { last } = following
    const opened = transport.buffersStreams ? undefined : await openStream(following)
    if (!opened) return
    const { reader, read } = opened
    let { events } = opened
    let reconnectMs = defaultReconnectMs
    try {
      for (; events; events = await deadline.run('The event stream', maxSilenceMs, read)) {
        for (const { name, data, retryMs } of events) {
          if (retryMs) reconnectMs = Math.min(retryMs, maxReconnectMs)
          const job = toMonitor(name, data, following.last)
          if (job) yield* takeEvent(following, job)
          if (isFinal(following.last)) return
        }
      }
    } finally {
      reader.cancel().catch(() => {})
    }
    // The API has closed the stream, for example because it is shutting down.
    empty = following.last === last ? empty + 1 : 0
    if (empty > 1) return
    await deadline.sleep(reconnectMs)
  }
}

function* takeEvent(following: Following, job: Monitor): Generator<Monitor, void> {
  following.breaks = 0
  yield* take(following, job)
}

/** Opens the event stream and reads its first chunk. Returns undefined if there is no stream that can be read. */
async function openStream(following: Following) {
  const { transport, monitor, deadline, last } = following
  const headers = { accept: 'text/event-stream', ...(last && { 'last-event-id': `${last.sequence}` }) }
  const startedAt = Date.now()
  try {
    return await transport.send(
      new URL(`${monitor.href}/events`),
      { headers },
      deadline,
      async (response) => {
        const error = response.ok ? undefined : await responseError(response)
        if (isTransient(error)) throw error
        const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
        if (error || !isStream || !response.body) return
        const reader = response.body.getReader()
        const parse = createEventParser()
        const read = async () => {
          const { done, value } = await reader.read()
          return done ? undefined : parse(value)
        }
        return { reader, read, events: await read() }
      },
      maxFirstEventMs,
    )
  } catch (error) {
    if (!isTransient(error) || Date.now() - startedAt < maxFirstEventMs) throw error
    transport.buffersStreams = true
    return
  }
}

/** Returns the version of the job after an event. */
function toMonitor(name: string, data: unknown, last: Monitor | undefined): Monitor | undefined {
  if (!isJob(data)) return
  if (name === 'status') return data
  if (name !== 'progress' || !last) return
  const { percentComplete, message, estimatedCompletionAt, ...others } = last
  return { ...others, ...(data as Progress) }
}
