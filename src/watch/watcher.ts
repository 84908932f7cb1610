import { setImmediate as immediate } from 'node:timers/promises'
import { validate as isUuid } from 'uuid'
import type { Database } from '../db/database.ts'
import { listen } from '../db/listener.ts'
import { channels, unpack } from '../db/notifier.ts'
import { readChanges } from '../jobs/changes.ts'
import type { Job } from '../jobs/job.ts'
import { RecentMap } from '../recent-map.ts'

/** Called with a job whenever it has changed; sometimes with one that has not: compare its sequence. */
export type OnChange = (job: Job) => void

/** Tells any number of waiters when a job changes. */
export interface Watcher {
  /** Watch first and read the job then, or a change between the two is missed. @returns stops watching */
  watchJob(id: string, onChange: OnChange): () => void
  /**
   * All jobs of a principal, those to come as well. What nobody hints at is found once {@link lookSince} has been called.
   *
   * @returns stops watching
   */
  watchPrincipal(principal: string, onChange: OnChange): () => void
  /**
   * The next look at principals' jobs goes back as far as that, at least. Without one nobody looks at them.
   *
   * @param since a horizon that was read after the principal was watched, and before its jobs were read; see
   *   {@link readHorizon}
   */
  lookSince(since: Date): void
  /** Of what changed before then, everything has been told; undefined when nobody knows yet. */
  horizon(): Date | undefined
  /** What is watched. */
  count(): { jobs: number; principals: number }
  close(): Promise<void>
}

export interface WatcherOptions {
  onError: (error: Error) => void
}

/**
 * After a query hints gather for so many times what it took, but not for longer than so many milliseconds: so quick queries
 * take a fifth of one connection at most. Of a quiet time some is kept, in milliseconds, so that the few hints of one job are
 * not kept waiting.
 */
const gatherTimes = 4
const longestGather = 25
const keptQuiet = 10
/** The floor under the hints: what is watched is looked at so often, in milliseconds, whether or not there is a hint. */
const lookEvery = 500
/** Of a principal's jobs so many are remembered, or twice as many as a look finds. */
const mostRemembered = 10_000
/** Of so many jobs waiters are told in one turn of the event loop. */
const toldTogether = 1_000

interface Watched {
  waiters: Set<OnChange>
  /** The newest sequence they were told of. */
  known: number
}

interface WatchedPrincipal {
  waiters: Set<OnChange>
  /** The newest sequence they were told of, by job. */
  known: RecentMap<number>
}

/**
 * Makes the watcher of a process: one connection that listens, and, however many wait, one query per tick for all jobs
 * that are said to have changed. As hints may be lost, everything that is watched is looked at twice a second as well.
 */
export function createWatcher(database: Database, { onError }: WatcherOptions): Watcher {
  const jobs = new Map<string, Watched>()
  const principals = new Map<string, WatchedPrincipal>()
  let hinted = new Set<string>()
  let lookAtAll = false
  // The one of the last look is good for what the next one finds. Another object for those who come when all had gone.
  let horizons: { told?: Date | undefined; next?: Date | undefined } = {}
  /** Of those who came since the last look. */
  let earliest: Date | undefined
  let nextTick = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let ticking: Promise<void> | undefined
  let closed = false

  /** One that throws must not keep the others from being told. */
  const tell = (waiters: Iterable<OnChange>, job: Job) => {
    for (const onChange of [...waiters]) {
      try {
        onChange(job)
      } catch (error) {
        onError(error as Error)
      }
    }
  }

  const deliver = (job: Job) => {
    const sequence = Number(job.sequence)
    const watched = jobs.get(job.id)
    if (watched && sequence > watched.known) {
      watched.known = sequence
      tell(watched.waiters, job)
    }
    const ofPrincipal = principals.get(job.principal)
    if (ofPrincipal && sequence > (ofPrincipal.known.get(job.id) ?? 0)) {
      ofPrincipal.known.set(job.id, sequence)
      tell(ofPrincipal.waiters, job)
    }
  }

  /** Of very many, some at a time: who reads takes what it has been sent, and others have their turn. */
  const deliverAll = async (found: readonly Job[]) => {
    const counts = new Map<string, number>()
    for (const { principal } of found) counts.set(principal, (counts.get(principal) ?? 0) + 1)
    // Else what a look finds, and finds again as long as a transaction is open, would be told again each time.
    for (const [principal, count] of counts) principals.get(principal)?.known.keepAtLeast(2 * count)
    for (const [index, job] of found.entries()) {
      if (index > 0 && index % toldTogether === 0) await immediate()
      deliver(job)
    }
  }

  /** What a tick asks for: all that is watched, or what was hinted of it. */
  const takeDue = (all: boolean) => {
    const due = hinted
    hinted = new Set()
    const ids = all ? [...jobs.keys()] : [...due].filter((id) => jobs.has(id))
    if (all) {
      horizons.told = earlier(earliest, horizons.told)
      earliest = undefined
    }
    return {
      watched: new Map(ids.map((id) => [id, jobs.get(id)?.known ?? 0])),
      hinted: [...due],
      principals: [...principals.keys()],
      since: all ? horizons.told : undefined,
    }
  }

  const tick = async () => {
    const begunAt = performance.now()
    const all = lookAtAll
    lookAtAll = false
    const due = takeDue(all)
    const current = horizons
    try {
      const { jobs, horizon } = await readChanges(database.kysely, due)
      await deliverAll(jobs)
      if (horizon) Object.assign(current, { told: current.next ?? current.told, next: horizon })
    } catch (error) {
      // The next look finds what this one missed.
      onError(error as Error)
    }
    const endedAt = performance.now()
    const gather = Math.min(gatherTimes * (endedAt - begunAt), longestGather)
    nextTick = Math.max(nextTick + endedAt - begunAt, endedAt - keptQuiet) + gather
  }

  const schedule = () => {
    if (timer || ticking || closed) return
    const wait = Math.max(0, nextTick - performance.now())
    timer = setTimeout(() => {
      timer = undefined
      ticking = tick().finally(() => {
        ticking = undefined
        if (hinted.size > 0 || lookAtAll) schedule()
      })
    }, wait)
  }

  const lookAround = () => {
    // Else who comes next would be told of all that has changed since the last one left.
    if (principals.size === 0) {
      horizons = {}
      earliest = undefined
    }
    if (jobs.size + principals.size === 0) return
    lookAtAll = true
    schedule()
  }

  const listener = listen(database, {
    channels: {
      [channels.status]: (payload) => {
        for (const id of unpack(payload)) if (jobs.has(id) || (principals.size > 0 && isUuid(id))) hinted.add(id)
        if (hinted.size > 0) schedule()
      },
    },
    onListening: lookAround,
    onError,
  })
  const floor = setInterval(lookAround, lookEvery)

  return {
    watchJob(given, onChange) {
      // As Postgres writes it.
      const id = given.toLowerCase()
      // Postgres would refuse to look for any of them.
      if (!isUuid(id)) return () => {}
      const watched = jobs.get(id) ?? { waiters: new Set(), known: 0 }
      jobs.set(id, watched)
      watched.waiters.add(onChange)
      return () => {
        watched.waiters.delete(onChange)
        if (watched.waiters.size === 0 && jobs.get(id) === watched) jobs.delete(id)
      }
    },
    watchPrincipal(principal, onChange) {
      const watched = principals.get(principal) ?? { waiters: new Set(), known: new RecentMap<number>(mostRemembered) }
      principals.set(principal, watched)
      watched.waiters.add(onChange)
      return () => {
        watched.waiters.delete(onChange)
        if (watched.waiters.size === 0 && principals.get(principal) === watched) principals.delete(principal)
      }
    },
    lookSince(since) {
      earliest = earlier(earliest, since)
    },
    horizon: () => horizons.told && earlier(earliest, horizons.told),
    count: () => ({ jobs: jobs.size, principals: principals.size }),
    async close() {
      closed = true
      clearInterval(floor)
      clearTimeout(timer)
      await listener.close()
      await ticking
    },
  }
}

/** The earlier one of two, or the one that there is. */
const earlier = (one: Date | undefined, other: Date | undefined) => (one && other && other > one ? one : (other ?? one))
