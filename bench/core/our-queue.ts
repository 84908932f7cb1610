import { type Database, openDatabase } from '../../src/db/database.ts'
import type { Operation } from '../../src/operation.ts'
import { type PgBoss, startBoss } from '../../src/queue/boss.ts'
import { prepareQueues } from '../../src/queue/define-operations.ts'

/** The database and the queue, as our `enqueue` needs them. */
export interface OurQueue {
  database: Database
  boss: PgBoss
}

/** Opens our database and queue as the API does, and creates the queues of the operations. */
export async function openQueue(
  url: string,
  operations: readonly Operation[],
  poolSize?: number,
): Promise<OurQueue & { close(): Promise<void> }> {
  const database = openDatabase({ url, applicationName: 'bench', ...(poolSize !== undefined && { poolSize }) })
  const boss = await startBoss(database, { supervise: false, onError: (error) => console.error(error) })
  await prepareQueues(database, boss, operations)
  return {
    database,
    boss,
    async close() {
      await boss.stop({ graceful: false })
      await database.close()
    },
  }
}

/** Opens our queue, and closes it after `use`. */
export async function withQueue<Result>(
  url: string,
  operations: readonly Operation[],
  use: (queue: OurQueue) => Promise<Result>,
): Promise<Result> {
  const queue = await openQueue(url, operations, 2)
  try {
    return await use(queue)
  } finally {
    await queue.close()
  }
}
