import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { ChangePosition } from '../../jobs/change-position.ts'
import type { Job } from '../../jobs/job.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import type { SentVersion, SentVersionPool } from './sent-version.ts'
import { SlowConsumerGuard } from './slow-consumer.ts'

/** After a lost connection, a client waits this long before it reconnects. */
const retryMs = 3_000
/** A client that is asked to reconnect waits a random time in this range. So not all clients reconnect at once. */
const reconnectDelayMs = { min: 1_000, max: 5_000 }
/** A client that reads nothing is disconnected after more than this number of heartbeats. */
const maxUnreadHeartbeats = 2
const maxRememberedVersions = 2_000

export interface EventStreamOptions {
  /**
   * Returns the server-sent event for a job.
   *
   * @param lastSent the version of the job that was last sent to the client; undefined if none was sent
   * @param since see {@link EventStream.send}
   */
  encode: (job: Job, lastSent: SentVersion | undefined, since: ChangePosition | undefined) => string
  /** The versions of jobs that the client has already received. */
  known: Iterable<Job>
  /** Called once when the stream has ended for any reason. */
  onClose: () => void
}

/** A response that streams server-sent events (WHATWG HTML, section 9.2) about one or more jobs. */
export class EventStream {
  readonly #raw: ServerResponse
  readonly #encode: EventStreamOptions['encode']
  readonly #versions: SentVersionPool
  readonly #sent = new BoundedMap<SentVersion>(maxRememberedVersions)
  /** Unsent changes by job id, in the order of their arrival. For `since`, see {@link send}. */
  readonly #pending = new Map<string, { job: Job; since: ChangePosition | undefined }>()
  readonly #guard = new SlowConsumerGuard()
  #isEnding = false
  #unreadHeartbeats = 0
  #bytesAtLastHeartbeat = 0

  /** Takes over the reply from Fastify, and sends the HTTP status and the headers. */
  constructor(reply: FastifyReply, { encode, known }: EventStreamOptions, versions: SentVersionPool) {
    this.#raw = reply.raw
    this.#encode = encode
    this.#versions = versions
    for (const job of known) this.#remember(job)
    reply.hijack()
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    })
    // Ignores errors, because a client may disconnect at any time.
    this.#raw.on('error', () => {})
    this.#raw.on('drain', () => {
      this.#unreadHeartbeats = 0
      this.#flush()
    })
  }

  /** Calls the listener when the connection closes, or immediately if it is already closed. */
  onceClosed(listener: () => void): void {
    // If the client disconnected before the stream was opened, Node emits no 'close' event.
    if (this.#raw.destroyed) listener()
    else this.#raw.once('close', listener)
  }

  /** Tells the client how long to wait before it reconnects after a lost connection. */
  sendRetry(): void {
    this.#raw.write(`retry: ${retryMs}\n\n`)
  }

  /** Asks the client to reconnect later, and ends the stream. */
  closeForReconnect(): void {
    if (this.#raw.writableEnded) return
    const { min, max } = reconnectDelayMs
    this.#raw.end(`retry: ${Math.round(min + Math.random() * (max - min))}\n\n`)
    // Also closes the connection, so that the client does not send another request on it.
    this.#raw.once('finish', () => this.#raw.socket?.end())
  }

  /**
   * Sends a change of a job. If the client reads too slowly, the change stays pending. A newer change of the same job
   * replaces a pending change.
   *
   * @param since every change up to this position has already been passed to this stream
   */
  send(job: Job, since?: ChangePosition): void {
    if (this.#raw.writableEnded || this.#raw.destroyed || this.#isEnding) return
    const pending = this.#pending.get(job.id)
    this.#pending.set(job.id, { job, since: pending ? pending.since : since })
    if (this.#guard.isTooSlow(this.#pending.size)) this.#raw.destroy()
    else this.#flush()
  }

  /** Ends the stream once all pending changes are sent. */
  end(): void {
    this.#isEnding = true
    this.#flush()
  }

  /** Sends a comment, so that proxies keep an idle connection open. Disconnects a client that has stopped reading. */
  heartbeat(): void {
    const isWaiting = this.#raw.writableNeedDrain || this.#raw.writableEnded
    const hasReadNothing = isWaiting && this.#raw.writableLength === this.#bytesAtLastHeartbeat
    this.#unreadHeartbeats = hasReadNothing ? this.#unreadHeartbeats + 1 : 0
    this.#bytesAtLastHeartbeat = this.#raw.writableLength
    if (this.#unreadHeartbeats > maxUnreadHeartbeats) this.#raw.destroy()
    else if (!isWaiting) this.#raw.write(':\n\n')
  }

  #flush(): void {
    if (!this.#raw.writableNeedDrain) this.#guard.recordDrained()
    // Sends the changes in the order of their arrival. A client that has received the id of an event has therefore also
    // received all changes before the `since` of the event.
    for (const { job, since } of this.#pending.values()) {
      if (this.#raw.writableNeedDrain) return
      this.#pending.delete(job.id)
      this.#write(job, since)
    }
    if (this.#isEnding && !this.#raw.writableEnded) this.#raw.end()
  }

  #write(job: Job, since: ChangePosition | undefined): void {
    const lastSent = this.#sent.get(job.id)
    if (lastSent && isCovered(job, lastSent)) return
    this.#remember(job)
    this.#raw.write(this.#encode(job, lastSent, since))
  }

  #remember(job: Job): void {
    this.#sent.set(job.id, this.#versions.versionOf(job))
  }
}

/** Returns whether the client has received this version. A snapshot has left out its result. */
const isCovered = (job: Job, lastSent: SentVersion): boolean =>
  Number(lastSent.sequence) > Number(job.sequence) ||
  (lastSent.sequence === job.sequence && (lastSent.hasResult || job.result === null))
