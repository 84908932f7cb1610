import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'

/** Maximum number of rows of `accepted.change` that one transaction deletes. */
const maxRowsPerTransaction = 5_000

/** Deletes rows of `accepted.change` that are more than 10 minutes old. Does nothing while another worker does so. */
export async function deleteOldChanges({ kysely }: Database, stopping: AbortSignal): Promise<void> {
  const call = sql<{ is_more: boolean }>`select accepted.delete_old_changes(${maxRowsPerTransaction}) as is_more`
  while (!stopping.aborted && (await call.execute(kysely)).rows[0]?.is_more) {}
}
