import { defineOperation, type Operation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { Claims } from '../../../src/queue/claims.ts'
import type { Jobs } from '../../support/jobs.ts'
import { Word } from '../support.ts'

export const once = defineOperation({ name: 'word.once', input: Word, retry: { limit: 0 } })
export const often = defineOperation({ name: 'word.often', input: Word })

/** Claims jobs and makes their heartbeats overdue, as if their worker had died. */
export async function claimAndDie(jobs: Jobs, operation: Operation, count: number) {
  const claims = new Claims(jobs.database, jobs.boss, operation)
  const claimed = await claims.claim(count)
  if (claimed.length !== count) throw new Error(`Claimed ${claimed.length} jobs instead of ${count}`)
  await jobs.query("update accepted_queue.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
  return { claims, claimed }
}

/** Adds jobs. Returns their ids. */
export const addWords = (jobs: Jobs, operation: typeof once | typeof often, count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () => jobs.add(operation, { word: 'x' })))

interface QuarantineRow {
  crashes?: number
  rescues?: number
  groupSize?: number
  /** An SQL expression. Default: a minute ago. */
  crashedAt?: string
  /** Default: not reserved. */
  reservedUntil?: 'now' | 'infinity'
}

/** Puts a job into quarantine, as if workers had died while they ran the job. */
export const addToQuarantine = (
  jobs: Jobs,
  id: string,
  {
    crashes = 1,
    rescues = crashes,
    groupSize = 1,
    crashedAt = "now() - interval '1 minute'",
    reservedUntil = 'now',
  }: QuarantineRow,
) =>
  jobs.query(
    `insert into accepted.quarantine (job_id, operation, queue_id, crashes, rescues, group_size, crashed_at, reserved_until)
    select id, operation, id, $2, $3, $4, ${crashedAt}, $5 from accepted.job where id = $1`,
    [id, crashes, rescues, groupSize, reservedUntil],
  )

export type Perform = (job: { id: string; attempt: number }) => Promise<void>

export const handlersOf = (performOnce: Perform, performOften: Perform = performOnce) =>
  defineHandlers({ once, often }, { 'word.once': { perform: performOnce }, 'word.often': { perform: performOften } })

/** Creates handlers that record, for each job, the largest number of other jobs that ran at the same time. */
export function createRecordingHandlers() {
  const running = new Set<string>()
  const concurrentJobs = new Map<string, number>()
  const perform: Perform = async ({ id }) => {
    running.add(id)
    for (const each of running) concurrentJobs.set(each, Math.max(concurrentJobs.get(each) ?? 0, running.size - 1))
    await new Promise((resolve) => setTimeout(resolve, 250))
    running.delete(id)
  }
  return { concurrentJobs, handlers: handlersOf(perform) }
}
