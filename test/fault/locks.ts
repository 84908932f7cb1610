import pg from 'pg'
import { findBlockedBackends } from '../support/database.ts'
import { until } from '../support/until.ts'
import type { RowContext } from './row.ts'

/** The locks of an open transaction of the test. */
export interface HeldLock extends AsyncDisposable {
  release(): Promise<void>
}

/** Begins a transaction and runs a statement that takes locks. Holds the locks until `release`. */
export async function holdLock({ databaseUrl }: RowContext, statement: string): Promise<HeldLock> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  let isReleased = false
  const release = async () => {
    if (isReleased) return
    isReleased = true
    await client.end()
  }
  try {
    await client.query('begin')
    await client.query(statement)
  } catch (error) {
    await release()
    throw error
  }
  return { release, [Symbol.asyncDispose]: release }
}

/** Waits until a lock blocks at least `count` backends whose statement matches the `ilike` pattern. */
export const untilBlocked = ({ query }: RowContext, pattern: string, count = 1): Promise<boolean> =>
  until(async () => (await findBlockedBackends(query, pattern)).length >= count)
