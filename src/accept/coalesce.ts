import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import { type LockWait, withLockTimeoutError } from '../db/locks.ts'
import { ProblemError } from '../errors.ts'
import { type Job, markCut, type SharedRow, sharedColumns } from '../jobs/job.ts'
import type { Seals } from '../jobs/seals.ts'
import { limitKeyOf } from '../limit.ts'
import type { AnyTransaction, Operation } from '../operation.ts'

/** What this module needs to know of a request. */
interface Request {
  /** UUIDv7. */
  id: string
  operation: Operation
  principal: string
  coalescingKey?: string | undefined
  webhookEndpointId?: string | undefined
}

/** Requests that get the same job, in the order of their arrival. Without a coalescing key, a request is alone. */
export interface RequestGroup<Entry extends Request = Request> {
  jobId: string
  operation: Operation
  entries: readonly Entry[]
  /** Whether an earlier transaction has created the job. */
  exists: boolean
  /** When the job is due. Undefined: immediately. */
  runAt?: Date | undefined
  /** The payload of an existing job that a request may replace. */
  payload?: unknown
}

interface WindowRow {
  is_locked: boolean
  job_id: string
  ends_at: Date
  payload: unknown
}

/** Names the window of a request. Returns undefined for a request without a coalescing key. */
export const windowOf = ({ operation, principal, coalescingKey }: Request): string | undefined =>
  coalescingKey === undefined ? undefined : `${operation.name}\0${principal}\0${coalescingKey}`

/**
 * Groups requests by the job that they will get, and locks the jobs that exist already. Sends no statement if no request
 * has a coalescing key.
 *
 * @param seals opens the payloads of existing jobs
 * @param lockWait with `skip`, leaves out requests whose key or job another open transaction has locked
 * @throws ProblemError job-locked when another transaction keeps them locked for more than 5 seconds
 */
export async function groupRequests<Entry extends Request>(
  trx: AnyTransaction,
  entries: readonly Entry[],
  seals: Seals,
  lockWait: LockWait,
): Promise<RequestGroup<Entry>[]> {
  const byWindow = Map.groupBy(entries, windowOf)
  const alone = (byWindow.get(undefined) ?? []).map((entry) => {
    return { jobId: entry.id, operation: entry.operation, entries: [entry], exists: false }
  })
  byWindow.delete(undefined)
  if (byWindow.size === 0) return alone
  // All transactions lock keys in the same order, so that they cannot deadlock.
  const sorted = [...byWindow].toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1)).map(([, together]) => together)
  const take = () =>
    takeKeys(
      trx,
      sorted.map(([first]) => first as Entry),
      lockWait,
    )
  const windows = await (lockWait === 'wait' ? withLockTimeoutError(take, jobLocked) : take())
  const groups = windows.flatMap((window, index) => {
    return window.is_locked ? [toGroup(window, sorted[index] as Entry[], seals)] : []
  })
  return [...alone, ...groups]
}

const jobLocked = (cause: unknown) =>
  new ProblemError('job-locked', 'Another transaction has locked the job that the request would share', {
    ...{ retryAfterSeconds: 1, cause },
  })

async function takeKeys(trx: AnyTransaction, requests: readonly Request[], lockWait: LockWait): Promise<WindowRow[]> {
  const { rows } = await sql<WindowRow>`
    select is_locked, job_id, ends_at, payload from accepted.take_coalescing_keys(
      ${requests.map(({ operation }) => operation.name)}::text[],
      ${requests.map(({ principal }) => principal)}::text[],
      ${requests.map(({ coalescingKey }) => coalescingKey)}::text[],
      ${requests.map(({ id }) => id)}::uuid[],
      ${requests.map(({ operation }) => operation.coalesce?.forSeconds)}::integer[],
      ${requests.map(({ operation }) => isLast(operation))}::boolean[],
      ${lockWait === 'wait'}
    )`.execute(trx)
  return rows
}

/** Whether the last request of a window decides what its job does. */
export const isLast = ({ coalesce }: Operation): boolean => coalesce?.mode === 'last'

function toGroup<Entry extends Request>(
  { job_id, ends_at, payload }: WindowRow,
  entries: Entry[],
  seals: Seals,
): RequestGroup<Entry> {
  const [first] = entries as [Entry]
  const { id, operation } = first
  const exists = job_id !== id
  const runAt = isLast(operation) ? ends_at : undefined
  const replaceable = exists && isLast(operation) && { payload: seals.open('payload', first, payload) }
  return { jobId: job_id, operation, entries, exists, runAt, ...replaceable }
}

/**
 * The only webhook endpoint to notify of the job of these requests. If the requests differ, all matching endpoints are
 * notified.
 */
export function sharedEndpoint(entries: readonly Request[]): string | undefined {
  const [first, ...more] = entries
  return more.every(({ webhookEndpointId }) => webhookEndpointId === first?.webhookEndpointId)
    ? first?.webhookEndpointId
    : undefined
}

/** Requests that get an existing job. */
export interface SharedRequests {
  group: RequestGroup
  /** What replaces the payload and the resource of the job. Undefined: they stay as they are. */
  replacement: { payload: unknown; resource?: string } | undefined
}

/** Counts requests at the jobs that they share, and replaces payloads. Returns the jobs, without large results. */
export async function shareJobs(trx: AnyTransaction, shared: readonly SharedRequests[], seals: Seals): Promise<Job[]> {
  if (shared.length === 0) return []
  const { rows } = await sql<SharedRow & { transaction_id: string }>`
    select ${sharedColumns}, ${currentTransactionId} as transaction_id
    from accepted.coalesce_requests(${JSON.stringify(shared.map((one) => toRow(one, seals)))}::jsonb) as job`.execute(
    trx,
  )
  const [first] = rows
  // A later transaction may change the same job, but only this one has recorded a change under its id.
  registerCommitCheck(trx, {
    transactionId: first?.transaction_id,
    commitProof: sql`
      select from accepted.change where xid = ${first?.transaction_id}::xid8 and ${first?.id}::uuid = any(job_ids)`,
  })
  return rows.map(({ transaction_id: _transactionId, ...row }) => markCut(row))
}

const toRow = ({ group: { jobId, operation, entries }, replacement }: SharedRequests, seals: Seals) => ({
  id: jobId,
  operation: operation.name,
  requests: entries.length,
  webhook_endpoint_id: sharedEndpoint(entries),
  replaces: replacement !== undefined,
  ...(replacement && {
    // The requests of a window have the same principal.
    payload: seals.seal('payload', entries[0] as Request, replacement.payload),
    resource: replacement.resource,
    group_id: operation.group?.(replacement.payload),
    limit_key: limitKeyOf(operation, replacement.payload),
  }),
})
