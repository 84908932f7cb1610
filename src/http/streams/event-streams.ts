import type { FastifyReply } from 'fastify'
import { EventStream, type EventStreamOptions } from './event-stream.ts'
import { SentVersionPool } from './sent-version.ts'

/** Frequent enough that proxies do not close an idle stream. */
const defaultHeartbeatMs = 15_000
/** Streams per process. Clients above this number are asked to reconnect, and may then reach another process. */
const defaultMaxStreams = 15_000

export interface EventStreamsOptions {
  maxStreams?: number
  heartbeatMs?: number
}

/**
 * The open event streams of a process. Why not @fastify/sse: it writes to one client at a time, with a timer and a queue
 * for each. Here all clients that watch a job share one serialised event, a slow client gets the newest status instead
 * of a growing backlog, and one timer sends the heartbeats of all streams.
 */
export class EventStreams {
  readonly #draining: AbortSignal
  readonly #maxStreams: number
  readonly #heartbeatMs: number
  readonly #open = new Set<EventStream>()
  readonly #versions = new SentVersionPool()
  #heartbeatTimer: NodeJS.Timeout | undefined

  /** @param draining aborts when the process is about to stop; all streams then ask their clients to reconnect */
  constructor(draining: AbortSignal, options: EventStreamsOptions = {}) {
    this.#draining = draining
    this.#maxStreams = options.maxStreams ?? defaultMaxStreams
    this.#heartbeatMs = options.heartbeatMs ?? defaultHeartbeatMs
    draining.addEventListener('abort', () => {
      for (const stream of this.#open) stream.turnAway()
    })
  }

  /** How many streams are open. */
  get size(): number {
    return this.#open.size
  }

  /**
   * Answers with a stream. If the process is draining or has too many streams, the stream only asks the client to
   * reconnect, and ends.
   */
  open(reply: FastifyReply, options: EventStreamOptions): EventStream {
    const stream = new EventStream(reply, options, this.#versions)
    if (this.#draining.aborted || this.#open.size >= this.#maxStreams) stream.turnAway()
    else stream.sendRetry()
    this.#open.add(stream)
    this.#updateHeartbeatTimer()
    stream.onceClosed(() => {
      this.#open.delete(stream)
      this.#updateHeartbeatTimer()
      options.onClose()
    })
    return stream
  }

  #updateHeartbeatTimer(): void {
    if (this.#open.size === 0) {
      clearInterval(this.#heartbeatTimer)
      this.#heartbeatTimer = undefined
    } else {
      this.#heartbeatTimer ??= setInterval(() => {
        for (const stream of this.#open) stream.heartbeat()
      }, this.#heartbeatMs)
    }
  }
}
