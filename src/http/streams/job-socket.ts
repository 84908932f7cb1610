import { randomUUID } from 'node:crypto'
import type { WebSocket } from '@fastify/websocket'
import type { FastifyRequest } from 'fastify'
import type { ChangePosition } from '../../jobs/change-position.ts'
import type { Job } from '../../jobs/job.ts'
import { type Found, findJobs } from '../../jobs/read.ts'
import type { Site } from '../../jobs/site.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'
import { Limiter } from '../../primitives/limiter.ts'
import { type ProblemCode, problems } from '../../problems.ts'
import { type BufferedChanges, bufferChanges } from '../../watch/buffer-changes.ts'
import { mayUseOperation, visibleJobs } from '../access.ts'
import type { Service } from '../service.ts'
import { closeCodes, closeSocket } from './close-codes.ts'
import { SocketKeepalive } from './socket-keepalive.ts'
import type { SubscriptionMessage } from './socket-messages.ts'
import { SocketOutbox } from './socket-outbox.ts'

/** If a client has not subscribed to a job after this time, it receives a snapshot of all its jobs. */
const snapshotDelayMs = 100
const maxSubscriptions = 1_000
const maxRememberedSequences = 10_000

/** Subscriptions to many jobs are slow to read. The other connections to Postgres are for other requests. */
const subscriptionReads = new Limiter(2)

/** A watch on all jobs of the client's principal. */
interface PrincipalWatch {
  startedAt: Promise<ChangePosition>
  changes: BufferedChanges
}

/**
 * A WebSocket that sends job changes to a client. A client without subscriptions receives the changes of all its jobs.
 * A client with subscriptions receives only the changes of the subscribed jobs.
 */
export class JobSocket {
  readonly #service: Service
  readonly #socket: WebSocket
  readonly #log: FastifyRequest['log']
  readonly #request: FastifyRequest
  readonly #site: Site
  readonly #keepalive: SocketKeepalive
  readonly #outbox: SocketOutbox
  /** By job id. */
  readonly #subscriptions = new Map<string, BufferedChanges>()
  /** The newest sequence that was put into the outbox, by job id. */
  readonly #sentSequences = new BoundedMap<number>(maxRememberedSequences)
  /** Undefined while there are subscriptions. */
  #principalWatch: PrincipalWatch | undefined
  readonly #snapshotTimer: NodeJS.Timeout

  constructor(service: Service, socket: WebSocket, request: FastifyRequest) {
    this.#service = service
    this.#socket = socket
    this.#log = request.log
    this.#request = request
    this.#site = service.siteOf(request)
    this.#keepalive = new SocketKeepalive(socket)
    this.#outbox = new SocketOutbox(socket, {
      // A slow client may answer a ping late, because it first reads everything that was sent before the ping.
      // Reading therefore also counts as an answer.
      onRead: () => this.#keepalive.confirmAlive(),
      onError: (error) => this.fail(error),
    })
    const watch = this.#watchPrincipal()
    this.#principalWatch = watch
    const sendSnapshot = () => {
      if (this.#principalWatch === watch) void this.#sendAllJobs(watch, { withSnapshot: true })
    }
    // If the event loop was late, a subscription may have arrived that was not read yet. Immediates run after reads.
    this.#snapshotTimer = setTimeout(() => setImmediate(sendSnapshot), snapshotDelayMs)
  }

  /** Handles a message from the client. */
  async receive({ subscribe, unsubscribe }: SubscriptionMessage): Promise<void> {
    for (const id of unsubscribe) this.#unsubscribe(id)
    await this.#subscribe(subscribe)
    if (!this.#principalWatch && this.#subscriptions.size === 0 && this.#isOpen) {
      void this.#sendAllJobs(this.#watchPrincipal(), { withSnapshot: false })
    }
  }

  /** Answers an invalid message. */
  refuse(): void {
    this.#sendError('invalid-message', problems['invalid-message'].remedy)
  }

  /** Closes the connection after an unexpected error. */
  fail(error: unknown): void {
    this.#log.error({ err: error }, 'WebSocket failed; closing the connection')
    closeSocket(this.#socket, closeCodes.internalError, problems['internal-error'].title)
  }

  /** Stops all watches and timers. Call it after the socket has closed. */
  stop(): void {
    this.#stopPrincipalWatch()
    for (const id of [...this.#subscriptions.keys()]) this.#unsubscribe(id)
    this.#outbox.clear()
    this.#keepalive.stop()
  }

  get #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN
  }

  #watchPrincipal(): PrincipalWatch {
    const { watcher } = this.#service
    const changes = bufferChanges((onChange) => watcher.watchPrincipal(this.#request.principal, onChange))
    const startedAt = watcher.earlierPosition()
    // The connection is closed when the snapshot cannot be sent.
    startedAt.catch(() => {})
    return { startedAt, changes }
  }

  #stopPrincipalWatch(): void {
    clearTimeout(this.#snapshotTimer)
    this.#principalWatch?.changes.stop()
    this.#principalWatch = undefined
  }

  async #sendAllJobs(watch: PrincipalWatch, { withSnapshot }: { withSnapshot: boolean }): Promise<void> {
    this.#principalWatch = watch
    const reads = Promise.all([this.#service.readSnapshot(this.#request.principal), watch.startedAt])
    const [snapshot, since] = await reads.catch(() => [])
    if (this.#principalWatch !== watch) return
    if (!snapshot || !since) return this.#socket.close(closeCodes.goingAway, 'Connect again')
    // The watch started before the snapshot was read. A change between these two moments may belong to a job that is
    // not in the snapshot. The next poll must therefore also read the changes since the start of the watch.
    this.#service.watcher.pollSince(since)
    watch.changes.deliverTo((job) => this.#sendJob(job), withSnapshot ? snapshot.jobs : [])
  }

  async #subscribe(ids: ReadonlySet<string>): Promise<void> {
    if (ids.size === 0) return
    const newIds = [...ids].filter((id) => !this.#subscriptions.has(id))
    if (this.#subscriptions.size + newIds.length > maxSubscriptions) {
      return this.#sendError('invalid-message', `A connection can have at most ${maxSubscriptions} subscriptions`)
    }
    // This watch continues if no subscription succeeds. It starts before the old watch stops, so that no change is
    // missed.
    const fallback = this.#watchPrincipal()
    this.#stopPrincipalWatch()
    for (const id of ids) this.#watchJob(id)
    const find = () => findJobs(this.#service.database.kysely, [...ids], visibleJobs(this.#request))
    const found = await subscriptionReads.run(find).catch(() => undefined)
    for (const id of ids) this.#answerSubscription(id, found?.get(id))
    if (this.#subscriptions.size > 0 || !this.#isOpen) return fallback.changes.stop()
    void this.#sendAllJobs(fallback, { withSnapshot: false })
  }

  #watchJob(id: string): void {
    this.#unsubscribe(id)
    // Otherwise a repeated subscription would not be answered with the current status.
    this.#sentSequences.delete(id)
    this.#subscriptions.set(
      id,
      bufferChanges((onChange) => this.#service.watcher.watchJob(id, onChange)),
    )
  }

  /** @param found undefined if Postgres did not answer */
  #answerSubscription(id: string, found: Found | undefined): void {
    if (typeof found === 'object') {
      this.#subscriptions.get(id)?.deliverTo((job) => this.#sendJob(job), [found.job])
    } else {
      this.#unsubscribe(id)
      const code = !found ? 'database-unavailable' : found === 'expired' ? 'job-expired' : 'not-found'
      this.#sendError(code, problems[code].title, id)
    }
  }

  #unsubscribe(id: string): void {
    this.#subscriptions.get(id)?.stop()
    this.#subscriptions.delete(id)
    this.#outbox.drop(id)
  }

  #sendJob(job: Job): void {
    if (!mayUseOperation(this.#request, job.operation)) return
    // A job without its result counts as a bit older, so that it does not hold back an event with the result.
    const sequence = Number(job.sequence) - (job.status === 'succeeded' && job.result === null ? 0.5 : 0)
    if (sequence <= (this.#sentSequences.get(job.id) ?? 0)) return
    this.#sentSequences.set(job.id, sequence)
    this.#outbox.put(job.id, () => this.#service.encoder.encodeCloudEvent(job, this.#site, this.#request.principal))
  }

  #sendError(code: ProblemCode, message: string, subject = ''): void {
    const data = { error: { code, message } }
    const event = { specversion: '1.0', id: randomUUID(), source: `${this.#site.url}/events`, type: 'error' }
    const time = new Date().toISOString()
    this.#outbox.put(subject, () => JSON.stringify({ ...event, time, ...(subject && { subject }), data }))
  }
}
