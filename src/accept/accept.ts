import type { PgBoss } from '../db/boss.ts'
import { enqueue, type NewJob } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import { type AnyTransaction, type Operation, Refusal } from '../operation.ts'
import { assertPayload } from '../validation.ts'
import { boundWaiting, claimKeys, type KeyClaim, type WhenHeld } from './idempotency-key.ts'

/** A request that passed every check that needs no database. */
export interface AcceptEntry {
  /** UUIDv7: the id of the job it becomes. */
  id: string
  operation: Operation
  input: unknown
  params: unknown
  principal: string
  idempotency?: { key: string; fingerprint: Buffer } | undefined
  /** W3C traceparent. */
  trace?: string | undefined
  /** The one webhook endpoint to tell the end to; else all that match. */
  webhookEndpointId?: string | undefined
}

/** What became of an entry. */
export type Outcome =
  | { kind: 'accepted'; job: Job }
  /** The key belongs to an earlier, equal request. */
  | { kind: 'replayed'; jobId: string }
  /** The key belongs to another request. */
  | { kind: 'key-reused' }

/** One or more entries were refused by their operation: the transaction must be rolled back, for nothing may be kept. */
export class EntriesRefused extends Error {
  override name = 'EntriesRefused'
  /** Per refused entry's id. */
  readonly refusals: ReadonlyMap<string, Refusal>

  constructor(refusals: ReadonlyMap<string, Refusal>) {
    super(`${refusals.size} refused`)
    this.refusals = refusals
  }
}

/**
 * Accepts requests within the transaction: their keys, their domain rows, their status rows and their jobs commit
 * together or not at all. Answers what became of each, in the same order; true only once the transaction has committed.
 *
 * @param whenHeld `skip` leaves out, and answers undefined for, those whose key a request holds that is still being accepted
 * @throws EntriesRefused when an operation refused an entry
 * @throws TypeError when what an operation's `accept` answers does not fit its payload schema
 */
export async function accept(
  boss: PgBoss,
  trx: AnyTransaction,
  entries: readonly AcceptEntry[],
  whenHeld: WhenHeld = 'wait',
): Promise<(Outcome | undefined)[]> {
  const holders = await claimAll(trx, entries, whenHeld)
  const isFresh = ({ id, idempotency }: AcceptEntry) => !idempotency || holders.get(id)?.jobId === id
  const fresh = entries.filter(isFresh)
  const jobs = fresh.length > 0 ? await writeDomainRows(trx, fresh) : []
  const accepted = new Map((jobs.length > 0 ? await enqueue(boss, trx, jobs) : []).map((job) => [job.id, job]))
  return entries.map((entry) => outcomeOf(entry, holders.get(entry.id), accepted.get(entry.id)))
}

async function claimAll(
  trx: AnyTransaction,
  entries: readonly AcceptEntry[],
  whenHeld: WhenHeld,
): Promise<Map<string, KeyClaim | undefined>> {
  const claims = entries.flatMap(({ id, principal, idempotency }) =>
    idempotency ? [{ principal, ...idempotency, jobId: id }] : [],
  )
  if (claims.length === 0) {
    await boundWaiting(trx, whenHeld)
    return new Map()
  }
  const holders = await claimKeys(trx, claims, whenHeld)
  return new Map(claims.map(({ jobId }, index) => [jobId, holders[index]]))
}

/** Calls each operation's `accept` once, with all of its entries; what it answers becomes the jobs. */
async function writeDomainRows(trx: AnyTransaction, entries: readonly AcceptEntry[]): Promise<NewJob[]> {
  const jobs: NewJob[] = []
  const refusals = new Map<string, Refusal>()
  for (const [operation, ofOperation] of Map.groupBy(entries, (entry) => entry.operation)) {
    const answers = await decide(operation, trx, ofOperation)
    for (const [index, entry] of ofOperation.entries()) {
      const answer = answers[index]
      if (!answer) throw new Error(`accept of '${operation.name}' must answer for every entry, in the same order`)
      if (answer instanceof Refusal) {
        refusals.set(entry.id, answer)
        continue
      }
      // An input that is passed on has been validated with the request.
      if (!isInput(answer.payload, entry)) assertPayload(operation, answer.payload)
      jobs.push(newJob(entry, answer))
    }
  }
  if (refusals.size > 0) throw new EntriesRefused(refusals)
  return jobs
}

async function decide(operation: Operation, trx: AnyTransaction, entries: readonly AcceptEntry[]) {
  if (!operation.accept) return entries.map(({ input }) => ({ payload: input }))
  return operation.accept(
    trx,
    entries.map(({ id, input, params, principal }) => ({ id, input, params, principal })),
  )
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
  trace: entry.trace,
  webhookEndpointId: entry.webhookEndpointId,
})

function outcomeOf(entry: AcceptEntry, holder: KeyClaim | undefined, job: Job | undefined): Outcome | undefined {
  if (job) return { kind: 'accepted', job }
  if (!holder) return undefined
  const isSame = entry.idempotency?.fingerprint.equals(holder.fingerprint)
  return isSame ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
}
