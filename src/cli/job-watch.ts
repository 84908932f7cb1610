import { sql } from 'kysely'
import type { Database } from '../db/database.ts'
import { formatChildren } from './batch-status.ts'
import { requireJobId, unknownJob } from './job-details.ts'
import { type JobRow, jobColumns } from './job-list.ts'
import type { OutputOptions } from './output-options.ts'
import { watchUntilEnd } from './watch-job.ts'
import { withDatabase } from './with-database.ts'

/** Runs `accepted jobs watch`: shows the progress of a job until it ends. The exit code is 1 if it does not succeed. */
export const watchJobCommand = (id: string, options: OutputOptions): Promise<void> =>
  withDatabase((db) => watchUntilEnd(() => readJob(db, id), describe, options))

async function readJob(db: Database['kysely'], id: string): Promise<JobRow> {
  const statement = sql<JobRow>`select ${jobColumns} from accepted.job_overview where id = ${requireJobId(id)}`
  const { rows } = await statement.execute(db)
  if (rows[0]) return rows[0]
  throw unknownJob(id)
}

const describe = ({ attempt, max_attempts: maxAttempts, children, message }: JobRow): string =>
  [
    ...(children ? [formatChildren(children)] : []),
    ...(attempt > 1 ? [`attempt ${attempt} of ${maxAttempts}`] : []),
    message ?? '',
  ]
    .filter((part) => part !== '')
    .join('  ')
