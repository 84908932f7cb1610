import { validate as isUuid } from 'uuid'
import type { Database } from '../db/database.ts'
import { type Listener, listen } from '../db/listener.ts'
import { channels, unpack } from '../db/notifier.ts'
import { type ChangeQuery, readChanges } from '../jobs/changes.ts'
import { PrincipalHorizon } from './principal-horizon.ts'
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
  readonly #horizon = new PrincipalHorizon()
  readonly #pacing = new QueryPacing()
  #notified = new Set<string>()
  #isPollDue = false
  #queryTimer: NodeJS.Timeout | undefined
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
   * The next poll then reads all changes of the watched principals' jobs since this time, or since an earlier time that
   * was requested before.
   *
   * @param since a visibility horizon: read it after `watchPrincipal` is called and before the jobs are read
   */
  pollSince(since: Date): void {
    this.#horizon.request(since)
  }

  /** All changes of the watched principals' jobs before this time have been delivered. Undefined if it is unknown. */
  get visibilityHorizon(): Date | undefined {
    return this.#horizon.delivered
  }

  /** The number of watched jobs and of watched principals. */
  get size(): { jobs: number; principals: number } {
    return this.#subscriptions.size
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#pollTimer)
    clearTimeout(this.#queryTimer)
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
    if (principals === 0) this.#horizon.reset()
    if (jobs + principals === 0) return
    this.#isPollDue = true
    this.#scheduleQuery()
  }

  #scheduleQuery(): void {
    if (this.#queryTimer || this.#query || this.#isClosed) return
    this.#queryTimer = setTimeout(() => {
      this.#queryTimer = undefined
      this.#query = this.#readAndDeliver().finally(() => {
        this.#query = undefined
        if (this.#notified.size > 0 || this.#isPollDue) this.#scheduleQuery()
      })
    }, this.#pacing.delayMs)
  }

  async #readAndDeliver(): Promise<void> {
    const startedAt = performance.now()
    const poll = this.#isPollDue ? this.#horizon.startPoll() : undefined
    const query = this.#takeQuery(poll)
    try {
      const { jobs, visibilityHorizon } = await readChanges(this.#database.kysely, query)
      await this.#subscriptions.deliver(jobs)
      if (visibilityHorizon) poll?.complete(visibilityHorizon)
    } catch (error) {
      // The next poll finds the changes that this query could not read.
      this.#onError(error as Error)
    }
    this.#pacing.queryEnded(startedAt)
  }

  /** A poll reads all watched jobs. Any other query reads only the watched jobs for which a notification arrived. */
  #takeQuery(poll: { since: Date | undefined } | undefined): ChangeQuery {
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
