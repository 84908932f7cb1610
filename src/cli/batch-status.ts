import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import type { ChildCounts, JobStatus } from '../db/tables.ts'

/** The state of a batch, or of any other job with children. */
export interface BatchStatus {
  id: string
  operation: string
  status: JobStatus
  percent: number | null
  children: ChildCounts
  error: { code: string; message: string } | null
  created_at: Date
  ended_at: Date | null
}

/** @throws ConfigError when there is no such batch */
export async function readBatchStatus(db: Database['kysely'], id: string): Promise<BatchStatus> {
  const columns = ['id', 'operation', 'status', 'percent', 'children', 'error', 'created_at', 'ended_at'] as const
  const row = isUuid(id)
    ? await db.selectFrom('accepted.job').select(columns).where('id', '=', id).executeTakeFirst()
    : undefined
  if (row?.children) return row as BatchStatus
  const reason = row ? `The job ${id} of ${row.operation} has no children.` : `There is no batch ${id}.`
  throw new ConfigError(`${reason} \`accepted batches list\` lists the batches.`)
}

export interface FailedChild {
  id: string
  operation: string
  error: { code: string; message: string }
}

/** Reads the children that have failed and have not been retried, oldest first. */
export async function readFailedChildren(db: Database['kysely'], id: string, limit: number): Promise<FailedChild[]> {
  const { rows } = await sql<FailedChild>`
    select id, operation, error from accepted.job
    where parent = ${id} and status = 'failed'
      and not exists (select from accepted.job retry where retry.retry_of = job.id and retry.parent = job.parent)
    order by id limit ${limit}`.execute(db)
  return rows
}

/** Formats how many children have ended, for example `40 of 100 (1 failed)`. */
export function formatChildren({ total, succeeded, failed, canceled }: ChildCounts): string {
  const bad = [...(failed > 0 ? [`${failed} failed`] : []), ...(canceled > 0 ? [`${canceled} canceled`] : [])]
  return `${succeeded + failed + canceled} of ${total}${bad.length > 0 ? ` (${bad.join(', ')})` : ''}`
}

export const formatCounts = ({ children }: BatchStatus): string => formatChildren(children)
