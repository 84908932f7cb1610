import { validate as isUuid } from 'uuid'
import type { Database } from '../db/database.ts'
import { type Listener, listen } from '../db/listener.ts'
import { channels, unpack } from '../db/notifier.ts'
import type { ChangePosition } from '../jobs/change-position.ts'
import { type ChangeQuery, readChangePosition, readChanges } from '../jobs/changes.ts'
import { PrincipalPosition } from './principal-position.ts'
import { QueryPacing } from './query-pacing.ts'
import { type OnChange, Subscriptions } from './subscriptions.ts'

/** The poll finds changes whose notification was lost. */
const changePollIntervalMs = 500

export interface WatcherOptions {
  /** Receives the errors of queries, of the listening connection and of listeners. The watcher continues. */
  onError: (error: Error) => void
}

/**
 * Delivers job changes to any number of listeners in a process. One connection receives the notifications of all jobs.
 * Notifications in quick succession share one query. Notifications may be lost. A poll therefore also reads the changes
 * of all watched jobs twice a second.
 */
export class Watcher {
  readonly #database: Database
  readonly #onError: (error: Error) => void
  readonly #listener: Listener
  readonly #pollTimer: NodeJS.Timeout
  readonly #subscriptions: Subscriptions
  readonly #position = new PrincipalPosition()
  readonly #pacing = new QueryPacing()
  #positionRead: Promise<ChangePosition> | undefined
  #notified = new Set<string>()
  #isPollDue = false
  #cancelQuery: (() => void) | undefined
  #query: Promise<void> | undefined
  #isClosed = false

  constructor(database: Database, { onError }: WatcherOptions) {
    this.#database = database
    this.#onError = onError
    this.#subscriptions = new Subscriptions(onError)
    this.#listener = listen(database, {
      channels: { [channels.status]: (payload) => this.#receive(unpack(payload)) },
      onListening: () => this.#poll(),
      onError,
    })
    this.#pollTimer = setInterval(() => this.#poll(), changePollIntervalMs)
  }

  /**
   * Watches a job. Read the job only after this call. Otherwise a change may be missed.
   *
   * @returns a function that stops watching
   */
  watchJob(id: string, onChange: OnChange): () => void {
    return this.#subscriptions.addJob(id, onChange)
  }

  /**
   * Watches all jobs of a principal, including future jobs. Polls read their changes only after {@link pollSince}.
   *
   * @returns a function that stops watching
   */
  watchPrincipal(principal: string, onChange: OnChange): () => void {
    return this.#subscriptions.addPrincipal(principal, onChange)
  }

  /**
   * The next poll then reads all changes of the watched principals' jobs since this position, or since an earlier
   * position that was requested before.
   *
   * @param since read it after `watchPrincipal` is called and before the jobs are read
   */
  pollSince(since: ChangePosition): void {
    this.#position.request(since)
  }

  /** All changes of the watched principals' jobs up to this position have been delivered. Undefined if it is unknown. */
  get position(): ChangePosition | undefined {
    return this.#position.delivered
  }

  /**
   * Returns a position for {@link pollSince}. Simultaneous calls share one query, so that thousands of clients can
   * connect at once.
   */
  async earlierPosition(): Promise<ChangePosition> {
    if (this.position !== undefined) return this.position
    this.#positionRead ??= readChangePosition(this.#database.kysely).finally(() => {
      this.#positionRead = undefined
    })
    return this.#positionRead
  }

  /** The number of watched jobs and of watched principals. */
  get size(): { jobs: number; principals: number } {
    return this.#subscriptions.size
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#pollTimer)
    this.#cancelQuery?.()
    await this.#listener.close()
    await this.#query
  }

  #receive(ids: readonly string[]): void {
    const hasPrincipals = this.#subscriptions.size.principals > 0
    for (const id of ids) {
      if (this.#subscriptions.hasJob(id) || (hasPrincipals && isUuid(id))) this.#notified.add(id)
    }
    if (this.#notified.size > 0) this.#scheduleQuery()
  }

  #poll(): void {
    const { jobs, principals } = this.#subscriptions.size
    if (principals === 0) this.#position.reset()
    if (jobs + principals === 0) return
    this.#isPollDue = true
    this.#scheduleQuery()
  }

  #scheduleQuery(): void {
    if (this.#cancelQuery || this.#query || this.#isClosed) return
    this.#cancelQuery = callAfter(this.#pacing.delayMs, () => {
      this.#cancelQuery = undefined
      this.#query = this.#readAndDeliver().finally(() => {
        this.#query = undefined
        if (this.#notified.size > 0 || this.#isPollDue) this.#scheduleQuery()
      })
    })
  }

  async #readAndDeliver(): Promise<void> {
    const startedAt = performance.now()
    const poll = this.#isPollDue ? this.#position.startPoll() : undefined
    const query = this.#takeQuery(poll)
    try {
      const { jobs, position } = await readChanges(this.#database.kysely, query)
      await this.#subscriptions.deliver(jobs)
      if (position) poll?.complete(position)
    } catch (error) {
      // The next poll finds the changes that this query could not read.
      this.#onError(error as Error)
    }
    this.#pacing.queryEnded(startedAt)
  }

  /** A poll reads all watched jobs. Any other query reads only the watched jobs for which a notification arrived. */
  #takeQuery(poll: { since: ChangePosition | undefined } | undefined): ChangeQuery {
    const notified = [...this.#notified]
    this.#notified = new Set()
    this.#isPollDue = false
    const ids = poll ? this.#subscriptions.jobIds : notified.filter((id) => this.#subscriptions.hasJob(id))
    return {
      watched: new Map(ids.map((id) => [id, this.#subscriptions.deliveredSequence(id)])),
      notified,
      principals: this.#subscriptions.principals,
      since: poll?.since,
    }
  }
}

/**
 * Calls a function after a pause, or in this turn of the event loop if there is no pause. A timer takes at least 1 ms.
 *
 * @returns a function that cancels the call
 */
function callAfter(delayMs: number, run: () => void): () => void {
  if (delayMs > 0) {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  }
  const immediate = setImmediate(run)
  return () => clearImmediate(immediate)
}
