import { setImmediate as nextTurn } from 'node:timers/promises'
import { validate as isUuid } from 'uuid'
import type { Job } from '../jobs/job.ts'
import { BoundedMap } from '../primitives/bounded-map.ts'

/** Receives a changed job. The same version of a job may be delivered twice, with the same sequence. */
export type OnChange = (job: Job) => void

/** At least this many delivered sequences are remembered for each principal. A large poll raises this number. */
const minRememberedJobs = 10_000
const maxDeliveriesPerTurn = 1_000

interface WatchedJob {
  listeners: Set<OnChange>
  deliveredSequence: number
}

interface WatchedPrincipal {
  listeners: Set<OnChange>
  /** By job id. */
  deliveredSequences: BoundedMap<number>
}

/** The watched jobs and principals with their listeners, and the last delivered sequence of each job. */
export class Subscriptions {
  readonly #jobs = new Map<string, WatchedJob>()
  readonly #principals = new Map<string, WatchedPrincipal>()
  readonly #onError: (error: Error) => void

  /** @param onError receives an error that a listener throws. The other listeners still get the job. */
  constructor(onError: (error: Error) => void) {
    this.#onError = onError
  }

  get size(): { jobs: number; principals: number } {
    return { jobs: this.#jobs.size, principals: this.#principals.size }
  }

  get jobIds(): string[] {
    return [...this.#jobs.keys()]
  }

  get principals(): string[] {
    return [...this.#principals.keys()]
  }

  hasJob(id: string): boolean {
    return this.#jobs.has(id)
  }

  deliveredSequence(jobId: string): number {
    return this.#jobs.get(jobId)?.deliveredSequence ?? 0
  }

  addJob(givenId: string, onChange: OnChange): () => void {
    // Postgres rejects the whole query if one id is malformed.
    if (!isUuid(givenId)) return () => {}
    // Postgres returns ids in lower case.
    const id = givenId.toLowerCase()
    const watched = this.#jobs.get(id) ?? { listeners: new Set(), deliveredSequence: 0 }
    return addListener(this.#jobs, id, watched, onChange)
  }

  addPrincipal(principal: string, onChange: OnChange): () => void {
    const watched = this.#principals.get(principal) ?? {
      listeners: new Set(),
      deliveredSequences: new BoundedMap<number>(minRememberedJobs),
    }
    return addListener(this.#principals, principal, watched, onChange)
  }

  /** Delivers only new changes. After every 1,000 jobs, it lets the event loop run, so that sockets can send data. */
  async deliver(jobs: readonly Job[]): Promise<void> {
    this.#rememberAll(jobs)
    for (const [index, job] of jobs.entries()) {
      if (index > 0 && index % maxDeliveriesPerTurn === 0) await nextTurn()
      this.#deliverOne(job)
    }
  }

  /** Makes room for the sequences of all jobs. A poll finds again the jobs whose notification has arrived before it. */
  #rememberAll(jobs: readonly Job[]): void {
    const counts = new Map<string, number>()
    for (const { principal } of jobs) counts.set(principal, (counts.get(principal) ?? 0) + 1)
    for (const [principal, count] of counts) this.#principals.get(principal)?.deliveredSequences.growTo(2 * count)
  }

  #deliverOne(job: Job): void {
    const sequence = Number(job.sequence)
    const watchedJob = this.#jobs.get(job.id)
    if (watchedJob && sequence > watchedJob.deliveredSequence) {
      watchedJob.deliveredSequence = sequence
      this.#call(watchedJob.listeners, job)
    }
    const watchedPrincipal = this.#principals.get(job.principal)
    if (watchedPrincipal && sequence > (watchedPrincipal.deliveredSequences.get(job.id) ?? 0)) {
      watchedPrincipal.deliveredSequences.set(job.id, sequence)
      this.#call(watchedPrincipal.listeners, job)
    }
  }

  #call(listeners: ReadonlySet<OnChange>, job: Job): void {
    for (const onChange of [...listeners]) {
      try {
        onChange(job)
      } catch (error) {
        this.#onError(error as Error)
      }
    }
  }
}

/** @returns a function that removes the listener. It also removes the entry if no other listener is left. */
function addListener<Watched extends { listeners: Set<OnChange> }>(
  entries: Map<string, Watched>,
  key: string,
  watched: Watched,
  onChange: OnChange,
): () => void {
  entries.set(key, watched)
  watched.listeners.add(onChange)
  return () => {
    watched.listeners.delete(onChange)
    if (watched.listeners.size === 0 && entries.get(key) === watched) entries.delete(key)
  }
}
