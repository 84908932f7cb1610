import { type RawBuilder, sql } from 'kysely'
import type { Job } from 'pg-boss'
import type { Database } from '../db/database.ts'
import { type LockWait, rowLock } from '../db/locks.ts'
import { pipeline } from '../db/pipeline.ts'
import { useCustomPlan, useGenericPlan } from '../db/plan-settings.ts'
import type { JobErrorColumn } from '../db/tables.ts'
import { type AnyTransaction, deliveryName, type Operation } from '../operation.ts'
import { bossOn, type PgBoss } from './boss.ts'
import { type Claim, claimList, claimOf, isHeartbeatOlderThan, isHeldBy, queueName } from './claim.ts'
import { ClaimCursor } from './claim-cursor.ts'
import { DeliveryClaims } from './delivery-claims.ts'
import { claimOfGroups } from './group-claims.ts'
import { LimitedClaims } from './limited-claims.ts'
import { assertAllHeld } from './lost-claim.ts'
import { claimQuarantinedJob } from './quarantined-claim.ts'
import { queueJob, queueJobPartition, queueSchema } from './schema.ts'

/**
 * The claims of one operation. Every method that changes claims throws {@link LostClaim} when one of the claims is
 * lost. A method that gets a transaction expects that the caller has set {@link useGenericPlan} in it.
 */
export class Claims {
  readonly #database: Database
  readonly #boss: PgBoss
  readonly #operation: Operation
  readonly #cursor: ClaimCursor
  readonly #deliveries: DeliveryClaims | undefined
  readonly #limited: LimitedClaims | undefined

  /** @param beginsFor the id of the worker for which claims also set jobs to running, where they can */
  constructor(database: Database, boss: PgBoss, operation: Operation, beginsFor?: string) {
    this.#database = database
    this.#boss = boss
    this.#operation = operation
    this.#cursor = new ClaimCursor(database.kysely, operation.name, { isFair: operation.fair, beginsFor })
    this.#deliveries = operation.name === deliveryName ? new DeliveryClaims(database.kysely) : undefined
    this.#limited = operation.limit && new LimitedClaims(database, operation)
  }

  get #isHeld(): RawBuilder<boolean> {
    return isHeldBy(queueName(this.#operation.name))
  }

  /**
   * Claims up to `limit` due jobs with SKIP LOCKED.
   *
   * @param onMore called later, if another claim may then find older jobs, or jobs that the limit then lets start
   * @param running the claims that the worker holds
   */
  async claim(limit: number, onMore?: () => void, running: Iterable<Claim> = []): Promise<Claim[]> {
    if (this.#deliveries) return this.#deliveries.claim(limit, running)
    const limited = await this.#limited?.claim(limit, onMore)
    if (limited) return limited
    if (this.#operation.groupConcurrency === undefined) {
      const rows = await this.#cursor.claim(limit, onMore)
      return rows.map((row) => claimOf(row, { waitedSeconds: row.waitedSeconds, begun: row.begun ?? undefined }))
    }
    return claimOfGroups(this.#database, this.#boss, this.#operation, limit)
  }

  /** Makes the next claim look at all due jobs, also at those that became due behind the last claim. */
  rescan(): void {
    this.#cursor.rescan()
  }

  /**
   * Notes that jobs have ended.
   *
   * @returns whether jobs that had to wait for them may now run
   */
  freePlaces(ended: readonly Claim[]): boolean {
    if (this.#limited) return this.#limited.freePlaces(ended)
    return this.#deliveries !== undefined || this.#operation.groupConcurrency !== undefined
  }

  /**
   * Claims a quarantined job by its queue row. Returns undefined when another worker holds the job, or when the job's
   * group or its limit is full.
   */
  async claimQuarantined(queueId: string): Promise<Claim | undefined> {
    return claimQuarantinedJob(this.#database, this.#operation, queueId)
  }

  /** Deletes the queue rows of jobs that have succeeded, were canceled, or had already ended. */
  async complete(trx: AnyTransaction, claims: readonly Claim[]): Promise<void> {
    if (claims.length === 0) return
    const { numAffectedRows } = await sql`
      delete from ${queueJobPartition} using ${claimList(claims)} where ${this.#isHeld}`.execute(trx)
    assertAllHeld(Number(numAffectedRows), claims)
  }

  /**
   * Fails an attempt. The job waits for its next attempt, or fails for good when `retryAfterSeconds` is `never`.
   *
   * @param retryAfterSeconds the pause before the next attempt; `never` for no next attempt. Default: the operation's
   *   retry policy.
   * @returns the pause before the next attempt, in seconds; undefined when there is none
   */
  async fail(
    trx: AnyTransaction,
    claim: Claim,
    error: JobErrorColumn,
    retryAfterSeconds?: number | 'never',
  ): Promise<number | undefined> {
    // pg-boss decides by the queue row: it compares retry_count with retry_limit, and takes the pause from retry_delay.
    const change =
      retryAfterSeconds === 'never'
        ? sql`retry_limit = job.retry_count`
        : sql`
          retry_limit = greatest(job.retry_limit, job.retry_count + 1),
          retry_delay = coalesce(${retryAfterSeconds === undefined ? null : Math.ceil(retryAfterSeconds)}::integer, retry_delay),
          retry_backoff = retry_backoff and ${retryAfterSeconds === undefined}`
    await pipeline(trx, (trx) => [
      sql`update ${queueJobPartition} set ${change} from ${claimList([claim])} where ${this.#isHeld}`.execute(trx),
      useCustomPlan(trx),
    ])
    const response = await this.#boss.fail(
      this.#operation.name,
      [claim.queued as Job],
      { ...error },
      { db: bossOn(trx) },
    )
    await useGenericPlan(trx)
    // `affected` is the number of changed rows. The types of pg-boss do not contain it.
    assertAllHeld((response as object as { affected: number }).affected, [claim])
    if (retryAfterSeconds === 'never') return undefined
    const { rows } = await sql<{ seconds: number }>`
      select extract(epoch from start_after - now())::float8 as seconds
      from ${queueJob} where name = ${this.#operation.name} and id = ${claim.queued.id}`.execute(trx)
    return rows[0]?.seconds
  }

  /**
   * Releases claims without using up their attempts.
   *
   * @param delaySeconds how long until the jobs are due again
   */
  async release(trx: AnyTransaction, claims: readonly Claim[], delaySeconds: number): Promise<void> {
    if (claims.length === 0) return
    const quarantined = claims.filter(({ isQuarantined }) => isQuarantined)
    // Clears started_on, so that the next claim does not count as a retry.
    const { numAffectedRows } = await sql`
      update ${queueJobPartition} set
        state = case when job.retry_count = 0 then 'created' else 'retry' end::${sql.raw(queueSchema)}.job_state,
        started_on = null, heartbeat_on = null,
        -- Without a delay, the job keeps its place before jobs that became due later.
        start_after = case when ${delaySeconds}::float8 > 0 then now() + make_interval(secs => ${delaySeconds})
          else least(job.start_after, now()) end,
        blocked = job.id = any(${quarantined.map(({ queued }) => queued.id)}::uuid[])
      from ${claimList(claims)} where ${this.#isHeld}`.execute(trx)
    assertAllHeld(Number(numAffectedRows), claims)
  }

  /**
   * Locks the queue rows that are still active in the claimed attempt, and returns their claims. Any worker may hold
   * these claims.
   *
   * @param options.isOverdue whether to lock only rows whose heartbeat is overdue
   */
  lock(
    trx: AnyTransaction,
    claims: readonly Claim[],
    { isOverdue, lockWait }: { isOverdue: boolean; lockWait: LockWait },
  ): Promise<Claim[]> {
    const { heartbeatSeconds } = this.#operation
    const overdue = isOverdue ? sql`where ${isHeartbeatOlderThan(sql`${heartbeatSeconds}::integer`)}` : sql``
    return this.#findHeld(trx, claims, sql`${overdue} order by claim.id ${rowLock[lockWait]}`)
  }

  /** Returns the claims that are still active in their attempt. Takes no locks and waits for no lock. */
  findHeld(trx: AnyTransaction, claims: readonly Claim[]): Promise<Claim[]> {
    return this.#findHeld(trx, claims, sql``)
  }

  /** Builds a statement that returns a row when the claim is no longer held, and no row while it is held. */
  notHeldProof(claim: Claim): RawBuilder<unknown> {
    return sql`
      select where not exists (select from ${claimList([claim])} join ${queueJobPartition} on ${this.#isHeld})`
  }

  /**
   * Rescues jobs from a dead worker. The jobs are due again, in their old place, and have as many attempts left. The next
   * claim has a new attempt number. So if the worker was not dead and continues, its old claim is lost.
   *
   * @param options.isQuarantined whether only {@link claimQuarantined} may claim the jobs
   */
  async rescue(
    trx: AnyTransaction,
    claims: readonly Claim[],
    { isQuarantined }: { isQuarantined: boolean },
  ): Promise<void> {
    if (claims.length === 0) return
    const { numAffectedRows } = await sql`
      update ${queueJobPartition} set
        state = 'retry', retry_limit = retry_limit + 1, start_after = least(job.start_after, now()),
        blocked = ${isQuarantined}
      from ${claimList(claims)} where ${this.#isHeld}`.execute(trx)
    assertAllHeld(Number(numAffectedRows), claims)
  }

  /** @param clause the end of the statement: further conditions, the order and the lock */
  async #findHeld(trx: AnyTransaction, claims: readonly Claim[], clause: RawBuilder<unknown>): Promise<Claim[]> {
    if (claims.length === 0) return []
    const { rows } = await sql<{ id: string }>`
      select claim.id from ${claimList(claims)} join ${queueJobPartition} on ${this.#isHeld} ${clause}`.execute(trx)
    const held = new Set(rows.map(({ id }) => id))
    return claims.filter(({ queued }) => held.has(queued.id))
  }
}
