import type { FastifyReply } from 'fastify'
import type { Job } from '../jobs/job.ts'
import { RecentMap } from '../recent-map.ts'
import type { Told } from './news.ts'
import { startPace } from './pace.ts'

/** How long a client waits before it connects again after a break, in milliseconds. */
const reconnectAfter = 3_000
/** A connection on which nothing is heard may be taken for dead by what lies between. In milliseconds. */
const heartbeatEvery = 15_000
/** Who is sent away comes back after this time, in milliseconds, and not all at once. */
const comeBackAfter = { least: 1_000, range: 4_000 }
/** Streams of one process, at most; who comes then is sent away, to another one. */
const mostStreams = 15_000
/** Jobs that a stream remembers having told of. */
const mostRemembered = 2_000
/** Jobs of which all streams share what they remember, as long as it is the same. */
const mostShared = 20_000
/** Who has read nothing for so many heartbeats does not read at all. */
const mostBeatsUnread = 2

/** A stream of server-sent events about jobs. */
export interface EventStream {
  /**
   * Tells of a job; what a slow client has not been sent yet is overtaken by what is newer.
   *
   * @param since of what changed before then, everything has been given to this stream
   */
  send(job: Job, since?: Date): void
  /** Ends after what is still to be sent. */
  end(): void
}

export interface EventStreamOptions {
  /** The event for a job, given what the client was last told of it, and since when it may have missed something. */
  frame: (job: Job, last: Told | undefined, since: Date | undefined) => string
  /** What the client knows already. */
  known: Iterable<Job>
  /** Called once, however it ends. */
  onEnd: () => void
}

/** The open streams of a process. */
export interface EventStreams {
  /** Answers with a stream. One that cannot be served now is told to come back, and has ended already. */
  open(reply: FastifyReply, options: EventStreamOptions): EventStream
  /** How many are open. */
  count(): number
}

/**
 * Makes server-sent events (WHATWG HTML, section 9.2). Why not @fastify/sse: it writes to one client at a time, with a
 * timer each and its own queue. Here one serialised event serves all who watch a job, a slow client is told the newest
 * state instead of a growing backlog, and one timer beats for all.
 *
 * @param draining aborts when the process is to stop: everybody is sent away then
 * @param options.most streams at a time
 * @param options.beatEvery how often a heartbeat is sent, in milliseconds
 */
export function createEventStreams(
  draining: AbortSignal,
  { most = mostStreams, beatEvery = heartbeatEvery }: { most?: number; beatEvery?: number } = {},
): EventStreams {
  const beats = new Set<() => void>()
  const shared = new RecentMap<Told>(mostShared)
  const toldOf = ({ id, sequence, state, attempt, cancel_requested }: Job): Told => {
    const known = shared.get(id)
    if (known?.sequence === sequence) return known
    const told = { id, sequence, state, attempt, cancel_requested }
    shared.set(id, told)
    return told
  }
  let heartbeat: NodeJS.Timeout | undefined
  const beatWhileOpen = () => {
    if (beats.size === 0) {
      clearInterval(heartbeat)
      heartbeat = undefined
    } else {
      heartbeat ??= setInterval(() => {
        for (const beat of beats) beat()
      }, beatEvery)
    }
  }

  return {
    count: () => beats.size,
    open(reply, { frame, known, onEnd }) {
      const { raw } = reply
      const last = new RecentMap<Told>(mostRemembered)
      const remember = (job: Job) => {
        const told = toldOf(job)
        last.set(told.id, told)
      }
      for (const job of known) remember(job)
      // What was given first is sent first, so that an event speaks for everything before its own `since`.
      const pending = new Map<string, { job: Job; since: Date | undefined }>()
      let isEnding = false
      const pace = startPace()

      const write = (job: Job, since: Date | undefined) => {
        const before = last.get(job.id)
        if (before && Number(before.sequence) >= Number(job.sequence)) return
        remember(job)
        raw.write(frame(job, before, since))
      }
      const flush = () => {
        if (!raw.writableNeedDrain) pace.keepsUp()
        for (const { job, since } of pending.values()) {
          if (raw.writableNeedDrain) return
          pending.delete(job.id)
          write(job, since)
        }
        if (isEnding && !raw.writableEnded) raw.end()
      }
      const sendAway = () => {
        if (raw.writableEnded) return
        const { least, range } = comeBackAfter
        raw.end(`retry: ${Math.round(least + Math.random() * range)}\n\n`)
        // Nobody is to send another request on a connection that is about to close.
        raw.once('finish', () => raw.socket?.end())
      }
      let unread = 0
      let waiting = 0
      const beat = () => {
        // What has ended says no more that it waits.
        const isWaiting = raw.writableNeedDrain || raw.writableEnded
        unread = isWaiting && raw.writableLength === waiting ? unread + 1 : 0
        waiting = raw.writableLength
        if (unread > mostBeatsUnread) raw.destroy()
        else if (!isWaiting) raw.write(':\n\n')
      }

      reply.hijack()
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store, no-transform',
        'x-accel-buffering': 'no',
      })
      // A client that went away is no error.
      raw.on('error', () => {})
      raw.on('drain', () => {
        unread = 0
        flush()
      })
      draining.addEventListener('abort', sendAway)
      const leave = () => {
        beats.delete(beat)
        beatWhileOpen()
        draining.removeEventListener('abort', sendAway)
        onEnd()
      }
      if (draining.aborted || beats.size >= most) sendAway()
      else raw.write(`retry: ${reconnectAfter}\n\n`)
      beats.add(beat)
      beatWhileOpen()
      // A client that left before there was an answer has closed already, and says so no more.
      if (raw.destroyed) leave()
      else raw.once('close', leave)

      return {
        send(job, since) {
          if (raw.writableEnded || raw.destroyed || isEnding) return
          const waiting = pending.get(job.id)
          pending.set(job.id, { job, since: waiting ? waiting.since : since })
          if (pace.isBehind(pending.size)) raw.destroy()
          else flush()
        },
        end() {
          isEnding = true
          flush()
        },
      }
    },
  }
}
