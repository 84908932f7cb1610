import type { Acceptance } from '../acceptance.ts'
import { readTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import type { LockWait } from '../db/locks.ts'
import { pipeline } from '../db/pipeline.ts'
import { enqueueAndCommit } from '../jobs/enqueue.ts'
import type { Job } from '../jobs/job.ts'
import { insertProof, type NewJob, toInserted } from '../jobs/new-job.ts'
import type { Seals } from '../jobs/seals.ts'
import type { AnyTransaction } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import { groupRequests, sharedEndpoint, shareJobs } from './coalesce.ts'
import { type Group, writeDomainRows } from './domain-rows.ts'
import type { AcceptEntry } from './entry.ts'
import { isSameRequest } from './fingerprint.ts'
import { claimKeys, type KeyClaim, setTimeouts, takeOver } from './idempotency-key.ts'

export { type AcceptEntry, EntriesRefused } from './entry.ts'

/** The outcome of an entry. */
export type AcceptOutcome =
  | { kind: 'accepted'; job: Job }
  /** The request shares the job of an earlier request. */
  | { kind: 'coalesced'; job: Job }
  /** An earlier request had the same key and the same fingerprint. */
  | { kind: 'replayed'; jobId: string }
  /** An earlier request had the same key and another fingerprint. */
  | { kind: 'key-reused' }

/** Requests that are written, except their new jobs. */
export interface Accepted {
  /** One for each entry, in the same order. They are valid only after the transaction has committed. */
  outcomes: (AcceptOutcome | undefined)[]
  /** Writes the new jobs, and sends the COMMIT with them. Does nothing without new jobs. */
  commit(): Promise<void>
}

/** What accepting needs besides the transaction. */
export interface AcceptContext {
  boss: PgBoss
  seals: Seals
}

/**
 * Accepts requests within the transaction: writes their keys and domain rows, and returns how to write their status rows
 * and queue rows. All of them commit together or not at all.
 *
 * @param lockWait with `skip`, the outcome of an entry is undefined while another open transaction has locked its key,
 *   its coalescing key or the job that it would share
 * @throws EntriesRefused when an operation refused an entry
 * @throws TypeError when the `accept` of an operation returned a payload that does not match the operation's schema
 */
export async function accept(
  { boss, seals }: AcceptContext,
  trx: AnyTransaction,
  entries: readonly AcceptEntry[],
  lockWait: LockWait = 'wait',
): Promise<Accepted> {
  const claims = entries.flatMap(({ id, principal, idempotency }) =>
    idempotency ? [{ principal, ...idempotency, jobId: id }] : [],
  )
  const [now, found, assignedId] = await pipeline(trx, (trx) => [
    setTimeouts(trx, lockWait),
    claimKeys(trx, claims, lockWait),
    // A repeated request writes nothing, and needs no id.
    readTransactionId(trx, claims.length < entries.length),
  ])
  const holders = new Map(claims.map(({ jobId }, index) => [jobId, found[index]]))
  const fresh = entries.filter(({ id, idempotency }) => !idempotency || holders.get(id)?.jobId === id)
  const groups = await groupRequests(trx, fresh, seals, lockWait)
  const acceptances = await writeDomainRows(trx, groups)
  await moveKeys(trx, groups)
  const existing = groups.filter(({ exists }) => exists)
  const shared = existing.map((group) => ({ group, replacement: acceptances.get(group) }))
  const created = groups.filter(({ exists }) => !exists)
  const newJobs = created.map((group) => newJob(group, acceptances.get(group) as Acceptance<unknown>))
  const jobs = [...(await shareJobs(trx, shared, seals)), ...newJobs.map((job) => toInserted(job, now))]
  const outcomes = toOutcomes(entries, { fresh, groups, holders, jobs })
  return {
    outcomes,
    async commit() {
      const [first] = newJobs
      // Kysely then sends the COMMIT. shareJobs has registered a check.
      if (!first) return
      const transactionId = assignedId ?? (await readTransactionId(trx, true))
      registerCommitCheck(trx, { transactionId, commitProof: insertProof(first.id), outcome: { result: outcomes } })
      await enqueueAndCommit(boss, trx, newJobs, seals)
    },
  }
}

interface Written {
  /** The entries whose keys were free. */
  fresh: readonly AcceptEntry[]
  groups: readonly Group[]
  /** The claim that has the key of an entry, by the id of the entry. */
  holders: ReadonlyMap<string, KeyClaim | undefined>
  /** The jobs of the groups. */
  jobs: readonly Job[]
}

function toOutcomes(
  entries: readonly AcceptEntry[],
  { fresh, groups, holders, jobs }: Written,
): (AcceptOutcome | undefined)[] {
  const jobOf = new Map(jobs.map((job) => [job.id, job]))
  const groupOf = new Map(groups.flatMap((group) => group.entries.map(({ id }) => [id, group] as const)))
  // The idempotency key of a locked entry counts as unused, because its job does not exist.
  const locked = new Set(fresh.filter(({ id }) => !groupOf.has(id)).map(({ id }) => id))
  return entries.map((entry) => {
    const group = groupOf.get(entry.id)
    if (group) return { kind: isFirst(group, entry) ? 'accepted' : 'coalesced', job: jobOf.get(group.jobId) as Job }
    const holder = holders.get(entry.id)
    if (!holder || locked.has(holder.jobId)) return undefined
    return toReplay(entry, { ...holder, jobId: groupOf.get(holder.jobId)?.jobId ?? holder.jobId })
  })
}

const isFirst = ({ exists, jobId }: Group, { id }: AcceptEntry) => !exists && jobId === id

/**
 * Calls the `accept` of each operation once, with all of its entries. Returns the jobs to enqueue, in the same order. No
 * entry shares a job.
 *
 * @throws EntriesRefused when an operation refused an entry
 */
export async function acceptSeparately(trx: AnyTransaction, entries: readonly AcceptEntry[]): Promise<NewJob[]> {
  const groups = entries.map((entry): Group => {
    return { jobId: entry.id, operation: entry.operation, entries: [entry], exists: false }
  })
  const acceptances = await writeDomainRows(trx, groups)
  return groups.map((group) => newJob(group, acceptances.get(group) as Acceptance<unknown>))
}

/** The job belongs to the first request. A later request decides only what the job does. */
function newJob({ entries, runAt: windowEnd }: Group, acceptance: Acceptance<unknown>): NewJob {
  const [first] = entries as readonly [AcceptEntry]
  const { payload, resource, runAt = windowEnd } = acceptance
  return {
    id: first.id,
    operation: first.operation,
    payload,
    resource,
    runAt,
    principal: first.principal,
    idempotencyKey: first.idempotency?.key,
    traceparent: first.traceparent,
    tracestate: first.tracestate,
    webhookEndpointId: sharedEndpoint(entries),
    coalesced: entries.length - 1,
  }
}

/** Binds the idempotency keys of requests that share the job of another request to this job. */
async function moveKeys(trx: AnyTransaction, groups: readonly Group[]): Promise<void> {
  const claims = groups.flatMap(({ jobId, entries }) =>
    entries.flatMap(({ id, principal, idempotency }) =>
      idempotency && id !== jobId ? [{ principal, ...idempotency, jobId }] : [],
    ),
  )
  await takeOver(trx, claims)
}

function toReplay(entry: AcceptEntry, holder: KeyClaim): AcceptOutcome {
  const isSame = entry.idempotency && isSameRequest(entry.idempotency, holder)
  return isSame ? { kind: 'replayed', jobId: holder.jobId } : { kind: 'key-reused' }
}
