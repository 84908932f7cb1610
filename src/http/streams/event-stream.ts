import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Job } from '../../jobs/job.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import type { SentVersion, SentVersionPool } from './sent-version.ts'
import { SlowConsumerGuard } from './slow-consumer.ts'

/** How long a client waits before it reconnects after a lost connection. */
const retryMs = 3_000
/** A rejected client reconnects after a random time in this range, so that not all of them return at the same time. */
const turnedAwayRetryMs = { min: 1_000, max: 5_000 }
/** A client is cut off after more heartbeats than this without reading anything. */
const maxUnreadHeartbeats = 2
const maxRememberedJobs = 2_000

export interface EventStreamOptions {
  /**
   * Returns the server-sent event for a job.
   *
   * @param lastSent what the client last received of the job
   * @param since see {@link EventStream.send}
   */
  encode: (job: Job, lastSent: SentVersion | undefined, since: Date | undefined) => string
  /** The versions of jobs that the client has already received. */
  known: Iterable<Job>
  /** Called once, however the stream ends. */
  onClose: () => void
}

/** A response of server-sent events (WHATWG HTML, section 9.2) about one or many jobs. */
export class EventStream {
  readonly #raw: ServerResponse
  readonly #encode: EventStreamOptions['encode']
  readonly #versions: SentVersionPool
  readonly #sent = new BoundedMap<SentVersion>(maxRememberedJobs)
  /** Changes by job id, in the order in which they came; see {@link send} for `since`. */
  readonly #pending = new Map<string, { job: Job; since: Date | undefined }>()
  readonly #guard = new SlowConsumerGuard()
  #isEnding = false
  #unreadHeartbeats = 0
  #bytesAtLastHeartbeat = 0

  /** Takes over the reply and sends its head. */
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
    // A client may disconnect at any time.
    this.#raw.on('error', () => {})
    this.#raw.on('drain', () => {
      this.#unreadHeartbeats = 0
      this.#flush()
    })
  }

  /** Calls the listener once the connection is closed: immediately if it is closed already. */
  onceClosed(listener: () => void): void {
    // Node emits no 'close' if the client disconnected before the stream was opened.
    if (this.#raw.destroyed) listener()
    else this.#raw.once('close', listener)
  }

  /** Tells the client when to reconnect after a lost connection. */
  sendRetry(): void {
    this.#raw.write(`retry: ${retryMs}\n\n`)
  }

  /** Asks the client to reconnect later, and ends the stream. */
  turnAway(): void {
    if (this.#raw.writableEnded) return
    const { min, max } = turnedAwayRetryMs
    this.#raw.end(`retry: ${Math.round(min + Math.random() * (max - min))}\n\n`)
    // So that the client does not send another request on a connection that is about to close.
    this.#raw.once('finish', () => this.#raw.socket?.end())
  }

  /**
   * Sends a job, or keeps it until the client has read enough. A newer change of the same job replaces a pending one.
   *
   * @param since every change before this time has been passed to this stream
   */
  send(job: Job, since?: Date): void {
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

  /** Sends a comment, so that proxies keep an idle connection open. Cuts off a client that does not read. */
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
    // Sends the oldest first: the id of an event confirms that the client has received all changes before `since`.
    for (const { job, since } of this.#pending.values()) {
      if (this.#raw.writableNeedDrain) return
      this.#pending.delete(job.id)
      this.#write(job, since)
    }
    if (this.#isEnding && !this.#raw.writableEnded) this.#raw.end()
  }

  #write(job: Job, since: Date | undefined): void {
    const lastSent = this.#sent.get(job.id)
    if (lastSent && Number(lastSent.sequence) >= Number(job.sequence)) return
    this.#remember(job)
    this.#raw.write(this.#encode(job, lastSent, since))
  }

  #remember(job: Job): void {
    this.#sent.set(job.id, this.#versions.versionOf(job))
  }
}
