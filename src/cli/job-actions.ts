import { sql } from 'kysely'
import { callFunction } from './call-function.ts'
import { forEachId } from './for-each-id.ts'
import { requireJobId } from './job-details.ts'
import type { OutputOptions } from './output-options.ts'

/** Runs `accepted jobs cancel`: cancels jobs of any principal. */
export const cancelJobsCommand = (ids: readonly string[], options: OutputOptions): Promise<void> =>
  forEachId(ids, options, {
    act: async (db, id) => {
      const row = await callFunction(
        db,
        sql<{ status: string }>`select accepted.cancel(${requireJobId(id)}::uuid) as status`,
      )
      return { id, status: row?.status as string }
    },
    format: ({ id, status }) =>
      status === 'canceled' ? `Canceled ${id}.` : `Requested the cancellation of ${id}, which is still ${status}.`,
  })

/** Runs `accepted jobs retry`: runs failed or canceled jobs of any principal again, as new jobs. */
export const retryJobsCommand = (ids: readonly string[], options: OutputOptions): Promise<void> =>
  forEachId(ids, options, {
    act: async (db, retryOf) => {
      const row = await callFunction(
        db,
        sql<{ id: string }>`select accepted.retry(${requireJobId(retryOf)}::uuid) as id`,
      )
      return { id: row?.id as string, retryOf }
    },
    format: ({ id }) => id,
  })

/** Runs `accepted jobs run`: makes queued jobs due now. */
export const runJobsCommand = (ids: readonly string[], options: OutputOptions): Promise<void> =>
  forEachId(ids, options, {
    act: async (db, id) => {
      await callFunction(db, sql`select accepted.reschedule(${requireJobId(id)}::uuid, now())`)
      return { id, status: 'queued' }
    },
    format: ({ id }) => `${id} is due now. To follow it: accepted jobs watch ${id}`,
  })
