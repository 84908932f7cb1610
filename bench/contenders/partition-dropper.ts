// Drops the partitions of days that have expired as a worker does, with the worker's own code; answers how long it took.

import { openDatabase } from '../../src/db/database.ts'
import { createLog } from '../../src/log.ts'
import { maintainPartitions } from '../../worker/retention.ts'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** From when to when, by the clock that processes share. */
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

// A connection there is.
await database.pool.query('select')
ready()
