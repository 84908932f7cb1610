import { Refusal } from '../acceptance.ts'
import type { LockWait } from '../db/locks.ts'
import { enqueue, type NewJob } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { readable } from '../primitives/thrown.ts'
import type { PgBoss } from '../queue/boss.ts'
import { assertPayload } from '../validation.ts'
import { claimKeys, type KeyClaim, setTimeouts } from './idempotency-key.ts'

/** A request that has passed all checks that do not need the database. */
export interface AcceptEntry {
  /** UUIDv7: the id of the new job. */
  id: string
  operation: Operation
  input: unknown
  params: unknown
  principal: string
  idempotency?: { key: string; fingerprint: Buffer } | undefined
  /** W3C traceparent. */
  traceparent?: string | undefined
  /** The only webhook endpoint to notify. Default: every endpoint that matches. */
  webhookEndpointId?: string | undefined
}

/** The outcome of an entry. */
export type AcceptOutcome =
  | { kind: 'accepted'; job: Job }
  /** An earlier request had the same key and the same fingerprint. */
  | { kind: 'replayed'; jobId: string }
  /** An earlier request had the same key and another fingerprint. */
  | { kind: 'key-reused' }

/**
 * Thrown when operations refuse one or more entries. The transaction must then be rolled back, because a refused
 * request must not write anything.
 */
export class EntriesRefused extends Error {
  override name = 'EntriesRefused'
  /** Maps the id of each refused entry to its refusal. */
  readonly refusals: ReadonlyMap<string, Refusal>

  constructor(refusals: ReadonlyMap<string, Refusal>) {
    super(`${refusals.size} entries refused`)
    this.refusals = refusals
  }
}

/**
 * Accepts requests within the transaction. Their keys, domain rows, status rows and queue rows commit together or not
 * at all. Returns one outcome for each entry, in the same order. The outcomes are valid only after the transaction has
 * committed.
 *
 * @param lockWait with `skip`, the outcome of an entry is undefined while another open transaction has its key locked
 * @throws EntriesRefused when an operation refused an entry
 * @throws TypeError when the `accept` of an operation returned a payload that does not match the operation's schema
 */
export async function accept(
  boss: PgBoss,
  trx: AnyTransaction,
  entries: readonly AcceptEntry[],
  lockWait: LockWait = 'wait',
): Promise<(AcceptOutcome | undefined)[]> {
  const holders = await claimAll(trx, entries, lockWait)
  const isFresh = ({ id, idempotency }: AcceptEntry) => !idempotency || holders.get(id)?.jobId === id
  const fresh = entries.filter(isFresh)
  const jobs = fresh.length > 0 ? await writeDomainRows(trx, fresh) : []
  const accepted = new Map((jobs.length > 0 ? await enqueue(boss, trx, jobs) : []).map((job) => [job.id, job]))
  return entries.map((entry) => toOutcome(entry, holders.get(entry.id), accepted.get(entry.id)))
}

async function claimAll(
  trx: AnyTransaction,
  entries: readonly AcceptEntry[],
  lockWait: LockWait,
): Promise<Map<string, KeyClaim | undefined>> {
  const claims = entries.flatMap(({ id, principal, idempotency }) =>
    idempotency ? [{ principal, ...idempotency, jobId: id }] : [],
  )
  if (claims.length === 0) {
    await setTimeouts(trx, lockWait)
    return new Map()
  }
  const holders = await claimKeys(trx, claims, lockWait)
  return new Map(claims.map(({ jobId }, index) => [jobId, holders[index]]))
}

/**
 * Calls the `accept` of each operation once, with all entries of the operation. Returns the jobs to enqueue.
 *
 * @throws EntriesRefused when an operation refused an entry
 */
export async function writeDomainRows(trx: AnyTransaction, entries: readonly AcceptEntry[]): Promise<NewJob[]> {
  const jobs: NewJob[] = []
  const refusals = new Map<string, Refusal>()
  for (const [operation, ofOperation] of Map.groupBy(entries, (entry) => entry.operation)) {
    const answers = await callAccept(operation, trx, ofOperation)
    for (const [index, entry] of ofOperation.entries()) {
      const answer = answers[index]
      if (!answer)
        throw new Error(`accept of '${operation.name}' must return one result for each entry, in the same order`)
      if (answer instanceof Refusal) {
        refusals.set(entry.id, answer)
        continue
      }
      // If the payload is the unchanged input, it was already validated together with the request.
      if (!isInput(answer.payload, entry)) assertPayload(operation, answer.payload)
      jobs.push(newJob(entry, answer))
    }
  }
  if (refusals.size > 0) throw new EntriesRefused(refusals)
  return jobs
}

async function callAccept(operation: Operation, trx: AnyTransaction, entries: readonly AcceptEntry[]) {
  if (!operation.accept) return entries.map(({ input }) => ({ payload: input }))
  const given = entries.map(({ id, input, params, principal }) => ({ id, input, params, principal }))
  try {
    return await operation.accept(trx, given)
  } catch (error) {
    const thrown = readable(error)
    // Only `refuse` declares an answer. An HTTP client of the app may have put the status of another server here.
    if (Object(thrown).statusCode === undefined) throw thrown
    throw new Error(`accept of '${operation.name}' failed`, { cause: thrown })
  }
}

const isInput = (payload: unknown, { operation: { schemas }, input }: AcceptEntry) =>
  payload === input && schemas.payload === schemas.input

const newJob = (entry: AcceptEntry, { payload, resource }: { payload: unknown; resource?: string }): NewJob => ({
  id: entry.id,
  operation: entry.operation,
  payload,
  resource,
  principal: entry.principal,
  idempotencyKey: entry.idempotency?.key,
  traceparent: entry.traceparent,
  webhookEndpointId: entry.webhookEndpointId,
})

function toOutcome(entry: AcceptEntry, holder: KeyClaim | undefined, job: Job | undefined): AcceptOutcome | undefined {
  if (job) return { kind: 'accepted', job }
  if (!holder) return undefined
  const isSame = entry.idempotency?.fingerprint.equals(holder.fingerprint)
  return isSame ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
}
