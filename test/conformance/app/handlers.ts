import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers, JobFailed } from 'accepted/worker'
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Action, Tables } from './operations.ts'
import * as operations from './operations.ts'

/** Waits until the test has added a step for the job. Deletes the step and returns its action. */
async function nextStep(db: Kysely<Tables>, id: string, signal: AbortSignal | undefined): Promise<Action> {
  for (;;) {
    const { rows } = await sql<{ action: Action }>`
      delete from step where number = (select min(number) from step where job_id = ${id}) returning action`.execute(db)
    if (rows[0]) return rows[0].action
    await delay(20, undefined, signal && { signal })
  }
}

export default defineHandlers(operations, ({ db: anyDb }) => {
  const db: Kysely<Tables> = anyDb
  const record = (jobId: string, event: string) =>
    db.insertInto('observation').values({ job_id: jobId, event }).execute()
  const affect = async (trx: Transaction<Tables>, jobs: readonly { id: string }[]) => {
    await trx
      .insertInto('effect')
      .values(jobs.map(({ id }) => ({ job_id: id })))
      .execute()
  }
  const makeReady = async (trx: Transaction<Tables>, jobs: readonly { id: string }[]) => {
    const ids = jobs.map(({ id }) => id)
    await trx.updateTable('note').set({ status: 'ready' }).where('id', 'in', ids).execute()
    await affect(trx, jobs)
  }

  interface SteeredJob {
    id: string
    payload: { label?: string; stubborn?: boolean }
    signal: AbortSignal
    progress(percent: number, message?: string): void
    setResource(path: string): void
  }
  const perform = async (job: SteeredJob): Promise<{ label: string }> => {
    job.signal.addEventListener('abort', () => void record(job.id, 'aborted'), { once: true })
    await record(job.id, 'began')
    for (;;) {
      // The handler of a stubborn job ignores its signal.
      const action = await nextStep(db, job.id, job.payload.stubborn ? undefined : job.signal)
      switch (action.do) {
        case 'progress':
          job.progress(action.percent, action.message)
          break
        case 'set resource':
          job.setResource(action.path)
          break
        case 'succeed':
          await record(job.id, 'performed')
          return { label: job.payload.label ?? 'done' }
        case 'fail': {
          const { code, message, do: _, ...options } = action
          throw new JobFailed(code, message, options)
        }
        case 'throw':
          throw new Error(action.message)
      }
    }
  }

  return {
    'note.create': { settle: makeReady },
    'note.replace': { settle: affect },
    'note.amend': { settle: affect },
    'note.delete': { settle: affect },
    'draft.delete': { settle: affect },
    sum: {
      settle: async (_trx, jobs) =>
        jobs.map(({ payload }) => ({ total: payload.numbers.reduce((total, number) => total + number, 0) })),
    },
    echo: { settle: async (_trx, jobs) => jobs.map(({ payload }) => ('only' in payload ? payload.only : payload)) },
    quiet: { settle: affect },
    steered: { concurrency: 100, perform, settle: affect },
    estimated: { concurrency: 100, perform, settle: affect },
    idle: { settle: makeReady },
    keyed: { settle: affect },
    limited: { settle: affect },
    big: { settle: affect },
  }
})
