import { type Kysely, type RawBuilder, sql } from 'kysely'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import type { Tables } from '../db/tables.ts'
import { idIn, type Job, jobColumns, markCut, retryColumns, type SharedRow, sharedColumns } from './job.ts'

const columns = sql.join(jobColumns.map((name) => sql.ref(name)))
const columnsWithoutResult = sql.join(
  jobColumns.map((name) => (name === 'result' ? sql`null as result` : sql.ref(name))),
)
const isExpired = sql`ended_at is not null and expires_at <= now() as expired`
const nextAttempt = sql`
  case when status = 'queued' then accepted.next_attempt_at(operation, id) end as next_attempt_at,
  case when status = 'queued' and attempt > 0 then accepted.last_error(id) end as last_error`

type Row = SharedRow & { expired: boolean }

/**
 * The job, if it was found. `expired` means that the job's record is gone. `unknown` means that the job does not exist,
 * or that the caller may not see it.
 */
export type Found = { job: Job } | 'expired' | 'unknown'

// RFC 9562, section 5.7: version 7, variant 10.
const uuid7Pattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

/** Returns whether a text may be the id of a job. */
export const isUuid7 = (text: string): boolean => uuid7Pattern.test(text)

/** Which jobs a caller may see. An undefined member does not restrict them. */
export interface JobFilter {
  principal: string | undefined
  operations?: readonly string[] | undefined
  /** The only job that the caller may see. */
  id?: string | undefined
}

/**
 * A condition on a job. With `is true`, Postgres cannot use the index of the principal's jobs, which for several ids
 * would read those between them too.
 */
const isVisible = ({ principal, operations, id }: JobFilter): RawBuilder<boolean> => sql`
  (${principal ?? null}::text is null or principal = ${principal ?? null}) is true
  and (${operations ?? null}::text[] is null or operation = any(${operations ?? null}::text[])) is true
  and (${id ?? null}::uuid is null or id = ${id ?? null}::uuid) is true`

/**
 * Finds a job that the caller may see. Leaves out a large result: see {@link readWholeJob}.
 *
 * If there is no row and the jobs of the day of the id have been deleted, the answer is `expired` for every principal.
 * Without the row, it is unknown whether the job existed and which principal owned it.
 *
 * Another principal's row is not returned, so that reading its result or error takes no time. Otherwise the duration
 * would reveal that the job exists.
 */
export async function findJob(db: Kysely<Tables>, id: string, filter: JobFilter): Promise<Found> {
  if (!uuid7Pattern.test(id)) return 'unknown'
  const query = sql<Row>`
    select ${sharedColumns}, ${isExpired}, ${nextAttempt} from accepted.job
    where id = ${id} and ${isVisible(filter)}`
  const { rows } = await runWithGenericPlan(db, query)
  return rows[0] ? toFound(rows[0]) : ((await findDeleted(db, [id])).get(id) ?? 'unknown')
}

/**
 * Finds several jobs in one query, with the rules of {@link findJob}.
 *
 * @param ids the ids in lower case, as Postgres returns them
 */
export async function findJobs(
  db: Kysely<Tables>,
  ids: readonly string[],
  filter: JobFilter,
): Promise<Map<string, Found>> {
  const wellFormed = ids.filter((id) => uuid7Pattern.test(id))
  const found = new Map<string, Found>(ids.map((id) => [id, 'unknown']))
  if (wellFormed.length === 0) return found
  const query = sql<Row>`
    select ${sharedColumns}, ${isExpired}, ${retryColumns} from accepted.job
    where ${idIn(wellFormed)} and ${isVisible(filter)}`
  const { rows } = await runWithGenericPlan(db, query)
  const rowOf = new Map(rows.map((row) => [row.id, row]))
  for (const [id, row] of rowOf) found.set(id, toFound(row))
  const missing = wellFormed.filter((id) => !rowOf.has(id))
  for (const [id, outcome] of await findDeleted(db, missing)) found.set(id, outcome)
  return found
}

const toFound = (row: Row): Found => (row.expired ? 'expired' : { job: markCut(row) })

/** Finds the ids without a row whose record may have been deleted together with all records of its day. */
async function findDeleted(db: Kysely<Tables>, ids: readonly string[]): Promise<Map<string, 'expired'>> {
  const earlier = ids.filter(isOfEarlierDay)
  if (earlier.length === 0) return new Map()
  const { rows } = await sql<{ id: string }>`
    select id from unnest(${earlier}::uuid[]) as missing (id) where accepted.may_be_deleted(id)`.execute(db)
  return new Map(rows.map(({ id }) => [id, 'expired']))
}

/** A job with all details of its error. Its result is JSON that was not parsed. */
export interface WholeJob {
  job: Job & { result: null }
  resultJson: string | null
}

/**
 * Reads a job of any principal with its result, however large. Reading the result takes time, but parsing and
 * serialising it would take ten times as long. Returns undefined when the job has no record.
 */
export async function readWholeJob(db: Kysely<Tables>, id: string): Promise<WholeJob | undefined> {
  const query = sql<Job & { result: null; result_json: string | null }>`
    select ${columnsWithoutResult}, result::text as result_json from accepted.job where id = ${id}`
  const { rows } = await runWithGenericPlan(db, query)
  if (!rows[0]) return undefined
  const { result_json: resultJson, ...job } = rows[0]
  return { job, resultJson }
}

/** Reads a job of any principal. Returns undefined when the job has no record. */
export async function readJob(db: Kysely<Tables>, id: string): Promise<Job | undefined> {
  const { rows } = await runWithGenericPlan(db, sql<Job>`select ${columns} from accepted.job where id = ${id}`)
  return rows[0]
}

const msPerDay = 86_400_000

/** The records of a day (UTC) are deleted on a later day. */
function isOfEarlierDay(id: string): boolean {
  const createdAt = Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)
  return Math.floor(createdAt / msPerDay) < Math.floor(Date.now() / msPerDay)
}
