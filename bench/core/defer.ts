import { v7 as uuid7 } from 'uuid'
import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { channels } from '../../src/db/notifier.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createNote } from '../app/operations.ts'
import { query } from './server.ts'

/** Makes jobs of a principal that wait until they are released; answers their ids. */
export async function deferJobs(url: string, principal: string, count: number): Promise<string[]> {
  const database = openDatabase({ url, applicationName: 'bench', poolSize: 2 })
  try {
    const boss = await startBoss(database, {
      supervise: false,
      onError: (error) => console.error(`error: ${error.message}`),
    })
    await prepareQueues(boss, [createNote])
    const runAt = new Date(Date.now() + 3_600_000)
    const jobs = Array.from({ length: count }, () => {
      const id = uuid7()
      return { id, operation: createNote, payload: { noteId: id }, principal, runAt }
    })
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, jobs))
    await boss.stop({ graceful: false })
    return jobs.map(({ id }) => id)
  } finally {
    await database.close()
  }
}

/** Has a worker run them now. */
export async function releaseJobs(url: string, ids: readonly string[]): Promise<void> {
  await query(url, 'update pgboss.job set start_after = now() where name = $1 and id = any($2::uuid[])', [
    createNote.name,
    ids,
  ])
  await query(url, 'select pg_notify($1, $2)', [channels.work, createNote.name])
}
