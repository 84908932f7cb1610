import type { FastifyReply } from 'fastify'
import type { CredentialWatch } from '../credential-watch.ts'
import { EventStream, type EventStreamOptions } from './event-stream.ts'
import { SentVersionPool } from './sent-version.ts'

/** Short enough that proxies do not close an idle stream. */
const defaultHeartbeatMs = 15_000
/** The maximum number of streams per process. Above it, clients must reconnect, and may reach another process. */
const defaultMaxStreams = 15_000

export interface EventStreamsOptions {
  maxStreams?: number
  heartbeatMs?: number
}

/**
 * The open event streams of a process. Each event is serialised only once for all clients that watch the job. If a
 * client is slow, it gets only the newest change of each job. One timer sends the heartbeats of all streams.
 *
 * The package @fastify/sse is not used, because it would need a timer and a queue for each client.
 */
export class EventStreams {
  readonly #draining: AbortSignal
  readonly #credentials: Pick<CredentialWatch, 'watch'>
  readonly #maxStreams: number
  readonly #heartbeatMs: number
  readonly #open = new Set<EventStream>()
  readonly #versions = new SentVersionPool()
  #heartbeatTimer: NodeJS.Timeout | undefined

  /**
   * @param draining aborts when the server starts to close. All streams then ask their clients to reconnect.
   * @param credentials ends the streams whose credential is no longer valid
   */
  constructor(draining: AbortSignal, credentials: Pick<CredentialWatch, 'watch'>, options: EventStreamsOptions = {}) {
    this.#draining = draining
    this.#credentials = credentials
    this.#maxStreams = options.maxStreams ?? defaultMaxStreams
    this.#heartbeatMs = options.heartbeatMs ?? defaultHeartbeatMs
    draining.addEventListener('abort', () => {
      for (const stream of this.#open) stream.closeForReconnect()
    })
  }

  /** The number of open streams. */
  get size(): number {
    return this.#open.size
  }

  /**
   * Answers with a stream. If the server is closing or has too many streams, the stream only asks the client to
   * reconnect, and then ends.
   */
  open(reply: FastifyReply, options: EventStreamOptions): EventStream {
    const stream = new EventStream(reply, options, this.#versions)
    if (this.#draining.aborted || this.#open.size >= this.#maxStreams) stream.closeForReconnect()
    else stream.sendRetry()
    this.#open.add(stream)
    this.#updateHeartbeatTimer()
    // A client that connects again is refused.
    const unwatch = this.#credentials.watch(reply.request, () => stream.closeForReconnect())
    stream.onceClosed(() => {
      unwatch()
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
