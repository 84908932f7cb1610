import { type RawBuilder, sql } from 'kysely'
import { type QuerySource, runWithGenericPlan } from '../../src/db/plan-settings.ts'
import type { ChildCounts, JobErrorColumn } from '../../src/db/tables.ts'
import { describeStoredError } from '../../src/jobs/abandon.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import type { Dependency, RunningJob } from '../running-job.ts'
import type { OperationWorker } from './operation-worker.ts'

/** Maximum size of all results that one statement reads, in bytes as they are stored. */
const maxResultBytes = 16 * 1024 * 1024

interface DependencyRow {
  waiting_id: string
  id: string
  operation: string
  status: 'succeeded' | 'failed' | 'canceled'
  principal: string
  resource: string | null
  children: ChildCounts | null
  result: unknown
  error: JobErrorColumn | null
  result_bytes: string
}

/** Returns the function `dependencies` of a job. */
export type DependencyReader = (id: string) => RunningJob['dependencies']

/**
 * Creates the functions `dependencies` of jobs. The first call of any of them reads the dependencies of all these jobs,
 * in one statement.
 *
 * @param source the connection pool, or the transaction that settles the jobs
 */
export function createDependencyReader(
  worker: Pick<OperationWorker, 'operations' | 'seals'>,
  source: QuerySource | AnyTransaction,
  ids: readonly string[],
): DependencyReader {
  let reading: Promise<readonly DependencyRow[]> | undefined
  return (id) =>
    async <O extends Operation>(operation?: Pick<O, 'name'>) => {
      reading ??= readRows(source as QuerySource, ids)
      const rows = (await reading).filter(
        (row) => row.waiting_id === id && (!operation || row.operation === operation.name),
      )
      return rows.map((row) => toDependency(worker, row) as Dependency<O>)
    }
}

async function readRows(source: QuerySource, ids: readonly string[]): Promise<readonly DependencyRow[]> {
  const { rows } = await runWithGenericPlan(source, selectDependencies(ids))
  const bytes = Number(rows[0]?.result_bytes ?? 0)
  // A batch of jobs is then settled in parts.
  if (bytes > maxResultBytes) {
    throw new RangeError(
      `The results of the dependencies have ${bytes} bytes, and job.dependencies reads at most ${maxResultBytes}. ` +
        'Write large results to a table or a file, and return where they are.',
    )
  }
  return rows
}

const selectDependencies = (ids: readonly string[]): RawBuilder<DependencyRow> => sql`
  select waiting_id, id, operation, status, principal, resource, children, error, result_bytes,
    case when result_bytes <= ${sql.lit(maxResultBytes)} then result end as result
  from (
    select
      waiting.id as waiting_id, position, job.id, job.operation, job.status, job.principal, job.resource, job.children,
      job.error, job.result, coalesce(sum(pg_column_size(job.result)) over (), 0) as result_bytes
    from unnest(${ids}::uuid[]) as given (id)
    cross join lateral (select id, after from accepted.job where id = given.id limit 1) waiting
    cross join lateral unnest(waiting.after) with ordinality as awaited (id, position)
    cross join lateral (select * from accepted.job where id = awaited.id limit 1) job
    where job.ended_at is not null
  ) found
  order by waiting_id, position`

/** The result has sealed members if the worker does not know the operation. */
function toDependency({ operations, seals }: Pick<OperationWorker, 'operations' | 'seals'>, row: DependencyRow) {
  const { id, status, principal, resource, children, result, error } = row
  const operation = operations.get(row.operation)
  const shared = {
    id,
    operation: row.operation,
    principal,
    resource: resource ?? undefined,
    children: children ?? undefined,
  }
  if (status === 'failed') return { ...shared, status, error: error ? describeStoredError(error) : undefined }
  if (status === 'canceled') return { ...shared, status }
  const opened = operation ? seals.open('result', { operation, principal }, result) : result
  return { ...shared, status, result: opened ?? undefined }
}
