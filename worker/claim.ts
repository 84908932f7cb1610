import { type RawBuilder, sql } from 'kysely'
import type { Job, JobWithMetadata } from 'pg-boss'
import { validate as isUuid } from 'uuid'
import { bossOn, type PgBoss, type QueueData } from '../src/db/boss.ts'
import type { Database } from '../src/db/database.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import type { AnyTransaction, Operation } from '../src/operation.ts'
import { restAfter } from './chore.ts'
import { LostClaim } from './failure.ts'

/** A job in our hands: nobody else gets it until we end it, hand it back, or fall silent. */
export interface Claim {
  /** The row in `pgboss.job`, and which of its attempts is ours: what every statement about it is fenced to. */
  queued: Pick<Job, 'id' | 'retryCount'>
  /** The row in `accepted.job`. */
  jobId: string
  payload: unknown
  /** From 1. */
  attempt: number
  /** A worker fell silent with it before: it runs alone. */
  isSuspect: boolean
  /** How long after it was due it was claimed, in seconds. */
  waited: number | undefined
}

/** What a worker does with the queue of one operation. */
export interface Claims {
  /**
   * Takes up to `limit` due jobs, with SKIP LOCKED.
   *
   * @param onMore called when it is worth to claim once more: there may be older ones
   */
  claim(limit: number, onMore?: () => void): Promise<Claim[]>
  /** Takes a blocked job, unless somebody else has, or its group is full. */
  claimSuspect(queueId: string): Promise<Claim | undefined>
  /** Ends jobs in the queue. @throws LostClaim when one is not ours any more */
  complete(trx: AnyTransaction, claims: readonly Claim[]): Promise<void>
  /** Whether all of them have been ended in the attempt in which they are ours: by us, then. */
  areCompleted(claims: readonly Claim[]): Promise<boolean>
  /**
   * Sends a job to its retry, when the operation says or after so many seconds; or for good to the failed ones.
   *
   * @throws LostClaim when it is not ours any more
   */
  fail(trx: AnyTransaction, claim: Claim, error: JobErrorColumn, retryAfter?: number | 'never'): Promise<void>
  /** Hands jobs back without spending their attempt. @throws LostClaim when one is not ours any more */
  release(trx: AnyTransaction, claims: readonly Claim[], delaySeconds: number): Promise<void>
  /**
   * Locks those that are still held in their attempt, by whomever.
   *
   * @param options.silent only those whose heartbeat is overdue
   * @param options.otherwise `skip locked`, or nothing to wait for whoever has one locked
   */
  lock(
    trx: AnyTransaction,
    claims: readonly Claim[],
    options: { silent: boolean; otherwise: RawBuilder<unknown> },
  ): Promise<Claim[]>
  /**
   * Takes jobs away from a worker that fell silent: they are due at once, with as many attempts left as before. The next
   * claim counts as another attempt, so that the silent one's is refused when it wakes up.
   *
   * @param block nobody claims them but who asks for suspects
   * @throws LostClaim when one has moved on
   */
  takeBack(trx: AnyTransaction, claims: readonly Claim[], block: boolean): Promise<void>
}

/**
 * The whole queue is claimed from for a tenth of the time at most; else from where the last claim began. While somebody
 * holds an old snapshot, what was claimed since stays in the index, and a claim from the beginning reads all of it.
 */
const wholePart = 0.1
/** A job may be older than one that could be claimed before it, as its transaction took longer. In milliseconds. */
const olderBy = sql`interval '250 ms'`

/** Whoever holds it has not said for so many seconds that he lives. */
export const overdue = (seconds: RawBuilder<unknown>) => sql`heartbeat_on < now() - make_interval(secs => ${seconds})`

/** Makes the claims of an operation. */
export function createClaims({ kysely }: Database, boss: PgBoss, operation: Operation): Claims {
  const { name, groupConcurrency, heartbeatSeconds } = operation

  // Two that count what runs of a group at the same time would both find room for the last one.
  const inTurn = <Result>(work: (trx: AnyTransaction) => Promise<Result>) =>
    kysely.transaction().execute(async (trx) => {
      await sql`select pg_advisory_xact_lock(hashtext('accepted.claim'), hashtext(${name}))`.execute(trx)
      return work(trx as unknown as AnyTransaction)
    })

  let floor: string | undefined
  let wholeAt = Number.NEGATIVE_INFINITY
  let wasFull = false
  const claimSome = async (limit: number, onMore?: () => void) => {
    const begunAt = performance.now()
    const from = begunAt < wholeAt ? floor : undefined
    const { rows } = await sql<ClaimedJob>`
      select id, retry_count as "retryCount", data, waited, floor
      from accepted.claim(${name}, ${limit}, coalesce(${from ?? null}::timestamptz - ${olderBy}, '-infinity'))`.execute(
      kysely,
    )
    const endedAt = performance.now()
    if (from === undefined) wholeAt = endedAt + restAfter(endedAt - begunAt, wholePart)
    floor = rows[0]?.floor ?? from
    const isFull = rows.length === limit
    // Of many that were claimed, and were of a higher priority, the last: those below may have waited for longer. A timer
    // may be early by up to a millisecond.
    if (onMore && wasFull && !isFull && from !== undefined)
      setTimeout(onMore, Math.ceil(wholeAt - performance.now()) + 1).unref()
    wasFull = isFull
    return rows
  }
  // pg-boss counts what runs of each group.
  const claimOfGroups = (batchSize: number) =>
    inTurn((trx) =>
      boss.fetch<QueueData>(name, {
        ...{ batchSize, includeMetadata: true, groupConcurrency: groupConcurrency as number },
        db: bossOn(trx),
      }),
    )

  return {
    async claim(limit, onMore) {
      if (groupConcurrency === undefined) {
        return (await claimSome(limit, onMore)).map((job) => claimOf(job, false, job.waited))
      }
      return (await claimOfGroups(limit)).map((job) => claimOf(job, false, waitedFor(job)))
    },

    async claimSuspect(queueId) {
      // As pg-boss claims, which cannot be asked for one.
      const { rows } = await inTurn((trx) =>
        sql<QueuedJob>`
          update pgboss.job set
            state = 'active', blocked = false, started_on = now(), heartbeat_on = now(),
            retry_count = case when started_on is null then retry_count else retry_count + 1 end
          where name = ${name} and id = ${queueId} and blocked and state < 'active' and start_after <= now()
            and (${groupConcurrency ?? null}::integer is null or group_id is null or ${groupConcurrency ?? null} > (
              select count(*) from pgboss.job other
              where other.name = ${name} and other.group_id = job.group_id and other.state = 'active'
            ))
          returning id, retry_count as "retryCount", data`.execute(trx),
      )
      return rows[0] && claimOf(rows[0], true)
    },

    async complete(trx, claims) {
      if (claims.length === 0) return
      assertOurs(await boss.complete(name, attempts(claims), null, { db: bossOn(trx) }), claims)
    },

    async areCompleted(claims) {
      const { rows } = await sql<{ id: string; retryCount: number }>`
        select id, retry_count as "retryCount" from pgboss.job
        where name = ${name} and ${those(claims)} and state = 'completed'`.execute(kysely)
      const completed = new Map(rows.map(({ id, retryCount }) => [id, retryCount]))
      return claims.every(({ queued }) => completed.get(queued.id) === queued.retryCount)
    },

    async fail(trx, claim, error, retryAfter) {
      // pg-boss fails a job for good when no retry is left by its own count, and else waits as the row says.
      const change =
        retryAfter === 'never'
          ? sql`retry_limit = retry_count`
          : sql`
        retry_limit = greatest(retry_limit, retry_count + 1),
        retry_delay = coalesce(${retryAfter === undefined ? null : Math.ceil(retryAfter)}::integer, retry_delay),
        retry_backoff = retry_backoff and ${retryAfter === undefined}`
      await sql`
        update pgboss.job set ${change}
        where name = ${name} and id = ${claim.queued.id} and state = 'active'
          and retry_count = ${claim.queued.retryCount}`.execute(trx)
      assertOurs(await boss.fail(name, attempts([claim]), { ...error }, { db: bossOn(trx) }), [claim])
    },

    async release(trx, claims, delaySeconds) {
      if (claims.length === 0) return
      const suspects = claims.filter(({ isSuspect }) => isSuspect)
      // Without started_on the next claim does not count as a retry.
      const { numAffectedRows } = await sql`
        update pgboss.job set
          state = case when retry_count = 0 then 'created'::pgboss.job_state else 'retry' end,
          started_on = null, heartbeat_on = null, start_after = now() + make_interval(secs => ${delaySeconds}),
          blocked = id = any(${suspects.map(({ queued }) => queued.id)}::uuid[])
        where name = ${name} and ${areHeld(claims)}`.execute(trx)
      assertOurs({ affected: Number(numAffectedRows) }, claims)
    },

    async lock(trx, claims, { silent, otherwise }) {
      if (claims.length === 0) return []
      const { rows } = await sql<{ id: string }>`
        select id from pgboss.job
        where name = ${name} and ${areHeld(claims)} and ${silent ? overdue(sql`${heartbeatSeconds}::integer`) : sql`true`}
        order by id for update ${otherwise}`.execute(trx)
      const locked = new Set(rows.map(({ id }) => id))
      return claims.filter(({ queued }) => locked.has(queued.id))
    },

    async takeBack(trx, claims, block) {
      if (claims.length === 0) return
      const { numAffectedRows } = await sql`
        update pgboss.job set state = 'retry', retry_limit = retry_limit + 1, start_after = now(), blocked = ${block}
        from unnest(
          ${claims.map(({ queued }) => queued.id)}::uuid[],
          ${claims.map(({ queued }) => queued.retryCount)}::integer[]
        ) as lost (id, retry_count)
        where name = ${name} and ${those(claims)} and job.id = lost.id and job.retry_count = lost.retry_count
          and state = 'active'`.execute(trx)
      assertOurs({ affected: Number(numAffectedRows) }, claims)
    },
  }
}

type QueuedJob = Pick<Job<QueueData>, 'id' | 'retryCount' | 'data'>

interface ClaimedJob extends QueuedJob {
  waited: number
  /** When the oldest of those that were claimed with it was created. */
  floor: string
}

/** The claim that a row of the queue in state active stands for. */
export function claimOf({ id, retryCount, data }: QueuedJob, isSuspect: boolean, waited?: number): Claim {
  return {
    queued: { id, retryCount },
    // A row that somebody else put into the queue has no status row, and never runs.
    jobId: isUuid(data?.job) ? data.job : id,
    payload: data?.payload,
    attempt: retryCount + 1,
    isSuspect,
    waited,
  }
}

// By the clock of the database: ours may be wrong.
const waitedFor = ({ startAfter, startedOn }: Pick<JobWithMetadata, 'startAfter' | 'startedOn'>) =>
  startAfter && startedOn && (startedOn.getTime() - startAfter.getTime()) / 1000

const those = (claims: readonly Claim[]) => sql`job.id = any(${claims.map(({ queued }) => queued.id)}::uuid[])`

/**
 * That a row of `pgboss.job`, by the name of `job`, is one of these, still in the attempt in which it was claimed. Looked up
 * in one value: a list to join would be compared with, each with each.
 */
export const areHeld = (claims: readonly Claim[]): RawBuilder<boolean> => {
  const retryCounts = Object.fromEntries(claims.map(({ queued }) => [queued.id, queued.retryCount]))
  return sql`
    ${those(claims)} and job.state = 'active'
    and job.retry_count = (${JSON.stringify(retryCounts)}::jsonb -> job.id::text)::integer`
}

const attempts = (claims: readonly Claim[]) => claims.map(({ queued }) => queued)

// pg-boss answers how many rows it changed, and leaves that out of its types.
function assertOurs(response: object, claims: readonly Claim[]): void {
  const { affected } = response as { affected: number }
  if (affected !== claims.length) {
    throw new LostClaim(`${claims.length - affected} of ${claims.length} claims lost: ${claims.map((c) => c.jobId)}`)
  }
}
