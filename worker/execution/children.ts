import { sql } from 'kysely'
import { type Followed, nothingFollowed, type ResolvedRow, toFollowed } from '../../src/jobs/relatives.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Claim, payloadInQueue } from '../../src/queue/claim.ts'
import { LostClaim } from '../../src/queue/lost-claim.ts'
import { type JobCompletion, type StatusWriter, toJson } from './job-status.ts'

/**
 * Writes the results of jobs that have enqueued children. The jobs run until their children have ended. Keeps their
 * payloads for a retry, because their queue rows are deleted now.
 *
 * @returns what has followed, if all children of a job have ended already: they waited for a failed job
 * @throws LostClaim when one of the jobs is no longer pending
 */
export async function writeAwaiting(
  trx: AnyTransaction,
  { operation, workerId }: StatusWriter,
  completions: readonly JobCompletion[],
  claims: readonly Claim[],
): Promise<Followed> {
  if (completions.length === 0) return nothingFollowed
  const queueIds = new Map(claims.map(({ jobId, queued }) => [jobId, queued.id]))
  const ids = completions.map(({ id }) => id)
  const { numAffectedRows } = await sql`
    update accepted.job set
      status = 'running', attempt = done.attempt, result = done.result, resource = coalesce(done.resource, job.resource),
      payload = coalesce(${payloadInQueue(sql`${operation.name}::text`, sql`done.queue_id`)}, job.payload),
      started_at = coalesce(job.started_at, now()), percent = coalesce(percent, 0), progress_base = null, worker_id = ${workerId},
      updated_at = statement_timestamp(), sequence = sequence + 1
    from unnest(
      ${ids}::uuid[],
      ${completions.map(({ attempt }) => attempt)}::integer[],
      ${completions.map(({ result }) => toJson(result))}::jsonb[],
      ${completions.map(({ resource }) => resource ?? null)}::text[],
      ${ids.map((id) => queueIds.get(id) ?? null)}::uuid[]
    ) as done (id, attempt, result, resource, queue_id)
    where job.id = done.id and job.operation = ${operation.name} and job.ended_at is null`.execute(trx)
  if (Number(numAffectedRows) !== completions.length) throw new LostClaim(`Another transaction has ended one of ${ids}`)
  const { rows } = await sql<ResolvedRow>`select * from accepted.await_children(${ids}::uuid[])`.execute(trx)
  return toFollowed(rows)
}
