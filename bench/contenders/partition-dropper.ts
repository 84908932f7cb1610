// Drops the partitions of expired days with the worker's own code. Reports when the drop began and ended.

import { openDatabase } from '../../src/db/database.ts'
import { createLog } from '../../src/primitives/log.ts'
import { maintainPartitions } from '../../worker/maintenance/partitions.ts'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** The begin and end of a drop, as values of `now` in clock.ts. */
export interface Dropped {
  from: number
  to: number
}

const log = createLog({ level: 'warn' })
const database = openDatabase({ url: process.env.DATABASE_URL as string, applicationName: 'drop', poolSize: 1 })

process.on('message', async () => {
  const begun = now()
  await maintainPartitions(database, log)
  process.send?.({ from: begun, to: now() } satisfies Dropped)
})

// Opens the connection before the first command.
await database.pool.query('select')
ready()
