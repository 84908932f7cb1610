import pg from 'pg'
import type { Stage } from '../stage.ts'

/** Locks that somebody holds. */
export interface Held extends AsyncDisposable {
  letGo(): Promise<void>
}

/** Takes locks in a transaction of its own, and holds them until they are let go. */
export async function hold({ databaseUrl }: Stage, statement: string): Promise<Held> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  let isOver = false
  const letGo = async () => {
    if (isOver) return
    isOver = true
    // Whoever is to be held up waits for nothing else.
    await client.end()
  }
  try {
    await client.query('begin')
    await client.query(statement)
  } catch (error) {
    await letGo()
    throw error
  }
  return { letGo, [Symbol.asyncDispose]: letGo }
}

/** The backends that wait for a lock with a statement like this. */
export async function findWaiting({ query }: Stage, statement: string): Promise<number[]> {
  const rows = await query(
    `select pid from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query ilike $1`,
    [statement],
  )
  return rows.map(({ pid }) => pid)
}
