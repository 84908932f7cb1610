import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers } from 'accepted/worker'
import { sql } from 'kysely'
import * as operations from './operations.ts'

interface SpannedJob {
  id: string
  operation: string
  payload: { tenant: string }
}

export default defineHandlers(operations, ({ db }) => {
  const recordSpan = async ({ id, operation, payload }: SpannedJob, durationMs: number) => {
    await sql`
      insert into span (job_id, operation, tenant, pid)
      values (${id}, ${operation}, ${payload.tenant}, ${process.pid})`.execute(db)
    await delay(durationMs)
    await sql`
      update span set ended_at = clock_timestamp()
      where job_id = ${id} and pid = ${process.pid} and ended_at is null`.execute(db)
  }
  return {
    'call.paced': { perform: (job) => recordSpan(job, 0) },
    'call.narrow': { perform: (job) => recordSpan(job, 400) },
  }
})
